"""Load a SavedModel and run it on images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phototag.classifier._tensorflow import import_tensorflow
from phototag.endpoint import Endpoint, refused_ops
from phototag.errors import ModelError, NotASavedModel, SignatureMismatch
from phototag.preprocessing import Preprocessing
from phototag.saved_model import choose_meta_graph, read_saved_model

# Of the JPEG files that models with string inputs get; at 95 their artefacts do not change what is seen.
JPEG_QUALITY = 95

Pixels = NDArray[np.uint8]


class Runner:
    """A SavedModel, loaded, with what is known of how to call and feed it.

    Raises `NotASavedModel` where the directory cannot be loaded, `SignatureMismatch` where it cannot be called so.
    """

    def __init__(self, directory: Path, endpoint: Endpoint, preprocessing: Preprocessing) -> None:
        _check_harmless(directory, endpoint)
        self._tensorflow = import_tensorflow()
        self._directory = directory
        self._endpoint = endpoint
        self._preprocessing = preprocessing
        self._call = self._load()

    def run(self, images: Pixels) -> NDArray[np.float32]:
        """Return what the model gives for `images`, float32 [N, classes].

        `images`: uint8 [N, height, width, 3] in RGB order, as `Preprocessing.prepare` makes them; N at least 1.

        Raises `ValueError` for pixels of another shape or type, `ModelError` where the model fails or gives no numbers.
        """
        directory, size = self._directory, (self._preprocessing.height, self._preprocessing.width, 3)
        # TensorFlow would end the whole process on some of them.
        if images.ndim != 4 or images.shape[1:] != size or images.dtype != np.uint8 or not len(images):
            raise ValueError(f"images must be uint8 of shape (N, {', '.join(map(str, size))}), not {images.shape}")
        try:
            parts = [self._call(self._tensor(part)).numpy()[:count] for part, count in self._batches(images)]
        except (self._tensorflow.errors.OpError, TypeError, ValueError, KeyError) as error:
            raise ModelError(f"{directory} failed on a batch of {len(images)} images: {first_line(error)}") from error
        raw = np.concatenate([part.reshape(len(part), -1) if part.ndim else part.reshape(1, 1) for part in parts])
        if len(raw) != len(images):
            rows = f"{len(images)} images gave {len(raw)} rows of scores"
            raise SignatureMismatch(f"{directory} is no classifier: {rows}")
        scores: NDArray[np.float32] = raw.astype(np.float32)
        if not np.isfinite(scores).all():
            hint = "its input range may be wrong"
            raise ModelError(f"{directory} gave scores that are no numbers (NaN or infinite); {hint}")
        return scores

    def run_on_noise(self) -> NDArray[np.float32]:
        """Return what the model gives for two images of noise, the same at every call: float32 [2, classes]."""
        size = (2, self._preprocessing.height, self._preprocessing.width, 3)
        return self.run(np.random.default_rng(0).integers(0, 256, size, np.uint8))

    def _load(self) -> Callable[[Any], Any]:
        """Load the SavedModel and return the function from its input tensor to its output tensor."""
        directory, endpoint = self._directory, self._endpoint
        try:
            loaded = self._tensorflow.saved_model.load(str(directory), tags=list(endpoint.tag_set))
        # TensorFlow reports a damaged SavedModel by whatever its parsers raise: OSError, ValueError, OpError, ...
        except Exception as error:
            raise NotASavedModel(f"{directory} cannot be loaded ({first_line(error)}); export it again") from error
        self._owner = loaded  # of the variables: without it they would be freed
        if endpoint.signature is not None:
            signature = loaded.signatures.get(endpoint.signature)
            if signature is None or endpoint.output not in signature.structured_outputs:
                raise SignatureMismatch(f"{directory} has no signature {endpoint.signature!r} that can be called")
            return lambda tensor: signature(**{endpoint.input: tensor})[endpoint.output]
        try:
            function = loaded.prune(endpoint.input, endpoint.output)
        except (AttributeError, ValueError, KeyError) as error:
            raise SignatureMismatch(
                f"{directory} cannot be run from {endpoint.input} to {endpoint.output} ({first_line(error)}); "
                "choose others with --input-op and --output-op"
            ) from error
        return lambda tensor: function(tensor)

    def _batches(self, images: Pixels) -> Iterator[tuple[Pixels, int]]:
        """`images` in batches of the size that the model insists on, the last one filled up; and how many count."""
        size = self._endpoint.batch
        if size is None:
            yield images, len(images)
            return
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filling = np.repeat(part[-1:], size - len(part), axis=0)
            yield np.concatenate([part, filling]), len(part)

    def _tensor(self, images: Pixels) -> Any:
        """`images` as the model's input tensor."""
        if self._endpoint.dtype == "string":
            return self._tensorflow.constant([_jpeg(image) for image in images])
        return self._tensorflow.cast(self._preprocessing.normalise(images), self._endpoint.dtype)


def is_distribution(raw: NDArray[np.float32]) -> bool:
    """Say whether each row of scores is one of probabilities: not negative, and adding up to 1."""
    return bool(raw.min() >= 0 and np.abs(raw.sum(axis=1) - 1).max() <= SUM_TOLERANCE)


# How far from 1 the scores of an image may add up and still be probabilities: those of float16 models do not do better.
SUM_TOLERANCE = 0.02


def first_line(error: Exception) -> str:
    """Return the line of an error's message that says what is wrong, or its kind where it has none."""
    lines = [line.strip() for line in str(getattr(error, "message", "") or error).splitlines() if line.strip()]
    # "Graph execution error:" and then, after where it was, what it was.
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(("Detected at", "File "))]
    return (telling or lines or [type(error).__name__])[0][:300]


def _check_harmless(directory: Path, endpoint: Endpoint) -> None:
    graph = choose_meta_graph(read_saved_model(directory), endpoint.tag_set, directory)
    refused = refused_ops(graph, endpoint)
    if refused:
        raise ModelError(f"{directory} has the operations {', '.join(sorted(refused))}, which phototag does not run")


def _jpeg(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
