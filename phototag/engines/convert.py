"""Convert a SavedModel for LiteRT, and check the result against TensorFlow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phototag.engines._tensorflow import import_tensorflow, native_stderr_silenced
from phototag.engines.litert_runner import Conversion, LiteRTRunner
from phototag.engines.runner import Pixels, Runner, first_line
from phototag.engines.tensorflow_runner import TensorFlowRunner
from phototag.errors import ModelError
from phototag.images.preprocess import Preprocessing
from phototag.models.interface import Interface

# How far values may be from TensorFlow's, as a share of the largest value. Float32 arithmetic in another order causes a
# share of 0.00001. A wrongly converted layer causes far more.
TOLERANCE = 1e-4


def convert(directory: Path, interface: Interface, preprocessing: Preprocessing) -> Conversion:
    """Convert the SavedModel in `directory`, and compare the outputs of both engines for images of many kinds.

    Raises `ModelError` if TensorFlow cannot be imported or cannot load the SavedModel.
    """
    tf = import_tensorflow()
    gpu = bool(tf.config.list_physical_devices("GPU"))
    if interface.dtype == "string":
        return Conversion(None, "it takes JPEG files, which LiteRT does not decode", gpu)
    reference = TensorFlowRunner(directory, interface, preprocessing)
    try:
        with native_stderr_silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = _converted(tf, reference, interface)
            converted = LiteRTRunner(directory, interface, preprocessing, content)
    # The converter, the tracer and the compiler in native code get arbitrary graphs. Their exceptions are undocumented.
    except Exception as error:  # noqa: BLE001
        return Conversion(None, f"its conversion failed ({first_line(error)})", gpu)
    images = test_images(preprocessing.height, preprocessing.width)
    try:
        theirs, ours = (_outputs(runner, images) for runner in (reference, converted))
        difference = disagreement(reference.scores(theirs), converted.scores(ours))
    except ModelError as error:
        return Conversion(None, f"it cannot be checked: {error.what}", gpu)
    for name in interface.also:
        difference = difference or disagreement_of_output(name, theirs[name], ours[name])
    return Conversion(None, difference, gpu) if difference else Conversion(content, None, gpu)


def _converted(tf: Any, reference: TensorFlowRunner, interface: Interface) -> bytes:
    """Return the flatbuffer of a graph of fixed size."""
    # By default it takes LiteRT's own operations alone: without TensorFlow, and without access to files.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([reference.trace(interface.batch or 1)], reference)
    content: bytes = bytes(converter.convert())
    return content


def test_images(height: int, width: int) -> Pixels:
    """Return images of noise, and images with the features of photos: areas, edges, gradients, shapes of all sizes.

    They are the same at every call: uint8 [16, height, width, 3].
    """
    random = np.random.default_rng(0)

    def blobs(side: int) -> Pixels:
        few = random.integers(0, 256, (side, side, 3), np.uint8)
        return np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC))

    down, right = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    ramps = (
        (right, down, 1 - right),
        (down, down, down),
        (np.hypot(right - 0.5, down - 0.5), 1 - right, 1 - down),
        (np.sin(right * 40) / 2 + 0.5, down, right),
        (right > 0.5, down > 0.5, (right > 0.5) ^ (down > 0.5)),
    )
    images = [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2)]
    images += [blobs(side) for side in (2, 3, 4, 6, 8, 16, 32)]
    images += [np.stack([np.asarray(part * 255, np.uint8) for part in ramp], axis=-1) for ramp in ramps]
    images += [np.full((height, width, 3), value, np.uint8) for value in (0, 255)]
    return np.stack(images)


def _outputs(runner: Runner, images: Pixels) -> dict[str, NDArray[Any]]:
    """Return the outputs for `images`, run four at a time because some models take a lot of memory for each."""
    parts = [runner.run_all(images[start : start + 4]) for start in range(0, len(images), 4)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def disagreement(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> str | None:
    """Return how LiteRT's scores, `ours`, differ from TensorFlow's, both [N, classes]; None if they agree."""
    if theirs.shape != ours.shape:
        return f"LiteRT gives {ours.shape[1]} scores and TensorFlow {theirs.shape[1]}"
    largest = np.abs(theirs).max(axis=1)
    difference = float(np.abs(theirs.astype(np.float64) - ours).max())
    if difference > TOLERANCE * float(largest.max()):
        return f"LiteRT's scores differ from TensorFlow's by up to {difference:.2g}"
    chosen = theirs[np.arange(len(theirs)), ours.argmax(axis=1)]
    if (chosen < theirs.max(axis=1) - TOLERANCE * largest).any():
        return "LiteRT's first guess is not always TensorFlow's"
    return None


def disagreement_of_output(name: str, theirs: NDArray[Any], ours: NDArray[Any]) -> str | None:
    """Return how LiteRT's output `name`, `ours`, differs from TensorFlow's, both [N, ...]; None if they agree.

    Values of 0 to 1 may be probabilities. These may differ by `TOLERANCE` however small they are.
    """
    if theirs.shape != ours.shape:
        return f"LiteRT gives {name} of shape {ours.shape} and TensorFlow {theirs.shape}"
    wanted = theirs.astype(np.float64)
    largest = 1.0 if wanted.min(initial=0) >= 0 and wanted.max(initial=0) <= 1 else float(np.abs(wanted).max())
    difference = float(np.abs(wanted - ours).max(initial=0))
    if difference > TOLERANCE * largest:
        return f"LiteRT's {name} differ from TensorFlow's by up to {difference:.2g}"
    return None
