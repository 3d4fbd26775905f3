"""Choose tags from the results of analyzers: the most specific words that are still likely. Pure: arrays in, tags out.

A classifier that knows 118 breeds is seldom sure of one, but it is sure that it sees a dog. So a tree adds up the
scores of the classes. A node is a tag if its sum reaches its threshold (after Deng et al., "Hedging your bets", CVPR
2012).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phototag.core import Label, Prediction, Results, Tag, canonical
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD, LevelThresholds, Taxonomy

Scores: TypeAlias = NDArray[np.floating[Any]]

# An explanation leaves out less likely words that are not tags.
_LEAST_EXPLAINED = 0.05


class Rule(Protocol):
    """A way to find tags in the results of analyzers."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the results that the rule reads."""

    @property
    def digest(self) -> str:
        """The digest of everything that decides about the tags except the results."""

    def candidates(self, results: Results) -> Iterable[Tag]:
        """Return the tags that are sure enough, in any order."""

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the model, the likeliest first."""


class Chooser:
    """Chooses the tags of a photo from the candidates of one or more rules.

    `max_tags`: the most tags for a photo. The most specific are kept.
    """

    def __init__(self, rules: Sequence[Rule], max_tags: int) -> None:
        self._rules = tuple(rules)
        self._max_tags = max_tags
        self.needs = tuple(dict.fromkeys(name for rule in rules for name in rule.needs))
        digests = tuple(rule.digest for rule in rules)
        # The digest of one rule holds `max_tags` and is that of phototag 0.1.0.
        text = canonical(("rules", digests, max_tags))
        self.digest = digests[0] if len(digests) == 1 else hashlib.sha256(text.encode()).hexdigest()

    def choose(self, results: Results) -> tuple[Tag, ...]:
        """Return the tags of one photo, the most specific first, then the most confident.

        If several rules find the same word, the more confident tag counts. Words are the same if they have the same
        synset. If one of them has none, they are the same if their names are.
        """
        tags = [tag for rule in self._rules for tag in rule.candidates(results)]
        if len(self._rules) > 1:
            tags = _without_duplicates(tags)
        tags.sort(key=_most_specific_first)
        return tuple(tags[: self._max_tags])

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the first rule, the likeliest first."""
        return self._rules[0].top(results, count)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a word is a tag of a photo or not.

    `confidence` and `needed`, 0 to 1: how sure the model is, and how sure it must be. `obstacle`: why the word is not a
    tag, or None if it is one. `from_threshold`: the `threshold` at which it would be one, if only that is missing.

    `classes`: the classes that add up to the word, the likeliest first, without those that hardly matter.
    """

    path: tuple[str, ...]
    confidence: float
    needed: float
    obstacle: str | None
    from_threshold: float | None
    classes: tuple[Prediction, ...]


class TreeRule:
    """Finds tags in the scores of a classifier with a tree of words.

    `threshold`, 0 to 1: how sure a tag must be. A word needs its own threshold, or that of its level in `levels`,
    shifted in log-odds by the distance of `threshold` from the default. `max_tags`: the most tags for a photo.
    """

    needs = ("objects",)

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
        self._needed = np.array([_shifted(value, threshold) for value in own])
        self._may_be_tags = np.array([node.state == "tag" for node in self._nodes])
        # Classes outside the tree, and classes that never count, have no row.
        rows = [(number, row[label.synset]) for number, label in enumerate(labels) if label.synset in row]
        counted = [(number, at) for number, at in rows if self._nodes[at].state != "never"]
        self._classes = np.array([number for number, _ in counted], np.intp)
        self._class_rows = np.array([at for _, at in counted], np.intp)
        settings = (taxonomy.digest, self._labels, levels, threshold, max_tags)
        self.digest = hashlib.sha256(canonical(settings).encode()).hexdigest()

    def candidates(self, results: Results) -> list[Tag]:
        """Return the words that are sure enough, in the order of the tree. `objects`: [classes], probabilities."""
        return self._candidates(results["objects"])

    def _candidates(self, scores: Scores) -> list[Tag]:
        masses = self.masses(scores)
        found = []
        for row in np.flatnonzero(self._may_be_tags & (masses >= self._needed)):
            node, mass = self._nodes[row], float(masses[row])
            found.append(Tag(node.name, round(min(mass, 1.0), 4), self._paths[row], node.synset, node.synonyms))
        return found

    def masses(self, scores: Scores) -> NDArray[np.float64]:
        """Return each node's probability, in the order of the tree's nodes: [nodes].

        It is the sum of the node's own score and those of the nodes below, so it never decreases towards the top.
        """
        own = np.asarray(scores, np.float64)[self._classes]
        masses = np.bincount(self._class_rows, own, len(self._nodes)).astype(np.float64, copy=False)
        for children, parents in self._rounds:
            np.add.at(masses, parents, masses[children])
        return masses

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the model, the likeliest first."""
        return _likeliest(self._labels, np.asarray(results["objects"], np.float64), count)

    def explain(self, scores: Scores) -> tuple[Explanation, ...]:
        """Explain each word that is a tag or at least somewhat likely, in the order of the tree.

        The likely classes that never count follow.
        """
        chosen = sorted(self._candidates(scores), key=_most_specific_first)[: self._max_tags]
        paths = {tag.path for tag in chosen}
        # A word that is never written has the path of the word above it.
        are_tags = [node.state == "tag" and path in paths for node, path in zip(self._nodes, self._paths, strict=True)]
        below = self._classes_below()
        probabilities = np.asarray(scores, np.float64)
        return tuple(
            self._explanation(number, mass, are_tags[number], below[number], probabilities)
            for number, mass in enumerate(self.masses(scores).tolist())
            if mass >= _LEAST_EXPLAINED or are_tags[number]
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
        likeliest = [at for at in np.argsort(-parts, kind="stable") if parts[at] >= _LEAST_EXPLAINED / 5]
        predictions = tuple(Prediction(self._labels[classes[at]], float(parts[at])) for at in likeliest)
        return Explanation(path, min(mass, 1.0), needed, obstacle, from_threshold, predictions)

    def _never(self, scores: NDArray[np.float64]) -> tuple[Explanation, ...]:
        """Return explanations for the likely classes that never count."""
        counted = set(self._classes.tolist())
        return tuple(
            Explanation((label.name,), float(score), 1.0, "never a tag", None, ())
            for number, (label, score) in enumerate(zip(self._labels, scores, strict=True))
            if number not in counted and score >= _LEAST_EXPLAINED
        )

    def _of_level(self, levels: LevelThresholds, number: int, has_children: bool) -> float:
        if not has_children:
            return levels.leaf
        # A word below one that is never written counts as a word at the top.
        return levels.root if len(self._paths[number]) <= 1 else levels.inner

    def _classes_below(self) -> list[list[int]]:
        below: list[list[int]] = [[] for _ in self._nodes]
        for number, row in zip(self._classes.tolist(), self._class_rows.tolist(), strict=True):
            at: int | None = row
            while at is not None:
                below[at].append(number)
                at = self._parents[at]
        return below


class LabelRule:
    """Makes tags of a model's own labels, for models without a tree and for users who want raw labels.

    `threshold`, 0 to 1: how sure a tag must be. None: not at all. `thresholds`: each label's own, None for the general
    one. Like a word of the tree, a label needs its own threshold shifted by `threshold`.

    `logit_threshold`: the logit that a label must have, instead of a probability. The scores are then logits, and their
    softmax with `temperature` is the confidence.

    `independent`: the scores do not exclude each other, so they need not add up to 1.

    `max_tags`: the most tags for a photo. Labels with the same name are one tag, because a keyword is only a name: a
    model may know two cranes. Their scores are added up. The largest counts if they are independent.
    """

    needs = ("objects",)

    def __init__(
        self,
        labels: Sequence[Label],
        *,
        threshold: float | None = DEFAULT_THRESHOLD,
        logit_threshold: float | None = None,
        temperature: float = 1.0,
        max_tags: int,
        thresholds: Sequence[float | None] = (),
        independent: bool = False,
    ) -> None:
        if independent and logit_threshold is not None:
            raise ValueError("independent scores have no logits")
        self._labels = tuple(labels)
        self._logit_threshold, self._temperature = logit_threshold, temperature
        self._independent = independent
        named: dict[str, Label] = {}
        for label in labels:
            named.setdefault(label.name.casefold(), label)
        row = {name: number for number, name in enumerate(named)}
        self._named = list(named.values())
        self._rows = np.array([row[label.name.casefold()] for label in labels], np.intp)
        self._needed = self._thresholds(threshold, thresholds or [None] * len(self._labels))
        settings = ("labels", self._labels, threshold, logit_threshold, temperature, max_tags)
        if independent or any(own is not None for own in thresholds):  # else the digest of phototag 0.1.0
            settings = (*settings, tuple(thresholds), independent)  # type: ignore[assignment]
        self.digest = hashlib.sha256(canonical(settings).encode()).hexdigest()

    def _thresholds(self, threshold: float | None, own: Sequence[float | None]) -> NDArray[np.float64]:
        """Return what each label needs: [classes]. Labels whose scores are added up need the least of their own."""
        if threshold is None:
            return np.zeros(len(self._labels))
        pairs = zip(self._labels, own, strict=True)
        needed = np.array([threshold if value is None else _shifted(value, threshold) for _, value in pairs])
        if self._independent:
            return needed
        least = np.full(len(self._named), np.inf)
        np.minimum.at(least, self._rows, needed)
        return least[self._rows]

    def candidates(self, results: Results) -> list[Tag]:
        """Return the labels that are sure enough, in the model's order. `objects`: [classes]."""
        scores = np.asarray(results["objects"], np.float64)
        confidences = self._by_name(self._probabilities(scores))
        if self._logit_threshold is not None:
            passed = scores >= self._logit_threshold
        elif self._independent:
            passed = scores >= self._needed
        else:
            passed = confidences[self._rows] >= self._needed
        is_tag = np.zeros(len(self._named), bool)
        is_tag[self._rows[passed]] = True
        return [
            Tag(label.name, round(min(float(confidences[number]), 1.0), 4), (label.name,), label.synset)
            for number, label in enumerate(self._named)
            if is_tag[number]
        ]

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the model, the likeliest first."""
        return _likeliest(self._labels, self._probabilities(np.asarray(results["objects"], np.float64)), count)

    def _probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores if self._logit_threshold is None else _softmax(scores / self._temperature)

    def _by_name(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        of_names = np.zeros(len(self._named))
        (np.maximum if self._independent else np.add).at(of_names, self._rows, scores)
        return of_names


def _without_duplicates(tags: Iterable[Tag]) -> list[Tag]:
    """Return the most confident of the tags for each word. The first wins a tie."""
    tags = list(tags)
    synsets = {tag.name.casefold(): tag.synset for tag in tags if tag.synset is not None}
    best: dict[str, Tag] = {}
    for tag in tags:
        name = tag.name.casefold()
        word = tag.synset or synsets.get(name) or name
        if word not in best or tag.confidence > best[word].confidence:
            best[word] = tag
    return list(best.values())


def _deepest_first(parents: Sequence[int | None]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rounds in which nodes are added to their parents: the nodes of one depth each, and their parents."""
    depths: list[int] = []
    for parent in parents:  # parents come before their children
        depths.append(0 if parent is None else depths[parent] + 1)
    children = {depth: [at for at, of in enumerate(depths) if of == depth] for depth in range(max(depths), 0, -1)}
    return [(np.array(row), np.array([parents[at] for at in row])) for row in children.values()]


def _likeliest(labels: Sequence[Label], scores: NDArray[np.float64], count: int) -> tuple[Prediction, ...]:
    count = min(count, len(scores))
    if count < 1:
        return ()
    among = np.flatnonzero(scores >= np.partition(scores, -count)[-count])  # sorting all of a thousand takes longer
    order = among[np.argsort(-scores[among], kind="stable")][:count]
    return tuple(Prediction(labels[at], round(float(scores[at]), 4)) for at in order)


def _most_specific_first(tag: Tag) -> tuple[int, float, str]:
    return -len(tag.path), -tag.confidence, tag.name


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max())
    scaled: NDArray[np.float64] = raised / raised.sum()
    return scaled


def _shifted(own: float, threshold: float) -> float:
    """Return `own` shifted in log-odds by the distance of `threshold` from the default."""
    return _probability(_log_odds(own) + (_log_odds(threshold) - _log_odds(DEFAULT_THRESHOLD)))


def _log_odds(probability: float) -> float:
    if probability >= 1:
        return math.inf
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
