import numpy as np
import pytest

from phototag.errors import ConfigError
from phototag.taxonomy import Label, Tagger, Taxonomy

TREE = """\
# animals
id\tparent\tstate\tname
n00000001\t-\ttag\tanimal
n00000002\tn00000001\ttag\tdog
n00000010\tn00000002\ttag\tpug
n00000011\tn00000002\trollup\tobscure hound
n00000012\tn00000001\ttag\ttoucan
x-household\t-\trollup\thousehold thing
n00000013\tx-household\ttag\tlamp
n00000014\t-\tnever\tweb site
"""
LABELS = [Label(f"label {n}", f"n000000{n}") for n in (10, 11, 12, 13, 14)] + [Label("not in the tree", "n99999999")]


def tagger(threshold: float = 0.7, max_tags: int = 12) -> Tagger:
    return Tagger(LABELS, Taxonomy.parse(TREE, "tree.tsv"), threshold=threshold, max_tags=max_tags)


def names(*scores: float, **options: float) -> list[str]:
    return [tag.name for tag in tagger(**options).choose(np.array(scores))]  # type: ignore[arg-type]


def test_a_sure_class_comes_with_its_ancestors_the_most_specific_first() -> None:
    assert names(0.9, 0, 0.05, 0, 0, 0.05) == ["pug", "dog", "animal"]


def test_weak_classes_add_up_to_a_sure_ancestor() -> None:
    assert names(0.4, 0.4, 0.1, 0.1, 0, 0) == ["dog", "animal"]
    assert names(0.3, 0.3, 0.3, 0.1, 0, 0) == ["animal"]


def test_a_rolled_up_name_is_never_written_but_counts() -> None:
    assert names(0, 0.95, 0, 0, 0, 0.05) == ["dog", "animal"]
    (tag,) = tagger().choose(np.array([0, 0, 0, 0.9, 0.1, 0]))
    assert (tag.name, tag.path) == ("lamp", ("lamp",))


def test_what_must_never_be_written_counts_for_nothing() -> None:
    assert names(0, 0, 0, 0, 1.0, 0) == []


def test_a_class_outside_the_tree_gives_no_tag() -> None:
    assert names(0, 0, 0, 0, 0, 1.0) == []


def test_tags_say_how_sure_and_where_they_belong() -> None:
    pug, dog, _ = tagger().choose(np.array([0.8, 0.1, 0.1, 0, 0, 0]))
    assert (pug.name, pug.confidence, pug.path, pug.synset) == ("pug", 0.8, ("animal", "dog", "pug"), "n00000010")
    assert (dog.confidence, dog.path) == (0.9, ("animal", "dog"))


def test_max_tags_keeps_the_most_specific() -> None:
    assert names(0.9, 0, 0.05, 0, 0, 0.05, max_tags=2) == ["pug", "dog"]


def test_without_a_tree_every_label_stands_alone() -> None:
    labels = [Label("crane", "n02012849"), Label("Crane", "n03126707"), Label("owl")]
    flat = Tagger(labels, None, threshold=0.7, max_tags=12)
    (tag,) = flat.choose(np.array([0.4, 0.4, 0.2]))
    assert (tag.name, tag.confidence, tag.path) == ("crane", 0.8, ("crane",))
    assert [tag.name for tag in flat.choose(np.array([0.1, 0.1, 0.8]))] == ["owl"]


def test_the_top_predictions_are_the_models_own() -> None:
    first, second = tagger().top(np.array([0.1, 0.2, 0.0, 0.0, 0.7, 0.0]), 2)
    assert (first.label.name, first.score) == ("label 14", 0.7)
    assert (second.label.name, second.score) == ("label 11", 0.2)


def test_an_ancestor_is_never_less_likely_and_a_higher_threshold_never_adds() -> None:
    rng = np.random.default_rng(7)
    tree = Taxonomy.parse(TREE, "tree.tsv")
    order = list(tree.nodes)
    for _ in range(300):
        scores = rng.dirichlet(np.full(len(LABELS), 0.3))
        masses = dict(zip(order, tagger().masses(scores), strict=True))
        for node in tree.nodes.values():
            assert node.parent is None or masses[node.parent] >= masses[node.id]
        low, high = np.sort(rng.uniform(0.01, 1, 2))
        assert set(names(*scores, threshold=high)) <= set(names(*scores, threshold=low))


@pytest.mark.parametrize("change", [{"threshold": 0.71}, {"max_tags": 11}])
def test_the_digest_changes_with_the_settings(change: dict[str, float]) -> None:
    assert tagger().digest == tagger().digest
    assert tagger().digest != tagger(**change).digest  # type: ignore[arg-type]


def test_the_digest_changes_with_the_tree_and_the_labels() -> None:
    tree = Taxonomy.parse(TREE.replace("toucan", "puffin"), "tree.tsv")
    assert Tagger(LABELS, tree, threshold=0.7, max_tags=12).digest != tagger().digest
    assert Tagger(LABELS[::-1], Taxonomy.parse(TREE, "t"), threshold=0.7, max_tags=12).digest != tagger().digest


def test_parents_may_stand_anywhere_in_the_file() -> None:
    lines = TREE.splitlines()
    shuffled = "\n".join(lines[:2] + lines[:1:-1])
    scores = np.array([0.4, 0.4, 0.1, 0.1, 0, 0])
    assert Tagger(LABELS, Taxonomy.parse(shuffled, "t"), threshold=0.7, max_tags=9).choose(scores) == tagger().choose(
        scores
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n00000020\t-\ttag", "line 11: 4 columns"),
        ("n00000020\t-\tmaybe\tcow", "line 11: the state must be one of tag, rollup, never"),
        ("n00000020\t-\ttag\t", "line 11: a node needs an id and a name"),
        ("n00000020\t-\ttag\tcow, bull", "line 11: the name 'cow, bull' holds one of"),
        ("n00000020\t-\ttag\tPUG", r"n00000010 .* clash"),
        ("n00000010\t-\ttag\tcow", "clash"),
        ("n00000020\tn77777777\ttag\tcow", "has the parent n77777777, which is not in the tree"),
        ("n00000020\tn00000014\ttag\tcow", "has the parent n00000014, which is not in the tree"),
        ("n00000020\tn00000021\ttag\tcow\nn00000021\tn00000020\ttag\tox", "is its own ancestor"),
    ],
)
def test_a_tree_that_does_not_hold_together_says_where(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Taxonomy.parse(TREE + line + "\n", "tree.tsv")


def test_a_table_without_its_header_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tree\.tsv, line 1: the columns must be id, parent, state, name"):
        Taxonomy.parse("n00000001\t-\ttag\tanimal\n", "tree.tsv")
