"""Evidence from the scores of a classifier's classes, added up in a tree of words. Pure: arrays in, evidence out.

A classifier that knows 118 breeds is seldom sure of one, but it is sure that it sees a dog. So a tree adds up the
scores of the classes. A node is a tag if its sum reaches its threshold (after Deng et al., "Hedging your bets", CVPR
2012).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phototag.core import OBJECTS, Label, Prediction, Results, canonical
from phototag.vocabulary.evidence import LEAST_EXPLAINED, Evidence, shifted
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD, LevelThresholds, Taxonomy, is_within

Scores: TypeAlias = NDArray[np.floating[Any]]


class TreeRule:
    """Finds evidence for the words of a tree in the scores of a classifier, `objects`: [classes], probabilities.

    `threshold`, 0 to 1: how sure a tag must be. A word needs its own threshold, or that of its level in `levels`,
    shifted in log-odds by the distance of `threshold` from the default. `max_tags`, the most tags for a photo, is part
    of the digest.
    """

    needs = (OBJECTS,)

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
        self._by_id = taxonomy.nodes
        self._nodes = list(taxonomy.nodes.values())
        self._row = {node.id: number for number, node in enumerate(self._nodes)}
        self._rounds = _deepest_first(
            [self._row[node.parent] if node.parent is not None else None for node in self._nodes]
        )
        parents = {node.parent for node in self._nodes}
        self._fitted = [
            node.user_threshold or node.threshold or _of_level(levels, len(taxonomy.path(node.id)), node.id in parents)
            for node in self._nodes
        ]
        self._needed = [shifted(value, threshold) for value in self._fitted]
        self._returned = np.minimum(self._needed, LEAST_EXPLAINED)
        # Classes outside the tree, and classes that never count, have no row.
        rows = [(number, self._row[label.synset]) for number, label in enumerate(labels) if label.synset in self._row]
        counted = [(number, at) for number, at in rows if self._nodes[at].state != "never"]
        self._classes = np.array([number for number, _ in counted], np.intp)
        self._class_rows = np.array([at for _, at in counted], np.intp)
        fed = self._fed()
        self._fed_classes = np.array([number for number, _ in fed], np.intp)
        self._fed_rows = np.array([at for _, at in fed], np.intp)
        settings = (taxonomy.digest, self._labels, levels, threshold, max_tags)
        self.digest = hashlib.sha256(canonical(settings).encode()).hexdigest()

    def evidence(self, results: Results) -> dict[str, tuple[Evidence, ...]]:
        """Return the evidence for each word that is somewhat likely, by id, in the order of the tree."""
        masses = self.masses(results[OBJECTS])
        return {
            self._nodes[row].id: (self._evidence(row, float(masses[row])),)
            for row in np.flatnonzero(masses >= self._returned).tolist()
        }

    def _evidence(self, row: int, mass: float) -> Evidence:
        is_fed = bool(self._nodes[row].fed_by)
        return Evidence(OBJECTS, mass, self._needed[row], self._fitted[row], counts_above=not is_fed)

    def masses(self, scores: Scores) -> NDArray[np.float64]:
        """Return each word's probability, in the order of the tree's nodes: [nodes].

        It is the sum of the scores of the word's own class, of the classes below it, and of the classes that feed it. A
        class that feeds a word counts for this word alone, and not for the words above.
        """
        each = np.asarray(scores, np.float64)
        masses = np.bincount(self._class_rows, each[self._classes], len(self._nodes)).astype(np.float64, copy=False)
        for children, parents in self._rounds:
            np.add.at(masses, parents, masses[children])
        if len(self._fed_rows):
            masses += np.bincount(self._fed_rows, each[self._fed_classes], len(self._nodes))
        return masses

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the model, the likeliest first."""
        return likeliest(self._labels, np.asarray(results[OBJECTS], np.float64), count)

    def parts(self, results: Results, word: str) -> tuple[Prediction, ...]:
        """Return the labels that add up to the word, the likeliest first, without those that hardly matter."""
        is_below = [is_within(self._by_id, self._nodes[row].id, word) for row in self._class_rows.tolist()]
        is_fed = self._fed_rows == self._row[word]
        of_word = np.concatenate([self._classes[np.array(is_below, bool)], self._fed_classes[is_fed]])
        scores = np.asarray(results[OBJECTS], np.float64)[of_word]
        order = [at for at in np.argsort(-scores, kind="stable") if scores[at] >= LEAST_EXPLAINED / 5]
        return tuple(Prediction(self._labels[of_word[at]], float(scores[at])) for at in order)

    def ignored(self, results: Results) -> tuple[Prediction, ...]:
        """Return the likely labels that count for no word."""
        counted = {*self._classes.tolist(), *self._fed_classes.tolist()}
        return tuple(
            Prediction(label, float(score))
            for number, (label, score) in enumerate(zip(self._labels, results[OBJECTS], strict=True))
            if number not in counted and score >= LEAST_EXPLAINED
        )

    def _fed(self) -> list[tuple[int, int]]:
        """Return the classes that feed words without being below them, each with the row of its word."""
        number_of = {label.synset: number for number, label in enumerate(self._labels)}
        fed = [(synset, row) for row, node in enumerate(self._nodes) for synset in node.fed_by if node.state != "never"]
        return [(number_of[synset], row) for synset, row in fed if synset in number_of]


def _of_level(levels: LevelThresholds, depth: int, has_children: bool) -> float:
    if not has_children:
        return levels.leaf
    # A word below one that is never written counts as a word at the top.
    return levels.root if depth <= 1 else levels.inner


def _deepest_first(parents: Sequence[int | None]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rounds in which nodes are added to their parents: the nodes of one depth each, and their parents."""
    depths: list[int] = []
    for parent in parents:  # parents come before their children
        depths.append(0 if parent is None else depths[parent] + 1)
    children = {depth: [at for at, of in enumerate(depths) if of == depth] for depth in range(max(depths), 0, -1)}
    return [(np.array(row), np.array([parents[at] for at in row])) for row in children.values()]


def likeliest(labels: Sequence[Label], scores: NDArray[np.float64], count: int) -> tuple[Prediction, ...]:
    """Return the `count` labels with the highest scores, [classes], the highest first, rounded to four digits."""
    count = min(count, len(scores))
    if count < 1:
        return ()
    among = np.flatnonzero(scores >= np.partition(scores, -count)[-count])  # sorting all of a thousand takes longer
    order = among[np.argsort(-scores[among], kind="stable")][:count]
    return tuple(Prediction(labels[at], round(float(scores[at]), 4)) for at in order)
