"""`phototag models` as a user sees it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.program import phototag, start_phototag
from tests.helpers.toys import export, export_toy, means

HUB = "imagenet_mobilenet_v2_100_224_classification"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A SavedModel with a label file beside it, and no card."""
    directory = export_toy(tmp_path / "bare", bare=True)
    (tmp_path / "names.json").write_text('{"0": "red", "1": "green", "2": "blue"}')
    return directory


def test_list_names_the_default_before_it_is_built() -> None:
    result = phototag("models", "list")
    assert result.exit_code == 0
    assert result.stdout == (
        "efficientnet-lite0: images of 224x224, 1000 classes, hierarchical tags, words for people and places; "
        "built when it is first used, the default\n"
    )
    assert "mobilenet_v2: phototag models build mobilenet_v2\n" in phototag("models", "list", "-v").stdout


def test_add_makes_a_model_that_needs_no_more_options(
    bare: Path, tmp_path: Path, make_photo: Callable[..., Path], data_directory: Path
) -> None:
    result = phototag(
        "models", "add", bare, "--name", "mine", "--labels", tmp_path / "names.json", "--input-range", "0..1"
    )
    assert result.exit_code == 0
    place = data_directory / "models/mine"
    assert result.stdout == f"mine: images of 8x8, 3 classes, flat tags, logits; installed in {place}\n"
    assert json.loads((place / "phototag.json").read_text())["input"]["range"] == "0..1"
    photo = make_photo("a.jpg", "lime")
    assert phototag("scan", photo, "--model", "mine").stdout == f"{photo}: green\n"
    assert "mine: images of 8x8, 3 classes, flat tags; installed\n" in phototag("models", "list").stdout
    assert phototag("models", "path", "mine").stdout == f"{place}\n"
    assert not [path for path in (data_directory / "models").iterdir() if "building" in path.name]


def test_a_copy_does_not_need_the_original_and_a_link_does(
    bare: Path, tmp_path: Path, make_photo: Callable[..., Path], data_directory: Path
) -> None:
    options = ["--labels", tmp_path / "names.json", "--input-range", "0..1"]
    phototag("models", "add", bare, "--name", "copied", *options)
    phototag("models", "add", bare, "--name", "linked", "--link", *options)
    assert (data_directory / "models/linked/saved_model.pb").is_symlink()
    photo = make_photo("a.jpg")
    assert phototag("scan", "-n", photo, "--model", "linked").stdout == f"{photo}: red\n"
    bare.rename(tmp_path / "elsewhere")
    assert phototag("scan", "-n", photo, "--model", "copied").stdout == f"{photo}: red\n"
    gone = phototag("scan", "-n", photo, "--model", "linked")
    assert (gone.exit_code, gone.stdout) == (3, "")
    assert "linked: unusable: " in phototag("models", "list").stdout


@pytest.mark.parametrize("dtype", ["uint8", "string"])
def test_a_model_whose_range_is_known_is_installed_without_one(
    tmp_path: Path, data_directory: Path, make_photo: Callable[..., Path], dtype: str
) -> None:
    def scores(images: Any) -> Any:
        import tensorflow as tf

        if dtype == "string":
            decode = functools.partial(tf.io.decode_jpeg, channels=3)
            images = tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec([8, 8, 3], tf.uint8))
        return {"y": means(images, 0.1)}

    model = export(tmp_path / "m", scores, (None,) if dtype == "string" else (None, 8, 8, 3), dtype)
    options = ["--labels", model / "labels.txt", *(["--input-size", "8"] if dtype == "string" else [])]
    result = phototag("models", "add", model, "--name", "whole", *options)
    assert (result.exit_code, "whole: images of 8x8, 3 classes" in result.stdout) == (0, True), result.stdout
    card = json.loads((data_directory / "models/whole/phototag.json").read_text())
    assert not {"range", "mean", "std"} & card["input"].keys()
    photo = make_photo("a.jpg")
    assert phototag("scan", "-n", photo, "--model", "whole").stdout == f"{photo}: red\n"


@pytest.mark.slow
def test_a_damaged_fingerprint_prints_no_traceback(bare: Path, tmp_path: Path) -> None:
    (bare / "fingerprint.pb").write_bytes(b"\xff" * 100)
    options = ["--labels", tmp_path / "names.json", "--input-range", "0..1"]
    process = start_phototag("models", "add", bare, *options)
    _, stderr = process.communicate()
    assert (process.returncode, "Traceback" in stderr) == (0, False), stderr


def test_add_takes_every_fact_of_a_card(bare: Path, tmp_path: Path, data_directory: Path) -> None:
    options = [
        "--mean",
        "1,2,3",
        "--std",
        "4",
        "--resize",
        "squash",
        "--crop-fraction",
        "0.5",
        "--channel-order",
        "BGR",
    ]
    result = phototag(
        "models", "add", bare, "--labels", tmp_path / "names.json", *options, "--output", "logits", "--name", "all"
    )
    assert result.exit_code == 0
    card = json.loads((data_directory / "models/all/phototag.json").read_text())
    assert card["input"] == {
        "name": "images",
        "height": 8,
        "width": 8,
        "mean": [1, 2, 3],
        "std": [4, 4, 4],
        "resize": "squash",
        "crop_fraction": 0.5,
        "channel_order": "BGR",
        "layout": "NHWC",
    }
    assert card["output"] == {"name": "logits", "scores": "logits"}
    assert (card["signature"], card["tag_set"]) == ("serving_default", ["serve"])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--input-range", "0..1"], 3, "pass --labels"),
        (["--labels", "NAMES"], 3, "pass --input-range"),
        (["--labels", "NAMES", "--input-range", "0..1", "--output", "probabilities"], 3, "scores outside 0 to 1"),
        (["--labels", "NAMES", "--input-range", "0..1", "--name", "../up"], 2, "cannot be the name of a model"),
        (["--labels", "NAMES", "--input-range", "0..1", "--name", ""], 2, "cannot be the name of a model"),
        (["--labels", "NAMES", "--input-range", "0..1", "--name", "vgg16"], 2, "the name vgg16 is taken"),
        (["--labels", "NAMES", "--mean", "a,b"], 2, "must be one number, or three"),
        (["--labels", "NAMES", "--input-size", "big"], 2, "must be a number of pixels"),
        (["--labels", "nowhere.txt", "--input-range", "0..1"], 3, "nowhere.txt cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_installed(
    bare: Path, tmp_path: Path, data_directory: Path, options: list[str], code: int, message: str
) -> None:
    arguments = [str(tmp_path / "names.json") if option == "NAMES" else option for option in options]
    result = phototag("models", "add", bare, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    place = data_directory / "models"
    assert not place.exists() or not [path for path in place.iterdir() if path.is_dir()]


def test_a_model_that_gives_no_numbers_is_not_installed(tmp_path: Path, data_directory: Path) -> None:
    directory = export_toy(tmp_path / "nan", factor=float("nan"))
    result = phototag("models", "add", directory)
    assert result.exit_code == 3
    assert "NaN" in result.stderr
    assert not (data_directory / "models/nan").exists()


def test_a_name_is_not_taken_twice_until_it_is_removed(bare: Path, tmp_path: Path, data_directory: Path) -> None:
    command = ["models", "add", bare, "--name", "mine", "--labels", tmp_path / "names.json", "--input-range", "0..1"]
    assert phototag(*command).exit_code == 0
    again = phototag(*command)
    assert (again.exit_code, "the name mine is taken" in again.stderr) == (2, True)
    assert phototag("models", "remove", "mine").exit_code == 0
    assert not (data_directory / "models/mine").exists()
    assert phototag(*command).exit_code == 0


@pytest.mark.parametrize("command", ["remove", "path"])
@pytest.mark.parametrize("name", ["nothing", ".", "..", "a/b", "", "*", "x" * 300, ".staging"])
def test_a_model_that_is_not_there_is_exit_2_and_the_others_stay(
    bare: Path, tmp_path: Path, data_directory: Path, command: str, name: str
) -> None:
    add = ["models", "add", bare, "--labels", tmp_path / "names.json", "--input-range", "0..1", "--name"]
    assert phototag(*add, "mine").exit_code == 0
    result = phototag("models", command, name)
    assert (result.exit_code, result.stdout, "is installed" in result.stderr) == (2, "", True)
    assert (data_directory / "models/mine/saved_model.pb").is_file()


def test_odd_names_are_removed_like_any_other(bare: Path, tmp_path: Path, data_directory: Path) -> None:
    (bare / "variables").chmod(0o555)
    add = ["models", "add", bare, "--labels", tmp_path / "names.json", "--input-range", "0..1", "--name", "w[1]"]
    for _ in range(2):
        assert phototag(*add).exit_code == 0
        assert phototag("models", "remove", "w[1]").exit_code == 0
    assert not [path for path in (data_directory / "models").rglob("*") if path.name == "saved_model.pb"]


def test_labels_survive_being_installed(tmp_path: Path, bare: Path) -> None:
    from phototag.models.find import find_model

    (tmp_path / "odd.json").write_text('["1: one", "0: zero_zero", "2: n01440764"]')
    options = ["--labels", tmp_path / "odd.json", "--input-range", "0..1", "--name", "odd"]
    assert phototag("models", "add", bare, *options).exit_code == 0
    assert [label.name for label in find_model("odd").labels] == ["1: one", "0: zero_zero", "2: n01440764"]


@pytest.mark.parametrize("place", ["variables", "assets"])
def test_folders_that_are_links_are_not_followed(bare: Path, tmp_path: Path, data_directory: Path, place: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("secret")
    (bare / place).mkdir(exist_ok=True)
    (bare / place / "link").symlink_to(tmp_path / "secret")
    options = ["--labels", tmp_path / "names.json", "--input-range", "0..1"]
    result = phototag("models", "add", bare, *options)
    assert (result.exit_code, "is a link to a folder" in result.stderr) == (3, True)
    assert not (data_directory / "models/bare").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mean", "1,2,3"], "--mean and --std belong together"),
        (["--mean", "1,2,3", "--std", "9", "--input-range", "0..1"], "give one or the other"),
        (["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"], "--input-range imagenet"),
    ],
)
def test_scalings_that_cannot_be_meant_are_refused(
    bare: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = phototag("models", "add", bare, "--labels", tmp_path / "names.json", *options)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_calibration_passes_over_ranges_that_give_no_numbers(tmp_path: Path, make_photo: Callable[..., Path]) -> None:
    import tensorflow as tf

    def overflowing(images: object) -> dict[str, object]:
        means = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])
        return {"y": tf.where(tf.reduce_max(images) > 2.0, float("nan") * means, means * 30)}

    images = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), signatures=tf.function(overflowing, input_signature=[images]))
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    for name, colour in {"r.jpg": "red", "g.jpg": "lime", "b.jpg": "blue"}.items():
        folder = make_photo(name, colour).parent
    result = phototag("models", "add", tmp_path / "m", "--labels", tmp_path / "labels.txt", "--calibrate", folder)
    assert result.exit_code == 0
    assert "  0..255: no scores that are numbers\n" in result.stdout


def test_a_model_that_was_not_built_yet_says_how(make_photo: Callable[..., Path]) -> None:
    result = phototag("scan", make_photo("a.jpg"), "--model", "mobilenet_v2")
    assert result.exit_code == 3
    assert result.stderr == (
        "phototag: the model mobilenet_v2 is not built yet; build it with: phototag models build mobilenet_v2\n"
    )
    result = phototag("scan", make_photo("a.jpg"), "--model", "alexnet")
    assert (
        result.stderr == "phototag: alexnet is neither a directory nor an installed model (see: phototag models list)\n"
    )


def test_build_makes_the_default_model(data_directory: Path) -> None:
    result = phototag("models", "build", "efficientnet-lite0")
    assert result.exit_code == 0
    assert result.stdout == f"{data_directory}/models/efficientnet-lite0\n"
    assert "installed, the default" in phototag("models", "list").stdout
    unknown = phototag("models", "build", "alexnet")
    assert (unknown.exit_code, "there is no recipe for alexnet" in unknown.stderr) == (2, True)
    assert len(unknown.stderr) < 300


@pytest.mark.slow
@pytest.mark.parametrize("photos", ["coco128", "caltech"])
def test_calibration_finds_the_range_of_the_hub_model(shared: Path, photos: str) -> None:
    labels = ["--labels", shared / "models/ImageNetLabels.txt"]
    calibrate = ["--calibrate", shared / "photos" / photos]
    result = phototag("models", "add", shared / "models" / HUB, *labels, *calibrate, "--name", "hub")
    assert result.exit_code == 0
    assert "The model makes the most of the photos with --input-range=0..1.\n" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("photos", ["coco128", "caltech"])
def test_calibration_finds_the_range_of_the_tf1_graph(shared: Path, photos: str, data_directory: Path) -> None:
    options = ["--input-op", "input_1", "--output-op", "predictions/Softmax", "--tag-set", "photoprism"]
    labels = ["--labels", shared / "models/ImageNetLabels.txt"]
    calibrate = ["--calibrate", shared / "photos" / photos]
    result = phototag(
        "models", "add", shared / "models/tf1_photoprism_style", *options, *labels, *calibrate, "--name", "t"
    )
    assert result.exit_code == 0
    card = json.loads((data_directory / "models/t/phototag.json").read_text())
    assert (card["input"]["range"], card["output"]["scores"], card["output"]["background"]) == (
        "-1..1",
        "probabilities",
        True,
    )


def test_calibration_refuses_photos_that_tell_nothing(
    bare: Path, tmp_path: Path, make_photo: Callable[..., Path]
) -> None:
    labels = ["--labels", tmp_path / "names.json"]
    folder = make_photo("a.jpg").parent
    make_photo("b.jpg")
    result = phototag("models", "add", bare, *labels, "--calibrate", folder)
    assert (result.exit_code, "too few or too alike" in result.stderr) == (2, True)
    (tmp_path / "empty").mkdir()
    result = phototag("models", "add", bare, *labels, "--calibrate", tmp_path / "empty")
    assert (result.exit_code, "has no photos that can be read" in result.stderr) == (2, True)
    result = phototag("models", "add", bare, *labels, "--calibrate", folder, "--input-range", "0..1")
    assert (result.exit_code, "leave out --input-range" in result.stderr) == (2, True)


def test_understanding_is_information_and_not_confidence_alone() -> None:
    from phototag.models.calibration import range_score

    assert range_score(np.zeros((30, 3))).information == 0  # all of it is in the background class
    always_the_same = range_score(np.tile([0.99, 0.01, 0.0], (30, 1)))
    each_its_own = range_score(np.tile(np.eye(3) * 0.7 + 0.1, (10, 1)))
    assert always_the_same.confidence > each_its_own.confidence
    assert always_the_same.information == pytest.approx(0, abs=1e-4)
    entropy = -(0.8 * np.log(0.8) + 2 * 0.1 * np.log(0.1))
    assert each_its_own.information == pytest.approx(np.log(3) - entropy, abs=1e-4)


def test_calibration_passes_over_photos_that_cannot_be_read(
    bare: Path, tmp_path: Path, make_photo: Callable[..., Path]
) -> None:
    folder = make_photo("r.jpg", "red").parent
    make_photo("g.jpg", "lime")
    make_photo("b.jpg", "blue")
    (folder / "broken.jpg").write_bytes(b"broken")
    with Image.open(folder / "r.jpg") as image:
        assert image.size == (32, 24)
    result = phototag("models", "add", bare, "--labels", tmp_path / "names.json", "--calibrate", folder)
    assert result.exit_code == 0
