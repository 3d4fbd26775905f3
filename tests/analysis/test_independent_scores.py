"""Models of which each score is independent, as a Sigmoid gives them: a photo may have several labels, or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from phototag.analysis.classifier import Classifier
from phototag.errors import LabelMismatch, SignatureMismatch
from phototag.models.calibration import range_score
from phototag.models.find import find_model, imagenet_labels
from tests.helpers.program import lines, phototag
from tests.helpers.toys import export

CARD: dict[str, Any] = {"name": "colours", "input": {"range": "0..1"}, "labels": "labels.txt"}
YELLOW, BLACK = (255, 255, 0), (0, 0, 0)
HIGH, LOW = 1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))


def export_colours(directory: Path, *, bounded: bool = False, classes: int = 3, factor: float = 6.0) -> Path:
    """Export a SavedModel that gives the Sigmoid of each colour channel's mean, from -3 for 0 to 3 for 1.

    `bounded`: its graph ends in a Minimum, so that only running it tells what its scores are.
    """
    import tensorflow as tf

    def scores(images: Any) -> Any:
        means = tf.sigmoid((tf.reduce_mean(images, axis=[1, 2])[:, :classes] - 0.5) * factor)
        return {"scores": tf.minimum(means, 1.0) if bounded else means}

    images = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")
    tf.saved_model.save(tf.Module(), str(directory), signatures=tf.function(scores, input_signature=[images]))
    return directory


def with_card(directory: Path, names: str = "red\ngreen\nblue\n", **card: Any) -> Path:
    named = {**CARD, **card}
    (directory / named["labels"]).write_text(names)
    (directory / "phototag.json").write_text(json.dumps(named))
    return directory


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_colours(tmp_path_factory.mktemp("independent") / "model")


@pytest.fixture
def colours(exported: Path, tmp_path: Path) -> Path:
    """The model without a card, in a directory of the test's own."""
    import shutil

    return Path(shutil.copytree(exported, tmp_path / "colours"))


@pytest.fixture
def bounded(tmp_path: Path) -> Path:
    return export_colours(tmp_path / "bounded", bounded=True)


def solid(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in colours])


# --- The classifier ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["litert", "tensorflow"])
def test_scores_are_the_models_own(colours: Path, engine: Any) -> None:
    with_card(colours, temperature=2.0)
    classifier = Classifier(find_model(str(colours)), engine)
    assert classifier.scores == "independent"
    scores = classifier.predict(solid(YELLOW, BLACK))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[HIGH, HIGH, LOW], [LOW, LOW, LOW]], rtol=1e-5)


def test_classify_gives_several_sure_labels(colours: Path, make_photo: Callable[..., Path]) -> None:
    predictions = Classifier(find_model(str(with_card(colours)))).classify(make_photo("y.png", "yellow", format="PNG"))
    assert sorted(one.label.name for one in predictions[:2]) == ["green", "red"]
    assert [one.score for one in predictions] == pytest.approx([HIGH, HIGH, LOW], rel=1e-4)


def test_logits_are_refused(colours: Path) -> None:
    classifier = Classifier(find_model(str(with_card(colours))))
    with pytest.raises(SignatureMismatch, match="gives independent scores and no logits; use threshold="):
        classifier.logits(solid(YELLOW))


def test_the_kind_is_measured_if_the_graph_does_not_tell(bounded: Path) -> None:
    model = find_model(str(with_card(bounded)))
    assert not model.is_independent
    assert Classifier(model).scores == "independent"


def test_the_graph_says_so_before_the_model_runs(colours: Path) -> None:
    model = find_model(str(with_card(colours)))
    assert (model.is_independent, model.card.output.scores) == (True, "independent")
    assert find_model(str(with_card(colours, output={"scores": "independent"}))).digest == model.digest


def test_the_card_overrides_the_graph(colours: Path) -> None:
    model = find_model(str(with_card(colours, output={"scores": "logits"})))
    assert not model.is_independent
    (scores,) = Classifier(model).predict(solid(YELLOW))
    assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_scores_outside_0_to_1_are_an_error(toy_model: Path) -> None:
    facts = {"output": {"scores": "independent"}}
    classifier = Classifier(find_model(str(toy_model), given=facts))
    with pytest.raises(SignatureMismatch, match="outside 0 to 1, but its card says they are independent"):
        classifier.predict(solid(YELLOW))


def test_scores_that_rounding_took_outside_0_to_1_are_brought_back(tmp_path: Path) -> None:
    import tensorflow as tf

    def scores(images: Any) -> Any:
        return {"scores": tf.reduce_mean(images, axis=[1, 2]) * 1.001 - 0.0005}

    images = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), signatures=tf.function(scores, input_signature=[images]))
    model = find_model(str(with_card(tmp_path / "m", output={"scores": "independent"})))
    np.testing.assert_array_equal(Classifier(model).predict(solid(YELLOW)), [[1, 1, 0]])


def test_a_background_class_is_cut_off(colours: Path) -> None:
    with_card(colours, "name,threshold\nbackground,\ngreen,0.9\nblue,\n", labels="labels.csv")
    model = find_model(str(colours))
    assert [label.name for label in model.labels] == ["green", "blue"]
    assert model.thresholds == (0.9, None)
    np.testing.assert_allclose(Classifier(model).predict(solid(YELLOW)), [[HIGH, LOW]], rtol=1e-5)


@pytest.mark.parametrize(("labels", "card"), [("background\n", {}), ("red\n", {"output": {"background": True}})])
def test_a_background_class_alone_is_not_enough(tmp_path: Path, labels: str, card: dict[str, Any]) -> None:
    model = with_card(export_colours(tmp_path / "m", classes=1), labels, **card)
    with pytest.raises(LabelMismatch, match="has no label but the background class's; name another file with labels="):
        find_model(str(model))


@pytest.mark.parametrize("options", [["--input-range", "0..1", "--probe"], ["--labels", "LABELS", "--calibrate", "."]])
def test_a_model_without_classes_is_not_a_classifier(tmp_path: Path, options: list[str]) -> None:
    def scores(images: Any) -> Any:
        import tensorflow as tf

        return {"scores": tf.sigmoid(images[:, 0, 0, : tf.cast(tf.reduce_sum(images), tf.int32) * 0])}

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    model = export(tmp_path / "m", scores)
    names = {"LABELS": model / "labels.txt", ".": tmp_path}
    command = ["inspect"] if "--probe" in options else ["models", "add"]
    result = phototag(*command, model, *(names.get(option, option) for option in options))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.endswith(" is not a classifier: it gives no scores\n")


def test_there_is_no_tree_even_for_the_labels_of_imagenet(tmp_path: Path) -> None:
    import tensorflow as tf

    def scores(images: Any) -> Any:
        return {"scores": tf.sigmoid(tf.tile(tf.reduce_mean(images, axis=[1, 2]), [1, 334])[:, :1000])}

    images = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), signatures=tf.function(scores, input_signature=[images]))
    names = "\n".join(label.name for label in imagenet_labels())
    for card in ({}, {"output": {"scores": "independent"}}, {"taxonomy": "imagenet"}):
        assert find_model(str(with_card(tmp_path / "m", names, **card))).taxonomy is None
    exclusive = find_model(str(with_card(tmp_path / "m", names, output={"scores": "probabilities"})))
    assert exclusive.taxonomy is not None


# --- Thresholds -------------------------------------------------------------------------------------------------------


def test_thresholds_are_read_and_are_not_part_of_the_digest(colours: Path) -> None:
    plain = find_model(str(with_card(colours)))
    (colours / "own.csv").write_text("name,threshold\nred,0.4\ngreen,\nblue,1\n")
    own = find_model(str(colours), labels=colours / "own.csv")
    assert (plain.thresholds, own.thresholds) == ((), (0.4, None, 1.0))
    assert (plain.labels, plain.digest) == (own.labels, own.digest)


# --- The commands -----------------------------------------------------------------------------------------------------


def test_scan_gives_a_photo_all_its_labels(
    colours: Path, scan: Callable[..., Result], make_photo: Callable[..., Path]
) -> None:
    yellow, black = make_photo("a.png", "yellow", format="PNG"), make_photo("b.png", "black", format="PNG")
    both, none = lines(scan(yellow, black, "--format", "json", model=with_card(colours)))
    assert [(tag["name"], tag["confidence"]) for tag in both["tags"]] == [("green", 0.9526), ("red", 0.9526)]
    assert none["tags"] == []
    again = lines(scan(yellow, black, "--format", "json", model=colours))
    assert [one["status"] for one in again] == ["unchanged", "unchanged"]


def test_scan_wants_to_know_before_it_loads_the_model(
    bounded: Path, scan: Callable[..., Result], make_photo: Callable[..., Path]
) -> None:
    photo = make_photo("a.jpg", "yellow")
    refused = scan(photo, model=with_card(bounded))
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "each of its own, as a Sigmoid does; install it with phototag models add" in refused.stderr
    doctor = phototag("doctor", "--model", bounded, "--try-model")
    assert doctor.exit_code == 1
    assert "FAULT    model runs: " in doctor.stdout and "install it with phototag models add" in doctor.stdout
    assert phototag("models", "add", bounded, "--name", "mine").exit_code == 0
    assert lines(scan(photo, "--format", "json", model="mine"))[0]["tags"][0]["name"] in ("red", "green")


def test_inspect_says_so(colours: Path) -> None:
    (colours / "labels.txt").write_text("red\ngreen\nblue\n")
    options = ["--labels", colours / "labels.txt", "--input-range", "0..1"]
    found = json.loads(phototag("inspect", colours, *options, "--json").stdout)["verdict"]
    assert (found["image_classifier"], found["why"], found["missing"]) == ("yes", None, [])
    assert (found["output"]["scores"], found["output"]["measured"]) == ("independent", None)
    text = phototag("inspect", colours, *options).stdout
    assert f"{colours}: an image classifier\n" in text
    assert "  gives    scores: independent probabilities of 3 classes\n" in text
    assert "  run it   phototag scan PHOTOS" in text


def test_a_probe_measures_it(bounded: Path, colours: Path) -> None:
    for model in (bounded, colours):
        found = json.loads(phototag("inspect", model, "--probe", "--json").stdout)["verdict"]
        assert found["output"]["scores"] == "independent"
        assert 0 < found["output"]["measured"]["least"] < found["output"]["measured"]["greatest"] < 1
        assert "independent probabilities" in phototag("inspect", model, "--probe").stdout
    # What scan would refuse is not advised.
    assert "  run it   phototag models add" in phototag("inspect", bounded, "--probe").stdout
    assert "  run it   phototag scan PHOTOS" in phototag("inspect", colours, "--probe").stdout
    unprobed = json.loads(phototag("inspect", bounded, "--json").stdout)["verdict"]
    assert unprobed["output"]["scores"] is None
    (colours / "phototag.json").write_text(json.dumps({"name": "c", "output": {"scores": "logits"}}))
    in_card = json.loads(phototag("inspect", colours, "--probe", "--json").stdout)["verdict"]
    assert in_card["output"]["scores"] == "logits"


def test_one_class_is_a_classifier_too(tmp_path: Path) -> None:
    model = with_card(export_colours(tmp_path / "m", classes=1), "red\n")
    found = json.loads(phototag("inspect", model, "--json").stdout)["verdict"]
    assert (found["image_classifier"], found["output"]["classes"]) == ("yes", 1)
    np.testing.assert_allclose(Classifier(find_model(str(model))).predict(solid(YELLOW)), [[HIGH]], rtol=1e-5)


@pytest.mark.parametrize("options", [[], ["--output", "independent"]])
def test_models_add_keeps_the_kind_and_the_thresholds(colours: Path, data_directory: Path, options: list[str]) -> None:
    (colours / "own.csv").write_text("name,threshold\nred,0.4\ngreen,\nblue,1\n")
    facts = ["--labels", colours / "own.csv", "--input-range", "0..1", *options]
    result = phototag("models", "add", colours, *facts)
    assert result.exit_code == 0, result.stderr
    assert "3 classes, flat tags, independent; installed in" in result.stdout
    card = json.loads((data_directory / "models/colours/phototag.json").read_text())
    assert card["output"] == {"name": "scores", "scores": "independent"}
    model = find_model("colours")
    assert ([label.name for label in model.labels], model.thresholds) == (["red", "green", "blue"], (0.4, None, 1.0))


def test_models_add_finds_the_range(colours: Path, make_photo: Callable[..., Path]) -> None:
    for name in ("red", "lime", "blue", "yellow", "black", "white", "cyan", "magenta"):
        folder = make_photo(f"{name}.png", name, format="PNG").parent
    (colours / "labels.txt").write_text("red\ngreen\nblue\n")
    command = ["models", "add", colours, "--labels", colours / "labels.txt", "--calibrate", folder]
    result = phototag(*command)
    assert result.exit_code == 0, result.stderr
    assert "    0..1: confidence 0.84, information 1.51\n" in result.stdout
    assert "The model makes the most of the photos with --input-range=" in result.stdout


def test_labels_that_do_not_fit_are_no_fault_of_the_range(tmp_path: Path, make_photo: Callable[..., Path]) -> None:
    def scores(images: Any) -> Any:
        import tensorflow as tf

        channels = 3 + tf.cast(tf.reduce_sum(images), tf.int32) * 0  # known only when it runs
        return {"scores": tf.sigmoid(tf.reduce_mean(images, axis=[1, 2])[:, :channels])}

    model = export(tmp_path / "m", scores, labels="red\ngreen\n")
    options = ["--labels", model / "labels.txt", "--calibrate", make_photo("a.jpg")]
    result = phototag("models", "add", model, *options)
    assert result.exit_code == 3
    assert "has 3 classes, but there are 2 labels" in result.stderr


def test_the_information_of_independent_scores_is_summed_over_the_labels() -> None:
    half = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    assert range_score(half, independent=True).information == pytest.approx(2 * np.log(2), abs=1e-4)
    assert range_score(np.full((4, 3), 0.9), independent=True).information == 0
