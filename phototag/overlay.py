"""A user's own vocabulary: a YAML file of changes to the tree of tags. Pure.

toucan:
name: Tukan          # written in place of "toucan"
synonyms: [bird of Mexico]
"n02958343":           # or by WordNet id: a car
threshold: 0.9       # how sure a model must be, with the default --threshold
weapon:
state: never         # nor anything below it; or tag; or rollup: it only counts for the words above it
pet:
new: true            # a word of one's own
parent: animal
dog:
parent: pet          # or none, for the top of the tree
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import yaml

from phototag.errors import ConfigError
from phototag.taxonomy import Node, State, Taxonomy, fault_of_name, parse_threshold

MAX_OVERLAY = 1 << 20  # bytes
_TOP = "none"


@dataclass(frozen=True)
class _Entry:
    """What an overlay says of one word: `settings` by key, each with its node of the YAML document."""

    word: str
    settings: Mapping[str, yaml.Node]
    where: str


def apply_overlay(taxonomy: Taxonomy, text: str, source: str) -> Taxonomy:
    """Return `taxonomy` as the overlay in `text` changes it, whose words are the tree's English names or ids.

    Raises `ConfigError` naming `source`, the line and the remedy: for what is no YAML, an unknown word or key, a value
    that cannot be, or changes after which the tree would not hold together.
    """
    entries = list(_entries(text, source))
    ids = {node.name.casefold(): node.id for node in taxonomy.nodes.values()} | {key: key for key in taxonomy.nodes}
    for entry in entries:
        if "new" in entry.settings:
            if entry.word.casefold() in ids:
                raise ConfigError(f"{entry.where}: {entry.word!r} is in the tree already; leave out 'new'")
            ids[entry.word.casefold()] = f"x-own-{entry.word.casefold()}"
    changed: dict[str, Node] = {}
    for entry in entries:
        node_id = _id_of(entry.word, ids, entry.where)
        if node_id in changed:
            raise ConfigError(f"{entry.where}: {entry.word!r} is there twice; make one of the two")
        node = taxonomy.nodes.get(node_id) or Node(node_id, None, "tag", entry.word)
        changed[node_id] = _changed(node, entry, ids)
    nodes = {**taxonomy.nodes, **changed}
    nodes.update(_pruned(nodes, (node_id for node_id, node in changed.items() if node.state == "never")))
    for entry, node_id in zip(entries, changed, strict=True):
        _check(nodes, nodes[node_id], entry.where)
    return Taxonomy(nodes.values(), source)


def _entries(text: str, source: str) -> Iterator[_Entry]:
    try:
        # Composed, not loaded: every value stays text (`no` is no boolean), and every node has a line.
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it is nested too deeply, or holds characters that YAML has not"
        raise ConfigError(f"{source}{line}: this is no YAML ({problem})") from None
    if document is None or document.tag == "tag:yaml.org,2002:null":
        return
    for word, value, where in _mapping(document, source, "words of the tree, each followed by ':' and what to change"):
        settings = {key: (node, at) for key, node, at in _mapping(value, source, _KEYS_WANTED)}
        for key, (_, at) in settings.items():
            if key not in _SETTINGS:
                raise ConfigError(f"{at}: there is no key {key!r}; the keys are {', '.join(_SETTINGS)}")
        yield _Entry(word, {key: node for key, (node, _) in settings.items()}, where)


def _mapping(node: yaml.Node, source: str, wanted: str) -> Iterator[tuple[str, yaml.Node, str]]:
    """Yield key, value and the line of each pair, where `node` is a mapping whose keys are texts."""
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{_where(node, source)}: there must be {wanted}")
    seen: set[str] = set()
    for key, value in node.value:
        where = _where(key, source)
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{where}: there must be {wanted}")
        if key.value in seen:
            raise ConfigError(f"{where}: {key.value!r} is there twice; make one of the two")
        seen.add(key.value)
        yield key.value, value, where


def _where(node: yaml.Node, source: str) -> str:
    return f"{source}, line {node.start_mark.line + 1}"


def _id_of(word: str, ids: Mapping[str, str], where: str) -> str:
    found = ids.get(word) or ids.get(word.casefold())
    if found is None:
        raise ConfigError(
            f"{where}: there is no word {word!r} in the tree; use its English name, its id, or add 'new: true'"
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
    if "name" in changes:  # in all languages: it is what the user wants to read
        changes["translations"] = {}
    if "synonyms" in changes:
        changes["synonyms"] = (*node.synonyms, *changes["synonyms"])
    return replace(node, **changes)


def _text(value: yaml.Node, where: str) -> str:
    if not isinstance(value, yaml.ScalarNode):
        raise ConfigError(f"{where}: there must be one value, not several")
    text: str = value.value
    return text


def _name(value: yaml.Node, where: str, _: Mapping[str, str]) -> str:
    name = _text(value, where)
    if fault := fault_of_name(name):
        raise ConfigError(f"{where}: the name {name!r} {fault}; choose another")
    return name


def _synonyms(value: yaml.Node, where: str, ids: Mapping[str, str]) -> tuple[str, ...]:
    if not isinstance(value, yaml.SequenceNode):
        raise ConfigError(f"{where}: synonyms must be a list, such as [sofa, couch]")
    return tuple(_name(item, where, ids) for item in value.value)


def _state(value: yaml.Node, where: str, _: Mapping[str, str]) -> str:
    state = _text(value, where)
    if state not in get_args(State):
        raise ConfigError(f"{where}: the state must be one of {', '.join(get_args(State))}, not {state!r}")
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
# By key: the field of a node that it sets, and how its value is read.
_SETTINGS: Mapping[str, tuple[str | None, _Parser]] = {
    "name": ("name", _name),
    "parent": ("parent", _parent),
    "threshold": ("threshold", _threshold),
    "state": ("state", _state),
    "synonyms": ("synonyms", _synonyms),
    "new": (None, _new),
}
_KEYS_WANTED = f"some of the keys {', '.join(_SETTINGS)}"


def _check(nodes: Mapping[str, Node], node: Node, where: str) -> None:
    """Refuse a change that makes a circle, takes a name, or hangs a word below one that is never a tag."""
    twin = next((one for one in nodes.values() if one.name.casefold() == node.name.casefold() and one != node), None)
    if twin is not None:
        raise ConfigError(f"{where}: the name {node.name!r} is that of {twin.id} already; choose another")
    seen = {node.id}
    at = node.parent
    while at is not None:
        if at in seen:
            raise ConfigError(f"{where}: {node.name!r} would be its own ancestor; give it another parent")
        if nodes[at].state == "never" and node.state != "never":
            raise ConfigError(f"{where}: {nodes[at].name!r} above it is never a tag; give it another parent")
        seen.add(at)
        at = nodes[at].parent


def _pruned(nodes: Mapping[str, Node], never: Iterable[str]) -> dict[str, Node]:
    """The nodes below those of the ids `never`, which are then never tags either."""
    children: dict[str | None, list[Node]] = {}
    for node in nodes.values():
        children.setdefault(node.parent, []).append(node)
    pruned: dict[str, Node] = {}
    waiting = list(never)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.id not in pruned:
                pruned[child.id] = replace(child, state="never")
                waiting.append(child.id)
    return pruned
