import pytest

from phototag.errors import ConfigError
from phototag.vocabulary.overlay import apply_overlay
from phototag.vocabulary.taxonomy import Taxonomy
from tests.helpers.vocabulary import tree

# The room is told by the lamp, the pug and the stove, none of which is below it.
FED = """\
id\tparent\tstate\tname\tthreshold\tsynonyms\tfed_by\tde\tfr
n00000001\t-\ttag\troom\t0.8\t-\tn00000013|n00000010|n00000015\tRaum\tsalle
n00000002\t-\ttag\tdog\t-\t-\t-\tHund\tchien
n00000010\tn00000002\ttag\tpug\t-\t-\t-\tMops\t-
n00000013\t-\tnever\tlamp\t-\t-\t-\tLampe\tlampe
n00000015\t-\ttag\tstove\t-\t-\t-\tHerd\t-
"""


def fed(text: str, language: str = "en") -> tuple[str, ...]:
    """Return the names of what feeds the room with the overlay in `text`."""
    nodes = apply_overlay(tree(FED), text, "own.yaml", language).nodes
    return tuple(nodes[one].name for one in nodes["n00000001"].fed_by)


def overlaid(text: str, language: str = "en") -> Taxonomy:
    return apply_overlay(tree(), text, "own.yaml", language)


def test_words_are_renamed_moved_and_told_how_sure_to_be() -> None:
    changed = overlaid(
        "toucan: {name: big bird, parent: dog, threshold: 0.55, synonyms: [tookie]}\n"
        "n00000010:\n  state: rollup\n"
        "Lamp:\n  parent: animal\n"
        "dog: {parent: none}\n"
    )
    toucan = changed.nodes["n00000012"]
    assert (changed.path("n00000012"), toucan.threshold, toucan.synonyms) == (("dog", "big bird"), 0.55, ("tookie",))
    assert changed.nodes["n00000010"].state == "rollup"
    assert changed.path("n00000013") == ("animal", "lamp")
    assert changed.digest != tree().digest


def test_a_word_of_ones_own_can_be_put_above_others_wherever_it_stands() -> None:
    changed = overlaid("dog: {parent: pet}\npet: {new: true, parent: animal}\n")
    assert changed.path("n00000010") == ("animal", "pet", "dog", "pug")


def test_a_name_of_ones_own_is_written_in_every_language() -> None:
    for german in (overlaid("dog: {name: woof}\n").in_language("de"), overlaid("dog: {name: woof}\n", "de")):
        assert german.path("n00000010") == ("Tier", "woof", "Mops")


def test_synonyms_of_ones_own_are_kept_in_every_language_and_said_once() -> None:
    text = "dog: {synonyms: [bow, hound, bow]}\n"
    assert overlaid(text).nodes["n00000002"].synonyms == ("hound", "doggy", "bow")
    assert overlaid(text, "de").nodes["n00000002"].synonyms == ("bow", "hound")


def test_words_are_named_in_english_and_must_be_told_apart_in_the_language_that_is_written() -> None:
    assert overlaid("dog: {name: Tukan}\n").path("n00000002") == ("animal", "Tukan")
    with pytest.raises(ConfigError, match=r"own\.yaml, line 2: the name 'Tukan' is that of n00000012 already"):
        overlaid("lamp: {state: tag}\ndog: {name: Tukan}\n", "de")
    with pytest.raises(ConfigError, match="the tree has no word 'Hund'"):
        overlaid("Hund: {name: x}\n", "de")
    with pytest.raises(ConfigError, match="no names in 'nl'; choose one of"):
        overlaid("", "nl")


def test_letters_that_look_the_same_are_the_same() -> None:
    assert overlaid("dog: {name: Ho\u0308hle}\n").nodes["n00000002"].name == "H\u00f6hle"


def test_never_takes_what_is_below_with_it() -> None:
    states = {node.name: node.state for node in overlaid("dog: {state: never}\n").nodes.values()}
    assert (states["dog"], states["pug"], states["obscure hound"], states["toucan"]) == ("never",) * 3 + ("tag",)


def test_values_are_taken_as_they_stand() -> None:
    assert overlaid("dog: {name: no}\n").nodes["n00000002"].name == "no"
    assert overlaid("dog: {name: 2020-01-01}\n").nodes["n00000002"].name == "2020-01-01"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_overlay_changes_nothing(text: str) -> None:
    assert overlaid(text).digest == tree().digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "dog:\n  treshold: 0.5\n",
            "own.yaml, line 2: unknown key 'treshold'; the keys are name,",
        ),
        ("dog: {name: x}\ndgo:\n  name: y\n", "own.yaml, line 2: the tree has no word 'dgo'"),
        ("dog:\n  parent: beast\n", "own.yaml, line 2: the tree has no word 'beast'"),
        (
            "dog:\n  name: x\n  threshold: 48\n",
            "own.yaml, line 3: a threshold must be a number .* not 48",
        ),
        ("dog: {threshold: high}\n", "line 1: a threshold must be a number"),
        ("dog: {threshold: .nan}\n", "line 1: a threshold must be a number"),
        ("animal:\n  parent: pug\n", "own.yaml, line 1: 'animal' would be its own ancestor; give it another parent"),
        ("dog: {parent: dog}\n", "line 1: 'dog' would be its own ancestor"),
        ("dog: {state: sometimes}\n", "line 1: the state must be one of tag, rollup, never, not 'sometimes'"),
        ("dog: {name: toucan}\n", "line 1: the name 'toucan' is that of n00000012 already; choose another"),
        ("dog: {name: 'a,b'}\n", "line 1: the name 'a,b' holds one of"),
        ("dog: {name: ''}\n", "line 1: the name '' is empty"),
        ("dog: {parent: web site}\n", "line 1: 'web site' above it is never a tag; give it another parent"),
        ("pet: {parent: animal}\n", "line 1: the tree has no word 'pet'.*new: true"),
        ("dog: {new: true}\n", "line 1: 'dog' is in the tree already; leave out 'new'"),
        ("pet: {new: maybe}\n", "line 1: 'new' can only be true"),
        ("dog: {synonyms: hound}\n", r"line 1: synonyms must be a list, such as \[sofa, couch\]"),
        ("dog: {name: [a]}\n", "line 1: there must be one value, not several"),
        ("dog: {name: a}\ndog: {name: b}\n", "line 2: 'dog' is there twice"),
        ("dog: {name: a}\nn00000002: {name: b}\n", "line 2: 'n00000002' is there twice"),
        ("dog: {name: a, name: b}\n", "line 1: 'name' is there twice"),
        ("- dog\n", "line 1: there must be words of the tree"),
        ("dog: 5\n", "line 1: there must be some of the keys name"),
        ("dog: {name: a\n", "own.yaml, line 2: this is not YAML"),
        ("dog: {name: *x}\n", "own.yaml, line 1: this is not YAML"),
        ("dog: \x00\n", "own.yaml.*: this is not YAML"),
        ("a: b\n---\nc: d\n", "own.yaml, line 2: this is not YAML"),
        pytest.param("[" * 20000, "own.yaml.*: this is not YAML", marks=pytest.mark.slow),
        ('dog: {name: "\\UFFFFFFFF"}\n', "own.yaml.*: this is not YAML"),
        (f"%YAML 1.{'9' * 5000}\n---\ndog: {{name: x}}\n", "own.yaml.*: this is not YAML"),
        ('"a\\tb": {new: true}\ndog: {parent: "a\\tb"}\n', r"line 1: the name 'a\\tb' is empty, or holds unprintable"),
        ("a|b: {new: true}\ndog: {parent: a|b}\n", r"line 1: the name 'a\|b' holds one of"),
        ('"": {new: true}\ndog: {parent: ""}\n', "line 1: the name '' is empty"),
        (f"dog: {{name: {'x' * 101}}}\n", "line 1: the name 'x{80}...' is longer than 100 characters; choose another$"),
        (f"dog: {{state: {'x' * 5000}}}\n", "line 1: the state must be one of .* not 'x{80}...'$"),
        (f"dog: {{synonyms: [{', '.join('x' * 101)}]}}\n", "line 1: 101 synonyms are too many; give at most 100"),
        ("#" * (1 << 20) + "\n", "own.yaml has more than 1,048,576 characters"),
        ("animal: {name: x}\npet: {new: true}\n", "line 2: 'pet' would never be a tag; make it the parent of some"),
        ("dog: {state: never}\npug: {state: tag}\n", "line 2: 'dog' above it is never a tag; give it another parent"),
        # Of what is in a circle, and not of what is below one.
        ("toucan: {parent: dog}\ndog: {parent: pug}\n", "line 2: 'dog' would be its own ancestor"),
        ("? [dog, pug]\n: {name: x}\n", "line 1: there must be words of the tree"),
    ],
)
def test_what_cannot_be_names_the_file_the_line_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlaid(text)


def test_aliases_do_not_grow() -> None:
    bomb = "dog:\n  synonyms: &a [x, x, x]\n" + "toucan:\n  synonyms: [*a, *a]\n"
    with pytest.raises(ConfigError, match="one value, not several"):
        overlaid(bomb)


def test_words_of_ones_own_may_stand_below_each_other_but_not_without_end() -> None:
    def chain(length: int) -> str:
        words = (f"w{n}: {{new: true, parent: {f'w{n + 1}' if n + 1 < length else 'none'}}}\n" for n in range(length))
        return "".join(words) + "animal: {parent: w0}\n"

    assert len(overlaid(chain(16)).path("n00000010")) == 16 + 3
    for length in (17, 2000):
        with pytest.raises(ConfigError, match=r"line 1: 'w0' has|line \d+: 'animal' has more than 16 words above it"):
            overlaid(chain(length))


def test_what_is_said_of_a_word_below_one_that_is_never_a_tag_counts_where_it_stands_elsewhere() -> None:
    states = {n.name: n.state for n in overlaid("dog: {state: never}\npug: {parent: animal}\n").nodes.values()}
    assert (states["dog"], states["obscure hound"], states["pug"]) == ("never", "never", "tag")


def test_a_threshold_of_ones_own_can_be_told_from_a_shipped_one() -> None:
    nodes = overlaid("toucan: {threshold: 0.55}\nlamp: {name: light}\npug: {threshold: 0.9}\n").nodes
    assert [nodes[key].user_threshold for key in ("n00000012", "n00000013", "n00000010")] == [0.55, None, 0.9]
    assert [nodes[key].threshold for key in ("n00000012", "n00000013", "n00000010")] == [0.55, None, 0.9]
    # The shipped threshold of a pug is 0.9 too, but a threshold of the user's can count for more.
    assert overlaid("pug: {threshold: 0.9}\n").digest != tree().digest


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_the_user_forbids_tells_of_no_other_word(language: str) -> None:
    names = {"en": ("lamp", "pug", "stove"), "de": ("Lampe", "Mops", "Herd")}[language]
    assert fed("", language) == fed("stove: {state: rollup, threshold: 0.5}\n", language) == names
    assert fed("pug: {state: never}\n", language) == (names[0], names[2])
    assert fed("dog: {state: never}\n", language) == (names[0], names[2])
    assert fed("dog: {state: never}\npug: {parent: none, state: tag}\n", language) == names
    # The tree never says lamp, but a lamp tells of a room until the user says never too.
    assert fed("lamp: {parent: none}\n", language) == names
    assert fed("lamp: {state: never}\n", language) == names[1:]


def test_what_the_user_puts_below_a_word_that_it_feeds_counts_there() -> None:
    assert fed("stove: {parent: room}\n") == ("lamp", "pug")
    assert fed("dog: {parent: room}\n") == ("lamp", "stove")
    assert fed("room: {parent: stove}\n") == ("lamp", "pug", "stove")
    assert fed("room: {parent: dog, state: never}\n") == ("lamp", "pug", "stove")
