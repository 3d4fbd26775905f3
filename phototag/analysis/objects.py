"""The analyzer that runs an image classifier. Its result `objects` holds the score of each class."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from phototag.analysis.analyzer import ResultType
from phototag.analysis.scores import pack, unpack
from phototag.core import Results
from phototag.errors import OutOfMemory
from phototag.models.find import Model

if TYPE_CHECKING:  # a run without new photos neither decodes nor loads a model
    from phototag.analysis.classifier import Classifier
    from phototag.engines.runner import Pixels
    from phototag.images.decode import Picture

T = TypeVar("T")
OBJECTS = "objects"


class ObjectAnalyzer:
    """Gives the scores of a model's classes for each photo: float32 [classes], the mean over its crops.

    `load` returns the classifier. It is called once, by the first thread that needs it. `crops`: how many for a photo.
    `kind`: probabilities of 0 to 1, or the model's logits.
    """

    after: tuple[str, ...] = ()

    def __init__(
        self,
        model: Model,
        load: Callable[[], Classifier],
        *,
        crops: int = 1,
        kind: Literal["probabilities", "logits"] = "probabilities",
    ) -> None:
        self._model = model
        self._classifier = Once(load)
        self._crops = crops
        self._kind = kind
        self.results = (ResultType(OBJECTS, scores_key(model, crops, kind), pack, self._unpack),)
        self.recipe = (model.digest, str(crops))
        self.shortest_side = model.preprocessing.shortest_side

    @property
    def by_photo(self) -> bool:
        """Whether a call for one photo keeps a core busy. Loads the model."""
        return self._classifier.get().by_image

    def prepare(self, picture: Picture) -> Pixels:
        """Return the crops of the picture, uint8 [crops, height, width, 3]. Raises `PhotoError`."""
        return picture.view(self._model.preprocessing, self._crops)

    def analyse(self, prepared: Sequence[Pixels], earlier: Sequence[Results]) -> Sequence[Results]:
        """Return the scores of each photo. Raises `ModelError`."""
        classifier = self._classifier.get()
        classify = classifier.predict if self._kind == "probabilities" else classifier.logits
        scores = in_parts(classify, np.concatenate(prepared))
        return [{OBJECTS: row} for row in scores.reshape(len(prepared), -1, scores.shape[-1]).mean(axis=1)]

    def _unpack(self, packed: bytes) -> NDArray[np.float32]:
        scores = unpack(packed)
        if len(scores) != len(self._model.labels):
            raise ValueError("scores of another number of classes")
        return scores


def scores_key(model: Model, crops: int, kind: str) -> str:
    """Return the key of the scores, a digest of everything that determines them.

    `kind`: `probabilities` or `logits`.
    """
    return hashlib.sha256("\0".join((model.digest, str(crops), kind)).encode()).hexdigest()[:32]


def in_parts(classify: Callable[[Pixels], NDArray[np.float32]], pixels: Pixels) -> NDArray[np.float32]:
    """Classify a batch, in smaller parts if memory runs out. Raises `ModelError`."""
    try:
        return classify(pixels)
    except OutOfMemory:
        if len(pixels) == 1:
            raise
    middle = len(pixels) // 2
    return np.concatenate([in_parts(classify, part) for part in (pixels[:middle], pixels[middle:])])


class Once(Generic[T]):
    """A model that is loaded once, by the first thread that needs it. If that fails, it fails for all threads."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._model: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None

    def get(self) -> T:
        """Return the model. Raises the error of loading it."""
        with self._lock:
            if self._error is not None:
                # Each raise adds the frames of its caller to the error, and those hold a photo.
                raise self._error.with_traceback(self._traceback)
            if self._model is None:
                try:
                    self._model = self._load()
                except BaseException as error:
                    self._error, self._traceback = error, error.__traceback__
                    raise
            return self._model
