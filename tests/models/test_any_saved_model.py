"""Models that nobody wrote a card for: what they tell, what has to be said, and that they then run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from phototag import Classifier
from phototag.errors import LabelMismatch, ModelError, NotASavedModel, SignatureMismatch
from phototag.models.find import find_model, imagenet_labels
from tests.helpers import PROJECT
from tests.helpers.program import lines
from tests.helpers.toys import BLUE, GREEN, RED, TOY_CARD, export, export_toy, means, tagged

ACCURACY = PROJECT / "benchmarks" / "accuracy.py"


def open_model(directory: Path, **facts: Any) -> Classifier:
    return Classifier.open(directory, labels=directory / "labels.txt", facts=facts)


def assert_sees_colours(classifier: Classifier, size: tuple[int, int] = (8, 8)) -> None:
    assert tagged(classifier, RED, GREEN, BLUE, GREEN, RED, size=size) == ["red", "green", "blue", "green", "red"]


# --- What it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16"])
def test_floating_point_inputs(tmp_path: Path, dtype: str) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)}, dtype=dtype)
    assert_sees_colours(open_model(directory, input={"range": "0..1"}))


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_whole_number_inputs_need_no_range(tmp_path: Path, dtype: str) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images, 0.1)}, dtype=dtype)
    assert_sees_colours(open_model(directory))
    assert_sees_colours(open_model(directory, input={"range": "0..255"}))
    with pytest.raises(ModelError, match=r"takes .* and so values of 0 to 255"):
        open_model(directory, input={"range": "0..1"})


def test_encoded_jpeg_inputs(tmp_path: Path) -> None:
    def decode(files: Any) -> Any:
        import tensorflow as tf

        decoded = tf.map_fn(lambda file: tf.io.decode_jpeg(file, channels=3), files, fn_output_signature=tf.uint8)
        return {"y": means(decoded, 0.1)}

    directory = export(tmp_path / "m", decode, shape=(None,), dtype="string")
    with pytest.raises(ModelError, match="pass input_size="):
        open_model(directory)
    assert_sees_colours(open_model(directory, input={"height": 16, "width": 24}), size=(16, 24))


@pytest.mark.parametrize(
    ("value_range", "expected"),
    [
        ("0..1", (1.0, 0.2, 0.0)),
        ("-1..1", (1.0, -0.6, -1.0)),
        ("0..255", (255.0, 51.0, 0.0)),
        ("imagenet", ((1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, -0.406 / 0.225)),
        ("caffe", (-103.939, 51 - 116.779, 255 - 123.68)),
    ],
)
def test_every_range_gives_the_values_it_is_known_for(
    tmp_path: Path, value_range: str, expected: tuple[float, float, float]
) -> None:
    """The model hands its values back as logits, so the softmax of the expected ones has to come out."""
    directory = export(tmp_path / "m", lambda images: {"y": means(images, 1.0)})
    classifier = open_model(directory, input={"range": value_range}, output={"scores": "logits"})
    (scores,) = classifier.predict(np.full((1, 8, 8, 3), (255, 51, 0), np.uint8))
    values = np.array(expected)
    np.testing.assert_allclose(scores, np.exp(values - values.max()) / np.exp(values - values.max()).sum(), atol=1e-4)


def test_channels_first(tmp_path: Path) -> None:
    def planes(images: Any) -> Any:
        import tensorflow as tf

        return {"y": tf.reduce_mean(images, axis=[2, 3]) * 30}

    directory = export(tmp_path / "m", planes, shape=(None, 3, 8, 8))
    classifier = open_model(directory, input={"range": "0..1"})
    assert_sees_colours(classifier)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)}, shape=(2, 8, 8, 3))
    classifier = open_model(directory, input={"range": "0..1"})
    assert_sees_colours(classifier)
    assert tagged(classifier, BLUE) == ["blue"]


def test_other_sizes_than_square_ones(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)}, shape=(None, 6, 12, 3))
    assert_sees_colours(open_model(directory, input={"range": "0..1"}), size=(6, 12))


def test_a_model_that_takes_any_size_needs_one(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)}, shape=(None, None, None, 3))
    with pytest.raises(ModelError, match="pass input_size=, such as 224"):
        open_model(directory, input={"range": "0..1"})
    assert_sees_colours(open_model(directory, input={"range": "0..1", "height": 5, "width": 7}), size=(5, 7))


# --- What it gives ----------------------------------------------------------------------------------------------------


def test_logits_and_probabilities_are_told_apart(tmp_path: Path) -> None:
    import tensorflow as tf

    logits = export(tmp_path / "l", lambda images: {"y": means(images)})
    probabilities = export(tmp_path / "p", lambda images: {"y": tf.nn.softmax(means(images))})
    assert open_model(logits, input={"range": "0..1"}).scores == "logits"
    classifier = open_model(probabilities, input={"range": "0..1"})
    assert classifier.scores == "probabilities"
    image = np.full((1, 8, 8, 3), (255, 240, 0), np.uint8)
    expected = open_model(logits, input={"range": "0..1"}).predict(image)
    np.testing.assert_allclose(classifier.predict(image), expected, rtol=1e-4, atol=1e-6)


def test_scores_with_empty_dimensions_between(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)[:, None, None, :]})
    assert_sees_colours(open_model(directory, input={"range": "0..1"}))


def test_several_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"embedding": means(images)[:, :2], "scores": means(images)})
    with pytest.raises(SignatureMismatch, match="has 2 outputs; choose one with output_op=: embedding, scores"):
        open_model(directory, input={"range": "0..1"})
    assert_sees_colours(open_model(directory, input={"range": "0..1"}, output={"name": "scores"}))


def test_several_signatures_are_chosen_by_key(tmp_path: Path) -> None:
    import tensorflow as tf

    directory = export(
        tmp_path / "m",
        lambda images: {"y": means(images)},
        key="forward",
        backward=lambda images: {"y": tf.reverse(means(images), [1])},
    )
    with pytest.raises(SignatureMismatch, match="choose one with signature=: backward, forward"):
        open_model(directory, input={"range": "0..1"})
    assert_sees_colours(open_model(directory, input={"range": "0..1"}, signature="forward"))
    assert tagged(open_model(directory, input={"range": "0..1"}, signature="backward"), RED) == ["blue"]
    with pytest.raises(SignatureMismatch, match=r"no signature 'sideways' .* it has: backward, forward"):
        open_model(directory, input={"range": "0..1"}, signature="sideways")


@pytest.mark.parametrize("labels", ["background\nred\ngreen\nblue\n", "red\ngreen\nblue\n"])
def test_a_background_class_gets_no_label(tmp_path: Path, labels: str) -> None:
    import tensorflow as tf

    def with_background(images: Any) -> Any:
        return {"y": tf.pad(means(images), [[0, 0], [1, 0]], constant_values=15.0)}

    directory = export(tmp_path / "m", with_background, labels=labels)
    if not labels.startswith("background"):
        with pytest.raises(LabelMismatch, match=r"has 4 classes, but there are 3 labels; .* pass background="):
            open_model(directory, input={"range": "0..1"})
    classifier = open_model(directory, input={"range": "0..1"}, output={"background": True})
    assert_sees_colours(classifier)
    assert [label.name for label in classifier.labels] == ["red", "green", "blue"]
    dark = classifier.predict(np.zeros((1, 8, 8, 3), np.uint8))
    assert dark.sum() < 0.01  # what is in the background is in no class


def test_labels_that_do_not_match_are_an_error_with_both_numbers(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)}, labels="red\ngreen\n")
    with pytest.raises(LabelMismatch, match="has 3 classes, but there are 2 labels"):
        open_model(directory, input={"range": "0..1"})


def test_the_labels_of_imagenet_are_known_by_their_names(tmp_path: Path) -> None:
    import tensorflow as tf

    names = [label.name for label in imagenet_labels()]
    names[134] = "crane bird"
    directory = export(tmp_path / "m", lambda images: {"y": tf.tile(means(images), [1, 334])[:, :1000]})
    (directory / "labels.txt").write_text("\n".join(names))
    facts = {"input": {"range": "0..1"}}
    model = find_model(str(directory), labels=directory / "labels.txt", given=facts)
    assert model.taxonomy is not None
    assert model.labels[0].synset == "n01440764"
    flat = find_model(str(directory), labels=directory / "labels.txt", given={**facts, "taxonomy": "none"})
    assert flat.taxonomy is None
    (directory / "labels.txt").write_text("\n".join(reversed(names)))
    assert find_model(str(directory), labels=directory / "labels.txt", given=facts).taxonomy is None


# --- What has to be said ----------------------------------------------------------------------------------------------


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)}, shape=(None, None, None, 3))
    with pytest.raises(ModelError) as caught:
        find_model(str(directory))
    assert str(caught.value) == (
        f"{directory} does not say all that is needed; pass labels= FILE with a name for each of its 3 classes and "
        "input_size=, such as 224 and input_range=, one of 0..1, -1..1, 0..255, imagenet, caffe "
        "(phototag models add finds out which from photos)"
    )


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"tag_set": ("gpu", "serve")},
            "has no graph with the tags gpu,serve; did you mean serve? choose one with tag_set=: serve",
        ),
        ({"input": {"range": "0..1", "height": 9}}, "takes images of height 8, not 9"),
        ({"input": {"range": "0..1", "name": "nothing"}}, "the name of the output is missing"),
        ({"input": {"range": "0..1", "name": "nothing"}, "output": {"name": "y"}}, "has no operation 'nothing'"),
        ({"input": {"range": "0..1"}, "output": {"name": "z"}}, "has no output 'z'; choose one with output_op=: y"),
    ],
)
def test_what_the_model_does_not_have_is_named(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)})
    with pytest.raises(SignatureMismatch) as caught:
        open_model(directory, **facts)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((None, 8, 8, 1), "float32", "takes images of 1 channels, not 3"),
        ((None, 8), "float32", r"takes no images, but float32 of shape \[\?, 8\]"),
        ((None, 8, 8, 3), "complex64", "takes no images, but complex64"),
    ],
)
def test_a_model_of_something_else_is_refused(tmp_path: Path, shape: Any, dtype: str, message: str) -> None:
    import tensorflow as tf

    def anything(values: Any) -> Any:
        return {"y": tf.reshape(tf.cast(values, tf.float32), [-1, 3])}

    with pytest.raises(SignatureMismatch, match=message):
        open_model(export(tmp_path / "m", anything, shape=shape, dtype=dtype), input={"range": "0..1"})


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    both = tf.function(lambda a, b: {"y": means(a) + means(b)}, input_signature=[spec, spec])
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), signatures=both)
    with pytest.raises(SignatureMismatch, match="takes 2 inputs, not one image: a, b"):
        find_model(str(tmp_path / "m"))


def test_a_model_that_fails_when_it_runs_is_one_sentence(tmp_path: Path) -> None:
    import tensorflow as tf

    def failing(images: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(means(images), 0.0, message="no\nway")]):
            return {"y": means(images)}

    with pytest.raises(ModelError, match="failed on a batch of 2 images") as caught:
        open_model(export(tmp_path / "m", failing), input={"range": "0..1"})
    assert "\n" not in str(caught.value)


# --- The real ones ----------------------------------------------------------------------------------------------------

HUB = "imagenet_mobilenet_v2_100_224_classification"
TF1 = "tf1_photoprism_style"
TF1_OPTIONS = ["--input-op", "input_1", "--output-op", "predictions/Softmax", "--input-range=-1..1"]


def accuracy(shared: Path, model: str, facts: dict[str, Any]) -> dict[str, float]:
    labels = shared / "models/ImageNetLabels.txt"
    command: list[str | Path] = [
        sys.executable,
        ACCURACY,
        shared / "photos/imagenet",
        "--model",
        shared / "models" / model,
    ]
    command += ["--labels", labels, "--facts", json.dumps(facts)]
    measured: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return measured


@pytest.mark.slow
def test_the_model_of_tf_hub_is_as_accurate_as_it_should_be(shared: Path) -> None:
    measured = accuracy(shared, HUB, {"input": {"range": "0..1"}})
    assert (measured["photos"], measured["top1"] >= 0.87) == (200, True)


@pytest.mark.slow
def test_the_tf1_graph_is_as_accurate_as_it_should_be(shared: Path) -> None:
    facts = {
        "tag_set": ["photoprism"],
        "input": {"name": "input_1", "range": "-1..1"},
        "output": {"name": "predictions/Softmax:0"},
    }
    measured = accuracy(shared, TF1, facts)
    assert (measured["photos"], measured["top1"] >= 0.50) == (200, True)


def top1(result: Result) -> float:
    outcomes = lines(result)
    right = [outcome["predictions"][0]["synset"] in outcome["path"] for outcome in outcomes]
    assert len(right) == 200
    return sum(right) / len(right)


@pytest.mark.slow
def test_scan_runs_the_model_of_tf_hub(scan: Callable[..., Result], shared: Path) -> None:
    options = ["--labels", shared / "models/ImageNetLabels.txt", "--input-range", "0..1", "-n", "--format", "json"]
    result = scan(shared / "photos/imagenet", *options, model=shared / "models" / HUB)
    assert result.exit_code == 0
    assert top1(result) >= 0.87


@pytest.mark.slow
def test_scan_runs_the_tf1_graph(scan: Callable[..., Result], shared: Path) -> None:
    options = ["--tag-set", "photoprism", *TF1_OPTIONS, "--labels", shared / "models/ImageNetLabels.txt"]
    result = scan(shared / "photos/imagenet", *options, "-n", "--format", "json", model=shared / "models" / TF1)
    assert result.exit_code == 0
    assert top1(result) >= 0.50


@pytest.mark.parametrize("damage", ["cut", "garbage", "no variables"])
def test_a_corrupt_model_is_exit_3_and_nothing_is_written(
    scan: Callable[..., Result], make_photo: Callable[..., Path], toy_model: Path, tmp_path: Path, damage: str
) -> None:
    photo, model = make_photo("a.jpg"), tmp_path / "m"
    shutil.copytree(toy_model, model)
    if damage == "no variables":
        shutil.rmtree(model / "variables")
        (model / "variables").mkdir()
        (model / "variables/variables.index").write_bytes(b"no index")
    else:
        data = (model / "saved_model.pb").read_bytes()
        (model / "saved_model.pb").write_bytes(data[: len(data) // 2] if damage == "cut" else b"\xff" * 100)
    result = scan(photo, model=model)
    assert (result.exit_code, result.stdout) == (3, "")
    *before, last = result.stderr.splitlines()
    assert str(model) in last
    assert all(line.startswith("Converting the model toy") for line in before)
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (HUB, ["--input-range", "0..1"], "pass --labels FILE with a name for each of its 1001 classes"),
        (HUB, ["LABELS"], "pass --input-range, one of 0..1"),
        (
            TF1,
            ["LABELS"],
            "has no signature; name its operations, perhaps --input-op input_1 --output-op predictions/S",
        ),
        (TF1, ["LABELS", "--tag-set", "serve"], "choose one with --tag-set: photoprism"),
        ("gildas_landmarksnet", ["LABELS", "--input-range", "0..1"], "has no signature; name its operations"),
        (
            "gildas_landmarksnet",
            ["LABELS", "--input-range", "0..1", "--input-op", "input", "--output-op", "MatMul"],
            "classes, but there are 1001 labels",
        ),
        ("serving/saved_model_counter", [], "saved_model_counter/00000123 does"),
        ("serving/saved_model_counter/00000123", ["LABELS"], "is not a classifier"),
        ("serving/saved_model_half_plus_two_tf2_cpu/00000123", ["LABELS"], "is not a classifier"),
        ("serving/saved_model_half_plus_two_mlmd/00000123", ["LABELS", "--input-range", "0..1"], ""),
        ("serving/saved_model_half_plus_three/00000123", ["LABELS", "--input-range", "0..1"], ""),
        ("serving/saved_model_half_plus_three/00000123", ["LABELS", "--input-range", "0..1", "--input-size", "8"], ""),
    ],
)
def test_what_cannot_be_run_is_exit_3_and_nothing_is_written(
    scan: Callable[..., Result],
    make_photo: Callable[..., Path],
    shared: Path,
    model: str,
    options: list[str],
    message: str,
) -> None:
    photo = make_photo("a.jpg")
    labels = ["--labels", str(shared / "models/ImageNetLabels.txt")] if "LABELS" in options else []
    result = scan(photo, *[o for o in options if o != "LABELS"], *labels, model=shared / "models" / model)
    assert result.exit_code == 3
    assert message in result.stderr
    assert str(shared / "models") in result.stderr
    assert len([line for line in result.stderr.splitlines() if not line.startswith("Converting the model")]) == 1
    assert list(photo.parent.iterdir()) == [photo]


# --- What is executed, and what is read -------------------------------------------------------------------------------


def test_a_damaged_saved_model_is_one_sentence(tmp_path: Path, shared: Path) -> None:
    for damage in ("empty", "garbage", "cut", "no variables"):
        directory = tmp_path / damage
        shutil.copytree(shared / "models" / HUB, directory)
        if damage == "no variables":
            shutil.rmtree(directory / "variables")
        else:
            data = (directory / "saved_model.pb").read_bytes()
            damaged = {"empty": b"", "garbage": b"\xff" * 1000, "cut": data[: len(data) // 2]}[damage]
            (directory / "saved_model.pb").write_bytes(damaged)
        with pytest.raises(NotASavedModel) as caught:
            Classifier.open(directory, labels=shared / "models/ImageNetLabels.txt", facts={"input": {"range": "0..1"}})
        assert "\n" not in str(caught.value)
        assert str(directory) in str(caught.value)


def test_a_model_named_like_a_card_cannot_reach_outside_its_directory(tmp_path: Path) -> None:
    directory = export_toy(tmp_path / "m", labels="red\ngreen\nblue\n")
    for labels in ("../secret.txt", "/etc/passwd", "sub/labels.txt"):
        (directory / "phototag.json").write_text(json.dumps({**TOY_CARD, "labels": labels}))
        with pytest.raises(ModelError, match="must name a file in the card's own directory"):
            find_model(str(directory))


def test_a_label_file_that_is_a_link_out_of_a_cards_directory_is_refused(tmp_path: Path) -> None:
    directory = export_toy(tmp_path / "m")
    (tmp_path / "secret.txt").write_text("red\ngreen\nblue\n")
    (directory / "labels.txt").unlink()
    (directory / "labels.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(ModelError, match="leads out of"):
        find_model(str(directory))


def test_pickles_and_keras_files_in_a_model_directory_are_not_opened(tmp_path: Path) -> None:
    directory = export_toy(tmp_path / "m")
    for name in ("model.pkl", "model.keras", "model.h5", "keras_metadata.pb", "labels.pickle"):
        (directory / name).write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    Classifier.open(directory).predict(np.zeros((1, 8, 8, 3), np.uint8))
    assert not (tmp_path / "owned").exists()


def test_as_a_library_by_a_few_lines(default_model_home: Path, monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(default_model_home))
    example = PROJECT / "examples" / "classify.py"
    photo = shared / "photos/imagenet/n01882714_koala.JPEG"
    output = subprocess.run([sys.executable, example, photo], capture_output=True, check=True, text=True).stdout
    assert output.startswith(f"{photo}: koala ")


def test_a_graph_that_reads_writes_or_prints_is_refused_before_it_runs(tmp_path: Path) -> None:
    import tensorflow as tf

    def writing(images: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / "owned"), "x")]):
            return {"y": means(images)}

    def printing(images: Any) -> Any:
        tf.print("owned")
        return {"y": means(images)}

    for name, function in {"WriteFile": writing, "PrintV2": printing}.items():
        directory = export(tmp_path / name, function)
        (tmp_path / "owned").unlink(missing_ok=True)
        with pytest.raises(ModelError, match=f"has the operations {name}, which phototag does not run"):
            open_model(directory, input={"range": "0..1"})
        assert not (tmp_path / "owned").exists()


def test_a_graph_that_saves_where_it_should_classify_is_refused(tmp_path: Path) -> None:
    """Every model can save itself, so the operation alone is no reason."""
    import tensorflow as tf

    def saving(images: Any) -> Any:
        save = tf.raw_ops.SaveV2(
            prefix=str(tmp_path / "owned"), tensor_names=["x"], shape_and_slices=[""], tensors=[images]
        )
        with tf.control_dependencies([save]):
            return {"y": means(images)}

    directory = export(tmp_path / "m", saving)
    with pytest.raises(ModelError, match="has the operations SaveV2, which phototag does not run"):
        open_model(directory, input={"range": "0..1"})
    assert not list(tmp_path.glob("owned*"))


def test_pixels_of_another_shape_are_an_error_and_not_the_end_of_the_process(toy_model: Path) -> None:
    classifier = Classifier.open(toy_model)
    for shape in ((8, 8, 3), (1, 8, 8), (1, 9, 8, 3), (0, 8, 8, 3)):
        with pytest.raises(ValueError, match="images must be uint8 of shape"):
            classifier.predict(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="images must be uint8"):
        classifier.predict(np.zeros((1, 8, 8, 3), np.float32))


@pytest.mark.parametrize("dtype", ["string", "complex64"])
def test_outputs_that_are_no_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    import tensorflow as tf

    def odd(images: Any) -> Any:
        scores = means(images)
        return {"y": tf.strings.as_string(scores) if dtype == "string" else tf.cast(scores, dtype)}

    with pytest.raises(SignatureMismatch, match=f"its output 'y' is {dtype}"):
        open_model(export(tmp_path / "m", odd), input={"range": "0..1"})


def test_pipes_in_a_model_directory_are_not_opened(tmp_path: Path) -> None:
    for name in ("labels.txt", "phototag.json", "variables/variables.index"):
        directory = export_toy(tmp_path / name.replace("/", "-"))
        (directory / name).unlink()
        os.mkfifo(directory / name)
        with pytest.raises(ModelError, match="is not a regular file"):
            find_model(str(directory))
