import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phototag.models.find import Model, find_model
from phototag.paths import data_directory, shipped_directory
from phototag.vocabulary.taxonomy import SPLITTING_CHARACTERS, Taxonomy
from tests.helpers.words import HEAD_WORDS

STATES_OF_A_FEW = {
    "n01443537": ("animal", "fish", "goldfish"),
    "n02099601": ("animal", "dog", "retriever", "golden retriever"),
    "n01843383": ("animal", "bird", "toucan"),
    "n07873807": ("food", "pizza"),
    "n03445924": ("vehicle", "golf cart"),
}


@pytest.fixture
def model() -> Model:
    return find_model("efficientnet-lite0")


@pytest.fixture
def tree(model: Model) -> Taxonomy:
    assert model.taxonomy is not None
    return model.taxonomy


def test_the_default_model_knows_where_it_will_be(model: Model) -> None:
    assert model.directory == data_directory() / "models" / "efficientnet-lite0"
    assert not model.directory.exists()


def test_the_labels_are_the_1000_synsets_in_sorted_order(model: Model) -> None:
    synsets = [label.synset or "" for label in model.labels]
    assert len(synsets) == 1000
    assert synsets == sorted(set(synsets))
    assert synsets[0] == "n01440764"


def test_every_class_is_in_the_tree_and_is_a_leaf(model: Model, tree: Taxonomy) -> None:
    parents = {node.parent for node in tree.nodes.values()}
    for label in model.labels:
        assert label.synset in tree.nodes
        assert label.synset not in parents


def test_the_tree_is_flat_enough_for_people(tree: Taxonomy) -> None:
    depths = {node.id: len(tree.path(node.id)) for node in tree.nodes.values()}
    assert max(depths.values()) <= 4


def test_no_name_would_be_split_by_a_photo_application(tree: Taxonomy) -> None:
    for node in tree.nodes.values():
        assert SPLITTING_CHARACTERS.isdisjoint(node.name)
        assert node.name == node.name.strip()


@pytest.mark.parametrize("language", ["de", "fr", "es"])
def test_the_words_have_names_in_other_languages(tree: Taxonomy, model: Model, language: str) -> None:
    leaves = {label.synset for label in model.labels}
    written = [node for node in tree.nodes.values() if node.state == "tag"]
    assert all(language in node.translations for node in written if node.id not in leaves)
    assert sum(language in node.translations for node in written) > 500
    names = [node.name.casefold() for node in tree.in_language(language).nodes.values() if node.state == "tag"]
    assert len(names) == len(set(names))


def test_no_synonym_is_the_name_or_synonym_of_another_word(tree: Taxonomy) -> None:
    words = [word.casefold() for node in tree.nodes.values() for word in (node.name, *node.synonyms)]
    assert len(words) == len(set(words))


def test_the_tree_is_what_its_script_makes() -> None:
    source = shipped_directory() / "taxonomies" / "source"
    if not Path("/usr/share/wordnet/data.noun").exists():
        pytest.skip("needs WordNet's noun file (Debian: wordnet-base)")
    result = subprocess.run([sys.executable, source / "generate.py", "--check"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("names.tsv", "n99999999\tno such\t\tx\tx\tx", "names.tsv: not in the tree: n99999999"),
        ("names.tsv", "n01770393\tscorpion\t\tSkorpion\tscorpion\tescorpión", "names.tsv: n01770393 is there twice"),
        ("leaves.tsv", "n02084071\t0.6\tdog", "leaves.tsv: not a class: n02084071"),
        ("words.tsv", "n02084071\t-\ttag\tdog\ttag\t\tdog", "words.tsv: n02084071 is there twice"),
        ("words.tsv", "n99999999\t-\ttag\tno such\t\t\t", "words.tsv: neither a word .* nor a class: n99999999"),
        ("words.tsv", "n01770393\tn99999999\t\t\t\t\t", "words.tsv: no words .* parents of some: n99999999"),
        ("words.tsv", "n01770393\tn13104059\t\t\t\t\t", "words.tsv: no words .* parents of some: n13104059"),
        (
            "composites.tsv",
            "n99999999\tno such\t-\tn01770393",
            r"composites.tsv: n99999999 \(no such\) is not in the tree",
        ),
        ("composites.tsv", "n13104059\tbush\t-\tn01770393", r"composites.tsv: n13104059 \(bush\) is not in the tree"),
        ("composites.tsv", "n13104059\ttree\t0.7\tn00015388", "n13104059 needs classes of ImageNet.* not n00015388"),
        (
            "composites.tsv",
            "n13104059\ttree\t0.7\tn01770393|n01770393",
            "n13104059 needs classes of ImageNet, each once, not n01770393",
        ),
        ("composites.tsv", "n13104059\ttree\t70\tn01770393", "n13104059 needs a threshold above 0 .* or -, not 70"),
        ("composites.tsv", "n13104059\ttree", "n13104059 needs a threshold"),
    ],
)
def test_a_slip_in_the_tables_made_by_hand_is_named(tmp_path: Path, table: str, row: str, message: str) -> None:
    if not Path("/usr/share/wordnet/data.noun").exists():
        pytest.skip("needs WordNet's noun file (Debian: wordnet-base)")
    for folder in ("taxonomies", "efficientnet-lite0"):
        shutil.copytree(shipped_directory() / folder, tmp_path / folder)
    source = tmp_path / "taxonomies" / "source"
    with (source / table).open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    result = subprocess.run([sys.executable, source / "generate.py", "--check"], capture_output=True, text=True)
    assert result.returncode == 1
    assert re.search(message, result.stderr)


def test_a_threshold_of_its_own_is_never_below_that_of_the_level_except_for_leaves(
    model: Model, tree: Taxonomy
) -> None:
    levels, parents = model.card.thresholds, {node.parent for node in tree.nodes.values()}
    for node in tree.nodes.values():
        level = levels.leaf if node.id not in parents else levels.inner if len(tree.path(node.id)) > 1 else levels.root
        if node.id in parents:
            # That of a word fed by other classes is for their sum, and for no single class.
            assert node.threshold is None or node.fed_by or node.threshold > level, node.name


def test_a_leaf_that_earned_a_lower_threshold_needs_no_less_than_the_words_above_it(
    model: Model, tree: Taxonomy
) -> None:
    parents = {node.parent for node in tree.nodes.values()}
    earned = [
        node
        for node in tree.nodes.values()
        if node.id not in parents and node.threshold is not None and node.threshold < model.card.thresholds.leaf
    ]
    assert len(earned) > 200
    for node in earned:
        assert node.state == "tag", node.name
        assert node.threshold is not None
        assert node.threshold >= 0.6, node.name
        above = node.parent
        while above is not None:
            # That of a word fed by other classes is for their sum. The leaf implies the word all the same.
            assert tree.nodes[above].fed_by or (tree.nodes[above].threshold or 0) <= node.threshold, node.name
            above = tree.nodes[above].parent


def test_every_word_is_a_class_or_above_one_or_known_to_a_head(tree: Taxonomy, model: Model) -> None:
    parents = {node.parent for node in tree.nodes.values()}
    for node in tree.nodes.values():
        is_known = node.id in {label.synset for label in model.labels} or node.name in HEAD_WORDS
        assert is_known or node.id in parents, node.name


@pytest.mark.parametrize("synset", STATES_OF_A_FEW)
def test_some_paths_read_as_people_would_say_them(tree: Taxonomy, synset: str) -> None:
    assert tree.path(synset) == STATES_OF_A_FEW[synset]


@pytest.mark.parametrize("name", ["web site", "comic book", "envelope", "menu", "crossword puzzle"])
def test_what_makes_people_laugh_is_never_a_tag(tree: Taxonomy, name: str) -> None:
    assert [node.state for node in tree.nodes.values() if node.name == name] == ["never"]


def test_third_party_data_carries_its_notice() -> None:
    assert "Princeton University" in (shipped_directory() / "NOTICE-WordNet").read_text()
    assert "Apache License" in (shipped_directory() / "efficientnet-lite0" / "NOTICE").read_text()
