"""Write a network as a SavedModel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from phototag.engines._tensorflow import import_tensorflow
from phototag.errors import ModelError


def save_model(
    function: Callable[[Any], dict[str, Any]], variables: Sequence[Any], directory: Path, *, image_size: int
) -> None:
    """Write `function` and the `variables` it uses into `directory`.

    The signature `serving_default` takes `images`, float32 [N, image_size, image_size, 3], and gives the results of
    `function` under their names.

    Raises `ModelError` if the directory cannot be written.
    """
    tf = import_tensorflow()
    module = tf.Module()
    module.variables_of_the_network = list(variables)
    images = tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name="images")
    serve = tf.function(function, input_signature=[images])
    try:
        tf.saved_model.save(module, str(directory), signatures=serve)
    except tf.errors.OpError as error:  # TensorFlow's error if the disk is full
        reason = str(error.message).splitlines()[0]
        raise ModelError(
            f"a SavedModel cannot be written into {directory} ({reason}); make room on the disk"
        ) from error
