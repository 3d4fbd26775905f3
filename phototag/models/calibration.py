"""Which range of values a model was trained on, when nobody wrote it down: the one that makes the most of photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RangeScore:
    """How much a model makes of some photos.

    `confidence`: the mean of the highest scores, 0 to 1. `information`: how much a photo says about its label, in nats:
    the entropy of the mean scores less the mean entropy of the scores (the mutual information of photo and label).
    A model that is fed wrongly may be sure, but then it is sure of the same label for every photo, which says nothing.
    """

    confidence: float
    information: float


def range_score(probabilities: NDArray[Any]) -> RangeScore:
    """Measure `probabilities`, [photos, classes], each row of which adds up to about 1."""
    rows = np.asarray(probabilities, np.float64)
    rows = rows / rows.sum(axis=1, keepdims=True)
    information = _entropy(rows.mean(axis=0, keepdims=True))[0] - _entropy(rows).mean()
    return RangeScore(round(float(rows.max(axis=1).mean()), 4), round(float(information), 4))


def _entropy(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithms = np.log(np.maximum(rows, np.finfo(np.float64).tiny))
    entropies: NDArray[np.float64] = -(rows * logarithms).sum(axis=1)
    return entropies
