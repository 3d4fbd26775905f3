"""Evidence from the head of everyday words and from an object detector. Pure: values in, evidence out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from phototag.core import BOXES, WORDS, Results, ScoreLine, best_score, canonical
from phototag.vocabulary.evidence import LEAST_EXPLAINED, Evidence, probability, shifted
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD, Taxonomy

# The name that detectors trained on COCO give persons, and the word for it.
PERSON, PERSON_ID = "person", "n00007846"


class HeadRule:
    """Finds evidence in the probabilities that a head of words gives, `words`: [words], each independent of the others.

    `words`: the ids, in the order of the probabilities. `thresholds`: how sure the head must be of a word, by id, 0 to
    1. A word without a threshold waits: it is explained, and never a tag by this evidence. A threshold that the user
    gave a word replaces it. `threshold` shifts all of them, as in `TreeRule`.

    `joined`: words that evidence from other results joins. Their evidence counts however small it is.
    """

    needs = (WORDS,)

    def __init__(
        self,
        words: Sequence[str],
        thresholds: Mapping[str, float],
        taxonomy: Taxonomy,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        joined: Collection[str] = (),
    ) -> None:
        self._words = tuple(words)
        self._fitted = [taxonomy.nodes[word].user_threshold or thresholds.get(word) for word in words]
        self._needed = [None if one is None else shifted(one, threshold) for one in self._fitted]
        least = [LEAST_EXPLAINED if one is None else min(one, LEAST_EXPLAINED) for one in self._needed]
        self._returned = np.array([0.0 if word in joined else one for word, one in zip(words, least, strict=True)])
        self.digest = hashlib.sha256(canonical(("head", self._words, self._fitted, threshold)).encode()).hexdigest()

    def evidence(self, results: Results) -> dict[str, tuple[Evidence, ...]]:
        """Return the evidence for each word that is somewhat likely, by id."""
        probabilities = np.asarray(results[WORDS], np.float64)
        return {
            self._words[row]: (Evidence(WORDS, float(probabilities[row]), self._needed[row], self._fitted[row]),)
            for row in np.flatnonzero(probabilities >= self._returned).tolist()
        }


class DetectorRule:
    """Finds evidence for persons in what an object detector found, `boxes`. It joins that of the head.

    `line` turns the best score of a person into log-odds. `threshold` shifts what the word needs if there is no head.
    """

    needs = (BOXES,)

    def __init__(self, taxonomy: Taxonomy, line: ScoreLine, *, threshold: float = DEFAULT_THRESHOLD) -> None:
        self._line = line
        self._fitted = taxonomy.nodes[PERSON_ID].user_threshold or DEFAULT_THRESHOLD
        self._needed = shifted(self._fitted, threshold)
        settings = ("boxes", self._fitted, threshold, line.slope, line.offset, line.floor)
        self.digest = hashlib.sha256(canonical(settings).encode()).hexdigest()

    def evidence(self, results: Results) -> dict[str, tuple[Evidence, ...]]:
        """Return the evidence for the word. `boxes`: a sequence of `Box`."""
        by_score = probability(self._line.log_odds(best_score(results[BOXES], PERSON)))
        return {PERSON_ID: (Evidence(BOXES, by_score, self._needed, self._fitted, joins=WORDS),)}
