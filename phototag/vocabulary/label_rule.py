"""Evidence from a model's own labels, without a tree. Pure: arrays in, evidence out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phototag.core import OBJECTS, Label, Prediction, Results, canonical
from phototag.vocabulary.evidence import Evidence, label_id, shifted
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD
from phototag.vocabulary.tree_rule import likeliest


class LabelRule:
    """Makes tags of a model's own labels, for models without a tree and for users who want raw labels.

    `threshold`, 0 to 1: how sure a tag must be. None: not at all. `thresholds`: each label's own, None for the general
    one. Like a word of the tree, a label needs its own threshold shifted by `threshold`.

    `logit_threshold`: the logit that a label must have, instead of a probability. The scores are then logits, and their
    softmax with `temperature` is the confidence.

    `independent`: the scores do not exclude each other, so they need not add up to 1.

    `max_tags`: the most tags for a photo. Labels with the same name are one tag, because a keyword is only a name: a
    model may know two cranes. Their scores are added up. The largest counts if they are independent.
    """

    needs = (OBJECTS,)

    def __init__(
        self,
        labels: Sequence[Label],
        *,
        threshold: float | None = DEFAULT_THRESHOLD,
        logit_threshold: float | None = None,
        temperature: float = 1.0,
        max_tags: int,
        thresholds: Sequence[float | None] = (),
        independent: bool = False,
    ) -> None:
        if independent and logit_threshold is not None:
            raise ValueError("independent scores have no logits")
        self._labels = tuple(labels)
        self._logit_threshold, self._temperature = logit_threshold, temperature
        self._independent = independent
        named: dict[str, Label] = {}
        for label in labels:
            named.setdefault(label_id(label), label)
        row = {name: number for number, name in enumerate(named)}
        self._named = list(named.values())
        self._rows = np.array([row[label_id(label)] for label in labels], np.intp)
        self._needed = self._thresholds(threshold, thresholds or [None] * len(self._labels))
        settings = ("labels", self._labels, threshold, logit_threshold, temperature, max_tags)
        if independent or any(own is not None for own in thresholds):  # else the digest of phototag 0.1.0
            settings = (*settings, tuple(thresholds), independent)  # type: ignore[assignment]
        self.digest = hashlib.sha256(canonical(settings).encode()).hexdigest()

    def _thresholds(self, threshold: float | None, own: Sequence[float | None]) -> NDArray[np.float64]:
        """Return what each label needs: [classes]. Labels whose scores are added up need the least of their own."""
        if threshold is None:
            return np.zeros(len(self._labels))
        pairs = zip(self._labels, own, strict=True)
        needed = np.array([threshold if value is None else shifted(value, threshold) for _, value in pairs])
        if self._independent:
            return needed
        least = np.full(len(self._named), np.inf)
        np.minimum.at(least, self._rows, needed)
        return least[self._rows]

    def evidence(self, results: Results) -> dict[str, tuple[Evidence, ...]]:
        """Return the evidence for the labels that are sure enough, by `label_id`, in the model's order."""
        scores = np.asarray(results[OBJECTS], np.float64)
        confidences = self._by_name(self._probabilities(scores))
        if self._logit_threshold is not None:
            passed = scores >= self._logit_threshold
        elif self._independent:
            passed = scores >= self._needed
        else:
            passed = confidences[self._rows] >= self._needed
        is_tag = np.zeros(len(self._named), bool)
        is_tag[self._rows[passed]] = True
        return {
            label_id(self._named[number]): (Evidence(OBJECTS, float(confidences[number]), needed=0.0),)
            for number in np.flatnonzero(is_tag).tolist()
        }

    def top(self, results: Results, count: int) -> tuple[Prediction, ...]:
        """Return the `count` likeliest labels of the model, the likeliest first."""
        return likeliest(self._labels, self._probabilities(np.asarray(results[OBJECTS], np.float64)), count)

    def _probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores if self._logit_threshold is None else _softmax(scores / self._temperature)

    def _by_name(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        of_names = np.zeros(len(self._named))
        (np.maximum if self._independent else np.add).at(of_names, self._rows, scores)
        return of_names


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max())
    scaled: NDArray[np.float64] = raised / raised.sum()
    return scaled
