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
