"""Run a model. This package is the only part of phototag that imports TensorFlow, and it does so when it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phototag.classifier._tensorflow import import_tensorflow
from phototag.errors import LabelMismatch, ModelError, NotASavedModel, SignatureMismatch
from phototag.models import Model

__all__ = ["Classifier"]


class Classifier:
    """A model, loaded and ready. Takes prepared images and gives probabilities.

    `Classifier(model)` takes some seconds: TensorFlow is imported and the SavedModel loaded.

    Raises `NotASavedModel` where the directory cannot be loaded, `SignatureMismatch` where the SavedModel takes or
    gives something else than its card says, `LabelMismatch` where it has more or fewer classes than labels.
    """

    def __init__(self, model: Model) -> None:
        self._tensorflow = import_tensorflow()
        self._model = model
        self._input, self._output, self._signature = self._load()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities of the classes, float32 [N, classes], each row summing to 1.

        `images`: uint8 [N, height, width, 3] in RGB order, as the card's `Preprocessing.prepare` makes them.

        Raises `ModelError` where the model fails or gives values that are no scores.
        """
        tensor = self._tensorflow.constant(self._model.card.input.normalise(images))
        try:
            raw = self._signature(**{self._input: tensor})[self._output].numpy()
        except self._tensorflow.errors.OpError as error:
            reason = str(error.message).splitlines()[0]
            raise ModelError(
                f"the model in {self._model.directory} failed on a batch of {len(images)}: {reason}"
            ) from error
        return self._probabilities(raw, len(images))

    def _load(self) -> tuple[str, str, Any]:
        directory, card = self._model.directory, self._model.card
        try:
            loaded = self._tensorflow.saved_model.load(str(directory))
        # TensorFlow reports a damaged SavedModel by whatever its parsers raise: OSError, ValueError, OpError, ...
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise NotASavedModel(f"{directory} cannot be loaded ({reason}); export the model again") from error
        signature = loaded.signatures.get(card.signature)
        if signature is None:
            known = ", ".join(sorted(loaded.signatures)) or "none"
            raise SignatureMismatch(f"{directory} has no signature {card.signature!r}; it has: {known}")
        self._owner = loaded  # of the variables: without it the signature would run on freed ones
        return self._input_name(signature), self._output_name(signature), signature

    def _input_name(self, signature: Any) -> str:
        image = self._model.card.input
        expected = (image.height, image.width, 3) if image.layout == "NHWC" else (3, image.height, image.width)
        inputs: dict[str, Any] = signature.structured_input_signature[1]
        if len(inputs) != 1:
            raise SignatureMismatch(
                f"{self._model.directory} takes {len(inputs)} inputs, not one image: {', '.join(inputs)}"
            )
        ((name, spec),) = inputs.items()
        if spec.dtype != self._tensorflow.float32 or not spec.shape.is_compatible_with([None, *expected]):
            wanted = f"float32 images of shape {expected}"
            found = f"{spec.dtype.name} of shape {tuple(spec.shape[1:]) if spec.shape.rank else spec.shape}"
            raise SignatureMismatch(
                f"{self._model.directory} takes {found}, but its card says {wanted}; correct the card"
            )
        return name

    def _output_name(self, signature: Any) -> str:
        outputs: dict[str, Any] = signature.structured_outputs
        if len(outputs) != 1:
            raise SignatureMismatch(
                f"{self._model.directory} gives {len(outputs)} outputs, not one: {', '.join(outputs)}"
            )
        ((name, spec),) = outputs.items()
        if not spec.shape.is_compatible_with([None, None]):
            raise SignatureMismatch(f"{self._model.directory} is no classifier: its output has the shape {spec.shape}")
        if spec.shape.rank == 2 and spec.shape[1] is not None:
            self._check_classes(int(spec.shape[1]))
        return name

    def _check_classes(self, classes: int) -> None:
        labels = len(self._model.labels)
        if classes != labels:
            raise LabelMismatch(
                f"the model in {self._model.directory} has {classes} classes, "
                f"but {self._model.card.labels} has {labels} labels"
            )

    def _probabilities(self, raw: NDArray[Any], count: int) -> NDArray[np.float32]:
        directory, card = self._model.directory, self._model.card
        if raw.ndim != 2 or raw.shape[0] != count:
            raise SignatureMismatch(f"{directory} is no classifier: {count} images gave an output of shape {raw.shape}")
        self._check_classes(raw.shape[1])
        scores = raw.astype(np.float32)
        if not np.isfinite(scores).all():
            raise ModelError(
                f"{directory} gave scores that are no numbers (NaN or infinite); its input range may be wrong"
            )
        if card.output.scores == "probabilities":
            if scores.min() < 0 or scores.max() > 1.001:
                raise SignatureMismatch(
                    f"{directory} gives scores outside 0 to 1, but its card says they are probabilities"
                )
            scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        scores = scores / np.float32(card.temperature)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float32] = scores / scores.sum(axis=1, keepdims=True)
        return probabilities
