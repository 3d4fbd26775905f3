from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from phototag.errors import LabelMismatch, ModelError, NotASavedModel
from phototag.models import Model, ensure_built, find_model, parse_card, parse_labels
from phototag.taxonomy import Label

from .conftest import TOY_CARD

BUILD = "from phototag.models import *; ensure_built(find_model('efficientnet-lite0'), print)"


def card(**changes: Any) -> str:
    return json.dumps({**TOY_CARD, **changes})


def image(**changes: Any) -> str:
    return card(input={**TOY_CARD["input"], **changes})


def test_a_card_says_what_its_defaults_leave_out() -> None:
    parsed = parse_card(card(), "card")
    assert (parsed.name, parsed.signature, parsed.temperature, parsed.taxonomy) == ("toy", "serving_default", 1.0, None)
    assert (parsed.input.height, parsed.input.std, parsed.input.mean) == (8, (255.0, 255.0, 255.0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "card is not JSON"),
        ("[" * 100_000, "card is not JSON"),
        ("[]", "card must be a JSON object"),
        ("{}", "the key 'name' is missing"),
        (card(colour="red"), "there is no key 'colour'; the keys are name, input, output"),
        (image(treshold=1), "card: input: there is no key 'treshold'"),
        (card(name=7), "card: name must be of type str, not 7"),
        (card(output={"scores": "percent"}), "scores must be one of 'logits', 'probabilities', not 'percent'"),
        (card(temperature=0), "temperature must be above 0"),
        (card(temperature=True), "temperature must be of type float"),
        (card(licence=3), "licence must be of type str"),
        (image(height="8"), "card: input: height must be of type int, not '8'"),
        (image(height=0), "must be 1 to 4096 pixels"),
        (image(width=100_000), "must be 1 to 4096 pixels"),
        (image(mean=[1, 2]), "mean must be a list of three numbers"),
        (image(std=[1, 0, 1]), "std must not be 0"),
        (image(std=[1, float("inf"), 1]), "std must be of type float"),
        (image(crop_fraction=1.5), "crop_fraction must be above 0 and at most 1"),
        (image(resize="stretch"), "resize must be one of 'crop', 'squash', 'pad'"),
        (card(labels="../../../etc/passwd"), "labels must name a file in the card's own directory"),
        (card(labels="/etc/passwd"), "labels must name a file in the card's own directory"),
        (card(labels=".."), "labels must name a file in the card's own directory"),
    ],
)
def test_a_wrong_card_names_the_key(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_card(text, "card")
    assert message in str(caught.value)


def test_labels_come_with_their_synsets() -> None:
    assert parse_labels("n01440764 tench\r\ngreat white shark\r\n\r\n", "labels") == (
        Label("tench", "n01440764"),
        Label("great white shark"),
    )


@pytest.mark.parametrize(("text", "line"), [("", 1), ("\n\n", 1), ("a\n\nb\n", 2)])
def test_an_empty_label_is_an_error_that_names_its_line(text: str, line: int) -> None:
    with pytest.raises(LabelMismatch, match=f"labels.txt, line {line}:"):
        parse_labels(text, "labels.txt")


def test_a_directory_that_is_no_model_says_what_is_missing(tmp_path: Path, toy_model: Path) -> None:
    with pytest.raises(NotASavedModel, match="neither a directory nor one of the models efficientnet-lite0"):
        find_model(str(tmp_path / "nowhere"))
    with pytest.raises(NotASavedModel, match=r"holds no saved_model\.pb"):
        find_model(str(tmp_path))
    shutil.copytree(toy_model, tmp_path / "toy")
    (tmp_path / "toy/phototag.json").unlink()
    with pytest.raises(ModelError, match="has no model card"):
        find_model(str(tmp_path / "toy"))


@pytest.mark.parametrize("taxonomy", ["unheard-of", "../imagenet", "imagenet\n"])
def test_an_unknown_tree_is_an_error(tmp_path: Path, toy_model: Path, taxonomy: str) -> None:
    shutil.copytree(toy_model, tmp_path / "toy")
    (tmp_path / "toy/phototag.json").write_text(card(taxonomy=taxonomy))
    with pytest.raises(ModelError, match="which this phototag does not have"):
        find_model(str(tmp_path / "toy"))


def test_a_tree_that_knows_none_of_the_labels_is_an_error(tmp_path: Path, toy_model: Path) -> None:
    shutil.copytree(toy_model, tmp_path / "toy")
    (tmp_path / "toy/phototag.json").write_text(card(taxonomy="imagenet"))
    with pytest.raises(LabelMismatch, match="no label of the model toy is in the tree imagenet"):
        find_model(str(tmp_path / "toy"))


def test_the_digest_of_a_model_follows_its_card_and_its_files(tmp_path: Path, toy_model: Path) -> None:
    model = tmp_path / "toy"
    shutil.copytree(toy_model, model)
    digests = {find_model(str(model)).digest}
    assert digests == {find_model(str(model)).digest}
    (model / "phototag.json").write_text(image(crop_fraction=0.9))
    digests.add(find_model(str(model)).digest)
    with (model / "saved_model.pb").open("ab") as file:
        file.write(b"\0")
    digests.add(find_model(str(model)).digest)
    (model / "labels.txt").write_text("rot\ngrün\nblau\n")
    digests.add(find_model(str(model)).digest)
    assert len(digests) == 4


def leftovers(home: Path) -> list[str]:
    return [path.name for path in (home / "models").iterdir() if path.is_dir() and path.name != "efficientnet-lite0"]


def test_building_leaves_a_model_with_its_card_labels_and_notice(default_model: Model) -> None:
    assert sorted(path.name for path in default_model.directory.iterdir() if path.is_file()) == [
        "NOTICE",
        "fingerprint.pb",
        "labels.txt",
        "phototag.json",
        "saved_model.pb",
    ]
    assert leftovers(default_model.directory.parent.parent) == []


def test_a_built_model_is_used_again(default_model: Model) -> None:
    before = (default_model.directory / "saved_model.pb").stat()
    ensure_built(default_model, pytest.fail)
    assert (default_model.directory / "saved_model.pb").stat() == before


def test_a_model_that_was_built_for_another_card_is_replaced(
    default_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path))
    shutil.copytree(default_model.directory, tmp_path / "models/efficientnet-lite0")
    outdated = tmp_path / "models/efficientnet-lite0/phototag.json"
    current = outdated.read_text()
    outdated.write_text(current.replace("0.875", "0.9"))
    announced: list[str] = []
    ensure_built(find_model("efficientnet-lite0"), announced.append)
    assert len(announced) == 1
    assert outdated.read_text() == current
    assert leftovers(tmp_path) == []


def test_two_processes_at_once_build_one_model(tmp_path: Path) -> None:
    environment = {**os.environ, "PHOTOTAG_DATA_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", BUILD], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    output = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(output).count("Building the model") == 1
    assert leftovers(tmp_path) == []
    assert (tmp_path / "models/efficientnet-lite0/saved_model.pb").is_file()


def test_a_build_that_is_killed_leaves_no_half_model(tmp_path: Path) -> None:
    environment = {**os.environ, "PHOTOTAG_DATA_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", BUILD], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("models/.efficientnet-lite0-building-*/variables")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "models/efficientnet-lite0").exists()
    assert leftovers(tmp_path)
    subprocess.run([sys.executable, "-c", BUILD], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "models/efficientnet-lite0/saved_model.pb").is_file()
    assert leftovers(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot be written .*PHOTOTAG_DATA_DIR"):
        ensure_built(find_model("efficientnet-lite0"), lambda _: None)
