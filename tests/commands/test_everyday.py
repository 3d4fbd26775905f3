"""Everyday photos: people, places and scenes, told by the default model's head of words and by sums of classes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image, ImageDraw

from phototag.models.find import Model
from tests.helpers.pictures import STORED
from tests.helpers.program import imported_by, lines, phototag

Scan = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def scan(default_model: Model, tmp_path: Path) -> Scan:
    """Scan with the default model, and return the outcomes. Nothing is written beside the photos of ../shared."""

    def run(*arguments: Any) -> list[dict[str, Any]]:
        index = tmp_path / "index.sqlite3"
        result = phototag("scan", "--index", index, "--write", "none", "--format", "json", *arguments)
        assert result.exit_code == 0, result.stderr
        return lines(result)

    return run


def names(outcome: dict[str, Any]) -> set[str]:
    return {tag["name"] for tag in outcome["tags"]}


# --- What a person would say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photo", "expected", "wrong"),
    [
        ("coco128/000000000459.jpg", {"person", "portrait"}, {"people", "outdoor"}),  # a man with a tie
        ("people/bbt2.jpg", {"people", "person"}, {"outdoor"}),  # at a table
        ("people/bbt1.jpg", {"people", "person", "indoor"}, {"outdoor"}),  # on a sofa
        ("coco128/000000000138.jpg", {"kitchen", "indoor"}, {"person", "bathroom"}),
        ("coco128/000000000094.jpg", {"street", "city", "outdoor"}, {"person", "indoor"}),
        ("coco128/000000000034.jpg", {"zebra", "animal", "grass", "outdoor"}, {"forest", "person"}),  # on grass
        ("caltech/pizza/image_0001.jpg", {"pizza", "food"}, {"person", "outdoor"}),
        ("coco128/000000000382.jpg", {"snow", "mountain", "outdoor"}, {"indoor"}),  # a skier
        ("camera/jpg/orientation/portrait_1.jpg", {"tree", "outdoor"}, {"person", "indoor"}),  # a waterfall
    ],
)
def test_an_everyday_photo_gets_the_words_that_a_person_would_use(
    scan: Scan, shared: Path, photo: str, expected: set[str], wrong: set[str]
) -> None:
    (outcome,) = scan(shared / "photos" / photo)
    assert expected <= names(outcome)
    assert not wrong & names(outcome)


def page(size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for line in range(size[1] // 24 - 2):
        draw.text((size[0] // 10, 24 * (line + 1)), "The quick brown fox jumps over the lazy dog. " * 2, fill="black")
    return image


def logo(size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.ellipse((width // 4, height // 4, 3 * width // 4, 3 * height // 4), fill=(200, 30, 40))
    draw.rectangle((width // 3, height // 2 - 10, 2 * width // 3, height // 2 + 10), fill="white")
    return image


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(page((600, 800)), id="page"),
        pytest.param(logo((400, 400)), id="logo"),
        *(
            pytest.param(Image.new("RGB", size, colour), id=f"{colour} {size[0]}x{size[1]}")
            for colour in ("blue", "grey", "white", "black", "#888888", "#00a000")
            for size in ((300, 300), (640, 480))
        ),
    ],
)
def test_a_picture_without_a_scene_gets_no_word_for_one(
    scan: Scan, default_model: Model, tmp_path: Path, picture: Image.Image
) -> None:
    assert default_model.head is not None
    picture.save(tmp_path / "picture.png")
    (outcome,) = scan(tmp_path / "picture.png")
    assert names(outcome).isdisjoint(set(default_model.head.words) - {"document", "screen", "screenshot", "drawing"})


@pytest.mark.parametrize("photo", ["coco128/000000000094.jpg", "people/bbt1.jpg"])
def test_a_photo_gets_the_same_words_however_it_is_stored(scan: Scan, shared: Path, tmp_path: Path, photo: str) -> None:
    with Image.open(shared / "photos" / photo) as image:
        upright = image.convert("RGB")
    for orientation, store in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        store(upright).save(tmp_path / f"{orientation}.png", exif=exif)
    outcomes = scan(tmp_path)
    assert len(outcomes) == 8
    assert len(names(outcomes[0])) >= 3
    assert all(names(one) == names(outcomes[0]) for one in outcomes)


def test_a_model_without_a_head_knows_places_by_their_things(scan: Scan, shared: Path) -> None:
    """The sum of stove, refrigerator, microwave and the like says `kitchen`, with any model of ImageNet's classes."""
    model = shared / "models/imagenet_mobilenet_v2_100_224_classification"
    options = ("--model", model, "--labels", shared / "models/ImageNetLabels.txt", "--input-range", "0..1")
    found = [names(one) for one in scan(*options, *(shared / f"photos/coco128/000000000{n}.jpg" for n in (620, 636)))]
    assert "kitchen" in found[0]
    assert "bathroom" in found[1]
    assert not any({"person", "indoor"} & one for one in found)


# --- The user's say ---------------------------------------------------------------------------------------------------


def test_an_overlay_renames_forbids_and_raises_words_of_the_head(scan: Scan, shared: Path, tmp_path: Path) -> None:
    photo, overlay = shared / "photos/people/bbt1.jpg", tmp_path / "own.yaml"
    overlay.write_text("person: {name: human being}\nindoor: {state: never}\npeople: {threshold: 0.9999}\n")
    (outcome,) = scan(photo, "--taxonomy", overlay)
    assert "human being" in names(outcome)
    assert names(outcome).isdisjoint({"person", "people", "indoor"})


def test_words_of_the_head_come_in_other_languages(scan: Scan, shared: Path) -> None:
    photo = shared / "photos/people/bbt1.jpg"
    (english,), (german,) = scan(photo), scan(photo, "--language", "de")
    assert {"person", "people", "indoor"} <= names(english)
    assert {"Person", "Menschen", "drinnen"} <= names(german)
    assert len(names(english)) == len(names(german))


def test_people_are_below_person_and_indoor_is_the_first_to_go(scan: Scan, shared: Path) -> None:
    photo = shared / "photos/people/bbt1.jpg"
    (outcome,) = scan(photo)
    paths = {tag["name"]: tag["path"] for tag in outcome["tags"]}
    assert paths["people"] == ["person", "people"]
    assert paths["indoor"] == ["indoor"]
    (short,) = scan(photo, "--max-tags", str(len(paths) - 1))
    assert names(short) == names(outcome) - {"indoor"}


def test_other_thresholds_for_words_need_no_model(scan: Scan, shared: Path, tmp_path: Path) -> None:
    folder = shared / "photos/people"
    first = scan(folder)
    index = str(tmp_path / "index.sqlite3")
    again = ("scan", os.fspath(folder), "--index", index, "--write", "none", "--quiet", "--threshold", "0.95")
    assert not {"ai_edge_litert", "tensorflow", "PIL"} & imported_by(*again)
    few = scan(folder, "--threshold", "0.95")
    assert all(names(one) <= names(other) for one, other in zip(few, first, strict=True))
    assert few != first


# --- Explaining -------------------------------------------------------------------------------------------------------


def explain(*arguments: Any) -> Result:
    return phototag("show", "--explain", *arguments)


def test_an_explanation_has_the_evidence_of_tree_and_head(default_model: Model, shared: Path) -> None:
    result = explain(shared / "photos/people/bbt1.jpg")
    assert result.exit_code == 0
    (people,) = (line for line in result.stdout.splitlines() if line.strip().startswith("person > people "))
    assert "head 0." in people
    result = explain(shared / "photos/people/bbt1.jpg", "--format", "json")
    words = {tuple(one["path"]): one for one in json.loads(result.stdout)["words"]}
    indoor = words["indoor",]
    assert indoor["obstacle"] is None
    (evidence,) = indoor["evidence"]
    assert evidence["source"] == "words"
    assert evidence["probability"] == pytest.approx(indoor["confidence"])
    assert evidence["needed"] == pytest.approx(indoor["needed"])


def test_words_that_wait_are_explained(default_model: Model, shared: Path) -> None:
    """The head is right about a waterfall's forest, but not reliable enough in general."""
    assert default_model.head is not None
    waiting = set(default_model.head.words) - set(default_model.card.head.thresholds)  # type: ignore[union-attr]
    assert waiting
    found = set()
    for photo in ("coco128/000000000061.jpg", "coco128/000000000250.jpg", "coco128/000000000514.jpg"):
        result = explain(shared / "photos" / photo, "--format", "json")
        for one in json.loads(result.stdout)["words"]:
            if one["path"][-1] in waiting and one["obstacle"] == "not reliable enough to be written":
                assert one["needed"] is None
                found.add(one["path"][-1])
    assert found
