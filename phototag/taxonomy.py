"""From scores to tags: a tree of everyday words, and the most specific of them that are still likely.

A classifier that knows 118 breeds is seldom sure of one, but it is sure that it sees a dog. So the scores of the
classes are added up the tree, and a node is a tag where its sum clears the threshold (after Deng et al., "Hedging your
bets", CVPR 2012). Everything here is pure: text and arrays in, tags out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from phototag.errors import ConfigError

State = Literal["tag", "rollup", "never"]
# The programs that read keywords split lists and hierarchies at these.
SPLITTING_CHARACTERS = frozenset(",;|/<>")
HEADER = ("id", "parent", "state", "name")

Scores: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Label:
    """The name that a model gives a class, and the WordNet 3.0 synset it stands for where that is known."""

    name: str
    synset: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label and its score, 0 to 1."""

    label: Label
    score: float


@dataclass(frozen=True, slots=True)
class Tag:
    """What phototag says of a photo.

    `confidence` is the probability, 0 to 1, that it is right by the model's account; `path` leads from the top of the
    tree to the tag's own name; `synset` is its WordNet 3.0 id, where it has one.
    """

    name: str
    confidence: float
    path: tuple[str, ...]
    synset: str | None


@dataclass(frozen=True, slots=True)
class Node:
    """A word of the tree.

    `state`: `tag` may be written; `rollup` counts for its ancestors but is not written itself; `never` counts for
    nothing.
    """

    id: str
    parent: str | None
    state: State
    name: str

    @property
    def synset(self) -> str | None:
        """The WordNet id; None for a node that WordNet does not have, whose id begins with `x-`."""
        return self.id if is_synset(self.id) else None


def is_synset(text: str) -> bool:
    """Is `text` formed like a WordNet noun id: `n` and eight digits?"""
    return len(text) == 9 and text[0] == "n" and text[1:].isascii() and text[1:].isdigit()


class Taxonomy:
    """A tree of words. `nodes` by id, every parent before its children; `digest` identifies the content."""

    def __init__(self, nodes: Iterable[Node], source: str) -> None:
        """Check and order `nodes`; `source` names them in the `ConfigError` of a tree that does not hold together."""
        listed: dict[str, Node] = {}
        names: dict[str, Node] = {}
        for node in nodes:
            twin = listed.get(node.id) or names.get(node.name.casefold())
            if twin is not None:
                raise ConfigError(
                    f"{source}: {node.id} ({node.name}) and {twin.id} ({twin.name}) clash; rename or remove one"
                )
            listed[node.id] = names[node.name.casefold()] = node
        self.nodes = {node.id: node for node in _parents_first(listed, source)}
        rows = ("\t".join((n.id, n.parent or "-", n.state, n.name)) for n in self.nodes.values())
        self.digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()

    @classmethod
    def parse(cls, text: str, source: str) -> Taxonomy:
        """Read the table `id, parent, state, name`, tab-separated, with `#` comments and `-` for no parent.

        Raises `ConfigError` naming `source` and the line of whatever is wrong.
        """
        nodes: list[Node] = []
        header_seen = False
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            cells = tuple(cell.strip() for cell in line.split("\t"))
            if not header_seen:
                if cells != HEADER:
                    raise ConfigError(f"{source}, line {number}: the columns must be {', '.join(HEADER)}")
                header_seen = True
                continue
            nodes.append(_parse_node(cells, f"{source}, line {number}"))
        return cls(nodes, source)

    def path(self, node_id: str) -> tuple[str, ...]:
        """The names from the top of the tree to the node; nodes that are never written are left out on the way."""
        node = self.nodes[node_id]
        above = self.path(node.parent) if node.parent is not None else ()
        return (*above, node.name) if node.state == "tag" else above


def _parse_node(cells: tuple[str, ...], where: str) -> Node:
    if len(cells) != len(HEADER):
        raise ConfigError(f"{where}: {len(HEADER)} columns, separated by tabs, are needed, not {len(cells)}")
    node_id, parent, state, name = cells
    if state not in get_args(State):
        raise ConfigError(f"{where}: the state must be one of {', '.join(get_args(State))}, not {state!r}")
    if not node_id or not name:
        raise ConfigError(f"{where}: a node needs an id and a name")
    if not SPLITTING_CHARACTERS.isdisjoint(name):
        raise ConfigError(
            f"{where}: the name {name!r} holds one of {' '.join(sorted(SPLITTING_CHARACTERS))}; leave it out"
        )
    return Node(node_id, None if parent == "-" else parent, state, name)  # type: ignore[arg-type]


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
            if parent is not None and (parent not in listed or listed[parent].state == "never"):
                raise ConfigError(f"{source}: {at.id} ({at.name}) has the parent {parent}, which is not in the tree")
            at = listed[parent] if parent is not None else None
        ordered.update((n.id, n) for n in reversed(chain))
    return list(ordered.values())


def _flat(labels: Sequence[Label]) -> tuple[Taxonomy, list[str | None]]:
    """A tree without branches, for labels that belong to none, and the node of each label.

    Labels of one name share a node: a model may well have two cranes, but a keyword has only its name.
    """
    nodes: dict[str, Node] = {}
    taken: set[str] = set()
    for label in labels:
        if label.name.casefold() not in nodes:
            is_free = label.synset is not None and label.synset not in taken
            node_id = label.synset if label.synset is not None and is_free else f"x-{label.name.casefold()}"
            taken.add(node_id)
            nodes[label.name.casefold()] = Node(node_id, None, "tag", label.name)
    return Taxonomy(nodes.values(), "the labels"), [nodes[label.name.casefold()].id for label in labels]


class Tagger:
    """Chooses tags from the scores of one model by one tree, or without a hierarchy where `taxonomy` is None.

    `threshold`, 0 to 1: the probability from which a node is a tag. `max_tags`: at most so many a photo.
    """

    def __init__(self, labels: Sequence[Label], taxonomy: Taxonomy | None, *, threshold: float, max_tags: int) -> None:
        self._labels = tuple(labels)
        self._threshold = threshold
        self._max_tags = max_tags
        node_of_class: list[str | None] = [label.synset for label in labels]
        if taxonomy is None:
            taxonomy, node_of_class = _flat(labels)
        self._nodes = list(taxonomy.nodes.values())
        self._paths = [taxonomy.path(node.id) for node in self._nodes]
        row = {node.id: number for number, node in enumerate(self._nodes)}
        self._parents = [row[node.parent] if node.parent is not None else None for node in self._nodes]
        # Classes that are not in the tree, and those that must never count, have no row.
        rows = [(number, row[node]) for number, node in enumerate(node_of_class) if node in row]
        counted = [(number, at) for number, at in rows if self._nodes[at].state != "never"]
        self._classes, self._class_rows = [number for number, _ in counted], [at for _, at in counted]
        settings = (taxonomy.digest, repr(self._labels), threshold, max_tags)
        self.digest = hashlib.sha256(repr(settings).encode()).hexdigest()

    def choose(self, scores: Scores) -> tuple[Tag, ...]:
        """Return the tags of one photo, the most specific first. `scores`: [classes], probabilities in label order."""
        masses = self.masses(scores)
        chosen = [
            Tag(node.name, round(min(mass, 1.0), 4), path, node.synset)
            for node, path, mass in zip(self._nodes, self._paths, masses, strict=True)
            if node.state == "tag" and mass >= self._threshold
        ]
        chosen.sort(key=lambda tag: (-len(tag.path), -tag.confidence, tag.name))
        return tuple(chosen[: self._max_tags])

    def masses(self, scores: Scores) -> list[float]:
        """Return each node's probability, its own score and those below it, in the order of the tree's nodes."""
        masses = np.zeros(len(self._nodes))
        np.add.at(masses, self._class_rows, np.asarray(scores, np.float64)[self._classes])
        summed: list[float] = masses.tolist()
        # Children come after their parents, so from the end each node is complete before it is handed up.
        for number in range(len(summed) - 1, -1, -1):
            parent = self._parents[number]
            if parent is not None:
                summed[parent] += summed[number]
        return summed

    def top(self, scores: Scores, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels, as the model itself sees it, the likeliest first."""
        order = np.argsort(-np.asarray(scores), kind="stable")[:count]
        return tuple(Prediction(self._labels[i], round(float(scores[i]), 4)) for i in order)
