"""Run a model. This package is the only part of phototag that imports TensorFlow or LiteRT, when they are needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phototag.core import Label, OnWorkEvent, Prediction, ignore
from phototag.engines.litert_runner import LiteRTRunner
from phototag.engines.load import Engine, open_runner
from phototag.engines.runner import SUM_TOLERANCE, Pixels, is_distribution
from phototag.errors import SignatureMismatch
from phototag.images.decode import prepare_photo
from phototag.images.preprocess import Preprocessing
from phototag.models.find import Model, check_classes
from phototag.models.interface import Interface


class Classifier:
    """A model, loaded and ready. Takes images and gives probabilities. Many threads may use it at the same time.

    `engine` is what runs it: `tensorflow`, which takes some seconds to
    import; `litert`, for which the SavedModel is converted the first time, checked against TensorFlow, and kept in the
    data directory; or `auto`, LiteRT unless the model cannot be converted, the scores differ, or TensorFlow sees a GPU.
    The scores are the same. LiteRT works on one core for each thread that calls it; TensorFlow on all of them, but for
    several `callers`, the threads that will call at the same time, on one for each too, where it has not been used
    before. `on_event` is called before a conversion, and after one that failed.

    Raises `NotASavedModel` where the directory cannot be loaded, `SignatureMismatch` where the SavedModel takes or
    gives something else than is known of it, `LabelMismatch` where it has more or fewer classes than labels,
    `ModelError` where it cannot run in LiteRT and has to.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine = "auto",
        on_event: OnWorkEvent = ignore,
        callers: int = 1,
    ) -> None:
        self._model = model
        self._runner = open_runner(model, engine, on_event, callers)
        self._scores = model.card.output.scores or self._measure_scores()

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label of each class, in the order of the scores."""
        return self._model.labels

    @property
    def engine(self) -> Literal["litert", "tensorflow"]:
        """What runs the model."""
        return "litert" if isinstance(self._runner, LiteRTRunner) else "tensorflow"

    @property
    def by_image(self) -> bool:
        """Is it faster to call it from many threads, for an image each, than from one for many?"""
        return self._runner.by_image

    @property
    def scores(self) -> Literal["logits", "probabilities"]:
        """What the model itself gives, by its card or as measured."""
        return self._scores

    def classify(self, photo: str | os.PathLike[str], count: int = 5) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the photo at `photo`, with their scores, 0 to 1, the likeliest first.

        Raises `PhotoError` where the photo cannot be read, `ModelError` where the model fails.
        """
        (scores,) = self.predict(prepare_photo(Path(photo), self._model.preprocessing))
        likeliest = np.argsort(-scores, kind="stable")[:count]
        return tuple(Prediction(self.labels[number], float(scores[number])) for number in likeliest)

    def predict(self, images: Pixels) -> NDArray[np.float32]:
        """Return the probabilities of the classes, float32 [N, classes], without the background class.

        `images`: uint8 [N, height, width, 3] in RGB order, as the model's `Preprocessing.prepare` makes them. A row
        adds up to 1, less the probability of the background class.

        Raises `ValueError` for pixels of another shape or type, `ModelError` where the model fails or gives values that
        are no scores.
        """
        raw = self._checked(self._runner.run(images))
        if self._scores == "probabilities":
            if raw.min() < 0 or raw.max() > 1 + SUM_TOLERANCE:
                raise SignatureMismatch(
                    f"{self._model.directory} gives scores outside 0 to 1, but its card says they are probabilities"
                )
            raw = np.log(np.maximum(raw, np.finfo(np.float32).tiny))
        scaled = raw.astype(np.float64) / self._model.card.temperature
        scores = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return self._without_background((scores / scores.sum(axis=1, keepdims=True)).astype(np.float32))

    def logits(self, images: Pixels) -> NDArray[np.float32]:
        """Return the logits of the classes as the model gives them, float32 [N, classes], without the background class.

        `images` and errors are as in `predict`; `SignatureMismatch` too where the model gives probabilities.
        """
        if self._scores == "probabilities":
            what = f"{self._model.directory} gives probabilities and no logits"
            raise SignatureMismatch(what, "use {threshold}, not {logit_threshold}")
        return self._without_background(self._checked(self._runner.run(images)))

    def _without_background(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores[:, 1:] if self._model.background else scores

    def _measure_scores(self) -> Literal["logits", "probabilities"]:
        raw = self._checked(self._runner.run_on_noise())
        if is_distribution(raw):
            return "probabilities"
        if raw.min() >= 0 and raw.max() <= 1:
            fault = "gives scores from 0 to 1 that do not add up to 1, each of its own, as a Sigmoid does"
            raise SignatureMismatch(f"{self._model.directory} {fault}; phototag needs classes that exclude each other")
        return "logits"

    def _checked(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        model = self._model
        check_classes(model.directory, raw.shape[1], len(model.labels), background=model.background)
        return raw


@dataclass(frozen=True)
class Probe:
    """What a model gave for images of noise.

    `classes`: how many scores an image. `least`, `greatest`: of all scores. `are_probabilities`: whether those of an
    image are not negative and add up to 1.
    """

    classes: int
    least: float
    greatest: float
    are_probabilities: bool


def probe(directory: Path, interface: Interface, preprocessing: Preprocessing) -> Probe:
    """Load the SavedModel in `directory`, run it on noise and measure what comes.

    Raises `ModelError` where it fails.
    """
    from phototag.engines.tensorflow_runner import TensorFlowRunner

    raw = TensorFlowRunner(directory, interface, preprocessing).run_on_noise()
    return Probe(raw.shape[1], float(raw.min()), float(raw.max()), is_distribution(raw))
