"""Run a model on images, whatever engine runs it: what goes in is checked, and what comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phototag.errors import ModelError, OutOfMemory, SignatureMismatch
from phototag.images.preprocess import Preprocessing
from phototag.models.interface import Interface

Pixels = NDArray[np.uint8]


class Runner(ABC):
    """A model, loaded, with what is known of how to call and feed it. Many threads may run it at the same time."""

    # What the engine raises where a model fails.
    _failures: tuple[type[Exception], ...]
    _memory_failures: tuple[type[Exception], ...] = (MemoryError,)
    _one_core_a_call: bool

    def __init__(self, directory: Path, interface: Interface, preprocessing: Preprocessing, batch: int | None) -> None:
        """`batch`: how many images `_infer` insists on, None for any number."""
        self._directory = directory
        self._interface = interface
        self._preprocessing = preprocessing
        self._batch = batch

    @property
    def by_image(self) -> bool:
        """Does a call for one image keep a core busy, so that as many threads as there are cores had better call it?

        Else one call for many images is faster.
        """
        return self._one_core_a_call and self._batch in (None, 1)

    def run(self, images: Pixels) -> NDArray[np.float32]:
        """Return what the model gives for `images`, float32 [N, classes].

        `images`: uint8 [N, height, width, 3] in RGB order, as `Preprocessing.prepare` makes them; N at least 1.

        Raises `ValueError` for pixels of another shape or type, `OutOfMemory` where a smaller batch may do,
        `ModelError` where the model fails or gives no numbers.
        """
        directory, size = self._directory, (self._preprocessing.height, self._preprocessing.width, 3)
        # An engine may end the whole process on some of them.
        if images.ndim != 4 or images.shape[1:] != size or images.dtype != np.uint8 or not len(images):
            raise ValueError(f"images must be uint8 of shape (N, {', '.join(map(str, size))}), not {images.shape}")
        try:
            parts = [self._infer(part)[:count] for part, count in self._batches(images)]
        except self._memory_failures as error:
            remedy = "make {batch_size} smaller"
            if len(images) == 1:
                remedy = "make {jobs} smaller" if self.by_image else "close other programs"
            count = f"{len(images)} images" if len(images) > 1 else "an image"
            raise OutOfMemory(f"{directory} needs more memory than there is for {count}", remedy) from error
        except self._failures as error:
            raise ModelError(f"{directory} failed on a batch of {len(images)} images: {first_line(error)}") from error
        raw = np.concatenate([part.reshape(len(part), -1) if part.ndim else part.reshape(1, 1) for part in parts])
        if len(raw) != len(images):
            rows = f"{len(images)} images gave {len(raw)} rows of scores"
            raise SignatureMismatch(f"{directory} is not a classifier: {rows}")
        scores: NDArray[np.float32] = raw.astype(np.float32)
        if not np.isfinite(scores).all():
            hint = "its input range may be wrong"
            raise ModelError(f"{directory} gave scores that are no numbers (NaN or infinite); {hint}")
        return scores

    def run_on_noise(self) -> NDArray[np.float32]:
        """Return what the model gives for two images of noise, the same at every call: float32 [2, classes]."""
        size = (2, self._preprocessing.height, self._preprocessing.width, 3)
        return self.run(np.random.default_rng(0).integers(0, 256, size, np.uint8))

    @abstractmethod
    def _infer(self, images: Pixels) -> NDArray[Any]:
        """What the model gives for `images`, of which there are as many as it insists on."""

    def _batches(self, images: Pixels) -> Iterator[tuple[Pixels, int]]:
        """`images` in batches of the size that is insisted on, the last one filled up; and how many count."""
        size = self._batch
        if size is None:
            yield images, len(images)
            return
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filling = np.repeat(part[-1:], size - len(part), axis=0)
            yield np.concatenate([part, filling]) if len(filling) else part, len(part)


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
