"""What the scripts in this folder share: the labelled photos, their features, and the classes that add up to words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
MODEL = HERE.parent
LABELS, SOURCES = HERE / "labels.tsv", HERE / "sources.tsv"
COMPOSITES = MODEL.parent / "taxonomies" / "source" / "composites.tsv"
# Of the softmax for the masses, as in the model's card.
TEMPERATURE = 0.95


@dataclass(frozen=True)
class LabelledPhotos:
    """The labelled photos, in the order of the features.

    `roots` float64 [N, 1280]: the square roots of the pooled features, 0 to 2.5. `probabilities` float64 [N, 1000]: of
    the classes. `labels` int8 [N, words]: 1 holds, 0 does not, -1 arguable or unknown.
    """

    words: tuple[str, ...]
    source: NDArray[np.str_]
    photo: NDArray[np.str_]
    roots: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int8]

    def column(self, word: str) -> NDArray[np.int8]:
        """Return the labels of `word`, int8 [N]."""
        return self.labels[:, self.words.index(word)]

    def mass(self, classes: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the clipped log-odds of the mass of `classes`, a bool [1000], for each photo: -6 to 6, [N]."""
        mass = self.probabilities @ classes
        return np.clip(np.log((mass + 0.001) / (1.001 - mass)), -6, 6)


def read_photos(*features: Path) -> LabelledPhotos:
    """Join files of features (see extract_features.py) with labels.tsv. Photos without labels are left out.

    Raises `SystemExit` if a labelled photo has no features.
    """
    known = _labels()
    keys, pooled, logits = zip(*(_read(path) for path in features), strict=True)
    every = [key for part in keys for key in part]
    rows = np.array([key in known for key in every])
    kept = [key for key in every if key in known]
    missing = known.keys() - set(kept)
    if missing:
        raise SystemExit(f"{len(missing)} labelled photos have no features, such as {'/'.join(min(missing))}")
    words = tuple(sorted({word for holds, _ in known.values() for word in holds}))
    unlabelled = {row["source"]: _listed(row["unlabelled"]) for row in table(SOURCES)}
    labels = np.zeros((len(kept), len(words)), np.int8)
    for number, key in enumerate(kept):
        holds, arguable = known[key]
        unknown = arguable | unlabelled[key[0]]
        labels[number] = [1 if word in holds else -1 if word in unknown else 0 for word in words]
    return LabelledPhotos(
        words,
        np.array([source for source, _ in kept]),
        np.array([photo for _, photo in kept]),
        np.sqrt(np.maximum(np.concatenate(pooled)[rows].astype(np.float64), 0)),
        _softmax(np.concatenate(logits)[rows].astype(np.float64) / TEMPERATURE),
        labels,
    )


def sources(use: str) -> tuple[str, ...]:
    """Return the sources for one `use`, `train` or `test`."""
    return tuple(row["source"] for row in table(SOURCES) if row["use"] == use)


def composites() -> dict[str, NDArray[np.bool_]]:
    """Return the classes of each word of composites.tsv by its name: bool [1000], in the order of the logits."""
    synsets = [line.split()[0] for line in (MODEL / "labels.txt").read_text(encoding="utf-8").splitlines()]
    return {row["name"]: np.isin(synsets, row["classes"].split("|")) for row in table(COMPOSITES)}


def table(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a tab-separated table with `#` comments, its cells by the names of the first line."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    names = lines[0].split("\t")
    for line in lines[1:]:
        yield dict(zip(names, line.split("\t"), strict=True))


def _read(features: Path) -> tuple[list[tuple[str, str]], NDArray[np.float16], NDArray[np.float16]]:
    with np.load(features, allow_pickle=False) as data:
        keys = list(zip(data["source"].tolist(), data["photo"].tolist(), strict=True))
        return keys, data["pooled"], data["logits"]


def _labels() -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    return {(row["source"], row["photo"]): (_listed(row["words"]), _listed(row["arguable"])) for row in table(LABELS)}


def _listed(cell: str) -> set[str]:
    return set() if cell == "-" else set(cell.split("|"))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result
