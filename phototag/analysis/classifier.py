"""Classify photos: from the pixels of images to a score for each label."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phototag.core import LOOK, OBJECTS, WORDS, Label, OnWorkEvent, Prediction, ignore
from phototag.engines.litert_runner import LiteRTRunner
from phototag.engines.load import Engine, open_runner
from phototag.engines.runner import SUM_TOLERANCE, Pixels, is_distribution
from phototag.errors import SignatureMismatch
from phototag.images.decode import prepare_photo
from phototag.images.preprocess import Preprocessing
from phototag.models.card import ScoresKind
from phototag.models.find import Model, check_classes
from phototag.models.interface import Interface

# How far an independent score may lie outside 0 to 1: an engine's own Sigmoid rounds by less.
RANGE_TOLERANCE = 1e-3


class Classifier:
    """A model, loaded and ready. Takes images and gives a score of 0 to 1 for each label.

    Many threads may use it at the same time.

    `engine`: what runs the model. `tensorflow` takes some seconds to import. `litert` needs a conversion, which is made
    the first time, checked against TensorFlow, and kept in the data directory. `auto` is LiteRT, unless the model
    cannot be converted, the scores differ, or TensorFlow sees a GPU. The scores are the same in both engines.

    `callers`: how many threads will call at the same time. LiteRT uses one core for each thread that calls it.
    TensorFlow uses all cores for each call, but with several callers it uses one core for each call too, unless this
    process has used TensorFlow before. `on_event` is called before a conversion, and after a conversion that failed.

    Raises `NotASavedModel` if the directory cannot be loaded, `SignatureMismatch` if the SavedModel takes or gives
    something other than its card says, and `LabelMismatch` if it has more or fewer classes than labels. Raises
    `ModelError` if the model cannot run in LiteRT and `engine` is `litert`.
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
        self._scores = model.card.output.scores or measured_kind(self._checked(self._runner.run_on_noise()))

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label of each class, in the order of the scores."""
        return self._model.labels

    @property
    def engine(self) -> Literal["litert", "tensorflow"]:
        """The engine that runs the model."""
        return "litert" if isinstance(self._runner, LiteRTRunner) else "tensorflow"

    @property
    def by_image(self) -> bool:
        """Whether many threads with one image each are faster than one thread with many images."""
        return self._runner.by_image

    @property
    def scores(self) -> ScoresKind:
        """The kind of scores that the model itself gives, from its card or its graph, or as measured."""
        return self._scores

    def classify(self, photo: str | os.PathLike[str], count: int = 5) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the photo at `photo`, with their scores, 0 to 1, the likeliest first.

        Raises `PhotoError` if the photo cannot be read, and `ModelError` if the model fails.
        """
        (scores,) = self.predict(prepare_photo(Path(photo), self._model.preprocessing))
        likeliest = np.argsort(-scores, kind="stable")[:count]
        return tuple(Prediction(self.labels[number], float(scores[number])) for number in likeliest)

    def predict(self, images: Pixels) -> NDArray[np.float32]:
        """Return the probabilities of the classes, float32 [N, classes], without the background class.

        `images`: uint8 [N, height, width, 3] in RGB order, as the model's `Preprocessing.prepare` makes them. A row
        adds up to 1 minus the probability of the background class. Independent scores come as the model gives them, but
        never outside 0 to 1, and their rows may have any sum.

        Raises `ValueError` for pixels of another shape or type, and `ModelError` if the model fails or gives values
        that cannot be scores.
        """
        return self._probabilities(self._checked(self._runner.run(images)))

    def logits(self, images: Pixels) -> NDArray[np.float32]:
        """Return the logits of the classes as the model gives them, float32 [N, classes], without the background class.

        `images` and errors are as in `predict`. Also raises `SignatureMismatch` if the model does not give logits.
        """
        self._check_logits()
        return self._without_background(self._checked(self._runner.run(images)))

    def results(self, images: Pixels, kind: Literal["probabilities", "logits"]) -> dict[str, NDArray[np.float32]]:
        """Return all that one pass of the model gives, by name.

        `objects`: what `predict` returns, or `logits` if that is the `kind`. If the model has a head, `words`: the
        probabilities of its words, float32 [N, W]. If it has a look, `look`: likeness vectors, float32 [N, D].

        `images` and errors are as in `predict` and `logits`.
        """
        if kind == "logits":
            self._check_logits()
        outputs = self._runner.run_all(images)
        raw = self._checked(self._runner.scores(outputs))
        given = {OBJECTS: self._without_background(raw) if kind == "logits" else self._probabilities(raw)}
        if self._model.head is not None:
            words = outputs[WORDS]
            self._check_width(words, len(self._model.head.words), WORDS)
            self._check_range(words, -RANGE_TOLERANCE, 1 + RANGE_TOLERANCE, "probabilities of words")
            given[WORDS] = np.minimum(np.maximum(words, 0), 1)  # np.clip takes four times as long for so few
        if self._model.look is not None:
            self._check_width(outputs[LOOK], self._model.look.projection.shape[1], LOOK)
            given[LOOK] = outputs[LOOK]
        return given

    def _probabilities(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities or independent scores, [N, classes], from what the model gives."""
        if self._scores == "independent":
            self._check_range(raw, -RANGE_TOLERANCE, 1 + RANGE_TOLERANCE, "independent")
            return self._without_background(np.clip(raw, 0, 1))
        if self._scores == "probabilities":
            self._check_range(raw, 0, 1 + SUM_TOLERANCE, "probabilities")
            raw = np.log(np.maximum(raw, np.finfo(np.float32).tiny))
        scaled = raw.astype(np.float64) / self._model.card.temperature
        scores = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return self._without_background((scores / scores.sum(axis=1, keepdims=True)).astype(np.float32))

    def _check_logits(self) -> None:
        if self._scores != "logits":
            given = "probabilities" if self._scores == "probabilities" else "independent scores"
            what = f"{self._model.directory} gives {given} and no logits"
            raise SignatureMismatch(what, "use {threshold}, not {logit_threshold}")

    def _without_background(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores[:, 1:] if self._model.background else scores

    def _checked(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        model = self._model
        check_classes(model.directory, raw.shape[1], len(model.labels), background=model.background)
        return raw

    def _check_width(self, output: NDArray[np.float32], width: int, name: str) -> None:
        if output.shape[1:] != (width,):
            what = f"{self._model.directory} gives {name} of shape {output.shape[1:]}, not ({width},) as its card says"
            raise SignatureMismatch(what, "put back the files that came with the model")

    def _check_range(self, raw: NDArray[np.float32], least: float, greatest: float, kind: str) -> None:
        if raw.min() < least or raw.max() > greatest:
            raise SignatureMismatch(
                f"{self._model.directory} gives scores outside 0 to 1, but its card says they are {kind}"
            )


def measured_kind(raw: NDArray[np.float32]) -> ScoresKind:
    """Return the kind of the scores `raw`, [N, classes], that a model gave for some images.

    Scores from 0 to 1 are independent if those of an image do not add up to 1.
    """
    if is_distribution(raw):
        return "probabilities"
    return "independent" if raw.min() >= 0 and raw.max() <= 1 else "logits"


def check_known(model: Model, classifier: Classifier) -> None:
    """Raise `SignatureMismatch` if the scores of `model` turn out to be independent when the model is loaded.

    Independent scores need other rules for tags, and the rules are chosen before that.
    """
    if classifier.scores == "independent" and not model.is_independent:
        what = f"{model.directory} gives scores from 0 to 1 that do not add up to 1, each of its own, as a Sigmoid does"
        raise SignatureMismatch(what, "install it with {command:models add}, which puts that into its card")


@dataclass(frozen=True)
class Probe:
    """The scores that a model gave for images of noise.

    `classes`: how many scores an image gets. `least`, `greatest`: of all scores. `scores`: their kind.
    """

    classes: int
    least: float
    greatest: float
    scores: ScoresKind


def probe(directory: Path, interface: Interface, preprocessing: Preprocessing) -> Probe:
    """Load the SavedModel in `directory`, run it on noise and measure the scores.

    Raises `ModelError` if that fails.
    """
    from phototag.engines.tensorflow_runner import TensorFlowRunner

    raw = TensorFlowRunner(directory, interface, preprocessing).run_on_noise()
    return Probe(raw.shape[1], float(raw.min()), float(raw.max()), measured_kind(raw))
