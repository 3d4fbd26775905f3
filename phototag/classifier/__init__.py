"""Run a model. This package is the only part of phototag that imports TensorFlow, and it does so when it is needed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phototag.classifier._tensorflow import import_tensorflow
from phototag.errors import ModelError, NotASavedModel, SignatureMismatch
from phototag.models import DEFAULT_MODEL, Model, check_classes, find_model
from phototag.photos import prepare_photo
from phototag.taxonomy import Label, Prediction

__all__ = ["Classifier"]

# How far from 1 the scores of an image may add up and still be probabilities: those of float16 models do not do better.
SUM_TOLERANCE = 0.02
# Of the JPEG files that models with string inputs get; at 95 their artefacts do not change what is seen.
JPEG_QUALITY = 95

Pixels = NDArray[np.uint8]


class Classifier:
    """A model, loaded and ready. Takes images and gives probabilities.

    `Classifier(model)` takes some seconds: TensorFlow is imported and the SavedModel loaded. `Classifier.open` takes a
    name or a directory.

    Raises `NotASavedModel` where the directory cannot be loaded, `SignatureMismatch` where the SavedModel takes or
    gives something else than is known of it, `LabelMismatch` where it has more or fewer classes than labels.
    """

    def __init__(self, model: Model) -> None:
        self._tensorflow = import_tensorflow()
        self._model = model
        self._call = self._load()
        self._scores = model.card.output.scores or self._measure_scores()

    @classmethod
    def open(
        cls,
        name: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        labels: str | os.PathLike[str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Classifier:
        """Load the installed model `name`, or the SavedModel in the directory `name`; build the default one if need be.

        `labels` is a label file, and `facts` stand above the model card's or for one, in its form:
        `{"input": {"range": "0..1"}}`.

        Raises `ModelError` where there is no such model or a fact about it is missing or wrong.
        """
        from phototag.building import ensure_built

        model = find_model(os.fspath(name), labels=Path(labels) if labels is not None else None, given=facts)
        ensure_built(model, lambda _: None)
        return cls(model)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label of each class, in the order of the scores."""
        return self._model.labels

    @property
    def scores(self) -> Literal["logits", "probabilities"]:
        """What the model itself gives, by its card or as measured."""
        return self._scores

    def classify(self, photo: str | os.PathLike[str], count: int = 5) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the photo at `photo`, with their scores, 0 to 1, the likeliest first.

        Raises `PhotoError` where the photo cannot be read, `ModelError` where the model fails.
        """
        (scores,) = self.predict(prepare_photo(Path(photo), self._model.preprocessing)[np.newaxis])
        likeliest = np.argsort(-scores, kind="stable")[:count]
        return tuple(Prediction(self.labels[number], float(scores[number])) for number in likeliest)

    def predict(self, images: Pixels) -> NDArray[np.float32]:
        """Return the probabilities of the classes, float32 [N, classes], without the background class.

        `images`: uint8 [N, height, width, 3] in RGB order, as the model's `Preprocessing.prepare` makes them. A row
        adds up to 1, less the probability of the background class.

        Raises `ModelError` where the model fails or gives values that are no scores.
        """
        raw = self._raw_scores(images)
        if self._scores == "probabilities":
            if raw.min() < 0 or raw.max() > 1 + SUM_TOLERANCE:
                raise SignatureMismatch(
                    f"{self._model.directory} gives scores outside 0 to 1, but its card says they are probabilities"
                )
            raw = np.log(np.maximum(raw, np.finfo(np.float32).tiny))
        scaled = raw.astype(np.float64) / self._model.card.temperature
        scores = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float32] = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
        return probabilities[:, 1:] if self._model.background else probabilities

    # --- Loading ------------------------------------------------------------------------------------------------------

    def _load(self) -> Callable[[Any], Any]:
        """Load the SavedModel and return the function from its input tensor to its output tensor."""
        directory, endpoint = self._model.directory, self._model.endpoint
        try:
            loaded = self._tensorflow.saved_model.load(str(directory), tags=list(endpoint.tag_set))
        # TensorFlow reports a damaged SavedModel by whatever its parsers raise: OSError, ValueError, OpError, ...
        except Exception as error:
            reason = _first_line(error)
            raise NotASavedModel(f"{directory} cannot be loaded ({reason}); export the model again") from error
        self._owner = loaded  # of the variables: without it they would be freed
        if endpoint.signature is not None:
            signature = loaded.signatures[endpoint.signature]
            return lambda tensor: signature(**{endpoint.input: tensor})[endpoint.output]
        try:
            function = loaded.prune(endpoint.input, endpoint.output)
        except (AttributeError, ValueError, KeyError) as error:
            raise SignatureMismatch(
                f"{directory} cannot be run from {endpoint.input} to {endpoint.output} ({_first_line(error)}); "
                "choose others with --input-op and --output-op"
            ) from error
        return lambda tensor: function(tensor)

    def _measure_scores(self) -> Literal["logits", "probabilities"]:
        """Tell logits from probabilities by running the model: probabilities are not negative and add up to 1."""
        preprocessing = self._model.preprocessing
        noise = np.random.default_rng(0).integers(0, 256, (2, preprocessing.height, preprocessing.width, 3), np.uint8)
        raw = self._raw_scores(noise)
        adds_up = np.abs(raw.sum(axis=1) - 1).max() <= SUM_TOLERANCE
        return "probabilities" if raw.min() >= 0 and adds_up else "logits"

    # --- Running ------------------------------------------------------------------------------------------------------

    def _raw_scores(self, images: Pixels) -> NDArray[np.float32]:
        """What the model gives for `images`, float32 [N, classes], the background class with it, checked."""
        directory = self._model.directory
        try:
            parts = [self._call(self._tensor(part)).numpy()[:count] for part, count in self._batches(images)]
        except self._tensorflow.errors.OpError as error:
            raise ModelError(f"{directory} failed on a batch of {len(images)} images: {_first_line(error)}") from error
        raw = np.concatenate([part.reshape(len(part), -1) if part.ndim else part.reshape(1, 1) for part in parts])
        if len(raw) != len(images):
            rows = f"{len(images)} images gave {len(raw)} rows of scores"
            raise SignatureMismatch(f"{directory} is no classifier: {rows}")
        check_classes(directory, raw.shape[1], len(self._model.labels), background=self._model.background)
        scores = raw.astype(np.float32)
        if not np.isfinite(scores).all():
            hint = "its input range may be wrong"
            raise ModelError(f"{directory} gave scores that are no numbers (NaN or infinite); {hint}")
        return scores

    def _batches(self, images: Pixels) -> Iterator[tuple[Pixels, int]]:
        """`images` in batches of the size that the model insists on, the last one filled up; and how many count."""
        size = self._model.endpoint.batch
        if size is None:
            yield images, len(images)
            return
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filling = np.repeat(part[-1:], size - len(part), axis=0)
            yield np.concatenate([part, filling]), len(part)

    def _tensor(self, images: Pixels) -> Any:
        """`images` as the model's input tensor."""
        dtype = self._model.endpoint.dtype
        if dtype == "string":
            return self._tensorflow.constant([_jpeg(image) for image in images])
        return self._tensorflow.cast(self._model.preprocessing.normalise(images), dtype)


def _jpeg(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error)
    return text.splitlines()[0] if text else type(error).__name__
