"""A user's own vocabulary: a YAML file of changes to the tree of tags. Pure.

toucan:
  name: Tukan          # written instead of "toucan"
  synonyms: [bird of Mexico]
"n02958343":           # a car, by its WordNet id
  threshold: 0.9       # how sure a model must be, with the default threshold
weapon:
  state: never         # like everything below it; or tag; or rollup: it only counts for the words above it
pet:
  new: true            # the user's own word
  parent: animal
dog:
  parent: pet          # or none, for the top of the tree
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import yaml

from phototag.errors import ConfigError
from phototag.vocabulary.taxonomy import ENGLISH, Node, State, Taxonomy, fault_of_name, is_within, parse_threshold

# Far more than users write by hand. Without these limits, a small file could make a large or deep tree, because YAML
# lists can be aliases of other lists.
MAX_OVERLAY = 1 << 20  # characters
MAX_SYNONYMS = 100  # that one entry adds
MAX_ABOVE = 16  # words above another
_TOP = "none"


@dataclass(frozen=True)
class _Entry:
    """The entry of an overlay for one word. `settings` holds nodes of the YAML document by key."""

    word: str
    settings: Mapping[str, yaml.Node]
    where: str


def apply_overlay(taxonomy: Taxonomy, text: str, source: str, language: str = ENGLISH) -> Taxonomy:
    """Return `taxonomy` with its names in `language` and the changes of the overlay in `text`.

    The overlay refers to words by the tree's English names or by ids, in every language.

    A threshold of the overlay is the `user_threshold` of its word too. A class that the overlay makes `never`, itself
    or with a word above it, does not feed other words any more. A class that it puts below a word that the class feeds
    counts there, once.

    Raises `ConfigError` if the text is not YAML, a word or a key is unknown, or a value is invalid. So it does if the
    changed nodes do not form a tree, or no word has a name in `language`. It names `source`, the line and the remedy.
    """
    entries = list(_entries(unicodedata.normalize("NFC", text), source))
    ids = {node.name.casefold(): node.id for node in taxonomy.nodes.values()} | {key: key for key in taxonomy.nodes}
    for entry in entries:
        if "new" in entry.settings:
            if entry.word.casefold() in ids:
                raise ConfigError(f"{entry.where}: {_quoted(entry.word)} is in the tree already; leave out 'new'")
            _check_name(entry.word, entry.where)
            ids[entry.word.casefold()] = f"x-own-{entry.word.casefold()}"
    before = taxonomy.in_language(language).nodes
    changed: dict[str, Node] = {}
    for entry in entries:
        node_id = _id_of(entry.word, ids, entry.where)
        if node_id in changed:
            raise ConfigError(f"{entry.where}: {_quoted(entry.word)} is there twice; make one of the two")
        node = before.get(node_id) or Node(node_id, None, "tag", entry.word)
        changed[node_id] = _changed(node, entry, ids)
    with_state = {node_id for entry, node_id in zip(entries, changed, strict=True) if "state" in entry.settings}
    nodes = {**before, **changed}
    pruned = _pruned(nodes, changed.values(), with_state)
    nodes.update(pruned)
    _check(nodes, {node_id: entry for entry, node_id in zip(entries, changed, strict=True)})
    silent = {node_id for node_id in with_state if nodes[node_id].state == "never"} | pruned.keys()
    return Taxonomy(_fed(nodes, silent), source)


def _entries(text: str, source: str) -> Iterator[_Entry]:
    if len(text) > MAX_OVERLAY:
        raise ConfigError(
            f"{source} has more than {MAX_OVERLAY:,} characters, which no vocabulary does; check the path"
        )
    try:
        # Composed, not loaded: every value remains text (`no` does not become False), and every node has a line.
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    # RecursionError: deep nesting. ValueError, OverflowError: huge numbers in escapes and in %YAML.
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "too deep, or with characters or numbers that YAML has not"
        raise ConfigError(f"{source}{line}: this is not YAML ({problem})") from None
    if document is None or document.tag == "tag:yaml.org,2002:null":
        return
    for word, value, where in _mapping(document, source, "words of the tree, each followed by ':' and what to change"):
        settings = {key: (node, at) for key, node, at in _mapping(value, source, _KEYS_WANTED)}
        for key, (_, at) in settings.items():
            if key not in _SETTINGS:
                raise ConfigError(f"{at}: unknown key {_quoted(key)}; the keys are {', '.join(_SETTINGS)}")
        yield _Entry(word, {key: node for key, (node, _) in settings.items()}, where)


def _mapping(node: yaml.Node, source: str, wanted: str) -> Iterator[tuple[str, yaml.Node, str]]:
    """Yield the key, value and line of each pair in `node`. Raises `ConfigError` if it is not a mapping from texts."""
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{_where(node, source)}: there must be {wanted}")
    seen: set[str] = set()
    for key, value in node.value:
        where = _where(key, source)
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{where}: there must be {wanted}")
        if key.value in seen:
            raise ConfigError(f"{where}: {_quoted(key.value)} is there twice; make one of the two")
        seen.add(key.value)
        yield key.value, value, where


def _where(node: yaml.Node, source: str) -> str:
    return f"{source}, line {node.start_mark.line + 1}"


def _quoted(text: str) -> str:
    """Return `text` for a message of one line."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _id_of(word: str, ids: Mapping[str, str], where: str) -> str:
    found = ids.get(word) or ids.get(word.casefold())
    if found is None:
        raise ConfigError(
            f"{where}: the tree has no word {_quoted(word)}; use its English name, its id, or add 'new: true'"
        )
    return found


def _changed(node: Node, entry: _Entry, ids: Mapping[str, str]) -> Node:
    changes: dict[str, Any] = {}
    for key, value in entry.settings.items():
        field, parse = _SETTINGS[key]
        at = f"{entry.where.rpartition(' line ')[0]} line {value.start_mark.line + 1}"
        parsed = parse(value, at, ids)
        if field is not None:
            changes[field] = parsed
    if "name" in changes:  # the user's name replaces those in all languages
        changes["translations"] = {}
    if "threshold" in changes:
        changes["user_threshold"] = changes["threshold"]
    if "synonyms" in changes:
        changes["synonyms"] = tuple(dict.fromkeys((*node.synonyms, *changes["synonyms"])))
    return replace(node, **changes)


def _text(value: yaml.Node, where: str) -> str:
    if not isinstance(value, yaml.ScalarNode):
        raise ConfigError(f"{where}: there must be one value, not several")
    text: str = value.value
    return text


def _name(value: yaml.Node, where: str, _: Mapping[str, str]) -> str:
    name = _text(value, where)
    _check_name(name, where)
    return name


def _check_name(name: str, where: str) -> None:
    if fault := fault_of_name(name):
        raise ConfigError(f"{where}: the name {_quoted(name)} {fault}; choose another")


def _synonyms(value: yaml.Node, where: str, ids: Mapping[str, str]) -> tuple[str, ...]:
    if not isinstance(value, yaml.SequenceNode):
        raise ConfigError(f"{where}: synonyms must be a list, such as [sofa, couch]")
    if len(value.value) > MAX_SYNONYMS:
        raise ConfigError(f"{where}: {len(value.value):,} synonyms are too many; give at most {MAX_SYNONYMS}")
    return tuple(_name(item, where, ids) for item in value.value)


def _state(value: yaml.Node, where: str, _: Mapping[str, str]) -> str:
    state = _text(value, where)
    if state not in get_args(State):
        raise ConfigError(f"{where}: the state must be one of {', '.join(get_args(State))}, not {_quoted(state)}")
    return state


def _parent(value: yaml.Node, where: str, ids: Mapping[str, str]) -> str | None:
    word = _text(value, where)
    return None if word.casefold() == _TOP else _id_of(word, ids, where)


def _threshold(value: yaml.Node, where: str, _: Mapping[str, str]) -> float:
    return parse_threshold(_text(value, where), where)


def _new(value: yaml.Node, where: str, _: Mapping[str, str]) -> None:
    if _text(value, where) != "true":
        raise ConfigError(f"{where}: 'new' can only be true; leave it out for a word that the tree has")


_Parser = Callable[[yaml.Node, str, Mapping[str, str]], Any]
# The field of a node that each key sets, and the parser of its value.
_SETTINGS: Mapping[str, tuple[str | None, _Parser]] = {
    "name": ("name", _name),
    "parent": ("parent", _parent),
    "threshold": ("threshold", _threshold),
    "state": ("state", _state),
    "synonyms": ("synonyms", _synonyms),
    "new": (None, _new),
}
_KEYS_WANTED = f"some of the keys {', '.join(_SETTINGS)}"


def _check(nodes: Mapping[str, Node], entries: Mapping[str, _Entry]) -> None:
    """Raise `ConfigError` if the changes that `entries` made to `nodes` are invalid."""
    owners: dict[str, list[str]] = {}
    for node in nodes.values():
        owners.setdefault(node.name.casefold(), []).append(node.id)
    parents = {node.parent for node in nodes.values()}
    for node_id, entry in entries.items():
        node, where = nodes[node_id], entry.where
        twin = next((one for one in owners[node.name.casefold()] if one != node_id), None)
        if twin is not None:
            raise ConfigError(f"{where}: the name {node.name!r} is that of {twin} already; choose another")
        if "new" in entry.settings and node_id not in parents:
            raise ConfigError(f"{where}: {node.name!r} would never be a tag; make it the parent of some word")
        _check_place(nodes, node, where)


def _check_place(nodes: Mapping[str, Node], node: Node, where: str) -> None:
    """Raise `ConfigError` if `node` is below itself, below a node that is never a tag, or too deep."""
    above: dict[str, None] = {}
    at = node.parent
    while at is not None and at not in above:  # below a circle: the error is reported for the nodes in it
        if at == node.id:
            raise ConfigError(f"{where}: {node.name!r} would be its own ancestor; give it another parent")
        if nodes[at].state == "never" and node.state != "never":
            raise ConfigError(f"{where}: {nodes[at].name!r} above it is never a tag; give it another parent")
        if len(above) == MAX_ABOVE:
            raise ConfigError(
                f"{where}: {node.name!r} has more than {MAX_ABOVE} words above it; give it another parent"
            )
        above[at] = None
        at = nodes[at].parent


def _pruned(nodes: Mapping[str, Node], changed: Collection[Node], with_state: Collection[str]) -> dict[str, Node]:
    """Return the nodes below those of `changed` that are never tags. They become `never` too.

    Nodes in `with_state` are left out, because the user gave them a state. `_check` reports contradictions.
    """
    children: dict[str | None, list[Node]] = {}
    for node in nodes.values():
        children.setdefault(node.parent, []).append(node)
    pruned: dict[str, Node] = {}
    waiting = [node.id for node in changed if node.state == "never"]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.id not in pruned and child.id not in with_state:
                pruned[child.id] = replace(child, state="never")
                waiting.append(child.id)
    return pruned


def _fed(nodes: Mapping[str, Node], silent: Collection[str]) -> Iterator[Node]:
    """Yield `nodes`, fed neither by those in `silent` nor by those that are below them now."""
    for node in nodes.values():
        fed_by = tuple(fed for fed in node.fed_by if fed not in silent and not is_within(nodes, fed, node.id))
        yield replace(node, fed_by=fed_by) if fed_by != node.fed_by else node
