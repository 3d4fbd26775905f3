"""Convert a SavedModel for LiteRT, and check the result against TensorFlow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phototag.engines._tensorflow import import_tensorflow, native_stderr_silenced
from phototag.engines.litert_runner import Conversion, LiteRTRunner
from phototag.engines.runner import Pixels, Runner, first_line
from phototag.engines.tensorflow_runner import TensorFlowRunner
from phototag.errors import ModelError
from phototag.images.preprocess import Preprocessing
from phototag.models.detector import LEAST_SCORE, columns, fits, gives_boxes
from phototag.models.interface import Interface

# What a runner gives for images, by output.
Outputs: TypeAlias = Mapping[str, NDArray[Any]]

# How far values may be from TensorFlow's, as a share of the largest value. Float32 arithmetic in another order causes a
# share of 0.00001. A wrongly converted layer causes far more.
TOLERANCE = 1e-4
# How far the scores of boxes, 0 to 1, and their edges, as fractions of the image, may be from TensorFlow's. CenterNet's
# scores differ by up to .0024.
SCORE_TOLERANCE = 0.005
EDGE_TOLERANCE = 0.01
MOST_COMPARED = 1000  # boxes for an image. Each is compared with all others, and detectors give some hundred at most


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
        if gives_boxes(interface):
            difference = _difference_of_boxes(reference, converted, images)
        else:
            difference = _difference(reference, converted, images, interface.also)
    except ModelError as error:
        return Conversion(None, f"it cannot be checked: {error.what}", gpu)
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


def _difference(reference: Runner, converted: Runner, images: Pixels, also: Sequence[str]) -> str | None:
    theirs, ours = (_outputs(runner, images) for runner in (reference, converted))
    difference = disagreement(reference.scores(theirs), converted.scores(ours))
    for name in also:
        difference = difference or disagreement_of_output(name, theirs[name], ours[name])
    return difference


def _difference_of_boxes(reference: Runner, converted: Runner, images: Pixels) -> str | None:
    height, width = images.shape[1:3]
    for image in images:  # one at a time, because each may give another number of boxes
        theirs, ours = (runner.run_all(image[None]) for runner in (reference, converted))
        difference = disagreement_of_boxes(theirs, ours, width, height)
        if difference is not None:
            return difference
    return None


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


def disagreement_of_boxes(theirs: Outputs, ours: Outputs, width: int, height: int) -> str | None:
    """Return how LiteRT's boxes for some images, `ours`, differ from TensorFlow's; None if they agree.

    Both are the outputs of an object detector by name. Their order does not matter, because equal scores come in any
    order. Neither do boxes with a score below `LEAST_SCORE`, which are not kept. `width` and `height`: pixels of the
    images.
    """
    for name, values in theirs.items():
        if not (fits(name, values.shape) and fits(name, ours[name].shape)):
            return f"its output {name} has the shape {values.shape}"
    try:
        by_column = (*columns(theirs, width, height), *columns(ours, width, height))
    except ValueError as error:
        return str(error)
    for rows in zip(*by_column, strict=True):
        one, other = _Boxes(*rows[:3]), _Boxes(*rows[3:])
        difference = abs(one.best - other.best)
        if difference > SCORE_TOLERANCE:
            return f"LiteRT's best score of a box differs from TensorFlow's by {difference:.2g}"
        one, other = one.likely(), other.likely()
        if max(len(one.scores), len(other.scores)) > MOST_COMPARED:
            return f"it gives more than {MOST_COMPARED:,} boxes for an image, too many to compare"
        if not (one.are_in(other) and other.are_in(one)):
            return "LiteRT finds other boxes than TensorFlow"
    return None


class _Boxes(NamedTuple):
    """The boxes of one image: edges [M, 4] as fractions, scores [M], and numbers of the kinds [M]."""

    edges: NDArray[np.float64]
    scores: NDArray[np.float64]
    kinds: NDArray[np.float64]

    @property
    def best(self) -> float:
        return float(self.scores.max(initial=0))

    def likely(self) -> _Boxes:
        """Return the boxes that may be kept."""
        rows = self.scores >= LEAST_SCORE
        return _Boxes(self.edges[rows], self.scores[rows], self.kinds[rows])

    def are_in(self, other: _Boxes) -> bool:
        """Return whether each box that is surely kept has a box like it in `other`."""
        kept = np.flatnonzero(self.scores >= LEAST_SCORE + SCORE_TOLERANCE)
        return all(self._is_in(int(number), other) for number in kept)

    def _is_in(self, number: int, other: _Boxes) -> bool:
        alike = np.abs(other.scores - self.scores[number]) <= SCORE_TOLERANCE
        alike &= np.rint(other.kinds) == np.rint(self.kinds[number])
        alike &= np.abs(other.edges - self.edges[number]).max(axis=1) <= EDGE_TOLERANCE
        return bool(alike.any())
