import dataclasses

import pytest

from phototag.errors import ConfigError
from phototag.vocabulary.overlay import apply_overlay
from phototag.vocabulary.taxonomy import Taxonomy, is_synset
from tests.helpers.vocabulary import TREE, tree

# A place is told by what is in it: the room by the lamp and the web site, although neither is below it.
FED = """\
id\tparent\tstate\tname\tthreshold\tsynonyms\tfed_by\tde\tfr
n00000001\t-\ttag\troom\t0.8\t-\tn00000013|n00000014\tRaum\t-
n00000002\tn00000001\ttag\tkitchen\t-\t-\t-\t-\t-
n00000013\t-\ttag\tlamp\t-\t-\t-\tLampe\tlampe
n00000014\t-\tnever\tweb site\t-\t-\t-\t-\t-
"""


def test_a_node_has_what_its_row_says() -> None:
    node = tree().nodes["n00000002"]
    assert (node.parent, node.state, node.name, node.synset) == ("n00000001", "tag", "dog", "n00000002")
    assert (node.threshold, node.synonyms, dict(node.translations)) == (
        None,
        ("hound", "doggy"),
        {"de": "Hund", "fr": "chien"},
    )
    assert tree().nodes["n00000010"].threshold == 0.9
    assert tree().nodes["x-household"].synset is None
    assert not is_synset("n0000000a")


def test_paths_leave_out_what_is_never_written() -> None:
    assert tree().path("n00000010") == ("animal", "dog", "pug")
    assert tree().path("n00000011") == ("animal", "dog")
    assert tree().path("n00000013") == ("lamp",)


def test_parents_may_stand_anywhere_in_the_file() -> None:
    lines = TREE.splitlines()
    shuffled = tree("\n".join(lines[:2] + lines[:1:-1]))
    assert shuffled.nodes == tree().nodes
    for node_id, node in shuffled.nodes.items():
        order = list(shuffled.nodes)
        assert node.parent is None or order.index(node.parent) < order.index(node_id)


def test_names_come_in_a_language_or_else_in_english() -> None:
    assert tree().languages == ("en", "de", "fr")
    german = tree().in_language("de")
    assert german.path("n00000010") == ("Tier", "Hund", "Mops")
    assert german.nodes["n00000002"].synonyms == ()
    assert tree().in_language("fr").path("n00000010") == ("animal", "chien", "pug")
    assert tree().in_language("en").digest == tree().digest != german.digest
    with pytest.raises(ConfigError, match="no names in 'nl'; choose one of en, de, fr"):
        tree().in_language("nl")


@pytest.mark.parametrize(
    "change", [{"name": "Pug"}, {"threshold": 0.8}, {"synonyms": ("x",)}, {"state": "rollup"}, {"parent": None}]
)
def test_the_digest_changes_with_the_content(change: dict[str, object]) -> None:
    nodes = tree().nodes
    other = dataclasses.replace(nodes["n00000010"], **change)  # type: ignore[arg-type]
    changed = Taxonomy({**nodes, other.id: other}.values(), "t")
    assert changed.digest != tree().digest == tree().digest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n00000020\t-\ttag", "line 11: 8 columns"),
        ("n00000020\t-\tmaybe\tcow\t-\t-\t-\t-", "line 11: the state must be one of tag, rollup, never, not 'maybe'"),
        ("-\t-\ttag\tcow\t-\t-\t-\t-", "line 11: a node needs an id"),
        ("n00000020\t-\ttag\t-\t-\t-\t-\t-", "line 11: the name '' is empty"),
        ("n00000020\t-\ttag\tcow, bull\t-\t-\t-\t-", "line 11: the name 'cow, bull' holds one of"),
        ("n00000020\t-\ttag\tcow\t-\tox/bull\t-\t-", "line 11: the name 'ox/bull' holds one of"),
        ("n00000020\t-\ttag\tcow\t-\t-\tKuh; Ochse\t-", "line 11: the name 'Kuh; Ochse' holds one of"),
        ("n00000020\t-\ttag\tcow\t48\t-\t-\t-", "line 11: a threshold must be a number above 0 and at most 1, not 48"),
        ("n00000020\t-\ttag\tcow\tnan\t-\t-\t-", "line 11: a threshold must be"),
        ("n00000020\t-\ttag\tPUG\t-\t-\t-\t-", r"n00000010 .* clash"),
        ("n00000010\t-\ttag\tcow\t-\t-\t-\t-", "clash"),
        ("n00000020\tn77777777\ttag\tcow\t-\t-\t-\t-", "has the parent n77777777, which is not in the tree"),
        ("n00000020\tn00000014\ttag\tcow\t-\t-\t-\t-", "has the parent n00000014, which is not in the tree"),
        (
            "n00000020\tn00000021\ttag\tcow\t-\t-\t-\t-\nn00000021\tn00000020\ttag\tox\t-\t-\t-\t-",
            "is its own ancestor",
        ),
    ],
)
def test_a_tree_that_does_not_hold_together_says_where(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tree(TREE + line + "\n")


def test_a_translation_that_two_words_share_is_refused() -> None:
    shared = TREE.replace("Tukan", "Mops")
    with pytest.raises(ConfigError, match=r"n00000012 \(Mops\) and n00000010 \(Mops\) clash"):
        tree(shared).in_language("de")


def test_a_table_without_its_header_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tree\.tsv, line 1: the columns must be id, parent, state, name"):
        tree("n00000001\t-\ttag\tanimal\n")


def test_a_word_may_be_fed_by_classes_that_are_not_below_it() -> None:
    fed = tree(FED)
    assert fed.languages == ("en", "de", "fr")
    for each in (fed, fed.in_language("de")):
        assert each.nodes["n00000001"].fed_by == ("n00000013", "n00000014")
        assert each.nodes["n00000001"].threshold == 0.8
        assert not each.nodes["n00000002"].fed_by
        assert each.path("n00000013") in {("lamp",), ("Lampe",)}


@pytest.mark.parametrize(
    ("fed_by", "fault"),
    [
        ("n00000013|n00000099", "'n00000099', which is not in the tree; remove it"),
        ("n00000013||n00000014", "'', which is not in the tree"),
        ("n00000013|n00000014|n00000013", "'n00000013', twice; remove it"),
        ("n00000001", "'n00000001', which counts for it anyway; remove it"),
        ("n00000013|n00000002", "'n00000002', which counts for it anyway"),
    ],
)
def test_a_word_that_cannot_be_fed_so_names_the_line(fed_by: str, fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        tree(FED.replace("n00000013|n00000014", fed_by))
    assert str(error.value).startswith("tree.tsv, line 2: n00000001 (room) is fed by ")
    assert fault in str(error.value)


def test_nodes_that_come_from_no_file_have_no_line() -> None:
    nodes = tree(FED).nodes
    with pytest.raises(ConfigError, match=r"^own: n00000001 \(room\) is fed by 'n00000013', which is not in the tree"):
        Taxonomy([nodes["n00000001"]], "own")


def test_the_digest_of_a_tree_without_fed_words_is_that_of_phototag_0_1_0() -> None:
    """The digest decides which photos are up to date. These two were computed before words could be fed."""
    assert tree().digest == "1c93549ef4cc1660533a38270e08365da905247f36d00931280699d0554c6884"
    own = apply_overlay(tree(), "dog: {name: woof}\npug: {state: never}\n", "own.yaml")
    assert own.digest == "5f7c20d07d69540d687181cf804a42755b92500fc2ea904fe01fd51c27ef19e6"
    lines = [line.split("\t") for line in TREE.splitlines() if line[0] != "#"]
    unfed = ["\t".join([*line[:6], "fed_by" if line[0] == "id" else "-", *line[6:]]) for line in lines]
    assert tree("\n".join(unfed)).digest == tree().digest


@pytest.mark.parametrize("change", [{"fed_by": ("n00000013",)}, {"fed_by": ()}, {"user_threshold": 0.8}])
def test_the_digest_changes_with_what_feeds_a_word_and_with_a_threshold_of_the_users(change: dict[str, object]) -> None:
    nodes = tree(FED).nodes
    other = dataclasses.replace(nodes["n00000001"], **change)  # type: ignore[arg-type]
    assert Taxonomy({**nodes, other.id: other}.values(), "t").digest != tree(FED).digest == tree(FED).digest
