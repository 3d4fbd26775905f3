"""The tree of everyday words that can be tags. Pure: text in, words out.

A WordNet synset identifies a word of the tree. A name would not: a crane is a bird and a machine.
"""

from __future__ import annotations

import hashlib
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from phototag.core import canonical_record
from phototag.errors import ConfigError

State = Literal["tag", "rollup", "never"]
# Programs that read keywords split lists and hierarchies at these characters.
SPLITTING_CHARACTERS = frozenset(",;|/<>")
ENGLISH = "en"
MAX_NAME = 100  # characters
DEFAULT_THRESHOLD = 0.7
# Followed by a column for each language. A table in which no word is fed may leave out the column of `fed_by`.
_COLUMNS = ("id", "parent", "state", "name", "threshold", "synonyms")
_FED_BY = "fed_by"


@dataclass(frozen=True, slots=True)
class Node:
    """A word of the tree.

    `state`: a `tag` may be written. A `rollup` counts for its ancestors, but is not written itself. A `never` does not
    count at all.

    `threshold`: how sure a model must be, 0 to 1. None: as sure as its level needs. `synonyms`: other English words for
    it. `translations`: its name by language (ISO 639-1).

    `fed_by`: the ids of classes that add up to the word although they are not below it, as a stove tells of a kitchen.
    They feed it in every state, `never` too: a web site is never a tag, but may tell of a document.

    `user_threshold`: the threshold that the user's own vocabulary gives, 0 to 1; then `threshold` is the same. None: it
    gives none.
    """

    id: str
    parent: str | None
    state: State
    name: str
    threshold: float | None = None
    synonyms: tuple[str, ...] = ()
    translations: Mapping[str, str] = field(default_factory=lambda: types.MappingProxyType({}))
    fed_by: tuple[str, ...] = ()
    user_threshold: float | None = None

    @property
    def synset(self) -> str | None:
        """The WordNet id. None for a node that WordNet does not have; its id begins with `x-`."""
        return self.id if is_synset(self.id) else None


@dataclass(frozen=True)
class LevelThresholds:
    """How sure a model must be of a word, 0 to 1, by its level in the tree. Fitted for the default threshold.

    `root`: at the top, with words below it (animal, vehicle). `inner`: in between (bird). `leaf`: without words below.
    """

    root: float = DEFAULT_THRESHOLD
    inner: float = DEFAULT_THRESHOLD
    leaf: float = DEFAULT_THRESHOLD

    def canonical(self) -> str:
        """Return the text for digests."""
        return canonical_record("LevelThresholds", root=self.root, inner=self.inner, leaf=self.leaf)


def is_synset(text: str) -> bool:
    """Return whether `text` has the form of a WordNet noun id: `n` and eight digits."""
    return len(text) == 9 and text[0] == "n" and text[1:].isascii() and text[1:].isdigit()


def fault_of_name(name: str) -> str | None:
    """Return why `name` cannot be a keyword, as the rest of a sentence, or None if it can."""
    if not name or name != name.strip() or not name.isprintable():
        return "is empty, or holds unprintable characters or spaces at an end"
    if not SPLITTING_CHARACTERS.isdisjoint(name):
        return f"holds one of {' '.join(sorted(SPLITTING_CHARACTERS))}, at which photo applications split"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    return None


class Taxonomy:
    """A tree of words. `nodes` holds them by id, every parent before its children.

    `digest` identifies the nodes without their translations, which are not part of a tag. `languages`: the languages
    in which at least one word has a name, English first.
    """

    def __init__(self, nodes: Iterable[Node], source: str, lines: Mapping[str, int] | None = None) -> None:
        """Check and order `nodes`. `lines`: the line of `source` that each node is from, by id, if known.

        Raises `ConfigError`, which names `source`, if the nodes do not form a tree, or if a node is fed by nodes that
        are not in the tree, that are there twice or that count for it anyway.
        """
        listed: dict[str, Node] = {}
        names: dict[str, Node] = {}
        for node in nodes:
            twin = listed.get(node.id) or names.get(node.name.casefold())
            if twin is not None:
                raise ConfigError(
                    f"{source}: {node.id} ({node.name}) and {twin.id} ({twin.name}) clash; rename or remove one"
                )
            listed[node.id] = names[node.name.casefold()] = node
        self._source = source
        self.nodes = {node.id: node for node in _parents_first(listed, source)}
        _check_fed_by(self.nodes, source, lines or {})
        languages = (language for node in listed.values() for language in node.translations)
        self.languages = tuple(dict.fromkeys((ENGLISH, *languages)))  # without duplicates, in order
        rows = map(_record, self.nodes.values())
        self.digest = hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()

    @classmethod
    def parse(cls, text: str, source: str) -> Taxonomy:
        """Parse the table of a tree. Its cells are separated by tabs, `#` begins a comment, and `-` is an empty cell.

        The columns are id, parent, state, name, threshold, synonyms, fed_by, and one for each language. Synonyms, and
        the ids of fed_by, are separated by `|`. A table may leave out the column fed_by.
        Raises `ConfigError`, which names `source` and the line of the error.
        """
        lines = ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#")
        number, header = next(lines, (1, ""))
        columns = tuple(header.split("\t"))
        if columns[: len(_COLUMNS)] != _COLUMNS:
            raise ConfigError(f"{source}, line {number}: the columns must be {', '.join(_COLUMNS)} and languages")
        found: dict[str, int] = {}
        return cls(_parse_nodes(lines, columns, source, found), source, found)

    def path(self, node_id: str) -> tuple[str, ...]:
        """Return the names from the top of the tree to the node, without those of nodes that are never written."""
        node = self.nodes[node_id]
        above = self.path(node.parent) if node.parent is not None else ()
        return (*above, node.name) if node.state == "tag" else above

    def in_language(self, language: str) -> Taxonomy:
        """Return the tree with its names in `language`. Words without a translation keep their English names.

        Raises `ConfigError` if no word has a name in `language`.
        """
        if language == ENGLISH:
            return self
        if language not in self.languages:
            raise ConfigError(f"the tags have no names in {language!r}; choose one of {', '.join(self.languages)}")
        return Taxonomy((_translated(node, language) for node in self.nodes.values()), self._source)


def _translated(node: Node, language: str) -> Node:
    name = node.translations.get(language)
    return node if name is None else replace(node, name=name, synonyms=())


def _record(node: Node) -> tuple[object, ...]:
    """Return what the digest holds of `node`. A node without the newer facts has the record of phototag 0.1.0."""
    fed = ((_FED_BY, node.fed_by),) if node.fed_by else ()
    by_user = (("user_threshold", node.user_threshold),) if node.user_threshold is not None else ()
    return (node.id, node.parent, node.state, node.name, node.threshold, node.synonyms, *fed, *by_user)


def _parse_nodes(
    lines: Iterable[tuple[int, str]], columns: Sequence[str], source: str, found: dict[str, int]
) -> Iterator[Node]:
    """Yield a node for each line. `found` gets the number of its line, by id."""
    languages = [column for column in columns[len(_COLUMNS) :] if column != _FED_BY]
    for number, line in lines:
        where = f"{source}, line {number}"
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(columns):
            raise ConfigError(f"{where}: {len(columns)} columns, separated by tabs, are needed, not {len(cells)}")
        row = {column: cell for column, cell in zip(columns, cells, strict=True) if cell != "-"}
        node = _parse_node(row, languages, where)
        found[node.id] = number
        yield node


def _parse_node(row: Mapping[str, str], languages: Sequence[str], where: str) -> Node:
    state, synonyms = row.get("state"), tuple(row.get("synonyms", "").split("|")) if "synonyms" in row else ()
    if state not in get_args(State):
        raise ConfigError(f"{where}: the state must be one of {', '.join(get_args(State))}, not {state!r}")
    if not row.get("id"):
        raise ConfigError(f"{where}: a node needs an id")
    translations = {language: row[language] for language in languages if language in row}
    for name in (row.get("name", ""), *synonyms, *translations.values()):
        if fault := fault_of_name(name):
            raise ConfigError(f"{where}: the name {name!r} {fault}")
    return Node(
        row["id"],
        row.get("parent"),
        state,  # type: ignore[arg-type]
        row["name"],
        parse_threshold(row["threshold"], where) if "threshold" in row else None,
        synonyms,
        types.MappingProxyType(translations),
        tuple(row[_FED_BY].split("|")) if _FED_BY in row else (),
    )


def parse_threshold(text: str, where: str) -> float:
    """Parse a threshold, above 0 and at most 1. The message of its `ConfigError` names `where`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise ConfigError(f"{where}: a threshold must be a number above 0 and at most 1, not {text[:40]}")
    return number


def _parents_first(listed: dict[str, Node], source: str) -> list[Node]:
    ordered: dict[str, Node] = {}
    for node in listed.values():
        chain: list[Node] = []
        at: Node | None = node
        while at is not None and at.id not in ordered:
            if at in chain:
                raise ConfigError(f"{source}: {at.id} ({at.name}) is its own ancestor; give it another parent")
            chain.append(at)
            parent = at.parent
            if parent is not None and (parent not in listed or "never" == listed[parent].state != at.state):
                raise ConfigError(f"{source}: {at.id} ({at.name}) has the parent {parent}, which is not in the tree")
            at = listed[parent] if parent is not None else None
        ordered.update((n.id, n) for n in reversed(chain))
    return list(ordered.values())


def is_within(nodes: Mapping[str, Node], node_id: str, above: str) -> bool:
    """Return whether the node `node_id` is `above` or below it. `nodes` holds the nodes of a tree by id."""
    at: str | None = node_id
    while at is not None and at != above:
        at = nodes[at].parent
    return at is not None


def _check_fed_by(nodes: Mapping[str, Node], source: str, lines: Mapping[str, int]) -> None:
    for node in nodes.values():
        seen: set[str] = set()
        for fed in node.fed_by:
            if fed not in nodes:
                fault = "which is not in the tree"
            elif fed in seen:
                fault = "twice"
            elif is_within(nodes, fed, node.id):
                fault = "which counts for it anyway"
            else:
                seen.add(fed)
                continue
            line = f", line {lines[node.id]}" if node.id in lines else ""
            raise ConfigError(f"{source}{line}: {node.id} ({node.name}) is fed by {fed!r}, {fault}; remove it")
