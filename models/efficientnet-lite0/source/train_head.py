"""Train the head of everyday words: one logistic regression per word on the default network's features.

    python models/efficientnet-lite0/source/train_head.py FEATURES.npz... [--check] [--cross CROSS.npz]

extract_features.py makes the files of features; together, they must have all photos of labels.tsv, which says what
the photos show. scikit-learn is needed, and some minutes.

A word's probability is sigmoid(weights . roots + bias + mass_weight * mass). `roots` are the square roots of the 1280
pooled features. `mass` is the clipped log-odds of the classes of composites.tsv that add up to the word.

First the words are cross-fitted: each photo is scored by weights that did not see it. That gives the table and the
thresholds. Then the weights are fitted on all photos that may train, and written to ../head.npz, and the thresholds and
the digest to ../phototag.json. With --check, nothing is written, and the exit status is 1 if the weights, the
thresholds or the digest differ from what is there.

--cross also writes the cross-fitted probabilities: `words` [W] and `p` float32 [W, N] in the order of FEATURES.npz, NaN
for photos that do not train. The order is that of the first file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from words_data import MODEL, TEMPERATURE, LabelledPhotos, composites, read_photos, sources

HEAD, CARD = MODEL / "head.npz", MODEL / "phototag.json"
# The first three only tell other words apart. The tree knows the others by classes of their own, and too few photos
# show them here for the head to add to that.
LEFT_OUT = ("black and white", "close up", "studio", "bicycle", "boat", "cat", "horse", "motorcycle")
FEWEST_POSITIVES = 5
# Chosen by cross-fitting and by leaving out whole sources; README.md has the figures. A word that few photos show needs
# less of a penalty to be said at all. So do the words with the most photos.
INVERSE_PENALTY, INVERSE_PENALTY_IF_RARE, RARE = 0.005, 0.015, 40
INVERSE_PENALTY_OF = {"indoor": 0.01, "outdoor": 0.009, "person": 0.01}
DIRECTIONS, FOLDS = 320, 5
# Which photos share a fold is chance, so it is drawn again, and log-odds are averaged.
REPEATS = 3
# The mass goes in on a larger scale, so that it is penalised less. More than that trusts it too much: the network
# itself was trained on ImageNet, and is surer of its photos than of others.
MASS_SCALE = 2.0
# The sources labelled by eye. All their photos count the same.
BY_EYE = ("coco128", "coco-mini", "coco-vqa", "openimages", "imagenet")
# A photo for which a word is arguable takes part with this weight, as one that shows it by this share. For that, most
# words must be labelled: of some photos of Open Images hardly one is.
ARGUABLE_WEIGHT, ARGUABLE_SHARE, MOST_UNKNOWN = 0.3, 0.3, 45
# All pictures of a source that a script makes weigh as much as so many photos: those that do not show a word, and
# those that do.
MADE = {"drawn": (40, 20), "figures": (80, 20), "cutouts": (135, 20)}
# `outdoor` knows where things are usually found, and says so of things on white. To hold that down, cut-outs weigh more
# for it, and photos with the label `studio`, things on a plain background, weigh as much as so many others.
MADE_OF = {"outdoor": {"cutouts": (200, 20)}}
STUDIO_WEIGHT_OF = {"outdoor": 3}
# The rule for thresholds: the lowest at which 93 of 100 photos are right, and at least five are said.
THRESHOLDS, PRECISION, FEWEST_SAID = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95), 0.93, 5


@dataclass(frozen=True)
class Fit:
    """The weights of a word for the scaled directions, the bias, and the weight of the mass."""

    weights: NDArray[np.float64]
    bias: float
    mass_weight: float


class Trainer:
    """Fits words on the photos that may train. `low` are the photos' features as coordinates of a few directions."""

    def __init__(self, photos: LabelledPhotos) -> None:
        self.photos = photos
        self.trains = np.isin(photos.source, sources("train"))
        self.by_eye = np.isin(photos.source, BY_EYE)
        self.classes = composites()
        seen = photos.roots[self.trains]
        self.mean, self.spread = seen.mean(axis=0), seen.std(axis=0) + 0.05
        scaled = (photos.roots - self.mean) / self.spread
        covariance = scaled[self.trains].T @ scaled[self.trains]
        self.basis: NDArray[np.float64] = np.linalg.eigh(covariance)[1][:, ::-1][:, :DIRECTIONS]
        self.low: NDArray[np.float64] = scaled @ self.basis

    def words(self) -> list[str]:
        """Return the words with enough photos that show them, in the order of the labels."""
        shown = {word: int((self.photos.column(word)[self.trains] == 1).sum()) for word in self.photos.words}
        return [word for word, count in shown.items() if count >= FEWEST_POSITIVES and word not in LEFT_OUT]

    def inputs(self, word: str) -> NDArray[np.float64]:
        """Return what the regression of `word` gets, float64 [N, directions and the mass]."""
        classes = self.classes.get(word)
        mass = np.zeros(len(self.low)) if classes is None else MASS_SCALE * self.photos.mass(classes)
        return np.column_stack([self.low, mass])

    def inverse_penalty(self, word: str) -> float:
        """Return how little the weights of `word` are held down, above 0."""
        rare = (self.photos.column(word)[self.by_eye] == 1).sum() < RARE
        return INVERSE_PENALTY_OF.get(word, INVERSE_PENALTY_IF_RARE if rare else INVERSE_PENALTY)

    def fit(self, word: str, rows: NDArray[np.bool_]) -> Fit:
        """Fit `word` on those of `rows`, bool [N], that train and are labelled for it."""
        labels, inputs = self.photos.column(word), self.inputs(word)
        sure = rows & self.trains & (labels >= 0)
        arguable = rows & self.by_eye & (labels < 0) & ((self.photos.labels < 0).sum(axis=1) < MOST_UNKNOWN)
        doubt = ARGUABLE_WEIGHT * self._weights(word, arguable)
        model = LogisticRegression(C=self.inverse_penalty(word), solver="newton-cholesky", tol=1e-6, max_iter=100)
        model.fit(
            np.concatenate([inputs[sure], inputs[arguable], inputs[arguable]]),
            np.concatenate([labels[sure], np.ones(len(doubt)), np.zeros(len(doubt))]),
            np.concatenate([self._weights(word, sure), ARGUABLE_SHARE * doubt, (1 - ARGUABLE_SHARE) * doubt]),
        )
        values = model.coef_[0]
        return Fit(values[:-1], float(model.intercept_[0]), MASS_SCALE * float(values[-1]))

    def cross_fitted(self, word: str) -> NDArray[np.float64]:
        """Return the probability of `word` for each photo by weights that did not see it. NaN for the test's photos."""
        scores = np.zeros((REPEATS, len(self.low)))
        for repeat in range(REPEATS):
            folds = np.random.default_rng(repeat).integers(0, FOLDS, len(self.low))
            for fold in range(FOLDS):
                held = self.trains & (folds == fold)
                scores[repeat, held] = self.scores(word, self.fit(word, ~held), held)
        return np.where(self.trains, 1 / (1 + np.exp(-scores.mean(axis=0))), np.nan)

    def scores(self, word: str, fit: Fit, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the log-odds of `word` for the photos of `rows`, bool [N]."""
        inputs = self.inputs(word)[rows]
        result: NDArray[np.float64] = (
            inputs[:, :-1] @ fit.weights + fit.bias + inputs[:, -1] * fit.mass_weight / MASS_SCALE
        )
        return result

    def _weights(self, word: str, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        labels, weights = self.photos.column(word), np.ones(len(self.photos.source))
        weights[self.photos.column("studio") == 1] = STUDIO_WEIGHT_OF.get(word, 1)
        for source, totals in {**MADE, **MADE_OF.get(word, {})}.items():
            for value, total in enumerate(totals):
                rows = chosen & (self.photos.source == source) & (labels == value)
                weights[rows] = total / max(rows.sum(), 1)
        return weights[chosen]


def head(trainer: Trainer, words: list[str]) -> dict[str, NDArray[np.generic]]:
    """Fit `words` on all photos that train, and return the arrays of the head's file."""
    fits = [trainer.fit(word, trainer.trains) for word in words]
    weights = [trainer.basis @ fit.weights / trainer.spread for fit in fits]  # of the roots themselves
    nothing = np.zeros(1000, bool)
    return {
        "words": np.array(words),
        "weights": np.array(weights, np.float16),
        "bias": np.array([fit.bias - full @ trainer.mean for fit, full in zip(fits, weights, strict=True)], np.float32),
        "mass_weight": np.array(
            [fit.mass_weight if word in trainer.classes else 0 for fit, word in zip(fits, words, strict=True)],
            np.float32,
        ),
        "classes": np.array([trainer.classes.get(word, nothing) for word in words]),
        "temperature": np.array(TEMPERATURE, np.float32),
    }


def threshold_of(trainer: Trainer, word: str, probabilities: NDArray[np.float64]) -> float | None:
    """Return the word's threshold by the rule, None if it waits. Only photos labelled by eye count."""
    labels = trainer.photos.column(word)
    for threshold in THRESHOLDS:
        right, said = right_and_said(labels, probabilities, trainer.by_eye, threshold)
        if said >= FEWEST_SAID and right >= PRECISION * said:
            return threshold
    return None


def right_and_said(
    labels: NDArray[np.int8], probabilities: NDArray[np.float64], rows: NDArray[np.bool_], threshold: float
) -> tuple[int, int]:
    """Return for how many photos of `rows` the word is right, and for how many it is said. Arguable ones do not count.

    `labels` int8 [N], `probabilities` float64 [N], `rows` bool [N].
    """
    said = rows & (labels >= 0) & (np.nan_to_num(probabilities) >= threshold)
    return int((labels[said] == 1).sum()), int(said.sum())


def report(trainer: Trainer, word: str, probabilities: NDArray[np.float64], threshold: float | None) -> None:
    """Print the word's line of the table: positives, average precision, right and said at three thresholds."""
    labels = trainer.photos.column(word)
    judged = trainer.by_eye & (labels >= 0)
    positives = int((labels[judged] == 1).sum())
    average = average_precision_score(labels[judged], probabilities[judged]) if positives else float("nan")
    at = [f"{t}: {'{}/{}'.format(*right_and_said(labels, probabilities, judged, t)):8}" for t in (0.7, 0.8, 0.9)]
    print(f"{word:14} {positives:4} positives  AP {average:.2f}  {'  '.join(at)}  {threshold or 'waits'}", flush=True)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("features", type=Path, nargs="+", metavar="FEATURES.npz")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the files are out of date")
    parser.add_argument("--cross", type=Path, metavar="CROSS.npz", help="write the cross-fitted probabilities here")
    given = parser.parse_args()
    trainer = Trainer(read_photos(*given.features))
    words, thresholds, crossed = trainer.words(), {}, []
    for word in words:
        crossed.append(trainer.cross_fitted(word))
        threshold = threshold_of(trainer, word, crossed[-1])
        report(trainer, word, crossed[-1], threshold)
        if threshold is not None:
            thresholds[word] = threshold
    print(f"{len(thresholds)} of {len(words)} words have a threshold")
    if given.cross:
        _write_cross(given.cross, given.features[0], trainer, words, crossed)
    arrays = head(trainer, words)
    return 0 if (_check if given.check else _write)(arrays, thresholds) else 1


def _write(arrays: dict[str, NDArray[np.generic]], thresholds: dict[str, float]) -> bool:
    np.savez_compressed(HEAD, **arrays)  # type: ignore[arg-type]  # numpy's stub has allow_pickle among the arrays
    card = json.loads(CARD.read_text(encoding="utf-8"))
    card["head"] = {"file": HEAD.name, "digest": _digest(), "thresholds": thresholds}
    CARD.write_text(format_json(card) + "\n", encoding="utf-8")
    return True


def _check(arrays: dict[str, NDArray[np.generic]], thresholds: dict[str, float]) -> bool:
    """Return whether the files hold `arrays` and `thresholds`. Weights may differ by what float16 rounds."""
    entry = json.loads(CARD.read_text(encoding="utf-8")).get("head", {})
    with np.load(HEAD, allow_pickle=False) as there:
        same = there["words"].tolist() == arrays["words"].tolist() and all(
            np.allclose(there[name].astype(np.float64), arrays[name].astype(np.float64), rtol=2e-3, atol=2e-4)
            for name in arrays
            if name != "words"
        )
    current = same and entry.get("thresholds") == thresholds and entry.get("digest") == _digest()
    print("head.npz and the card are up to date" if current else "head.npz or the card is out of date")
    return current


def _write_cross(
    path: Path, features: Path, trainer: Trainer, words: list[str], crossed: list[NDArray[np.float64]]
) -> None:
    with np.load(features, allow_pickle=False) as data:
        order = list(zip(data["source"].tolist(), data["photo"].tolist(), strict=True))
    own = {
        key: n for n, key in enumerate(zip(trainer.photos.source.tolist(), trainer.photos.photo.tolist(), strict=True))
    }
    p = np.full((len(words), len(order)), np.nan, np.float32)
    for row, key in enumerate(order):
        if key in own:
            p[:, row] = [probabilities[own[key]] for probabilities in crossed]
    np.savez_compressed(path, words=np.array(words), p=p)


def _digest() -> str:
    return f"sha256:{hashlib.sha256(HEAD.read_bytes()).hexdigest()}"


def format_json(card: object) -> str:
    """Return `card` as JSON, with a line for each field, and lists of numbers on one line."""
    text = json.dumps(card, indent=2, ensure_ascii=False)
    for numbers in {str(value) for value in _lists(card)}:
        text = text.replace(json.dumps(json.loads(numbers), indent=2).replace("\n", "\n    "), numbers)
    return text


def _lists(value: object) -> list[list[object]]:
    if isinstance(value, list):
        return [value]
    return [found for inner in value.values() for found in _lists(inner)] if isinstance(value, dict) else []


if __name__ == "__main__":
    sys.exit(main())
