"""From scores to tags: the most specific words that are still likely. Pure: arrays in, tags out.

A classifier that knows 118 breeds is seldom sure of one, but it is sure that it sees a dog. So the scores of the
classes are added up the tree, and a node is a tag where its sum clears its threshold (after Deng et al., "Hedging your
bets", CVPR 2012).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phototag.core import Label, Prediction, Tag, canonical
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD, LevelThresholds, Taxonomy

Scores: TypeAlias = NDArray[np.floating[Any]]

# An explanation leaves out what is less likely than that and no tag.
_NOT_WORTH_A_WORD = 0.05


class Chooser(Protocol):
    """Chooses the tags of a photo."""

    @property
    def digest(self) -> str:
        """Identifies all that decides about the tags but the scores."""

    def choose(self, scores: Scores) -> tuple[Tag, ...]:
        """Return the tags of one photo, the most specific first."""

    def top(self, scores: Scores, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels, as the model itself sees the photo, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a word is a tag of a photo or not.

    `confidence` and `needed`, 0 to 1: how sure the model is, and how sure it must be. `obstacle`: why it is no tag, or
    None where it is one. `from_threshold`: the `threshold` at which it would be one, where that is what is missing.
    `classes`: the classes that add up to it, as far as they count, the likeliest first.
    """

    path: tuple[str, ...]
    confidence: float
    needed: float
    obstacle: str | None
    from_threshold: float | None
    classes: tuple[Prediction, ...]


class TreeChooser:
    """Chooses tags from the scores of one model by a tree.

    `threshold`, 0 to 1: how sure a tag must be. What a word needs is `levels`, or the node's own threshold, moved in
    log-odds by as much as `threshold` is away from the default. `max_tags`: at most so many a photo.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        taxonomy: Taxonomy,
        *,
        levels: LevelThresholds,
        threshold: float = DEFAULT_THRESHOLD,
        max_tags: int,
    ) -> None:
        self._labels = tuple(labels)
        self._max_tags = max_tags
        self._nodes = list(taxonomy.nodes.values())
        self._paths = [taxonomy.path(node.id) for node in self._nodes]
        row = {node.id: number for number, node in enumerate(self._nodes)}
        self._parents = [row[node.parent] if node.parent is not None else None for node in self._nodes]
        self._rounds = _deepest_first(self._parents)
        parents = {node.parent for node in self._nodes}
        own = [node.threshold or self._of_level(levels, at, node.id in parents) for at, node in enumerate(self._nodes)]
        self._own = [_log_odds(value) for value in own]
        move = _log_odds(threshold) - _log_odds(DEFAULT_THRESHOLD)
        self._needed = np.array([_probability(value + move) for value in self._own])
        self._may_be_tags = np.array([node.state == "tag" for node in self._nodes])
        # Classes that are not in the tree, and those that must never count, have no row.
        rows = [(number, row[label.synset]) for number, label in enumerate(labels) if label.synset in row]
        counted = [(number, at) for number, at in rows if self._nodes[at].state != "never"]
        self._classes = np.array([number for number, _ in counted], np.intp)
        self._class_rows = np.array([at for _, at in counted], np.intp)
        settings = (taxonomy.digest, self._labels, levels, threshold, max_tags)
        self.digest = hashlib.sha256(canonical(settings).encode()).hexdigest()

    def choose(self, scores: Scores) -> tuple[Tag, ...]:
        """Return the tags of one photo, the most specific first. `scores`: [classes], probabilities."""
        masses = self.masses(scores)
        chosen = []
        for row in np.flatnonzero(self._may_be_tags & (masses >= self._needed)):
            node, mass = self._nodes[row], float(masses[row])
            chosen.append(Tag(node.name, round(min(mass, 1.0), 4), self._paths[row], node.synset, node.synonyms))
        chosen.sort(key=_most_specific_first)
        return tuple(chosen[: self._max_tags])

    def masses(self, scores: Scores) -> NDArray[np.float64]:
        """Return each node's probability, its own score and those below it, in the order of the tree's nodes: [nodes].

        A node is never less likely than one below it.
        """
        own = np.asarray(scores, np.float64)[self._classes]
        masses = np.bincount(self._class_rows, own, len(self._nodes)).astype(np.float64, copy=False)
        for children, parents in self._rounds:
            np.add.at(masses, parents, masses[children])
        return masses

    def top(self, scores: Scores, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels, as the model itself sees it, the likeliest first."""
        return _likeliest(self._labels, np.asarray(scores, np.float64), count)

    def explain(self, scores: Scores) -> tuple[Explanation, ...]:
        """Say of each word that is a tag or at all likely why it is one or not: in the order of the tree.

        After them come the likely classes that count for nothing.
        """
        paths = {tag.path for tag in self.choose(scores)}
        # The path of a word that is never written is that of the word above it.
        are_tags = [node.state == "tag" and path in paths for node, path in zip(self._nodes, self._paths, strict=True)]
        below = self._classes_below()
        probabilities = np.asarray(scores, np.float64)
        return tuple(
            self._explanation(number, mass, are_tags[number], below[number], probabilities)
            for number, mass in enumerate(self.masses(scores).tolist())
            if mass >= _NOT_WORTH_A_WORD or are_tags[number]
        ) + self._never(probabilities)

    def _explanation(
        self, number: int, mass: float, is_tag: bool, classes: Sequence[int], scores: NDArray[np.float64]
    ) -> Explanation:
        node, needed = self._nodes[number], float(self._needed[number])
        obstacle, from_threshold = None, None
        if node.state != "tag":
            obstacle = "only counts for the words above it"
        elif mass < needed:
            obstacle = "not sure enough"
            from_threshold = _probability(_log_odds(mass) - self._own[number] + _log_odds(DEFAULT_THRESHOLD))
        elif not is_tag:
            obstacle = f"over the limit of {self._max_tags} tags"
        path = self._paths[number] if node.state == "tag" else (*self._paths[number], node.name)
        parts = scores[classes]
        likeliest = [at for at in np.argsort(-parts, kind="stable") if parts[at] >= _NOT_WORTH_A_WORD / 5]
        predictions = tuple(Prediction(self._labels[classes[at]], float(parts[at])) for at in likeliest)
        return Explanation(path, min(mass, 1.0), needed, obstacle, from_threshold, predictions)

    def _never(self, scores: NDArray[np.float64]) -> tuple[Explanation, ...]:
        """Explain the likely classes that count for nothing."""
        counted = set(self._classes.tolist())
        return tuple(
            Explanation((label.name,), float(score), 1.0, "never a tag", None, ())
            for number, (label, score) in enumerate(zip(self._labels, scores, strict=True))
            if number not in counted and score >= _NOT_WORTH_A_WORD
        )

    def _of_level(self, levels: LevelThresholds, number: int, has_children: bool) -> float:
        if not has_children:
            return levels.leaf
        # Below a word that is never written a word is as good as at the top.
        return levels.root if len(self._paths[number]) <= 1 else levels.inner

    def _classes_below(self) -> list[list[int]]:
        below: list[list[int]] = [[] for _ in self._nodes]
        for number, row in zip(self._classes.tolist(), self._class_rows.tolist(), strict=True):
            at: int | None = row
            while at is not None:
                below[at].append(number)
                at = self._parents[at]
        return below


class LabelChooser:
    """Chooses from the model's own labels: for models without a tree, and for those who want the raw behaviour.

    `threshold`, 0 to 1: how sure a tag must be; None for however unsure. `logit_threshold`: the logit that a label must
    have; the scores are then logits, not probabilities, and their softmax with `temperature` gives the confidence.
    `max_tags`: the likeliest so many. Labels of one name are one tag: a model may well have two cranes, but a keyword
    has only its name.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        *,
        threshold: float | None = DEFAULT_THRESHOLD,
        logit_threshold: float | None = None,
        temperature: float = 1.0,
        max_tags: int,
    ) -> None:
        self._labels = tuple(labels)
        self._threshold, self._logit_threshold, self._temperature = threshold, logit_threshold, temperature
        self._max_tags = max_tags
        named: dict[str, Label] = {}
        for label in labels:
            named.setdefault(label.name.casefold(), label)
        row = {name: number for number, name in enumerate(named)}
        self._named = list(named.values())
        self._rows = [row[label.name.casefold()] for label in labels]
        settings = ("labels", self._labels, threshold, logit_threshold, temperature, max_tags)
        self.digest = hashlib.sha256(canonical(settings).encode()).hexdigest()

    def choose(self, scores: Scores) -> tuple[Tag, ...]:
        """Return the tags of one photo, the likeliest first. `scores`: [classes]."""
        given = np.asarray(scores, np.float64)
        confidences = self._by_name(self._probabilities(given))
        if self._logit_threshold is None:
            passed = confidences >= (self._threshold or 0)
        else:
            passed = self._by_name((given >= self._logit_threshold).astype(np.float64)) > 0
        chosen = [
            Tag(label.name, round(min(float(confidence), 1.0), 4), (label.name,), label.synset)
            for label, confidence, is_tag in zip(self._named, confidences, passed, strict=True)
            if is_tag
        ]
        chosen.sort(key=_most_specific_first)
        return tuple(chosen[: self._max_tags])

    def top(self, scores: Scores, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels, as the model itself sees it, the likeliest first."""
        return _likeliest(self._labels, self._probabilities(np.asarray(scores, np.float64)), count)

    def _probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores if self._logit_threshold is None else _softmax(scores / self._temperature)

    def _by_name(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        summed = np.zeros(len(self._named))
        np.add.at(summed, self._rows, values)
        return summed


def _deepest_first(parents: Sequence[int | None]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rounds in which nodes are added to their parents: in each, all nodes of one depth, and their parents."""
    depths: list[int] = []
    for parent in parents:  # which come before their children
        depths.append(0 if parent is None else depths[parent] + 1)
    children = {depth: [at for at, of in enumerate(depths) if of == depth] for depth in range(max(depths), 0, -1)}
    return [(np.array(row), np.array([parents[at] for at in row])) for row in children.values()]


def _likeliest(labels: Sequence[Label], scores: NDArray[np.float64], count: int) -> tuple[Prediction, ...]:
    count = min(count, len(scores))
    if count < 1:
        return ()
    among = np.flatnonzero(scores >= np.partition(scores, -count)[-count])  # of a thousand, not all need an order
    order = among[np.argsort(-scores[among], kind="stable")][:count]
    return tuple(Prediction(labels[at], round(float(scores[at]), 4)) for at in order)


def _most_specific_first(tag: Tag) -> tuple[int, float, str]:
    return -len(tag.path), -tag.confidence, tag.name


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max())
    scaled: NDArray[np.float64] = raised / raised.sum()
    return scaled


def _log_odds(probability: float) -> float:
    if probability >= 1:
        return math.inf
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
