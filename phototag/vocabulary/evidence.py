"""Evidence for words: what the results of analyzers say about a photo, in a form that can be joined. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from phototag.core import Label, Prediction, Results, Tag
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD, State, Taxonomy

# An explanation leaves out less likely words that are not tags.
LEAST_EXPLAINED = 0.05


class Evidence(NamedTuple):
    """What one result says about a word.

    source: the name of the result.
    probability: 0 to 1, by this evidence alone.
    needed: the probability that makes the word a tag. None: this evidence never does, because it is not reliable yet.
    fitted: `needed` at the default threshold.
    joins: the name of a result. The log-odds of this evidence are added to those of that result, if that may make the
        word a tag.
    counts_above: the probability is part of that of each word above.
    """

    source: str
    probability: float
    needed: float | None
    fitted: float | None = None
    joins: str | None = None
    counts_above: bool = False


class Rule(Protocol):
    """A way to find evidence for words in the results of analyzers."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the results that the rule reads."""

    @property
    def digest(self) -> str:
        """The digest of everything that decides about the evidence except the results."""

    def evidence(self, results: Results) -> Mapping[str, tuple[Evidence, ...]]:
        """Return the evidence by the word's id."""


class RankingRule(Rule, Protocol):
    """A rule that reads the scores of a classifier's labels."""

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the model, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that may be a tag.

    `path`: the names from the top of the tree to the word's own, without those of words that are never written.
    `above`: the ids of the words above it, the nearest first. `state` is that of its node. `comes_last`: the limit of
    tags drops it first.
    """

    id: str
    name: str
    path: tuple[str, ...]
    synset: str | None = None
    synonyms: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    state: State = "tag"
    comes_last: bool = False

    def tag(self, confidence: float) -> Tag:
        """Return the tag with this confidence, 0 to 1."""
        return Tag(self.name, round(min(confidence, 1.0), 4), self.path, self.synset, self.synonyms)


# Nearly every photo is one or the other, so they say least about it.
_LAST = frozenset({"x-indoor", "x-outdoor"})


def words_of_tree(taxonomy: Taxonomy) -> Mapping[str, Word]:
    """Return the words of a tree by id. Each is made when it is first asked for, because a run needs few of them."""
    return _WordsOfTree(taxonomy)


class _WordsOfTree(dict[str, Word]):
    def __init__(self, taxonomy: Taxonomy) -> None:
        super().__init__()
        self._taxonomy = taxonomy

    def __missing__(self, node_id: str) -> Word:
        node = self._taxonomy.nodes[node_id]
        parent = self[node.parent] if node.parent is not None else None
        above = (parent.id, *parent.above) if parent is not None else ()
        path = self._taxonomy.path(node_id)
        word = Word(node.id, node.name, path, node.synset, node.synonyms, above, node.state, node.id in _LAST)
        self[node_id] = word
        return word


def words_of_labels(labels: Iterable[Label]) -> dict[str, Word]:
    """Return the words of a model without a tree, by `label_id`. Labels with the same name are one word."""
    words: dict[str, Word] = {}
    for label in labels:
        words.setdefault(label_id(label), Word(label_id(label), label.name, (label.name,), label.synset))
    return words


def label_id(label: Label) -> str:
    """Return the id of the word that a label is without a tree."""
    return label.name.casefold()


def shifted(own: float, threshold: float) -> float:
    """Return `own` shifted in log-odds by the distance of `threshold` from the default."""
    if threshold == DEFAULT_THRESHOLD:
        return own  # exactly
    return probability(log_odds(own) + (log_odds(threshold) - log_odds(DEFAULT_THRESHOLD)))


def log_odds(probability: float) -> float:
    """Return the log-odds of a probability. They are infinite from 1 up and from 0 down."""
    if probability >= 1:
        return math.inf
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf


def probability(log_odds: float) -> float:
    """Return the probability, 0 to 1, that has these log-odds."""
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
