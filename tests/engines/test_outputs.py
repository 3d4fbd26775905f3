"""One pass of a network gives several outputs, the same in LiteRT and TensorFlow, each under its own name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.core import EngineChosen, WorkEvent, ignore
from phototag.engines.convert import disagreement_of_output
from phototag.engines.load import _Kept, open_runner
from phototag.engines.runner import Runner
from phototag.errors import ModelError, SignatureMismatch
from phototag.models.find import Model, find_model
from tests.helpers.toys import BLUE, RED, export, means


def several(images: Any) -> dict[str, Any]:
    """Outputs of the same shape, so that only their names tell them apart, and others of other shapes."""
    import tensorflow as tf

    of_colours = means(images, 1.0)
    return {
        "y": of_colours * 30.0,
        "a": of_colours * 2.0,
        "z/last": of_colours * 3.0,
        "boxes": tf.stack([of_colours, of_colours * 4.0], axis=1),
        "best": tf.argmax(of_colours, axis=1),
        "one": of_colours[:, 0],
    }


ALSO = ("z/last", "boxes", "a", "best", "one")


def model_with(directory: Path, also: tuple[str, ...], function: Callable[[Any], Any] = several, **more: Any) -> Model:
    export(directory, function, **more)
    facts = {"input": {"range": "0..1"}, "output": {"name": "y", "scores": "logits"}}
    model = find_model(str(directory), labels=directory / "labels.txt", given=facts)
    return replace(model, interface=replace(model.interface, also=also))


def open_in(engine: Any, model: Model) -> Runner:
    return open_runner(model, engine, ignore, 1)


@pytest.mark.parametrize("engine", ["litert", "tensorflow"])
@pytest.mark.parametrize("batch", [None, 2])
def test_every_output_comes_under_its_name_in_its_own_shape(tmp_path: Path, engine: str, batch: int | None) -> None:
    runner = open_in(engine, model_with(tmp_path / "m", ALSO, shape=(batch, 8, 8, 3)))
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    of_colours = images.mean(axis=(1, 2)) / 255
    outputs = runner.run_all(images)
    assert list(outputs) == ["y", *ALSO]
    expected = {"y": of_colours * 30, "z/last": of_colours * 3, "a": of_colours * 2, "one": of_colours[:, 0]}
    expected["boxes"] = np.stack([of_colours, of_colours * 4], axis=1)
    for name, values in expected.items():
        assert outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], values, rtol=1e-4, err_msg=name)
    np.testing.assert_array_equal(outputs["best"], of_colours.argmax(axis=1))
    np.testing.assert_array_equal(runner.run(images), outputs["y"])


def test_the_other_outputs_change_no_digest_but_make_another_conversion(tmp_path: Path) -> None:
    model = model_with(tmp_path / "m", ("a",))
    alone = replace(model, interface=replace(model.interface, also=()))
    other = replace(model, interface=replace(model.interface, also=("boxes",)))
    assert model.interface.canonical() == alone.interface.canonical()
    assert len({_Kept.of(each).key for each in (model, alone, other)}) == 3
    images = np.full((1, 8, 8, 3), RED, np.uint8)
    assert [list(open_in("litert", each).run_all(images)) for each in (model, alone, other)] == [
        ["y", "a"],
        ["y"],
        ["y", "boxes"],
    ]


@pytest.mark.slow
def test_a_converter_in_another_process_gives_all_outputs(tmp_path: Path) -> None:
    model_with(tmp_path / "m", ALSO)
    script = f"""
import sys
from pathlib import Path
import numpy as np
from tests.engines.test_outputs import ALSO, find_model, ignore, open_runner, replace
directory = Path({str(tmp_path / "m")!r})
facts = {{"input": {{"range": "0..1"}}, "output": {{"name": "y", "scores": "logits"}}}}
model = find_model(str(directory), labels=directory / "labels.txt", given=facts)
model = replace(model, interface=replace(model.interface, also=ALSO))
outputs = open_runner(model, "litert", ignore, 1).run_all(np.full((1, 8, 8, 3), {BLUE!r}, np.uint8))
print(list(outputs) == ["y", *ALSO], int(outputs["best"][0]), "tensorflow" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "True 2 False\n", result.stderr


def test_an_output_that_differs_in_litert_is_named(tmp_path: Path) -> None:
    def at_random(images: Any) -> dict[str, Any]:
        import tensorflow as tf

        return {"y": means(images), "dice": tf.random.uniform([tf.shape(images)[0], 4])}

    told: list[WorkEvent] = []
    model = model_with(tmp_path / "m", ("dice",), at_random)
    open_runner(model, "auto", told.append, 1)
    (chosen,) = (event for event in told if isinstance(event, EngineChosen))
    assert chosen.reason.startswith("LiteRT's dice differ from TensorFlow's by up to 0.")


def test_outputs_agree_by_their_own_size() -> None:
    probabilities, large = np.array([[0.001, 0.0]]), np.array([[100.0, -300.0]])
    assert disagreement_of_output("words", probabilities, probabilities + 9e-5) is None
    assert disagreement_of_output("words", probabilities, probabilities + 2e-4) is not None
    assert disagreement_of_output("look", large, large + 0.02) is None
    assert disagreement_of_output("look", large, large + 0.04) == "LiteRT's look differ from TensorFlow's by up to 0.04"
    assert disagreement_of_output("look", large, large[:, :1]) is not None


@pytest.mark.parametrize("engine", ["litert", "tensorflow"])
def test_an_output_that_is_not_finite_is_named(tmp_path: Path, engine: str) -> None:
    def infinite(images: Any) -> dict[str, Any]:
        import tensorflow as tf

        red, green, _ = tf.unstack(means(images, 1.0), axis=-1)
        return {"y": means(images), "a": tf.math.log(1.0 - red + green)}

    runner = open_in(engine, model_with(tmp_path / "m", ("a",), infinite))
    assert np.isfinite(runner.run_all(np.full((1, 8, 8, 3), 9, np.uint8))["a"]).all()
    with pytest.raises(ModelError, match="gave a that are not numbers"):
        runner.run_all(np.full((1, 8, 8, 3), RED, np.uint8))


def test_an_output_without_a_row_for_each_image_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    one = tf.constant([[1.0, 2.0]])
    model = model_with(tmp_path / "m", ("a",), lambda images: {"y": means(images), "a": tf.identity(one)})
    images = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(SignatureMismatch, match="does not give a row for each image: 3 images gave 1 rows of a"):
        open_in("tensorflow", model).run_all(images)


def test_a_failure_inside_the_graph_names_its_cause(tmp_path: Path) -> None:
    import tensorflow as tf

    def fails(images: Any) -> dict[str, Any]:
        size = tf.cast(tf.reduce_max(tf.cast(images, tf.float32)), tf.int32) + 7  # known only when the graph runs
        return {"y": means(images), "a": tf.reshape(means(images), [size])}

    with pytest.raises(ModelError, match="failed on a batch of 1 images: Input to reshape is a tensor with 3 values"):
        open_in("tensorflow", model_with(tmp_path / "m", ("a",), fails)).run_all(np.zeros((1, 8, 8, 3), np.uint8))


def test_an_output_that_the_signature_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SignatureMismatch, match="has no signature 'serving_default' that can be called"):
        open_in("tensorflow", model_with(tmp_path / "m", ("nothing",)))


def test_operations_behind_every_output_are_looked_at(tmp_path: Path) -> None:
    def saving(images: Any) -> dict[str, Any]:
        import tensorflow as tf

        with tf.control_dependencies([tf.raw_ops.Save(filename="f", tensor_names=["t"], data=[images])]):
            return {"y": means(images), "a": tf.identity(means(images))}

    with pytest.raises(ModelError, match="has the operations Save, which phototag does not run"):
        open_in("tensorflow", model_with(tmp_path / "m", ("a",), saving))
