from __future__ import annotations

import json
from typing import Any

import pytest

from phototag.cli.model_options import INPUT_RANGES
from phototag.errors import ModelError
from phototag.models.card import SCALINGS, HeadFile, ImageInput, LookFile, ModelCard, Output, format_card, parse_card


def card(**changes: Any) -> str:
    return json.dumps({"name": "toy", "input": {"std": [255, 255, 255], "mean": [0, 0, 0]}, **changes})


def image(**changes: Any) -> str:
    return card(input={**changes})


def head_card(thresholds: Any) -> str:
    return card(head={"file": "head.npz", "digest": "d", "thresholds": thresholds})


def test_a_card_says_what_its_defaults_leave_out() -> None:
    parsed = parse_card('{"name": "toy"}', "card")
    assert parsed == ModelCard("toy", ImageInput(), Output())
    assert (parsed.temperature, parsed.input.resize, parsed.input.crop_fraction) == (1.0, "crop", 1.0)


def test_a_card_that_is_written_reads_the_same() -> None:
    full = ModelCard(
        "name with ü",
        ImageInput("x", 10, 20, None, (1.5, 2, 3), (4, 5, 6), "pad", 0.5, "lanczos", "BGR", "NCHW"),
        Output("y", "logits", background=True),
        labels="labels.txt",
        tag_set=("a", "b"),
        signature="s",
        taxonomy="none",
        temperature=0.8,
        licence="l",
        source="s",
        digest="d",
        head=HeadFile("head.npz", "sha256:1", {"person": 0.7, "black bear": 0.95}),
        look=LookFile("look.npz", "sha256:2"),
    )
    assert parse_card(format_card(full), "card") == full
    assert json.loads(format_card(ModelCard("small"))) == {"name": "small"}


def test_given_facts_stand_above_the_card() -> None:
    given = {"name": "other", "input": {"range": "-1..1", "height": 5}, "tag_set": ("a",)}
    parsed = parse_card(card(temperature=2), "card", given)
    assert (parsed.name, parsed.temperature, parsed.tag_set) == ("other", 2, ("a",))
    assert (parsed.input.range, parsed.input.height, parsed.input.mean, parsed.input.std) == ("-1..1", 5, None, None)
    parsed = parse_card(image(range="0..1"), "card", {"input": {"mean": (1, 1, 1), "std": (2, 2, 2)}})
    assert (parsed.input.range, parsed.input.mean) == (None, (1, 1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "card is not JSON"),
        ("[" * 100_000, "card is not JSON"),
        ("[]", "card must be a JSON object"),
        ("{}", "the key 'name' is missing"),
        (card(colour="red"), "there is no key 'colour'; the keys are name, input, output"),
        (image(treshold=1), "card: input: there is no key 'treshold'"),
        (card(name=7), "card: name must be a text, not '7'"),
        (card(input=3), "card: input must be a JSON object"),
        (card(output={"scores": "percent"}), "scores must be one of 'logits', 'probabilities', 'independent', not"),
        (card(output={"background": 1}), "background must be true or false, not '1'"),
        (card(temperature=0), "temperature must be from 0.01 to 100"),
        (card(temperature=1e-60), "temperature must be from 0.01 to 100"),
        (card(digest="\ud800"), "digest holds unprintable characters"),
        (card(labels="a\0b"), "labels holds unprintable characters"),
        (card(name="two\nlines"), "name holds unprintable characters"),
        (card(temperature=True), "temperature must be a number"),
        (card(temperature=10**400), "temperature must be a number"),
        (card(licence=3), "licence must be a text"),
        (card(tag_set="serve"), "tag_set must be a list of texts"),
        (card(tag_set=[1]), "tag_set must be a text"),
        (card(taxonomy="../imagenet"), "taxonomy must be one of 'imagenet', 'none'"),
        (image(height="8"), "card: input: height must be a whole number, not '8'"),
        (image(height=True), "card: input: height must be a whole number"),
        (image(height=0), "must be 1 to 4096 pixels"),
        (image(width=100_000), "must be 1 to 4096 pixels"),
        (image(mean=[1, 2], std=[1, 1, 1]), "mean must be a list of three numbers"),
        (image(mean=[1, 2, 3]), "must be given together"),
        (image(mean=[1, 2, 3], std=[1, 0, 1]), "std must be from 0.001"),
        (image(mean=[1, 2, 3], std=[1, float("inf"), 1]), "std must be a number"),
        (image(mean=[0, 0, 0], std=[1, 1, 1], range="0..1"), "contradict each other"),
        (image(range="0..2"), "range must be one of '0..1', '-1..1', '0..255', 'imagenet', 'caffe'"),
        (image(crop_fraction=5e-324), "crop_fraction must be from 0.1 to 1"),
        (image(mean=[1e30, 0, 0], std=[1, 1, 1]), "mean must be at most"),
        (image(crop_fraction=1.5), "crop_fraction must be from 0.1 to 1"),
        (image(resize="stretch"), "resize must be one of 'crop', 'squash', 'pad'"),
        (card(labels="../../../etc/passwd"), "labels must name a file in the card's own directory"),
        (card(labels="/etc/passwd"), "labels must name a file in the card's own directory"),
        (card(thresholds={"root": 0, "inner": 0.5, "leaf": 0.5}), "thresholds.root must be between 0 and 1, not 0"),
        (card(head={"digest": "d"}), "card: head: the key 'file' is missing"),
        (card(head={"file": "head.npz"}), "card: head: the key 'digest' is missing"),
        (card(head={"file": "../head.npz", "digest": "d"}), "head.file must name a file in the card's own directory"),
        (card(look={"file": "labels.txt", "digest": "d"}), "look.file must end with .npz, not be 'labels.txt'"),
        (card(look={"file": "a.npz", "digest": "d", "thresholds": {}}), "look: there is no key 'thresholds'"),
        (head_card({"person": 1}), "head.thresholds of 'person' must be between 0 and 1, not 1.0"),
        (head_card({"person": 0}), "head.thresholds of 'person' must be between 0 and 1, not 0.0"),
        (head_card({"person": float("nan")}), "head: thresholds: person must be a number, not 'nan'"),
        (head_card({"two\nlines": 0.5}), "head: thresholds: a key holds unprintable characters"),
        (head_card([0.5]), "head: thresholds must be a JSON object"),
        (card(labels=".."), "labels must name a file in the card's own directory"),
    ],
)
def test_a_wrong_card_names_the_key(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_card(text, "card")
    assert message in str(caught.value)


def test_the_command_line_knows_every_range() -> None:
    assert tuple(SCALINGS) == INPUT_RANGES
