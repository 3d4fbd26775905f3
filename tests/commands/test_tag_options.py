"""The options that decide about tags, on a model that can be computed by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image, ImageDraw

from phototag.cli.tag_options import TAG_SETTINGS
from phototag.engines.load import open_runner
from phototag.images.preprocess import MOST_CROPS as REAL_MOST_CROPS
from phototag.models.find import find_model
from phototag.paths import shipped_directory
from phototag.run.defaults import MOST_CROPS
from phototag.run.session import Session
from phototag.run.settings import Settings
from tests.helpers.program import lines, phototag
from tests.helpers.toys import export_detector, export_toy


def tag_names(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    (line,) = lines(result)
    return [tag["name"] for tag in line["tags"]]


@pytest.fixture
def tags_of(scan: Callable[..., Result], make_photo: Callable[..., Path]) -> Callable[..., list[str]]:
    """The tags of a photo whose logits are 15, 12 and 0, its probabilities about 0.95, 0.05 and 0."""
    photo = make_photo("a.png", (128, 102, 0), format="PNG")

    def run(*options: str, **keywords: object) -> list[str]:
        return tag_names(scan("--dry-run", "--format", "json", *options, photo, **keywords))

    return run


def test_by_default_a_label_must_be_likely(tags_of: Callable[..., list[str]]) -> None:
    assert tags_of() == ["red"]
    assert tags_of("--threshold", "0.01") == ["red", "green"]


def test_top_takes_the_likeliest_however_unlikely(tags_of: Callable[..., list[str]]) -> None:
    assert tags_of("--top", "2") == ["red", "green"]
    assert tags_of("--top", "20") == ["red", "green", "blue"]
    assert tags_of("--top", "3", "--threshold", "0.01") == ["red", "green"]


def test_a_logit_threshold_looks_at_the_logits_themselves(tags_of: Callable[..., list[str]]) -> None:
    assert tags_of("--logit-threshold", "11.5") == ["red", "green"]
    assert tags_of("--logit-threshold", "12.5") == ["red"]
    assert tags_of("--logit-threshold", "15.5") == []
    assert tags_of("--logit-threshold", "-1", "--top", "1") == ["red"]


def test_a_model_of_probabilities_has_no_logits(
    tags_of: Callable[..., list[str]], scan: Callable[..., Result], make_photo: Callable[..., Path], tmp_path: Path
) -> None:
    model = export_toy(tmp_path / "m", factor=1.0, output={"scores": "probabilities"})
    result = scan("--logit-threshold", "0.5", make_photo("b.jpg"), model=model)
    assert (result.exit_code, "gives probabilities and no logits; use --threshold" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--threshold", "0.5", "--logit-threshold", "3"],
            "contradict each other; give --threshold or --logit-threshold",
        ),
        (["--top", "3", "--max-tags", "4"], "contradict each other; give --top or --max-tags"),
        (
            ["--raw-labels", "--language", "de"],
            "leave out --raw-labels, --top and --logit-threshold, or --taxonomy and --language",
        ),
        (["--language", "de"], "the labels of toy have no tree; leave out --taxonomy and --language"),
        (["--logit-threshold", "nan"], "it must be a number"),
        (["--crops", "3"], "3 is not in the range 1<=x<=2"),
        (["--taxonomy", "nowhere.yaml"], "'nowhere.yaml' does not exist"),
    ],
)
def test_options_that_contradict_are_a_usage_error(
    scan: Callable[..., Result], make_photo: Callable[..., Path], options: list[str], message: str
) -> None:
    result = scan(*options, make_photo("a.jpg"))
    assert result.exit_code == 2
    assert message in result.stderr


def test_two_crops_are_the_average_of_a_photo_and_its_mirror_image(
    tmp_path: Path, make_photo: Callable[..., Path]
) -> None:
    tf = pytest.importorskip("tensorflow")
    module, images = tf.Module(), tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")

    def serve(images: object) -> object:
        left = tf.reduce_mean(images[:, :, :4], axis=[1, 2])  # type: ignore[index]
        return {"logits": left * 30.0}

    model = export_toy(tmp_path / "m")
    tf.saved_model.save(module, str(model), signatures=tf.function(serve, input_signature=[images]))
    photo = make_photo("a.png", "red", size=(32, 32), format="PNG")
    image = Image.open(photo)
    image.paste((0, 0, 255), (16, 0, 32, 32))
    image.save(photo)
    options = ["--model", model, "--dry-run", "--format", "json", "--threshold", "0.4", photo]
    assert tag_names(phototag("scan", *options)) == ["red"]
    assert sorted(tag_names(phototag("scan", "--crops", "2", *options))) == ["blue", "red"]


def test_the_command_line_knows_how_many_crops_there_are() -> None:
    assert MOST_CROPS == REAL_MOST_CROPS


def test_an_option_that_decides_about_tags_has_photos_done_again_whatever_it_is(tmp_path: Path) -> None:
    overlay, same = tmp_path / "own.yaml", tmp_path / "same.yaml"
    overlay.write_text("dog: {threshold: 0.6}\n")
    same.write_text("# In other words.\ndog:\n  threshold: 0.60\n")
    changes: list[dict[str, Any]] = [
        {"threshold": 0.6},
        {"max_tags": 11},
        {"crops": 2},
        {"taxonomy": overlay},
        {"language": "de"},
        {"taxonomy": overlay, "language": "de"},
        {"raw_labels": True},
        {"raw_labels": True, "threshold": 0.6},
        {"top": 12},
        {"top": 5},
        {"logit_threshold": 5.0},
        {"logit_threshold": 5.5},
        {"model": "efficientnet-lite0", "given_facts": {"input": {"crop_fraction": 1.0}}},
        {"given_facts": {"temperature": 0.9}},
        {"given_facts": {"thresholds": {"root": 0.5}}},
        {"labels": tmp_path / "labels.txt"},
        {"detect": str(export_detector(tmp_path / "detector"))},
        {"detect": str(export_detector(tmp_path / "other", form="centernet"))},
    ]
    labels = (shipped_directory() / "efficientnet-lite0" / "labels.txt").read_text()
    (tmp_path / "labels.txt").write_text(labels.replace("toucan", "Toucan"))
    facts = {"tag_set", "signature", "input_op", "output_op", "input_range", "input_size", "background"}
    assert {name for change in changes for name in change} == {*TAG_SETTINGS, "given_facts"} - {"engine"} - facts
    recipes = [recipe(**change) for change in [{}, *changes]]
    assert len(set(recipes)) == len(recipes)
    # What says the same does not.
    assert recipe(threshold=0.7, max_tags=12, language="en") == recipe()
    assert recipe(taxonomy=same) == recipe(taxonomy=overlay)
    assert recipe(engine="litert") == recipe(engine="tensorflow")
    assert recipe(raw_labels=True) == recipe(given_facts={"taxonomy": "none"})


def recipe(*, given_facts: dict[str, Any] | None = None, **change: Any) -> str:
    session = Session(Settings(write="none", **change))
    if given_facts is not None:  # also those that a model card alone can say
        settings = session.settings
        session.model = find_model(settings.model, labels=settings.labels, given=given_facts)
    return session.recipe


@pytest.fixture
def robin(shared: Path, tmp_path: Path) -> Path:
    (source,) = (shared / "photos" / "imagenet").glob("n01558993*")
    (tmp_path / "robin.jpg").write_bytes(source.read_bytes())
    return tmp_path / "robin.jpg"


@pytest.mark.usefixtures("default_model")
def test_the_tree_speaks_other_languages(robin: Path) -> None:
    def paths(*options: str) -> list[list[str]]:
        (line,) = lines(phototag("scan", "--dry-run", "--format", "json", *options, robin))
        return [tag["path"] for tag in line["tags"]]

    assert paths()[0] == ["animal", "bird", "American robin"]
    assert paths("--language", "de")[0] == ["Tier", "Vogel", "Wanderdrossel"]
    assert paths("--language", "en") == paths()
    assert paths("--raw-labels") == [["robin"]]
    for language in ("tlh", ""):
        refused = phototag("scan", "--dry-run", "--language", language, robin)
        assert (refused.exit_code, "choose one of en, de, fr, es" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("default_model")
def test_a_vocabulary_of_ones_own_changes_the_tags_and_a_mistake_in_it_names_its_line(
    robin: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "own.yaml"
    overlay.write_text("American robin:\n  name: redbreast\nbird: {state: rollup}\n")
    (line,) = lines(phototag("scan", "--format", "json", "--taxonomy", overlay, robin))
    assert [tag["path"] for tag in line["tags"]] == [["animal", "redbreast"], ["animal"], ["outdoor"]]
    sidecar = json.loads((tmp_path / "robin.jpg.phototag.json").read_text())
    assert sidecar["tags"][0]["name"] == "redbreast"
    overlay.write_text("bird: {synonyms: [Piepmatz]}\n")
    (line,) = lines(phototag("scan", "--dry-run", "--format", "json", "--taxonomy", overlay, "--language", "de", robin))
    assert [(tag["name"], tag["synonyms"]) for tag in line["tags"]][1] == ("Vogel", ["Piepmatz"])
    overlay.write_text("American robin:\n  treshold: 0.1\n")
    refused = phototag("scan", "--taxonomy", overlay, robin)
    assert refused.exit_code == 2
    assert f"{overlay}, line 2: unknown key 'treshold'" in refused.stderr
    overlay.write_bytes(b"\xff")
    assert phototag("scan", "--taxonomy", overlay, robin).exit_code == 2


@pytest.mark.usefixtures("default_model")
def test_explaining_names_the_classes_what_was_held_back_and_what_a_lower_threshold_would_give(robin: Path) -> None:
    result = phototag("show", "--explain", robin)
    assert result.exit_code == 0, result.stderr
    tags, _, _ = result.stdout.partition("likely, but no tags")
    assert "animal > bird > American robin" in tags
    assert "needed 0.80" in tags  # a leaf that was right and never wrong
    assert "(head 0." in tags  # outdoor
    held_back = phototag("show", "--explain", "--threshold", "1", robin).stdout
    assert "  no tags" in held_back
    assert "not sure enough, needed 1.00; from --threshold 0." in held_back
    (line,) = lines(phototag("show", "--explain", "--format", "json", robin))
    by_path = {tuple(word["path"]): word for word in line["words"]}
    assert by_path["animal", "bird", "American robin"]["obstacle"] is None
    assert by_path["animal", "bird"]["classes"][0]["label"]["name"] == "robin"
    refused = phototag("show", "--explain", "--top", "3", robin)
    assert (refused.exit_code, "there is none here" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("default_model")
def test_what_cannot_be_explained_is_named_and_the_rest_is_done(robin: Path, tmp_path: Path) -> None:
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")  # which would be read for ever
    (tmp_path / "text.jpg").write_text("no photo")
    odd = [tmp_path / "pipe.jpg", tmp_path, tmp_path / "nowhere.jpg", tmp_path / "text.jpg"]
    result = phototag("show", "--explain", *odd, robin)
    assert result.exit_code == 1
    assert [line.partition(": ")[2].partition(": ")[0] for line in result.stderr.splitlines()] == [*map(str, odd)]
    assert result.stderr.count("there is no such photo; check the path") == 2
    assert f"{tmp_path}: it is a folder; name photos" in result.stderr
    assert "American robin" in result.stdout


@pytest.mark.parametrize(
    "option", [["--threshold", "0.7"], ["--language", "de"], ["--raw-labels"], ["--input-size", "9"]]
)
def test_without_explaining_an_option_that_decides_about_tags_is_refused(
    make_photo: Callable[..., Path], option: list[str]
) -> None:
    result = phototag("show", *option, make_photo("a.jpg"))
    assert (result.exit_code, f"{option[0]} only counts with --explain" in result.stderr) == (2, True)


def screen() -> Image.Image:
    """What a screenshot of a web page looks like: bars, boxes and lines of text."""
    image = Image.new("RGB", (1280, 800), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 1280, 60), fill=(40, 60, 120))
    for row in range(20):
        draw.text((320, 100 + 32 * row), "The quick brown fox jumps over the lazy dog. " * 2, fill="black")
    for box in range(5):
        draw.rectangle((20, 100 + 130 * box, 280, 210 + 130 * box), outline="grey", fill=(235, 235, 240))
    return image


def menu() -> Image.Image:
    image = Image.new("RGB", (800, 1100), (250, 245, 230))
    draw = ImageDraw.Draw(image)
    draw.text((350, 40), "M E N U", fill="black")
    for row in range(24):
        draw.text(
            (80, 120 + 38 * row), f"Dish of the day number {row} ......................... {row}.50", fill="black"
        )
    return image


def crossword() -> Image.Image:
    image = Image.new("RGB", (600, 600), "white")
    draw = ImageDraw.Draw(image)
    for x in range(15):
        for y in range(15):
            draw.rectangle(
                (40 * x, 40 * y, 40 * x + 40, 40 * y + 40), outline="black", fill="black" if x * y % 7 == 3 else "white"
            )
    return image


def drawing() -> Image.Image:
    image = Image.new("RGB", (700, 500), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((200, 100, 400, 300), outline="black", width=4)
    draw.line((300, 300, 300, 450), fill="black", width=4)
    draw.line((220, 350, 380, 350), fill="black", width=4)
    return image


@pytest.mark.usefixtures("default_model")
@pytest.mark.parametrize("make", [screen, menu, crossword, drawing])
def test_what_is_no_photo_gets_no_tags(make: Callable[[], Image.Image], tmp_path: Path) -> None:
    make().save(tmp_path / "a.png")
    (line,) = lines(phototag("scan", "--dry-run", "--format", "json", tmp_path / "a.png"))
    assert line["tags"] == []


def test_a_model_without_a_tree_cannot_be_explained(toy_model: Path, make_photo: Callable[..., Path]) -> None:
    result = phototag("show", "--explain", "--model", toy_model, make_photo("a.jpg"))
    assert (result.exit_code, "there is none here; see the scores with --top 10" in result.stderr) == (2, True)
    # A wrong model or setting is known before the photos.
    assert phototag("show", "--explain", "--model", toy_model, "missing.jpg").stderr == result.stderr


@pytest.mark.usefixtures("default_model")
def test_explaining_leaves_all_cores_to_one_photo(robin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callers: list[int] = []

    def noting(*arguments: Any) -> Any:
        callers.append(arguments[-1])
        return open_runner(*arguments)

    monkeypatch.setattr("phototag.analysis.classifier.open_runner", noting)
    assert phototag("show", "--explain", robin).exit_code == 0
    assert callers == [1]
