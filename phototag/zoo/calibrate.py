"""Find the range of values that a model was trained on, by trying every range on photos."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phototag.core import Photo
from phototag.errors import ConfigError, ModelError, PhotoError, SignatureMismatch
from phototag.images.decode import prepare_photo
from phototag.models.calibration import RangeScore, range_score
from phototag.models.card import SCALINGS, ScoresKind
from phototag.models.find import Model, find_model
from phototag.photos.find import find_photos

# This many photos are enough to tell the range; more would only take longer.
MAX_PHOTOS = 64
# Of photo and label, in nats. On dozens of photos of different things the right range gave 2.6 and more. On nine copies
# of one photo, no range gave 0.1.
MIN_INFORMATION = 0.5


class Classifying(Protocol):
    """A model that is loaded, such as `analysis.classifier.Classifier`."""

    @property
    def scores(self) -> ScoresKind:
        """What the model gives."""

    def predict(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Return scores of 0 to 1, [N, classes], for uint8 pixels [N, height, width, 3]."""


@dataclass(frozen=True)
class RangeTrial:
    """A range of values, and how informative the scores are with it; None if they are not finite."""

    range: str
    score: RangeScore | None


def try_ranges(
    name: str,
    photos: Path,
    load: Callable[[Model], Classifying],
    *,
    labels: Path | None = None,
    given: Mapping[str, Any] | None = None,
) -> Iterator[RangeTrial]:
    """Run the model `name` on some of the `photos`, once for each range of values, and yield the results.

    `load` loads a model. `name`, `labels` and `given` are as in `find_model`; `given` must not hold a range, a mean or
    a deviation.

    Raises `ConfigError` if there are no photos that can be read, and `ModelError` if the model cannot be used.
    """
    given = given or {}
    pixels = None
    for value_range in SCALINGS:
        model = find_model(name, labels=labels, given=with_range(given, value_range))
        pixels = _some_photos(model, photos) if pixels is None else pixels
        try:
            classifier = load(model)
            independent = classifier.scores == "independent"
            yield RangeTrial(value_range, range_score(classifier.predict(pixels), independent=independent))
        except SignatureMismatch:
            raise
        except ModelError:  # the values are beyond what the model can take, so this is not its range
            yield RangeTrial(value_range, None)


def best_range(trials: Iterable[RangeTrial], name: str, photos: Path) -> str:
    """Return the range with which the model learns most from the photos.

    Raises `ModelError` naming the model if no range gives scores, and `ConfigError` naming the `photos` if they tell
    too little.
    """
    scores = {trial.range: trial.score.information for trial in trials if trial.score is not None}
    if not scores:
        raise ModelError(f"{name} gives no scores that are numbers with any range; export it again")
    best = max(scores, key=lambda value_range: scores[value_range])
    if scores[best] < MIN_INFORMATION:
        raise ConfigError(
            f"the photos in {photos} are too few or too alike to tell the range; name others, of many things"
        )
    return best


def with_range(given: Mapping[str, Any], value_range: str) -> dict[str, Any]:
    """Return the facts that are `given`, in the form of a model card, with `value_range`."""
    return {**given, "input": {**given.get("input", {}), "range": value_range}}


def _some_photos(model: Model, photos: Path) -> NDArray[np.uint8]:
    """Return some of the photos, evenly chosen, prepared for the model: uint8 [N, height, width, 3]."""
    paths = [one.path for one in find_photos([photos]) if isinstance(one, Photo)]
    step = max(1, len(paths) // MAX_PHOTOS)
    images = []
    for path in paths[::step][:MAX_PHOTOS]:
        with contextlib.suppress(PhotoError):
            images.append(prepare_photo(path, model.preprocessing)[0])
    if not images:
        raise ConfigError(f"{photos} has no photos that can be read; name others")
    return np.stack(images)
