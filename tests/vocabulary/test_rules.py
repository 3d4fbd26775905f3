"""Rules that find tags in results, and the chooser that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phototag.core import Label, Prediction, Results, Tag
from phototag.vocabulary.choose import Chooser, LabelRule

NAMES = ("dog", "Dog", "cat", "owl", "crane")
LABELS = [Label(name) for name in NAMES]
PROBABILITIES = st.floats(0, 1, width=32)
SCORES = st.lists(PROBABILITIES, min_size=len(NAMES), max_size=len(NAMES)).map(lambda row: np.array(row, np.float32))
THRESHOLDS = st.lists(st.none() | st.floats(0.01, 1), min_size=len(NAMES), max_size=len(NAMES))
WORDS = {"dog": "n00000001", "hound": "n00000001", "cat": "n00000002", "owl": "n00000003"}


class Fixed:
    """A rule that finds the same tags in any photo."""

    def __init__(self, tags: Sequence[Tag], needs: tuple[str, ...] = ("objects",), digest: str = "fixed") -> None:
        self.tags, self.needs, self.digest = tags, needs, digest

    def candidates(self, results: Results) -> Sequence[Tag]:
        return self.tags

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        return tuple(Prediction(Label(self.digest), 1.0) for _ in range(count))


def tag(name: str, confidence: float = 0.9, synset: str | None = None, above: tuple[str, ...] = ()) -> Tag:
    return Tag(name, confidence, (*above, name), synset)


def any_tag(name: str, confidence: float, has_synset: bool, above: tuple[str, ...]) -> Tag:
    return tag(name, confidence, WORDS[name] if has_synset else None, above)


TAGS = st.lists(
    st.builds(any_tag, st.sampled_from([*WORDS]), PROBABILITIES, st.booleans(), st.sampled_from([(), ("animal",)]))
)


def found(rule: LabelRule, scores: Any) -> dict[str, float]:
    return {one.name: one.confidence for one in rule.candidates({"objects": np.asarray(scores)})}


# --- The chooser ------------------------------------------------------------------------------------------------------


def test_of_two_tags_for_one_word_the_more_confident_counts() -> None:
    one = Fixed([tag("dog", 0.8, "n00000001"), tag("lake", 0.9, "n00000002"), tag("indoor", 0.7)])
    other = Fixed([tag("hound", 0.9, "n00000001"), tag("lake", 0.8, "n00000002"), tag("Indoor", 0.71)])
    chosen = Chooser((one, other), 12).choose({})
    assert [(each.name, each.confidence) for each in chosen] == [("hound", 0.9), ("lake", 0.9), ("Indoor", 0.71)]


def test_a_word_without_a_synset_is_the_same_as_one_of_its_name() -> None:
    tree, flat = Fixed([tag("dog", 0.8, "n00000001", ("animal",))]), Fixed([tag("Dog", 0.7)])
    for rules in ((tree, flat), (flat, tree)):
        assert [one.name for one in Chooser(rules, 12).choose({})] == ["dog"]


def test_a_word_with_two_meanings_is_two_tags() -> None:
    bird, machine = Fixed([tag("crane", 0.8, "n00000001")]), Fixed([tag("crane", 0.7, "n00000002")])
    assert len(Chooser((bird, machine), 12).choose({})) == 2


def test_the_first_of_two_equally_confident_tags_counts() -> None:
    rules = [Fixed([tag(name, 0.8, "n00000001")]) for name in ("dog", "hound")]
    assert [one.name for one in Chooser(rules, 12).choose({})] == ["dog"]


@given(st.lists(TAGS, min_size=1, max_size=3), st.integers(1, 5))
def test_tags_are_in_order_and_few_and_each_word_comes_once(found: list[list[Tag]], max_tags: int) -> None:
    chosen = Chooser([Fixed(tags) for tags in found], max_tags).choose({})
    assert len(chosen) <= max_tags
    assert list(chosen) == sorted(chosen, key=lambda one: (-len(one.path), -one.confidence, one.name))
    assert set(chosen) <= {one for tags in found for one in tags}
    if len(found) > 1:
        synsets = [one.synset for one in chosen if one.synset is not None]
        without = [one.name for one in chosen if one.synset is None]
        assert len(set(synsets)) == len(synsets)
        assert len(set(without)) == len(without)
        assert {one.name for one in chosen if one.synset is not None}.isdisjoint(without)


@given(TAGS)
def test_one_rule_alone_keeps_all_its_tags(tags: list[Tag]) -> None:
    assert sorted(Chooser((Fixed(tags),), 10**6).choose({}), key=repr) == sorted(tags, key=repr)


def test_a_chooser_needs_what_its_rules_need() -> None:
    rules = (Fixed((), ("objects",)), Fixed((), ("scenes", "objects")))
    assert Chooser(rules, 12).needs == ("objects", "scenes")


def test_the_digest_depends_on_every_rule_and_on_max_tags() -> None:
    one, other = Fixed((), digest="one"), Fixed((), digest="other")
    assert Chooser((one,), 12).digest == "one"
    choosers = (Chooser((one, other), 12), Chooser((other, one), 12), Chooser((one, other), 11), Chooser((one,), 12))
    assert len({chooser.digest for chooser in choosers}) == 4


def test_the_top_predictions_are_those_of_the_first_rule() -> None:
    (first,) = Chooser((Fixed((), digest="one"), Fixed((), digest="other")), 12).top({}, 1)
    assert first.label.name == "one"


# --- Labels with their own thresholds, and independent scores ---------------------------------------------------------


def test_a_label_needs_its_own_threshold() -> None:
    rule = LabelRule(LABELS, max_tags=12, thresholds=(None, None, 0.9, 0.3, None))
    assert set(found(rule, [0, 0, 0.89, 0.31, 0.69])) == {"owl"}
    assert set(found(rule, [0, 0, 0.91, 0.29, 0.71])) == {"cat", "crane"}


def test_a_labels_own_threshold_is_shifted_like_a_words() -> None:
    rule = LabelRule(LABELS, max_tags=12, threshold=0.5, thresholds=(None, None, 0.9, None, None))
    # In log-odds 0.5 is 0.847 below 0.7, and 0.794 is as far below 0.9.
    assert set(found(rule, [0, 0, 0.80, 0.5, 0.49])) == {"cat", "owl"}
    assert set(found(rule, [0, 0, 0.79, 0.5, 0.49])) == {"owl"}


def test_without_a_threshold_labels_own_do_not_count() -> None:
    rule = LabelRule(LABELS, max_tags=2, threshold=None, thresholds=(None, None, 0.9, None, None))
    chosen = Chooser((rule,), 2).choose({"objects": np.array([0, 0, 0.3, 0.2, 0.1])})
    assert [one.name for one in chosen] == ["cat", "owl"]


def test_scores_of_one_name_are_added_up_unless_they_are_independent() -> None:
    scores = [0.4, 0.5, 0, 0, 0]
    assert found(LabelRule(LABELS, max_tags=12), scores) == {"dog": 0.9}
    assert found(LabelRule(LABELS, max_tags=12, independent=True), scores) == {}
    assert found(LabelRule(LABELS, max_tags=12, independent=True), [0.8, 0.75, 0.9, 0, 0]) == {"dog": 0.8, "cat": 0.9}


def test_each_independent_score_is_judged_by_its_own_threshold() -> None:
    rule = LabelRule(LABELS, max_tags=12, thresholds=(0.9, 0.5, None, None, None), independent=True)
    assert found(rule, [0.8, 0.4, 0, 0, 0]) == {}
    assert found(rule, [0.8, 0.6, 0, 0, 0]) == {"dog": 0.8}


def test_scores_that_are_added_up_need_the_least_of_their_thresholds() -> None:
    rule = LabelRule(LABELS, max_tags=12, thresholds=(0.9, 0.5, None, None, None))
    assert found(rule, [0.3, 0.3, 0, 0, 0]) == {"dog": 0.6}
    assert found(rule, [0.3, 0.1, 0, 0, 0]) == {}


def test_independent_scores_have_no_logits() -> None:
    with pytest.raises(ValueError, match="no logits"):
        LabelRule(LABELS, threshold=None, logit_threshold=5.0, max_tags=12, independent=True)


@pytest.mark.parametrize("count", [1, 6])
def test_thresholds_belong_to_labels(count: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        LabelRule(LABELS, max_tags=12, thresholds=[0.5] * count)


def test_the_digest_changes_with_thresholds_and_independence_only_if_they_are_used() -> None:
    plain = LabelRule(LABELS, max_tags=12)
    assert LabelRule(LABELS, max_tags=12, thresholds=[None] * 5).digest == plain.digest
    own, other = ([value, None, None, None, None] for value in (0.5, 0.6))
    changes: list[Mapping[str, Any]] = [{"thresholds": own}, {"thresholds": other}, {"independent": True}]
    changes.append({"thresholds": own, "independent": True})
    digests = {LabelRule(LABELS, max_tags=12, **change).digest for change in changes}
    assert len(digests | {plain.digest}) == 5


@given(SCORES, st.none() | st.floats(0.01, 1), THRESHOLDS, st.booleans())
def test_a_tag_has_the_score_that_its_labels_need(
    scores: np.ndarray, threshold: float | None, thresholds: list[float | None], independent: bool
) -> None:
    rule = LabelRule(LABELS, threshold=threshold, max_tags=9, thresholds=thresholds, independent=independent)
    tags = found(rule, scores)
    groups = {"dog": [0, 1], "cat": [2], "owl": [3], "crane": [4]}
    assert set(tags) <= set(groups)
    for name, numbers in groups.items():
        of_name = [float(scores[number]) for number in numbers]
        confidence = max(of_name) if independent else sum(of_name)
        if name in tags:
            assert tags[name] == round(min(confidence, 1.0), 4)
        if threshold is None:
            assert name in tags


@given(SCORES, THRESHOLDS, st.booleans(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_threshold_never_adds_a_label(
    scores: np.ndarray, thresholds: list[float | None], independent: bool, one: float, other: float
) -> None:
    few, many = (
        set(found(LabelRule(LABELS, threshold=t, max_tags=9, thresholds=thresholds, independent=independent), scores))
        for t in (max(one, other), min(one, other))
    )
    assert few <= many


@given(SCORES)
def test_without_own_thresholds_a_label_is_a_tag_if_its_score_reaches_the_threshold(scores: np.ndarray) -> None:
    sums = {"dog": float(scores[0]) + float(scores[1]), "cat": float(scores[2])}
    tags = found(LabelRule(LABELS, max_tags=9), scores)
    for name, total in sums.items():
        assert (name in tags) == (total >= 0.7)
