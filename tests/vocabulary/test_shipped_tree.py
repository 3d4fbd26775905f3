"""The shipped tree of words, as people meet it."""

from pathlib import Path

import numpy as np
import pytest

from phototag.errors import ConfigError
from phototag.models.find import imagenet_taxonomy
from phototag.paths import shipped_directory
from phototag.vocabulary.overlay import apply_overlay
from phototag.vocabulary.taxonomy import Node, Taxonomy
from tests.helpers.words import HEAD_WORDS, ONLY_TAUGHT

LANGUAGES = ("en", "de", "fr", "es")
PATHS = {
    "people": ("person", "people"),
    "crowd": ("person", "people", "crowd"),
    "baby": ("person", "child", "baby"),
    "portrait": ("person", "portrait"),
    "kitchen": ("kitchen",),
    "outdoor": ("outdoor",),
    "restaurant": ("restaurant",),
    "sea": ("nature", "sea"),
    "mountain": ("nature", "mountain"),
    "cake": ("food", "cake"),
    "tennis": ("sport", "tennis"),
    "baseball": ("sport", "baseball"),
    "baseball ball": ("sports equipment", "ball", "baseball ball"),
    "screen": ("electronics", "screen"),
    "wedding": ("wedding",),
}
# A street has a tree and some sky, and is not nature. A page on a screen is not always a document.
WITHOUT_PARENTS = ("sky", "water", "snow", "grass", "tree", "sunset", "night", "document", "screenshot", "map")


def named(tree: Taxonomy) -> dict[str, Node]:
    return {node.name: node for node in tree.nodes.values()}


def overlaid(text: str, language: str = "en") -> Taxonomy:
    return apply_overlay(imagenet_taxonomy(), text, "own.yaml", language)


def test_every_word_that_a_head_may_know_is_in_the_tree_and_may_be_written() -> None:
    nodes = named(imagenet_taxonomy())
    assert {word for word in HEAD_WORDS if word not in nodes or nodes[word].state != "tag"} == set()


def test_every_word_that_photos_are_labelled_with_is_in_the_tree(shared: Path) -> None:
    if not (shared / "heads" / "features.npz").exists():
        pytest.skip("needs the labels of ../shared/heads")
    with np.load(shared / "heads" / "features.npz") as features:
        labels = {"flower" if word == "flowers" else str(word) for word in features["words"]}
    assert labels == HEAD_WORDS | ONLY_TAUGHT
    assert named(imagenet_taxonomy()).keys().isdisjoint(ONLY_TAUGHT)


@pytest.mark.parametrize("word", PATHS)
def test_what_stands_above_a_word_is_true_of_it(word: str) -> None:
    tree = imagenet_taxonomy()
    assert tree.path(named(tree)[word].id) == PATHS[word]


@pytest.mark.parametrize("word", WITHOUT_PARENTS)
def test_what_is_often_in_the_background_implies_nothing(word: str) -> None:
    assert named(imagenet_taxonomy())[word].parent is None


@pytest.mark.parametrize("name", ["place", "event"])
def test_what_tells_a_person_nothing_is_not_written(name: str) -> None:
    assert named(imagenet_taxonomy())[name].state == "rollup"


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_word_of_a_head_has_a_name_of_its_own_in_every_language(language: str) -> None:
    tree = imagenet_taxonomy()
    assert tree.languages == LANGUAGES
    nodes = named(tree)
    assert all(language in nodes[word].translations for word in HEAD_WORDS)
    assert len(named(tree.in_language(language))) == len(tree.nodes)


def test_german_words_are_written_as_germans_do() -> None:
    nouns = [named(imagenet_taxonomy())[word].translations["de"] for word in HEAD_WORDS - {"indoor", "outdoor"}]
    assert [noun for noun in nouns if not noun[0].isupper()] == []


def test_what_feeds_a_word_is_a_class_from_elsewhere_and_the_word_has_a_threshold() -> None:
    tree = imagenet_taxonomy()
    labels = (shipped_directory() / "efficientnet-lite0" / "labels.txt").read_text(encoding="utf-8").splitlines()
    classes = {line.split()[0] for line in labels}
    fed = {node.name: node for node in tree.nodes.values() if node.fed_by}
    assert {"kitchen", "bathroom"} <= fed.keys() <= HEAD_WORDS
    for node in fed.values():
        assert node.threshold is not None
        assert classes.issuperset(node.fed_by)
    # A bathtub and a toilet are below the bathroom.
    below = {node.id for node in tree.nodes.values() if node.parent == fed["bathroom"].id}
    assert below
    assert below.isdisjoint(fed["bathroom"].fed_by)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("word", ["people", "kitchen", "sky", "x-outdoor", "soccer", "wedding"])
def test_words_of_a_head_can_be_changed_like_all_others(word: str, language: str) -> None:
    before = imagenet_taxonomy().in_language(language)
    node_id = next(node.id for node in imagenet_taxonomy().nodes.values() if word in (node.id, node.name))
    text = f"{word}: {{name: Mine, parent: cat, threshold: 0.35, state: rollup, synonyms: [mine too]}}\n"
    changed = overlaid(text, language).nodes[node_id]
    assert (changed.name, changed.parent, changed.state) == ("Mine", "n02121808", "rollup")
    assert (changed.threshold, changed.user_threshold) == (0.35, 0.35)
    assert changed.synonyms == (*before.nodes[node_id].synonyms, "mine too")
    assert changed.fed_by == before.nodes[node_id].fed_by


def test_a_word_of_ones_own_may_stand_above_words_of_a_head() -> None:
    changed = overlaid("family: {new: true, parent: person}\nchild: {parent: family}\n")
    assert changed.path(named(changed)["baby"].id) == ("person", "family", "child", "baby")


def test_what_is_forbidden_takes_what_is_below_with_it() -> None:
    nodes = named(overlaid("place: {state: never}\nperson: {state: never}\n"))
    for word in ("kitchen", "indoor", "street", "people", "crowd", "baby", "baseball player"):
        assert nodes[word].state == "never", word
    assert nodes["sky"].state == "tag"
    # The baseball player, whom the user wants never, tells of no baseball.
    assert "n09835506" in named(imagenet_taxonomy())["baseball"].fed_by
    assert "n09835506" not in nodes["baseball"].fed_by


def test_names_of_the_words_of_a_head_cannot_be_given_twice() -> None:
    with pytest.raises(ConfigError, match="line 1: the name 'kitchen' is that of n03619890 already"):
        overlaid("cat: {name: kitchen}\n")
    with pytest.raises(ConfigError, match="line 1: the name 'K\u00fcche' is that of n03619890 already"):
        overlaid("cat: {name: K\u00fcche}\n", "de")
