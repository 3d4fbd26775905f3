"""Measure how informative a model's scores are, to find the range of values that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RangeScore:
    """How informative a model's scores for some photos are.

    `confidence`: the mean of the highest scores, 0 to 1. `information`: how much a photo tells about its labels, in
    nats. A model that gets wrong values may be confident too. But it gives every photo the same label, which carries no
    information.
    """

    confidence: float
    information: float


def range_score(scores: NDArray[Any], *, independent: bool = False) -> RangeScore:
    """Measure `scores`, [photos, classes].

    The information is the mutual information of photo and label: the entropy of the mean scores less the mean entropy
    of the scores. If the scores are `independent`, each label is a yes or no, and the information is the sum over the
    labels. Otherwise each row adds up to about 1.
    """
    rows = np.asarray(scores, np.float64)
    if independent:
        rows = np.clip(rows, 0, 1)
        information = (_binary_entropy(rows.mean(axis=0)) - _binary_entropy(rows).mean(axis=0)).sum()
    else:
        # Nothing is left of a row if the model is sure of the background class.
        rows = rows / np.maximum(rows.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        information = _entropy(rows.mean(axis=0)) - _entropy(rows).mean()
    return RangeScore(round(float(rows.max(axis=1).mean()), 4), round(float(information), 4))


def _binary_entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return _entropy(np.stack([probabilities, 1 - probabilities], axis=-1))


def _entropy(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropy of the distributions along the last axis, in nats."""
    logarithms = np.log(np.maximum(rows, np.finfo(np.float64).tiny))
    entropies: NDArray[np.float64] = -(rows * logarithms).sum(axis=-1)
    return entropies
