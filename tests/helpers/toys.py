"""Toy models that can be computed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag import Classifier

TOY_CARD: dict[str, Any] = {
    "name": "toy",
    "input": {"range": "0..1"},
    "output": {"scores": "logits"},
    "labels": "labels.txt",
}
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def export_toy(
    directory: Path,
    *,
    factor: float = 30.0,
    classes: int = 3,
    labels: str = "red\ngreen\nblue\n",
    bare: bool = False,
    **card: Any,
) -> Path:
    """Export a SavedModel whose logits are `factor` times the mean of each colour channel, which is 0 to 1.

    `bare`: without card and labels.
    """
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    images = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")

    def serve(images: Any) -> Any:
        return {"logits": tf.reduce_mean(images, axis=[1, 2])[:, :classes] * factor}

    tf.saved_model.save(module, str(directory), signatures=tf.function(serve, input_signature=[images]))
    if not bare:
        (directory / "labels.txt").write_text(labels)
        (directory / "phototag.json").write_text(json.dumps({**TOY_CARD, **card}))
    return directory


def export(
    directory: Path,
    function: Callable[[Any], Any],
    shape: tuple[int | None, ...] = (None, 8, 8, 3),
    dtype: str = "float32",
    key: str = "serving_default",
    labels: str = "red\ngreen\nblue\n",
    **more: Callable[[Any], Any],
) -> Path:
    """Export `function` of an image tensor as a signature, and `more` functions as others. Put labels beside it."""
    import tensorflow as tf

    spec = tf.TensorSpec(shape, dtype, name="images")
    signatures = {name: tf.function(f, input_signature=[spec]) for name, f in {key: function, **more}.items()}
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)
    (directory / "labels.txt").write_text(labels)
    return directory


def means(images: Any, factor: float = 30.0) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2]) * factor


def tagged(classifier: Classifier, *colours: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> list[str]:
    images = np.stack([np.full((*size, 3), colour, np.uint8) for colour in colours])
    return [classifier.labels[number].name for number in classifier.predict(images).argmax(axis=1)]


def export_detector(
    directory: Path,
    *,
    form: str = "api",
    side: int | None = 32,
    dtype: str = "uint8",
    batch: int | None = 1,
    kind: float | None = None,
    **outputs: Callable[[Any], Any] | None,
) -> Path:
    """Export an object detector: it finds the rectangle around all red pixels, and the one around all green pixels.

    The score of a rectangle is the share of it that is filled, and 0 if there are no such pixels. `form`: the outputs
    of TensorFlow's Object Detection API (`api`) or CenterNet's (`centernet`). Red is a person, green a bicycle; all are
    of `kind` if that is given. `outputs` replace outputs by functions of them all; None leaves an output out.
    """
    import tensorflow as tf

    def box(mask: Any) -> tuple[Any, Any]:
        rows, columns = tf.reduce_any(mask, axis=2), tf.reduce_any(mask, axis=1)
        (top, bottom), (left, right) = _span(rows), _span(columns)
        area = tf.maximum((bottom - top) * (right - left), 1.0)
        score = tf.reduce_sum(tf.cast(mask, tf.float32), axis=[1, 2]) / area
        return tf.stack([top, left, bottom, right], axis=1), score

    def serve(images: Any) -> dict[str, Any]:
        pixels = tf.cast(images, tf.float32)
        size = tf.cast(tf.shape(pixels)[1:3], tf.float32)
        red, green, blue = (pixels[..., channel] for channel in range(3))
        found = [box((red > 128) & (green < 128) & (blue < 128)), box((green > 128) & (red < 128) & (blue < 128))]
        boxes, scores = tf.stack([one for one, _ in found], axis=1), tf.stack([score for _, score in found], axis=1)
        classes = tf.zeros_like(scores) + tf.constant([0.0, 1.0])
        if form == "centernet":
            classes = classes if kind is None else tf.zeros_like(classes) + kind
            edges = tf.gather(boxes, [1, 0, 3, 2], axis=2)
            given = {"detections": tf.concat([edges, scores[..., None], classes[..., None]], axis=2)}
        else:
            given = {
                "detection_boxes": boxes / tf.concat([size, size], axis=0),
                "detection_classes": classes + 1 if kind is None else tf.zeros_like(classes) + kind,
                "detection_scores": scores,
                "num_detections": tf.zeros_like(scores[:, 0]) + 2,
            }
        replaced = {name: function(given) for name, function in outputs.items() if function is not None}
        return {name: value for name, value in {**given, **replaced}.items() if outputs.get(name, ...) is not None}

    spec = tf.TensorSpec([batch, side, side, 3], dtype, name="input_tensor")
    tf.saved_model.save(tf.Module(), str(directory), signatures=tf.function(serve, input_signature=[spec]))
    return directory


def _span(filled: Any) -> tuple[Any, Any]:
    """Return the first and the end of the True values in each row of `filled`, [N, size]; twice 0 if there are none."""
    import tensorflow as tf

    size = tf.shape(filled)[1]
    places = tf.range(size)[None]
    end = tf.reduce_max(tf.where(filled, places + 1, 0), axis=1)
    first = tf.minimum(tf.reduce_min(tf.where(filled, places, size), axis=1), end)
    return tf.cast(first, tf.float32), tf.cast(end, tf.float32)
