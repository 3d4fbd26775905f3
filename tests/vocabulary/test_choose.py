from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phototag.core import Label, Prediction, Tag
from phototag.models.find import find_model
from phototag.vocabulary.choose import Chooser, Explanation
from phototag.vocabulary.evidence import words_of_labels, words_of_tree
from phototag.vocabulary.label_rule import LabelRule
from phototag.vocabulary.taxonomy import LevelThresholds, Taxonomy
from phototag.vocabulary.tree_rule import TreeRule
from tests.helpers.vocabulary import TREE

LABELS = [Label(f"label {n}", f"n000000{n}") for n in (10, 11, 12, 13, 14)] + [Label("not in the tree", "n99999999")]
FLAT = LevelThresholds(0.7, 0.7, 0.7)
WITHOUT_OWN_THRESHOLDS = TREE.replace("0.9", "-")


def by_label(rule: LabelRule, labels: list[Label], max_tags: int = 12) -> Chooser:
    return Chooser(rule, words_of_labels(labels), max_tags)


def by_tree(
    labels: Sequence[Label], tree: Taxonomy, levels: LevelThresholds, threshold: float = 0.7, max_tags: int = 12
) -> Chooser:
    rule = TreeRule(labels, tree, levels=levels, threshold=threshold, max_tags=max_tags)
    return Chooser(rule, words_of_tree(tree), max_tags)


def chosen(chooser: Chooser, scores: np.ndarray) -> tuple[Tag, ...]:
    return chooser.choose({"objects": scores})


def explained(chooser: Chooser, *scores: float) -> tuple[Explanation, ...]:
    return chooser.explain({"objects": np.array(scores)})


def top(chooser: Chooser, scores: np.ndarray, count: int) -> tuple[Prediction, ...]:
    return chooser.top({"objects": scores}, count)


def chooser(
    threshold: float = 0.7, max_tags: int = 12, levels: LevelThresholds = FLAT, tree: str = WITHOUT_OWN_THRESHOLDS
) -> Chooser:
    return by_tree(LABELS, Taxonomy.parse(tree, "tree.tsv"), levels, threshold, max_tags)


def names(*scores: float, **options: object) -> list[str]:
    return [tag.name for tag in chosen(chooser(**options), np.array(scores))]  # type: ignore[arg-type]


def test_a_sure_class_comes_with_its_ancestors_the_most_specific_first() -> None:
    assert names(0.9, 0, 0.05, 0, 0, 0.05) == ["pug", "dog", "animal"]


def test_weak_classes_add_up_to_a_sure_ancestor() -> None:
    assert names(0.4, 0.4, 0.1, 0.1, 0, 0) == ["dog", "animal"]
    assert names(0.3, 0.3, 0.3, 0.1, 0, 0) == ["animal"]


def test_a_rolled_up_name_is_never_written_but_counts() -> None:
    assert names(0, 0.95, 0, 0, 0, 0.05) == ["dog", "animal"]
    (tag,) = chosen(chooser(), np.array([0, 0, 0, 0.9, 0.1, 0]))
    assert (tag.name, tag.path) == ("lamp", ("lamp",))


def test_what_must_never_be_written_counts_for_nothing() -> None:
    assert names(0, 0, 0, 0, 1.0, 0) == []


def test_a_class_outside_the_tree_gives_no_tag() -> None:
    assert names(0, 0, 0, 0, 0, 1.0) == []


def test_tags_say_how_sure_and_where_they_belong() -> None:
    pug, dog, _ = chosen(chooser(), np.array([0.8, 0.1, 0.1, 0, 0, 0]))
    assert (pug.name, pug.confidence, pug.path, pug.synset) == ("pug", 0.8, ("animal", "dog", "pug"), "n00000010")
    assert (dog.confidence, dog.path, dog.synonyms) == (0.9, ("animal", "dog"), ("hound", "doggy"))


def test_max_tags_keeps_the_most_specific() -> None:
    assert names(0.9, 0, 0.05, 0, 0, 0.05, max_tags=2) == ["pug", "dog"]


def test_a_word_needs_what_its_level_needs() -> None:
    levels = LevelThresholds(root=0.4, inner=0.6, leaf=0.8)
    assert names(0.79, 0, 0, 0, 0, 0.21, levels=levels) == ["dog", "animal"]
    assert names(0.59, 0, 0, 0, 0, 0.41, levels=levels) == ["animal"]
    assert names(0.81, 0, 0, 0, 0, 0.19, levels=levels) == ["pug", "dog", "animal"]
    # Alone at the top, and with nothing below: a leaf all the same.
    assert names(0, 0, 0, 0.79, 0, 0, levels=levels) == []


def test_a_threshold_of_its_own_stands_above_that_of_the_level() -> None:
    assert names(0.89, 0, 0, 0, 0, 0.11, tree=TREE) == ["dog", "animal"]
    assert names(0.91, 0, 0, 0, 0, 0.09, tree=TREE) == ["pug", "dog", "animal"]


def test_what_a_word_needs_moves_with_the_threshold() -> None:
    levels = LevelThresholds(root=0.4, inner=0.7, leaf=0.9)
    # In log-odds 0.5 is 0.847 below 0.7, and so far below 0.9 lies 0.794.
    assert names(0.8, 0, 0, 0, 0, 0.2, levels=levels, threshold=0.5) == ["pug", "dog", "animal"]
    assert names(0.78, 0, 0, 0, 0, 0.22, levels=levels, threshold=0.5) == ["dog", "animal"]
    assert names(1.0, 0, 0, 0, 0, 0, levels=levels, threshold=1.0) == ["pug", "dog", "animal"]
    assert names(0.9999, 0, 0, 0, 0, 0, levels=levels, threshold=1.0) == []


@pytest.fixture(scope="module")
def imagenet() -> tuple[tuple[Label, ...], Taxonomy, LevelThresholds]:
    model = find_model("efficientnet-lite0")
    assert model.taxonomy is not None
    return model.labels, model.taxonomy, model.card.thresholds


def random_scores(seed: int, sharpness: float) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(1000, sharpness))


@given(seed=st.integers(0, 2**32 - 1), sharpness=st.sampled_from([0.002, 0.02, 0.3]))
def test_an_ancestor_is_never_less_likely_than_what_is_below_it(imagenet, seed: int, sharpness: float) -> None:
    labels, tree, levels = imagenet
    masses = TreeRule(labels, tree, levels=levels, max_tags=99).masses(random_scores(seed, sharpness))
    of = dict(zip(tree.nodes, masses, strict=True))
    # A class that feeds a word without being below it does not count above the word.
    rising = [node for node in tree.nodes.values() if node.parent is not None and not node.fed_by]
    assert len(rising) > 500
    assert all(of[node.parent] >= of[node.id] for node in rising)
    assert max(masses) <= 1 + 1e-9


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32 - 1),
    sharpness=st.sampled_from([0.002, 0.02, 0.3]),
    low=st.floats(0.01, 1.0),
    high=st.floats(0.01, 1.0),
)
def test_a_higher_threshold_never_adds_a_tag(imagenet, seed: int, sharpness: float, low: float, high: float) -> None:
    labels, tree, levels = imagenet
    low, high = sorted((low, high))
    scores = random_scores(seed, sharpness)
    few, many = ({tag.name for tag in chosen(by_tree(labels, tree, levels, t, 999), scores)} for t in (high, low))
    assert few <= many


def test_the_top_predictions_are_the_models_own() -> None:
    first, second = top(chooser(), np.array([0.1, 0.2, 0.0, 0.0, 0.7, 0.0]), 2)
    assert (first.label.name, first.score) == ("label 14", 0.7)
    assert (second.label.name, second.score) == ("label 11", 0.2)
    assert top(chooser(), np.array([0.1, 0.2, 0.0, 0.0, 0.7, 0.0]), 0) == ()


def test_an_explanation_says_what_adds_up_and_what_is_missing() -> None:
    of = {one.path: one for one in explained(chooser(), 0.4, 0.35, 0.1, 0.05, 0.1, 0)}
    dog, pug = of["animal", "dog"], of["animal", "dog", "pug"]
    assert (dog.obstacle, round(dog.confidence, 2)) == (None, 0.75)
    assert dog.needed == pytest.approx(0.7)
    assert [(one.label.name, one.score) for one in dog.classes] == [("label 10", 0.4), ("label 11", 0.35)]
    assert pug.obstacle == "not sure enough"
    assert pug.from_threshold == pytest.approx(0.4)
    assert of["animal", "dog", "obscure hound"].obstacle == "only counts for the words above it"
    assert of["label 14",].obstacle == "never a tag"
    assert ("lamp",) in of
    limited = {one.path: one.obstacle for one in explained(chooser(max_tags=1), 0, 0, 0.9, 0, 0, 0.1)}
    assert limited == {
        ("animal", "toucan"): None,
        ("animal",): "over the limit of 1 tags",
        ("not in the tree",): "never a tag",
    }


def test_an_explanation_has_every_tag_however_low_the_threshold_and_little_else() -> None:
    low, scores = chooser(threshold=0.01, max_tags=9), np.array([0.03, 0, 0, 0.04, 0.93, 0])
    tags = {tag.path for tag in chosen(low, scores)}
    assert tags == {("animal", "dog", "pug"), ("animal", "dog"), ("animal",), ("lamp",)}
    explanations = explained(low, *scores)
    assert {one.path for one in explanations if one.obstacle is None} == tags
    assert [one.path for one in explanations if one.obstacle is not None] == [("label 14",)]


def test_the_threshold_that_an_explanation_names_gives_the_tag() -> None:
    levels, scores = LevelThresholds(0.4, 0.75, 0.9), np.array([0.5, 0.1, 0.1, 0.2, 0.1, 0])
    for one in explained(chooser(levels=levels, threshold=0.95), *scores):
        if one.from_threshold is not None:
            for offset, is_tag in ((-0.001, True), (0.001, False)):
                found = chosen(chooser(levels=levels, threshold=one.from_threshold + offset), scores)
                assert (one.path in {tag.path for tag in found}) == is_tag


@pytest.mark.parametrize(
    "change", [{"threshold": 0.71}, {"max_tags": 11}, {"levels": LevelThresholds()}, {"tree": TREE}]
)
def test_the_digest_changes_with_the_settings(change: dict[str, object]) -> None:
    settings = {"levels": LevelThresholds(0.4)}
    assert chooser(**settings).digest == chooser(**settings).digest  # type: ignore[arg-type]
    assert chooser(**settings).digest != chooser(**{**settings, **change}).digest  # type: ignore[arg-type]


def test_without_a_tree_every_label_stands_alone() -> None:
    labels = [Label("crane", "n02012849"), Label("Crane", "n03126707"), Label("owl")]
    flat = by_label(LabelRule(labels, max_tags=12), labels)
    (tag,) = chosen(flat, np.array([0.4, 0.4, 0.2]))
    assert (tag.name, tag.confidence, tag.path) == ("crane", 0.8, ("crane",))
    assert [tag.name for tag in chosen(flat, np.array([0.1, 0.1, 0.8]))] == ["owl"]


def test_without_a_threshold_the_likeliest_labels_are_tags() -> None:
    likeliest = by_label(LabelRule(LABELS, threshold=None, max_tags=2), LABELS, 2)
    assert [tag.name for tag in chosen(likeliest, np.array([0.1, 0.3, 0, 0.2, 0, 0]))] == ["label 11", "label 13"]


def test_logits_are_compared_as_they_are_and_confidence_is_their_softmax() -> None:
    rule = LabelRule(LABELS[:3], threshold=None, logit_threshold=5.0, temperature=2.0, max_tags=9)
    by_logit = by_label(rule, LABELS[:3], 9)
    (tag,) = chosen(by_logit, np.array([4.9, 5.0, 0.0]))
    assert tag.name == "label 11"
    assert tag.confidence == pytest.approx(0.4918, abs=0.0001)
    assert top(by_logit, np.array([4.9, 5.0, 0.0]), 1)[0].score == pytest.approx(0.4918, abs=0.0001)
    assert chosen(by_logit, np.array([-9.0, 4.99, 0.0])) == ()
    assert by_logit.digest != LabelRule(LABELS[:3], threshold=None, max_tags=9).digest
