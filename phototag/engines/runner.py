"""Run a model on images in any engine, and check its input and output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phototag.errors import ModelError, OutOfMemory, SignatureMismatch
from phototag.images.preprocess import Preprocessing
from phototag.models.interface import Interface

Pixels = NDArray[np.uint8]


class Runner(ABC):
    """A model, loaded, with the facts about how to call and feed it. Many threads may run it at the same time."""

    # The errors of the engine when a model fails.
    _failures: tuple[type[Exception], ...]
    _memory_failures: tuple[type[Exception], ...] = (MemoryError,)
    _one_core_a_call: bool

    def __init__(self, directory: Path, interface: Interface, preprocessing: Preprocessing, batch: int | None) -> None:
        """`batch`: how many images `_infer` requires, or None for any number."""
        self._directory = directory
        self._interface = interface
        self._preprocessing = preprocessing
        self._batch = batch

    @property
    def by_image(self) -> bool:
        """Whether a call for one image keeps a core busy, so that each core should have a thread that calls.

        Otherwise one call for many images is faster.
        """
        return self._one_core_a_call and self._batch in (None, 1)

    def run(self, images: Pixels) -> NDArray[np.float32]:
        """Return the scores of `images`, float32 [N, classes]. Arguments and errors are those of `run_all`."""
        return self.scores(self.run_all(images))

    def run_all(self, images: Pixels) -> dict[str, NDArray[Any]]:
        """Return each output for `images` by its name, [N, ...] in its own shape. Floats come as float32.

        `images`: uint8 [N, height, width, 3] in RGB order, as `Preprocessing.prepare` makes them. N is at least 1.

        Raises `ValueError` for pixels of another shape or type. Raises `OutOfMemory` if a smaller batch may work, and
        `ModelError` if the model fails or gives values that are not finite.
        """
        outputs = self.run_unchecked(images)
        for name, values in outputs.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                given = "scores" if name == self._interface.output else name
                hint = "its input range may be wrong"
                raise ModelError(f"{self._directory} gave {given} that are not numbers (NaN or infinite); {hint}")
        return outputs

    def run_unchecked(self, images: Pixels) -> dict[str, NDArray[Any]]:
        """Return what `run_all` returns, but also values that are not finite. Other errors are the same.

        A detector may have such values in rows that only fill up.
        """
        directory, size = self._directory, (self._preprocessing.height, self._preprocessing.width, 3)
        # Wrong pixels may make an engine end the whole process.
        if images.ndim != 4 or images.shape[1:] != size or images.dtype != np.uint8 or not len(images):
            raise ValueError(f"images must be uint8 of shape (N, {', '.join(map(str, size))}), not {images.shape}")
        try:
            parts = [[_rows(given)[:count] for given in self._infer(part)] for part, count in self._batches(images)]
            outputs = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        except self._memory_failures as error:
            remedy = "make {batch_size} smaller"
            if len(images) == 1:
                remedy = "make {jobs} smaller" if self.by_image else "close other programs"
            count = f"{len(images)} images" if len(images) > 1 else "an image"
            raise OutOfMemory(f"{directory} needs more memory than there is for {count}", remedy) from error
        except self._failures as error:
            raise ModelError(f"{directory} failed on a batch of {len(images)} images: {first_line(error)}") from error
        interface = self._interface
        names = ("scores", *interface.also)
        checked = [self._checked(name, raw, len(images)) for name, raw in zip(names, outputs, strict=True)]
        return dict(zip((interface.output, *interface.also), checked, strict=True))

    def scores(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the scores, float32 [N, classes], among the `outputs` that `run_all` gave.

        Raises `SignatureMismatch` if the model gives none.
        """
        raw = outputs[self._interface.output]
        scores: NDArray[np.float32] = raw.reshape(len(raw), -1).astype(np.float32, copy=False)
        if not scores.shape[1]:
            raise SignatureMismatch(f"{self._directory} is not a classifier: it gives no scores")
        return scores

    def run_on_noise(self) -> NDArray[np.float32]:
        """Return the scores of `noise`: float32 [2, classes]."""
        return self.run(self.noise())

    def noise(self) -> Pixels:
        """Return two images of noise, the same at every call: uint8 [2, height, width, 3]."""
        size = (2, self._preprocessing.height, self._preprocessing.width, 3)
        return np.random.default_rng(0).integers(0, 256, size, np.uint8)

    @abstractmethod
    def _infer(self, images: Pixels) -> list[NDArray[Any]]:
        """Return the model's outputs for `images`, whose number is the required one: the scores, then the others."""

    def _checked(self, name: str, raw: NDArray[Any], images: int) -> NDArray[Any]:
        """Return the output `raw`, floats as float32. `name`: what it is, for errors."""
        if len(raw) != images:
            rows = f"{images} images gave {len(raw)} rows of {name}"
            raise SignatureMismatch(f"{self._directory} does not give a row for each image: {rows}")
        return raw.astype(np.float32, copy=False) if raw.dtype.kind == "f" else raw

    def _batches(self, images: Pixels) -> Iterator[tuple[Pixels, int]]:
        """Yield `images` in batches of the required size, each with its number of images. The last is filled up."""
        size = self._batch
        if size is None:
            yield images, len(images)
            return
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filling = np.repeat(part[-1:], size - len(part), axis=0)
            yield np.concatenate([part, filling]) if len(filling) else part, len(part)


def _rows(given: NDArray[Any]) -> NDArray[Any]:
    return given if given.ndim else given.reshape(1)


def is_distribution(raw: NDArray[np.float32]) -> bool:
    """Return whether each row of scores is a distribution: not negative, and adding up to 1."""
    return bool(raw.min() >= 0 and np.abs(raw.sum(axis=1) - 1).max() <= SUM_TOLERANCE)


# How far from 1 the probabilities of an image may add up. Those of float16 models get no closer.
SUM_TOLERANCE = 0.02


def first_line(error: Exception) -> str:
    """Return the line of an error's message that tells the cause, or the error's type if there is no message."""
    lines = [line.strip() for line in str(getattr(error, "message", "") or error).splitlines() if line.strip()]
    # TensorFlow writes "Graph execution error:", then the place, then the cause.
    noise = ("Detected at", "File ", "<stack traces unavailable>")
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(noise)]
    return (telling or lines or [type(error).__name__])[0][:300]
