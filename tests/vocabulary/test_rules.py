"""Rules that find evidence in results, and the chooser that joins it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phototag.core import Box, Label, Prediction, Results, ScoreLine
from phototag.vocabulary.choose import Chooser, Explanation
from phototag.vocabulary.evidence import Evidence, Word, shifted, words_of_labels, words_of_tree
from phototag.vocabulary.head_rule import DetectorRule, HeadRule
from phototag.vocabulary.label_rule import LabelRule
from phototag.vocabulary.overlay import apply_overlay
from phototag.vocabulary.taxonomy import LevelThresholds, Taxonomy
from phototag.vocabulary.tree_rule import TreeRule
from tests.helpers.vocabulary import HEADER

NAMES = ("dog", "Dog", "cat", "owl", "crane")
LABELS = [Label(name) for name in NAMES]
PROBABILITIES = st.floats(0, 1, width=32)
SCORES = st.lists(PROBABILITIES, min_size=len(NAMES), max_size=len(NAMES)).map(lambda row: np.array(row, np.float32))
THRESHOLDS = st.lists(st.none() | st.floats(0.01, 1), min_size=len(NAMES), max_size=len(NAMES))
# A person is a word of its own. People are persons, and a swarm only counts for people.
WORDS = {
    "person": Word("person", "person", ("person",), synset="n00007846"),
    "people": Word("people", "people", ("person", "people"), above=("person",)),
    "swarm": Word("swarm", "swarm", ("person", "people"), above=("people", "person"), state="rollup"),
    "outdoor": Word("outdoor", "outdoor", ("outdoor",), comes_last=True),
    "logo": Word("logo", "logo", (), state="never"),
}


class Fixed:
    """A rule that finds the same evidence in any photo."""

    def __init__(self, *evidence: Evidence, word: str = "person", digest: str = "fixed") -> None:
        self.found, self.digest = {word: evidence}, digest
        self.needs = tuple(dict.fromkeys(one.source for one in evidence)) or ("objects",)

    def evidence(self, results: Results) -> Mapping[str, tuple[Evidence, ...]]:
        return self.found

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        return tuple(Prediction(Label(self.digest), 1.0) for _ in range(count))


def tree(probability: float, needed: float = 0.4) -> Evidence:
    return Evidence("objects", probability, needed, needed, counts_above=True)


def head(probability: float, needed: float | None = 0.7) -> Evidence:
    return Evidence("words", probability, needed, needed)


def detector(probability: float) -> Evidence:
    return Evidence("boxes", probability, 0.7, 0.7, joins="words")


def chosen(*rules: Fixed, max_tags: int = 12) -> dict[str, float]:
    first, *more = rules
    return {one.name: one.confidence for one in Chooser(first, WORDS, max_tags, more).choose({})}


def explained(*rules: Fixed) -> dict[tuple[str, ...], Explanation]:
    first, *more = rules
    return {one.path: one for one in Chooser(first, WORDS, 12, more).explain({})}


def found(rule: LabelRule, scores: Any) -> dict[str, float]:
    words = words_of_labels(LABELS)
    return {one.name: one.confidence for one in Chooser(rule, words, 99).choose({"objects": np.asarray(scores)})}


# --- The chooser ------------------------------------------------------------------------------------------------------


def test_the_larger_of_tree_and_head_counts() -> None:
    assert chosen(Fixed(tree(0.5)), Fixed(head(0.8))) == {"person": 0.8}
    assert chosen(Fixed(tree(0.9)), Fixed(head(0.8))) == {"person": 0.9}


def test_each_evidence_is_judged_by_its_own_threshold() -> None:
    assert chosen(Fixed(tree(0.5)), Fixed(head(0.6))) == {"person": 0.5}
    assert chosen(Fixed(tree(0.3)), Fixed(head(0.6))) == {}


def test_a_detector_adds_its_log_odds_to_the_heads() -> None:
    # In log-odds 0.6 is 0.405 and 0.8 is 1.386. Their sum is that of 0.857.
    assert chosen(Fixed(head(0.6)), Fixed(detector(0.8))) == {"person": 0.8571}
    assert chosen(Fixed(head(0.9)), Fixed(detector(0.1))) == {}
    assert chosen(Fixed(head(0.9)), Fixed(detector(0.1)), Fixed(tree(0.95))) == {"person": 0.95}


def test_a_detector_alone_is_evidence_too() -> None:
    assert chosen(Fixed(detector(0.8))) == {"person": 0.8}
    assert chosen(Fixed(tree(0.1)), Fixed(detector(0.69))) == {}
    # A head that is not reliable enough does not silence it.
    assert chosen(Fixed(head(0.99, None)), Fixed(detector(0.8))) == {"person": 0.8}
    assert chosen(Fixed(head(0.99, None)), Fixed(detector(0.69))) == {}


def test_a_word_that_waits_is_explained_and_never_a_tag() -> None:
    assert chosen(Fixed(head(0.99, None))) == {}
    (one,) = explained(Fixed(head(0.99, None))).values()
    assert (one.obstacle, one.needed, one.from_threshold) == ("not reliable enough to be written", None, None)
    assert chosen(Fixed(tree(0.5)), Fixed(head(0.99, None))) == {"person": 0.5}


def test_a_word_that_waits_does_not_hide_what_the_other_evidence_lacks() -> None:
    (one,) = explained(Fixed(tree(0.3)), Fixed(head(0.9, None))).values()
    assert (one.confidence, one.needed, one.obstacle) == (0.3, 0.4, "not sure enough")
    assert one.from_threshold is not None
    assert shifted(0.4, one.from_threshold - 0.001) <= 0.3
    assert shifted(0.4, one.from_threshold + 0.001) > 0.3


def test_a_tag_implies_the_words_above_it() -> None:
    assert chosen(Fixed(head(0.8), word="people")) == {"people": 0.8, "person": 0.8}
    assert chosen(Fixed(head(0.8), word="people"), Fixed(head(0.75))) == {"people": 0.8, "person": 0.8}
    assert chosen(Fixed(head(0.8), word="people"), Fixed(head(0.9))) == {"people": 0.8, "person": 0.9}
    assert chosen(Fixed(head(0.6), word="people"), Fixed(head(0.6))) == {}
    of = explained(Fixed(head(0.8), word="people"), Fixed(head(0.2)))
    assert (of["person",].implied_by, of["person",].obstacle) == ("people", None)
    assert of["person", "people"].implied_by is None


def test_a_word_that_is_never_written_implies_those_above_unless_its_mass_counts_there() -> None:
    assert chosen(Fixed(head(0.8), word="swarm")) == {"people": 0.8, "person": 0.8}
    assert chosen(Fixed(tree(0.8), word="swarm")) == {}


def test_a_word_that_is_never_a_tag_needs_no_evidence() -> None:
    assert chosen(Fixed(head(1.0), word="logo")) == {}
    assert explained(Fixed(head(1.0), word="logo")) == {}


def test_indoor_and_outdoor_are_the_first_to_be_dropped() -> None:
    rules = (Fixed(head(0.99), word="outdoor"), Fixed(head(0.8)))
    assert list(chosen(*rules)) == ["person", "outdoor"]
    assert list(chosen(*rules, max_tags=1)) == ["person"]
    first, *more = rules
    obstacles = {one.path: one.obstacle for one in Chooser(first, WORDS, 1, more).explain({})}
    assert obstacles == {("person",): None, ("outdoor",): "over the limit of 1 tags"}


def test_an_explanation_has_all_evidence_and_what_is_missing() -> None:
    (one,) = explained(Fixed(tree(0.1)), Fixed(head(0.3)), Fixed(detector(0.6))).values()
    assert [(each.source, each.probability) for each in one.evidence] == [
        ("objects", 0.1),
        ("words", 0.3),
        ("boxes", 0.6),
    ]
    assert one.confidence == pytest.approx(0.3913, abs=1e-4)
    assert (one.obstacle, one.needed) == ("not sure enough", 0.7)
    assert one.from_threshold == pytest.approx(0.3913, abs=1e-4)


EVIDENCE = st.one_of(
    st.builds(tree, PROBABILITIES, st.floats(0.01, 1)),
    st.builds(head, PROBABILITIES, st.none() | st.floats(0.01, 1)),
    st.builds(detector, PROBABILITIES),
)
RULES = st.lists(
    st.tuples(EVIDENCE, st.sampled_from([*WORDS])).map(lambda pair: Fixed(pair[0], word=pair[1])), min_size=1
)


@given(RULES, st.integers(1, 5))
def test_tags_are_in_order_and_few_and_come_with_the_words_above(rules: list[Fixed], max_tags: int) -> None:
    first, *more = rules
    everything = Chooser(first, WORDS, 99, more).choose({})
    assert Chooser(first, WORDS, max_tags, more).choose({}) == everything[:max_tags]
    names = {one.name for one in everything}
    assert len(names) == len(everything)
    assert all(set(one.path) <= names for one in everything)
    by_name = {one.name: one.confidence for one in everything}
    assert all(by_name[above] >= one.confidence for one in everything for above in one.path)
    assert "logo" not in names
    assert {one.path for one in Chooser(first, WORDS, 99, more).explain({}) if one.obstacle is None} == {
        one.path for one in everything
    }


def test_a_chooser_needs_what_its_rules_need() -> None:
    assert Chooser(Fixed(tree(0.1)), WORDS, 12, [Fixed(head(0.1), tree(0.2))]).needs == ("objects", "words")


def test_the_digest_depends_on_every_rule_and_on_max_tags() -> None:
    one, other = Fixed(digest="one"), Fixed(digest="other")
    assert Chooser(one, WORDS, 12).digest == "one"
    digests = {
        Chooser(first, WORDS, max_tags, more).digest
        for first, max_tags, more in ((one, 12, [other]), (other, 12, [one]), (one, 11, [other]), (one, 12, []))
    }
    assert len(digests) == 4


def test_the_top_predictions_are_those_of_the_first_rule() -> None:
    (first,) = Chooser(Fixed(digest="one"), WORDS, 12, [Fixed(digest="other")]).top({}, 1)
    assert first.label.name == "one"


# --- The head and the detector ----------------------------------------------------------------------------------------

HEAD_TREE = f"""\
{HEADER}
n00007846\t-\ttag\tperson\t-\t-\t-\t-
n07942152\tn00007846\ttag\tpeople\t-\t-\t-\t-
n09217230\t-\ttag\tbeach\t-\t-\t-\t-
"""
HEAD_WORDS = ("n00007846", "n07942152", "n09217230")


def thing(name: str, score: float) -> Box:
    return Box(name, score, 0.1, 0.1, 0.9, 0.9)


def by_head(words: Sequence[float], things: Sequence[Box] | None = None, **options: Any) -> dict[str, float]:
    taxonomy = options.pop("taxonomy", Taxonomy.parse(HEAD_TREE, "tree.tsv"))
    joined = ("n00007846",) if things is not None else ()
    rule = HeadRule(HEAD_WORDS, {"n00007846": 0.7, "n07942152": 0.8}, taxonomy, joined=joined, **options)
    more = [DetectorRule(taxonomy, ScoreLine(), **options)] if things is not None else []
    first = TreeRule([], taxonomy, levels=LevelThresholds(), max_tags=12)
    results = {"objects": np.zeros(0), "words": np.array(words, np.float32), "boxes": things or ()}
    return {
        one.name: one.confidence for one in Chooser(first, words_of_tree(taxonomy), 12, [rule, *more]).choose(results)
    }


def test_a_word_of_the_head_needs_its_own_threshold() -> None:
    assert by_head([0.71, 0.79, 0.99]) == {"person": 0.71}
    assert by_head([0.69, 0.81, 0.99]) == {"people": 0.81, "person": 0.81}
    assert by_head([0, 0, 0]) == {}


def test_what_a_word_of_the_head_needs_is_shifted() -> None:
    assert by_head([0.51, 0.63, 0], threshold=0.5) == {"person": 0.51}
    assert by_head([0.51, 0.64, 0], threshold=0.45) == {"person": 0.64, "people": 0.64}
    assert by_head([0.01, 0.04, 0], threshold=0.01) == {"person": 0.04, "people": 0.04}


def test_a_user_can_raise_a_word_of_the_head_and_release_one_that_waits() -> None:
    taxonomy = apply_overlay(
        Taxonomy.parse(HEAD_TREE, "tree.tsv"), "person: {threshold: 0.95}\nbeach: {threshold: 0.9}\n", "my.yaml"
    )
    assert by_head([0.94, 0, 0.91], taxonomy=taxonomy) == {"beach": 0.91}
    assert by_head([0.96, 0, 0.89], taxonomy=taxonomy) == {"person": 0.96}


def test_a_user_can_rename_and_forbid_a_word_of_the_head() -> None:
    taxonomy = apply_overlay(
        Taxonomy.parse(HEAD_TREE, "tree.tsv"), "person: {name: human being}\npeople: {state: never}\n", "my.yaml"
    )
    assert by_head([0.9, 0.9, 0], taxonomy=taxonomy) == {"human being": 0.9}


def test_what_a_detector_finds_joins_the_head() -> None:
    assert by_head([0.5, 0, 0], [thing("person", 0.6), thing("person", 0.2)]) == {"person": 0.9487}
    assert by_head([0.9, 0, 0], [thing("dog", 0.9)]) == {}
    assert by_head([0.03, 0, 0], [thing("person", 0.9)]) == {"person": 0.992}
    assert by_head([0.999, 0, 0], []) == {"person": 0.9678}


def test_a_probability_that_was_rounded_to_0_does_not_overrule_the_detector() -> None:
    surely = [thing("person", 0.99)]
    assert by_head([0.00001, 0, 0], surely) == {"person": 0.9815}
    # As stored, half a step of 1/65535: log-odds of -11.78. The detector's are 3 * 4.595 + 1.7.
    assert by_head([0, 0, 0], surely) == {"person": 0.9759}
    assert by_head([0, 0, 0], [thing("person", 0.9)]) == {}
    assert by_head([1, 0, 0], []) == {"person": 0.9997}


@pytest.mark.parametrize(
    "change",
    [
        {"words": HEAD_WORDS[::-1]},
        {"thresholds": {"n00007846": 0.75}},
        {"threshold": 0.8},
        {"overlay": "beach: {threshold: 0.9}"},
    ],
)
def test_the_digest_of_a_head_rule_changes_with_its_settings(change: dict[str, Any]) -> None:
    def digest(words: Any = HEAD_WORDS, thresholds: Any = None, threshold: float = 0.7, overlay: str = "") -> str:
        taxonomy = apply_overlay(Taxonomy.parse(HEAD_TREE, "tree.tsv"), overlay, "my.yaml")
        return HeadRule(words, thresholds or {"n00007846": 0.7}, taxonomy, threshold=threshold).digest

    assert digest() == digest()
    assert digest() != digest(**change)


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
    tags = Chooser(rule, words_of_labels(LABELS), 2).choose({"objects": np.array([0, 0, 0.3, 0.2, 0.1])})
    assert [one.name for one in tags] == ["cat", "owl"]


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
