"""The analyzer that runs an image classifier.

Its result `objects` holds the score of each class. With a head it also gives `words`, and with a look `look`.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from phototag.analysis.analyzer import ResultType
from phototag.analysis.scores import pack, unpack
from phototag.analysis.vectors import pack_look, pack_words, unpack_look, unpack_words
from phototag.core import LOOK, OBJECTS, WORDS, Results, canonical
from phototag.errors import OutOfMemory
from phototag.models.find import Model

if TYPE_CHECKING:  # a run without new photos neither decodes nor loads a model
    from phototag.analysis.classifier import Classifier
    from phototag.engines.runner import Pixels
    from phototag.images.decode import Picture

T = TypeVar("T")


class ObjectAnalyzer:
    """Gives the scores of a model's classes for each photo: float32 [classes], the mean over its crops.

    If the model has a head, it also gives the probabilities of its words, float32 [W], and if it has a look, a likeness
    vector, float32 [D]. They come from the same pass, and are means over the crops too.

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
        self.results = tuple(_result_types(model, crops, kind))
        # Of the card, so that a model without a tree, which has no words, has the recipe of one whose tree is not used.
        entries = (model.card.head, model.card.look)
        self.recipe = (model.digest, str(crops), *(entry.digest for entry in entries if entry is not None))
        self.shortest_side = model.preprocessing.shortest_side

    @property
    def by_photo(self) -> bool:
        """Whether a call for one photo keeps a core busy. Loads the model."""
        return self._classifier.get().by_image

    def prepare(self, picture: Picture) -> Pixels:
        """Return the crops of the picture, uint8 [crops, height, width, 3]. Raises `PhotoError`."""
        return picture.view(self._model.preprocessing, self._crops)

    def analyse(self, prepared: Sequence[Pixels], earlier: Sequence[Results]) -> Sequence[Results]:
        """Return the scores of each photo, and its words and its look. Raises `ModelError`."""
        classifier = self._classifier.get()
        parts = in_parts(lambda pixels: classifier.results(pixels, self._kind), np.concatenate(prepared))
        outputs = parts[0]
        if len(parts) > 1:
            outputs = {name: np.concatenate([part[name] for part in parts]) for name in outputs}
        if self._crops > 1:
            shape = (len(prepared), self._crops, -1)
            outputs = {name: rows.reshape(shape).mean(axis=1) for name, rows in outputs.items()}
        return [{name: rows[number] for name, rows in outputs.items()} for number in range(len(prepared))]


def _result_types(model: Model, crops: int, kind: str) -> Iterator[ResultType[NDArray[np.float32]]]:
    """Yield the results of one pass of `model`."""

    def unpack_scores(packed: bytes) -> NDArray[np.float32]:
        scores = unpack(packed)
        if len(scores) != len(model.labels):
            raise ValueError("scores of another number of classes")
        return scores

    yield ResultType(OBJECTS, scores_key(model, crops, kind), pack, unpack_scores)
    if model.head is not None:
        count = len(model.head.words)
        key = features_key(model, model.head.digest, crops)
        yield ResultType(WORDS, key, pack_words, functools.partial(unpack_words, count=count))
    if model.look is not None:
        size = model.look.projection.shape[1]
        key = features_key(model, model.look.digest, crops)
        yield ResultType(LOOK, key, pack_look, functools.partial(unpack_look, size=size))


def scores_key(model: Model, crops: int, kind: str) -> str:
    """Return the key of the scores, a digest of everything that determines them.

    `kind`: `probabilities` or `logits`.
    """
    return hashlib.sha256("\0".join((model.digest, str(crops), kind)).encode()).hexdigest()[:32]


def features_key(model: Model, digest: str, crops: int) -> str:
    """Return the key of a result of the network on the features whose file has that `digest`.

    Labels and temperature do not count, because they change no features.
    """
    facts = (model.weights, model.interface, model.preprocessing, digest, crops)
    return hashlib.sha256(canonical(facts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def in_parts(run: Callable[[Pixels], T], pixels: Pixels) -> list[T]:
    """Run a network on a batch, in smaller parts if memory runs out. Return what it gives for each part, in order.

    Raises `ModelError`.
    """
    try:
        return [run(pixels)]
    except OutOfMemory:
        if len(pixels) == 1:
            raise
    middle = len(pixels) // 2
    return in_parts(run, pixels[:middle]) + in_parts(run, pixels[middle:])


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
