"""LiteRT and TensorFlow give the same scores, and a model is converted once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag import Classifier
from phototag.cli.event_messages import event_message
from phototag.core import WorkEvent
from phototag.errors import ModelError
from phototag.images.decode import prepare_photo
from phototag.models.find import Model, find_model
from phototag.zoo.build import add_model, remove_model
from tests.helpers.program import imported_by, phototag
from tests.helpers.toys import BLUE, GREEN, RED, export, export_toy, means, tagged

MakePhoto = Callable[..., Path]


@pytest.fixture
def kept(data_directory: Path) -> Path:
    """The folder of conversions, empty: no other test has a share in it."""
    (data_directory / "converted").unlink()
    return data_directory / "converted"


@pytest.fixture
def said() -> list[str]:
    return []


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), np.uint8)


def conversions_in(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir() if not path.name.startswith("."))


# --- The same scores --------------------------------------------------------------------------------------------------


def test_the_default_model_gives_the_same_scores_in_both(default_model: Model, make_photo: MakePhoto) -> None:
    litert, tensorflow = (Classifier(default_model, engine) for engine in ("litert", "tensorflow"))
    assert (litert.engine, tensorflow.engine) == ("litert", "tensorflow")
    images = noise(5, 224)
    images[4] = prepare_photo(make_photo("a.jpg"), default_model.preprocessing)
    np.testing.assert_allclose(litert.logits(images), tensorflow.logits(images), atol=1e-4)
    np.testing.assert_allclose(litert.predict(images), tensorflow.predict(images), atol=1e-5)


def test_real_photos_get_the_same_scores_in_both(default_model: Model, shared: Path) -> None:
    paths = sorted((shared / "photos/imagenet").glob("*.JPEG"))[::10]
    images = np.concatenate([prepare_photo(path, default_model.preprocessing) for path in paths])
    ours, theirs = (Classifier(default_model, engine).predict(images) for engine in ("litert", "tensorflow"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("imagenet_mobilenet_v2_100_224_classification", {"input": {"range": "0..1"}}),
        (
            "tf1_photoprism_style",
            {"input": {"name": "input_1", "range": "-1..1"}, "output": {"name": "predictions/Softmax"}},
        ),
    ],
)
def test_models_of_the_world_give_the_same_scores_in_both(shared: Path, name: str, facts: dict[str, Any]) -> None:
    labels = shared / "models/ImageNetLabels.txt"
    model = find_model(str(shared / "models" / name), labels=labels, given=facts)
    images = noise(3, model.preprocessing.height)
    ours, theirs = (Classifier(model, engine).predict(images) for engine in ("litert", "tensorflow"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "shape", "facts"),
    [
        ("float32", (None, 8, 8, 3), {"range": "caffe"}),
        ("float32", (None, 8, 8, 3), {"range": "imagenet"}),
        ("float32", (None, None, None, 3), {"range": "0..1", "height": 6, "width": 9}),
        ("float32", (4, 8, 8, 3), {"range": "-1..1"}),
        ("float32", (None, 3, 8, 8), {"range": "0..1"}),
        ("uint8", (None, 8, 8, 3), {}),
        ("int32", (1, 8, 8, 3), {}),
    ],
)
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_inputs_of_all_kinds(
    tmp_path: Path, dtype: str, shape: tuple[int | None, ...], facts: dict[str, Any], order: str
) -> None:
    axes = [2, 3] if shape[1] == 3 else [1, 2]

    def weighted(images: Any) -> Any:
        import tensorflow as tf

        return {"y": tf.reduce_mean(tf.cast(images, tf.float32), axis=axes) * [1.0, 2.0, 3.0] + 5.0}

    directory = export(tmp_path / "m", weighted, dtype=dtype, shape=shape)
    given = {"input": {"channel_order": order, **facts}}
    model = find_model(str(directory), labels=directory / "labels.txt", given=given)
    size = (model.preprocessing.height, model.preprocessing.width)
    images = np.random.default_rng(2).integers(0, 256, (5, *size, 3), np.uint8)
    images[0], images[1] = RED, BLUE
    fed = model.preprocessing
    scaled = (images - np.array(fed.mean)) / fed.std if dtype == "float32" else images
    means = scaled[..., :: -1 if order == "BGR" else 1].mean(axis=(1, 2))
    for engine in ("litert", "tensorflow"):
        scores = Classifier(model, engine).logits(images)
        np.testing.assert_allclose(scores, means * [1, 2, 3] + 5, rtol=1e-4, atol=1e-4, err_msg=engine)


def test_the_chosen_output_of_several_is_the_one(tmp_path: Path) -> None:
    directory = export(tmp_path / "m", lambda images: {"a": -means(images), "y": means(images), "z": means(images) * 0})
    facts = {"input": {"range": "0..1"}, "output": {"name": "y"}}
    classifier = Classifier.open(directory, labels=directory / "labels.txt", facts=facts, engine="litert")
    assert tagged(classifier, RED, GREEN, BLUE) == ["red", "green", "blue"]


def test_many_threads_may_use_a_classifier_at_the_same_time(default_model: Model) -> None:
    classifier = Classifier(default_model, "litert")
    images = noise(24, 224)
    expected = classifier.predict(images)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda number: classifier.predict(images[number : number + 1])[0], range(24)))
    np.testing.assert_array_equal(rows, expected)


def test_the_engine_is_no_part_of_what_is_remembered(scan: Callable[..., Any], make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    assert "1 tagged" in scan(photo, "--engine", "litert").stderr
    assert "1 unchanged" in scan(photo, "--engine", "tensorflow").stderr


def test_a_model_of_a_fixed_batch_gets_whole_batches(tmp_path: Path) -> None:
    for batch, by_image in ((None, True), (1, True), (4, False)):
        directory = export(tmp_path / f"of {batch}", lambda images: {"y": means(images)}, shape=(batch, 8, 8, 3))
        model = find_model(str(directory), labels=directory / "labels.txt", given={"input": {"range": "0..1"}})
        assert Classifier(model, "litert").by_image is by_image


@pytest.mark.slow
@pytest.mark.parametrize(("callers", "batch"), [(1, None), (2, None), (2, 4)])
def test_tensorflow_takes_an_image_from_each_of_several_callers(
    tmp_path: Path, callers: int, batch: int | None
) -> None:
    directory = export(tmp_path / "m", lambda images: {"y": means(images)}, shape=(batch, 8, 8, 3))
    script = f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from phototag.analysis.classifier import Classifier
from phototag.models.find import find_model
given = {{"input": {{"range": "0..1"}}}}
model = find_model({str(directory)!r}, labels=Path({str(directory / "labels.txt")!r}), given=given)
classifier = Classifier(model, "tensorflow", callers={callers})
images = np.random.default_rng(3).integers(0, 256, (40, 1, 8, 8, 3), np.uint8)
with ThreadPoolExecutor({callers}) as pool:
    rows = np.concatenate(list(pool.map(classifier.predict, images)))
import tensorflow
one_core_a_call = tensorflow.config.threading.get_intra_op_parallelism_threads() == 1
alike = np.abs(rows - classifier.predict(images[:, 0])).max() < 1e-6
print(classifier.by_image, one_core_a_call, alike, len(tensorflow.config.list_physical_devices("GPU")))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    *facts, gpus = result.stdout.split()
    expected = callers > 1 and batch is None and gpus == "0"
    assert facts == [str(expected), str(expected), "True"]


# --- Converted once ---------------------------------------------------------------------------------------------------


def noting(said: list[str]) -> Callable[[WorkEvent], None]:
    """Add what the command line says about each event to `said`."""
    return lambda event: said.append(str(event_message(event)))


def test_a_model_is_converted_once_and_that_is_said(toy_model: Path, kept: Path, said: list[str]) -> None:
    model = find_model(str(toy_model))
    assert Classifier(model, on_event=noting(said)).engine == "litert"
    assert said == ["Converting the model toy for LiteRT: once, for some seconds."]
    assert Classifier(model, on_event=noting(said)).engine == "litert"
    assert len(said) == 1
    assert conversions_in(kept) == [".json", ".tflite"]


@pytest.mark.slow
def test_not_even_the_first_run_imports_tensorflow(toy_model: Path, kept: Path, make_photo: MakePhoto) -> None:
    options = ["scan", str(make_photo("a.jpg")), "--model", str(toy_model)]
    assert imported_by(*options) & {"tensorflow", "keras", "google", "ai_edge_litert"} == {"ai_edge_litert", "google"}
    assert conversions_in(kept) == [".json", ".tflite"]


@pytest.mark.slow
def test_processes_that_convert_at_the_same_time(toy_model: Path, kept: Path, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    command: list[Any] = [
        sys.executable,
        "-m",
        "phototag",
        "scan",
        photo,
        "--write",
        "none",
        "--model",
        toy_model,
        "--index",
    ]
    runs = [
        subprocess.Popen([*command, photo.parent / f"{number}.sqlite3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in range(3)
    ]
    results = [run.communicate() for run in runs]
    assert [(run.returncode, out.decode()) for run, (out, _) in zip(runs, results, strict=True)] == (
        [(0, f"{photo}: red\n")] * 3
    )
    assert b"".join(err for _, err in results).count(b"Converting") == 1
    assert conversions_in(kept) == [".json", ".tflite"]


@pytest.mark.parametrize("damage", ["byte", "cut", "empty", "pipe", "gone", "verdict", "list", "number", "huge"])
def test_a_damaged_conversion_is_made_anew(toy_model: Path, kept: Path, said: list[str], damage: str) -> None:
    model = find_model(str(toy_model))
    Classifier(model)
    (content,), (verdict,) = kept.glob("*.tflite"), kept.glob("*.json")
    good = content.read_bytes()
    if damage in ("pipe", "gone"):
        content.unlink()
        if damage == "pipe":
            os.mkfifo(content)
    elif damage in ("byte", "cut", "empty"):
        bad = {"byte": bytes([good[0] ^ 1]) + good[1:], "cut": good[:100], "empty": b""}[damage]
        content.write_bytes(bad)
    else:
        text = {"verdict": "{", "list": "[]", "number": '{"reason": 1, "gpu": 2, "sha256": 3}', "huge": " " * 100_000}
        verdict.write_text(text[damage])
    classifier = Classifier(model, on_event=noting(said))
    assert classifier.engine == "litert"
    assert tagged(classifier, RED, BLUE) == ["red", "blue"]
    assert len(said) == 1
    assert conversions_in(kept) == [".json", ".tflite"]
    Classifier(model, on_event=noting(said))
    assert len(said) == 1


def test_a_model_that_changed_under_its_card_is_converted_anew(tmp_path: Path, kept: Path) -> None:
    card: dict[str, Any] = {"digest": "sha256:" + "0" * 64}
    directory = export_toy(tmp_path / "m", **card)
    assert tagged(Classifier(find_model(str(directory))), RED, BLUE) == ["red", "blue"]
    shutil.rmtree(directory)
    export_toy(directory, factor=-30.0, **card)
    assert tagged(Classifier(find_model(str(directory))), (255, 255, 0), (0, 255, 255)) == ["blue", "red"]
    assert conversions_in(kept) == [".json", ".tflite"]  # what was made of the old one is gone


def test_another_input_range_is_another_conversion(toy_model: Path, kept: Path) -> None:
    for value_range, red in (("0..1", 30.0), ("0..255", 7650.0)):
        model = find_model(str(toy_model), given={"input": {"range": value_range}})
        (row,) = Classifier(model, "litert").logits(np.full((1, 8, 8, 3), RED, np.uint8))
        np.testing.assert_allclose(row, [red, 0, 0], rtol=1e-5)
    assert conversions_in(kept) == [".json", ".json", ".tflite", ".tflite"]


def test_removing_a_model_removes_its_conversion(toy_model: Path, kept: Path) -> None:
    add_model("mine", find_model(str(toy_model)), "red\ngreen\nblue\n", link=False)
    for name in (str(toy_model), "mine"):
        Classifier(find_model(name))
    assert conversions_in(kept) == [".json", ".json", ".tflite", ".tflite"]
    remove_model("mine")
    assert conversions_in(kept) == [".json", ".tflite"]


# --- What LiteRT cannot do --------------------------------------------------------------------------------------------


def decoding(files: Any) -> Any:
    import tensorflow as tf

    decoded = tf.map_fn(lambda file: tf.io.decode_jpeg(file, channels=3), files, fn_output_signature=tf.uint8)
    return {"y": means(decoded, 0.1)}


def with_an_operation_of_tensorflow_alone(images: Any) -> Any:
    import tensorflow as tf

    return {"y": means(images) + tf.linalg.svd(images, compute_uv=False)[:, :1, 0]}


def at_random(images: Any) -> Any:
    import tensorflow as tf

    return {"y": means(images) + tf.random.uniform([3])}


@pytest.mark.parametrize(
    ("function", "spec", "facts", "reason"),
    [
        (decoding, ((None,), "string"), {"height": 8, "width": 8}, "it takes JPEG files"),
        (
            with_an_operation_of_tensorflow_alone,
            ((None, 8, 8, 3), "float32"),
            {"range": "0..1"},
            "its conversion failed",
        ),
        (at_random, ((None, 8, 8, 3), "float32"), {"range": "0..1"}, "LiteRT's scores differ from TensorFlow's by"),
    ],
)
def test_what_does_not_convert_or_differs_runs_in_tensorflow_and_is_said_once(
    tmp_path: Path, kept: Path, said: list[str], function: Any, spec: Any, facts: dict[str, Any], reason: str
) -> None:
    directory = export(tmp_path / "m", function, *spec)
    model = find_model(str(directory), labels=directory / "labels.txt", given={"input": facts})
    for _ in range(2):
        classifier = Classifier(model, on_event=noting(said))
        assert classifier.engine == "tensorflow"
        assert tagged(classifier, RED, GREEN, BLUE) == ["red", "green", "blue"]
    assert [line.partition(":")[0] for line in said] == [
        "Converting the model m for LiteRT",
        "The model m runs in TensorFlow",
    ]
    assert reason in said[1]
    assert conversions_in(kept) == [".json"]
    with pytest.raises(ModelError, match=rf"m cannot run in LiteRT: {reason}.*; leave out engine="):
        Classifier(model, "litert")


def test_scan_says_why_a_model_cannot_run_in_litert(tmp_path: Path, make_photo: MakePhoto) -> None:
    directory = export(tmp_path / "m", at_random)
    options = ["--model", directory, "--labels", directory / "labels.txt", "--input-range", "0..1"]
    result = phototag("scan", make_photo("a.jpg"), *options, "--engine", "litert")
    assert result.exit_code == 3
    assert "cannot run in LiteRT: LiteRT's scores differ" in result.stderr.splitlines()[-1]
    assert phototag("scan", make_photo("a.jpg"), *options).exit_code == 0


def test_a_gpu_that_tensorflow_saw_keeps_it(toy_model: Path, kept: Path) -> None:
    model = find_model(str(toy_model))
    Classifier(model)
    (verdict,) = kept.glob("*.json")
    verdict.write_text(json.dumps({**json.loads(verdict.read_text()), "gpu": True}))
    assert [Classifier(model, engine).engine for engine in ("auto", "litert")] == ["tensorflow", "litert"]


def test_without_litert_models_run_in_tensorflow(
    toy_model: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    assert Classifier(find_model(str(toy_model)), on_event=noting(said)).engine == "tensorflow"
    assert not said
    with pytest.raises(ModelError, match="pip install ai-edge-litert"):
        Classifier(find_model(str(toy_model)), "litert")


def test_where_nothing_can_be_kept_models_run_in_tensorflow(toy_model: Path, kept: Path, said: list[str]) -> None:
    kept.write_text("in the way")
    assert Classifier(find_model(str(toy_model)), on_event=noting(said)).engine == "tensorflow"
    assert len(said) == 1
    assert f"{kept} cannot be written" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize(("end", "lasting"), [("ABRT", True), ("KILL", False)])
def test_a_converter_that_dies_is_no_end_of_the_run(
    toy_model: Path, kept: Path, make_photo: MakePhoto, tmp_path: Path, end: str, lasting: bool
) -> None:
    """In a run that has not imported TensorFlow, whose converter crashes, or is killed for the memory it takes."""
    dying = tmp_path / "dying"
    dying.write_text(f"#!/bin/sh\nkill -{end} $$\n")
    dying.chmod(0o755)
    script = (
        f"import sys\nsys.executable = {str(dying)!r}\n"
        "from phototag import Classifier\n"
        f"print(Classifier.open({str(toy_model)!r}).engine)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("tensorflow\n", 0)
    assert conversions_in(kept) == ([".json"] if lasting else [])


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_named_from_the_converter_too(toy_model: Path, kept: Path) -> None:
    script = f"from phototag import Classifier\nClassifier.open({str(toy_model)!r})\n"
    broken = toy_model.parent / "broken"
    shutil.copytree(toy_model, broken, dirs_exist_ok=True)
    (broken / "variables/variables.index").write_bytes(b"no index")
    result = subprocess.run([sys.executable, "-c", script.replace(str(toy_model), str(broken))], capture_output=True)
    last = result.stderr.decode().splitlines()[-1]
    assert last.startswith(f"phototag.errors.NotASavedModel: {broken} cannot be loaded")
    assert conversions_in(kept) == []
