"""Choose tags from evidence: join it, compare it with what each word needs, and explain the choice. Pure.

The probability of a word is the larger of what the tree of classes and the head of words say. A detector's evidence is
added to the head's in log-odds. Each kind of evidence has its own threshold, because a sum over classes and a
regression are not equally reliable at the same probability. A word is a tag if one of them is enough. A tag implies the
words above it: people are persons.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phototag.core import Prediction, Results, Tag, canonical
from phototag.vocabulary.evidence import (
    LEAST_EXPLAINED,
    Evidence,
    RankingRule,
    Rule,
    Word,
    log_odds,
    probability,
)
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD
from phototag.vocabulary.tree_rule import TreeRule


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a word is a tag of a photo or not.

    `confidence`, 0 to 1: how likely the word is by all evidence. `needed`: how likely it must be by the evidence that
    decides, or None if that never makes it a tag. `obstacle`: why the word is not a tag, or None if it is one.
    `from_threshold`: the `threshold` at which it would be one, if only that is missing.

    `classes`: the classes that add up to the word, the likeliest first, without those that hardly matter. `evidence`:
    what each result says. `implied_by`: the name of a tag below the word, if that makes the word a tag.
    """

    path: tuple[str, ...]
    confidence: float
    needed: float | None
    obstacle: str | None
    from_threshold: float | None
    classes: tuple[Prediction, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    implied_by: str | None = None


@dataclass(slots=True)
class _Verdict:
    """What all evidence says about a word.

    `decisive`: the joined evidence that decides: enough, or else the likeliest that may make the word a tag.
    `implied_by`: the id of a tag below the word, if the evidence is not enough.
    """

    evidence: tuple[Evidence, ...]
    decisive: Evidence | None
    is_enough: bool
    confidence: float
    implied_by: str | None = None


class Chooser:
    """Chooses the tags of a photo from the evidence of rules.

    `first` also gives the likeliest labels. `more`: other rules. `words`: the words by id, which the rules refer to.
    `max_tags`: the most tags for a photo. The most specific are kept.
    """

    def __init__(self, first: RankingRule, words: Mapping[str, Word], max_tags: int, more: Sequence[Rule] = ()) -> None:
        self._first = first
        self._rules: tuple[Rule, ...] = (first, *more)
        self._words = words
        self._max_tags = max_tags
        self.needs = tuple(dict.fromkeys(name for rule in self._rules for name in rule.needs))
        digests = tuple(rule.digest for rule in self._rules)
        # The digest of one rule holds `max_tags` and is that of phototag 0.1.0.
        text = canonical(("rules", digests, max_tags))
        self.digest = digests[0] if len(digests) == 1 else hashlib.sha256(text.encode()).hexdigest()

    def choose(self, results: Results) -> tuple[Tag, ...]:
        """Return the tags of one photo, the most specific first, then the most confident."""
        return tuple(self._words[word].tag(verdict.confidence) for word, verdict in self._chosen(self._judged(results)))

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the model, the likeliest first."""
        return self._first.top(results, count)

    def explain(self, results: Results) -> tuple[Explanation, ...]:
        """Explain each word that is a tag or at least somewhat likely: first the tags, in the order of `choose`.

        The likely classes that never count come last.
        """
        verdicts = self._judged(results)
        tags = dict(self._chosen(verdicts))
        # A word that is only implied and never written, such as `place`, would say nothing.
        others = {
            word: verdict
            for word, verdict in verdicts.items()
            if word not in tags and verdict.evidence and verdict.confidence >= LEAST_EXPLAINED
        }
        explained = [
            self._explanation(self._words[word], verdict, word in tags, results)
            for word, verdict in {**tags, **others}.items()
        ]
        if isinstance(self._first, TreeRule):
            explained += [
                Explanation((one.label.name,), one.score, None, "never a tag", None)
                for one in self._first.ignored(results)
            ]
        return tuple(explained)

    def _judged(self, results: Results) -> dict[str, _Verdict]:
        """Return a verdict on each word that has any evidence, by id. Words that are never tags have none."""
        found: dict[str, tuple[Evidence, ...]] = {}
        for rule in self._rules:
            for word, evidence in rule.evidence(results).items():
                found[word] = found.get(word, ()) + evidence
        verdicts = {word: _verdict(evidence) for word, evidence in found.items() if self._words[word].state != "never"}
        for word in [word for word, verdict in verdicts.items() if self._implies(word, verdict)]:
            self._imply(word, verdicts)
        return verdicts

    def _implies(self, word: str, verdict: _Verdict) -> bool:
        """Return whether the words above are tags too. The mass of a class that is not a tag counts above already."""
        counts_above = verdict.decisive is not None and verdict.decisive.counts_above
        return verdict.is_enough and (self._words[word].state == "tag" or not counts_above)

    def _imply(self, word: str, verdicts: dict[str, _Verdict]) -> None:
        confidence = verdicts[word].confidence
        for above in self._words[word].above:
            verdict = verdicts.setdefault(above, _Verdict((), None, False, 0.0))
            if verdict.is_enough:
                verdict.confidence = max(verdict.confidence, confidence)
            elif verdict.implied_by is None or verdict.confidence < confidence:
                verdict.implied_by, verdict.confidence = word, confidence

    def _chosen(self, verdicts: Mapping[str, _Verdict]) -> list[tuple[str, _Verdict]]:
        words = self._words
        tags = [
            (word, verdict)
            for word, verdict in verdicts.items()
            if (verdict.is_enough or verdict.implied_by is not None) and words[word].state == "tag"
        ]
        tags.sort(key=lambda one: _most_specific_first(words[one[0]], one[1].confidence))
        return tags[: self._max_tags]

    def _explanation(self, word: Word, verdict: _Verdict, is_tag: bool, results: Results) -> Explanation:
        decisive = verdict.decisive
        obstacle, from_threshold = None, None
        if word.state != "tag":
            obstacle = "only counts for the words above it"
        elif not is_tag and (verdict.is_enough or verdict.implied_by is not None):
            obstacle = f"over the limit of {self._max_tags} tags"
        elif decisive is not None and not is_tag and decisive.needed is None:
            obstacle = "not reliable enough to be written"
        elif not is_tag:
            obstacle = "not sure enough"
            from_threshold = _from_threshold(verdict.evidence)
        path = word.path if word.state == "tag" else (*word.path, word.name)
        needed = decisive.needed if decisive is not None else None
        classes = self._first.parts(results, word.id) if isinstance(self._first, TreeRule) else ()
        implied_by = self._words[verdict.implied_by].name if verdict.implied_by is not None else None
        confidence = min(verdict.confidence, 1.0)
        return Explanation(path, confidence, needed, obstacle, from_threshold, classes, verdict.evidence, implied_by)


def _verdict(evidence: tuple[Evidence, ...]) -> _Verdict:
    """Judge a word by its evidence alone."""
    if len(evidence) == 1:  # as for most words of most photos
        (one,) = evidence
        return _Verdict(evidence, one, one.needed is not None and one.probability >= one.needed, one.probability)
    joined = _joined(evidence)
    enough = [one for one in joined if one.needed is not None and one.probability >= one.needed]
    able = [one for one in joined if one.needed is not None]
    decisive = max(enough or able or joined, key=_by_probability)
    return _Verdict(evidence, decisive, bool(enough), decisive.probability)


def _by_probability(evidence: Evidence) -> float:
    return evidence.probability


def _joined(evidence: Iterable[Evidence]) -> list[Evidence]:
    """Return the evidence after each that joins another was added to it.

    It stands alone if the other is missing or never makes the word a tag.
    """
    joined = {one.source: one for one in evidence if one.joins is None}
    for one in evidence:
        if one.joins is not None:
            other = joined.get(one.joins)
            if other is None or other.needed is None:
                joined[one.source] = one
            else:
                total = log_odds(_bounded(other.probability)) + log_odds(one.probability)
                joined[one.joins] = other._replace(probability=probability(total))
    return list(joined.values())


# Half a step of the probabilities of words as they are stored (`analysis.vectors`). A smaller one is stored as 0.
_HALF_STEP = 0.5 / 65535


def _bounded(probability: float) -> float:
    """Return a probability with finite log-odds. One that was rounded to 0 or 1 must not overrule other evidence."""
    return min(max(probability, _HALF_STEP), 1 - _HALF_STEP)


def _from_threshold(evidence: Iterable[Evidence]) -> float | None:
    """Return the greatest `threshold` at which a word with this evidence is a tag, or None if there is none."""
    found = [
        probability(log_odds(one.probability) - log_odds(one.fitted) + log_odds(DEFAULT_THRESHOLD))
        for one in _joined(evidence)
        if one.fitted is not None
    ]
    return max(found, default=None)


def _most_specific_first(word: Word, confidence: float) -> tuple[bool, int, float, str]:
    return word.comes_last, -len(word.path), -confidence, word.name
