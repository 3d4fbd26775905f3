"""Export the classifiers of keras.applications as SavedModels."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from phototag.engines._tensorflow import import_tensorflow
from phototag.errors import ModelError
from phototag.zoo.export import save_model


def export_keras_application(
    function: str, image_size: int, directory: Path, *, weights: str | None = "imagenet"
) -> None:
    """Write `keras.applications.<function>` for `image_size` pixels into `directory` as a SavedModel.

    The signature `serving_default` takes float32 [N, size, size, 3] and gives probabilities, float32 [N, 1000]. If
    `weights` is None they are random, and nothing is downloaded.

    Raises `ModelError` if the weights cannot be downloaded.
    """
    tf = import_tensorflow()
    make = getattr(tf.keras.applications, function)
    try:
        # Keras shows the progress of its download on stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            model = make(weights=weights, input_shape=(image_size, image_size, 3))
    # Keras raises a bare Exception if a download fails.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"the weights of {function} cannot be downloaded ({reason}); they need the network once"
        ) from error
    variables = [variable.value for variable in model.variables]
    # `Model.export` would store every weight twice and call the output "output_0".
    save_model(
        lambda images: {"probabilities": model(images, training=False)},
        variables,
        directory,
        image_size=image_size,
    )
