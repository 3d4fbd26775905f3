"""Measure on labelled photos how reliable a model's tags are, and fit its temperature and thresholds.

    python benchmarks/calibrate.py PHOTOS... [--fit] [--model NAME|DIR] [--wordnet /usr/share/wordnet/data.noun]

Each PHOTOS is a folder with a labels.json. For photos of one object each, it is `{"llama": "n02437616", ...}`: the
WordNet 3.0 synset that the photos in each subfolder show. A tag is right if it is that synset, a kind of it, or a word
that it is a kind of, by WordNet or by the tree. For scenes, it is `{"1.jpg": ["dog", "chair"], ...}`: all things in
each photo that are of the kinds in kinds.tsv. Tags about which none of those kinds decides are not counted.

Prints a table: the share of right tags, of photos with a right tag, of photos with a wrong tag, and the tags per photo.
Its rows are the defaults of scan, other thresholds and crops, and the usual ways without a tree.

With --fit, also prints the temperature and thresholds for the model card. They give the greatest share of photos with a
right tag, if each photo with a wrong tag cancels three with a right one. Their figures for folders that they were not
fitted on follow. Do not use photos that the model was trained on, because it is surer of these than of others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phototag.analysis.classifier import Classifier
from phototag.cli.event_messages import event_message
from phototag.core import Photo
from phototag.images.decode import prepare_photo
from phototag.images.preprocess import MOST_CROPS
from phototag.models.find import DEFAULT_MODEL, Model, find_model
from phototag.photos.find import find_photos
from phototag.vocabulary.choose import Chooser, LabelRule, TreeRule
from phototag.vocabulary.taxonomy import LevelThresholds, Taxonomy
from phototag.zoo.build import ensure_built

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "models" / "taxonomies" / "source"))
from wordnet import NOUN_FILE, Nouns  # noqa: E402

KINDS = Path(__file__).with_name("kinds.tsv")
BATCH_SIZE = 8
MAX_TAGS = 12
# A photo with a wrong tag cancels this many photos with a right one.
COST_OF_WRONG = 3
TEMPERATURES = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1)
THRESHOLDS = {
    "root": (0.4, 0.45, 0.5, 0.55, 0.6, 0.7),
    "inner": (0.55, 0.6, 0.65, 0.7, 0.75),
    "leaf": (0.75, 0.8, 0.85, 0.9),
}


@dataclass(frozen=True)
class Collection:
    """Labelled photos. For each: `groups`, the folder or file that was labelled, and `right`, the words that are right.

    `judged`: the words that are judged at all; None for all.
    """

    name: str
    paths: list[Path]
    groups: list[str]
    right: list[frozenset[str]]
    judged: frozenset[str] | None


class Judge:
    """Knows which words are right for what a photo shows."""

    def __init__(self, taxonomy: Taxonomy, classes: Iterable[str], nouns: Nouns) -> None:
        self._nouns = nouns
        self._up = {node: self._path_of(taxonomy, node) for node in taxonomy.nodes}
        self._known = {synset: {synset, *nouns.above(synset)} for synset in {*classes, *taxonomy.nodes}}
        self._classes = [synset for synset in classes if synset in taxonomy.nodes]

    @staticmethod
    def _path_of(taxonomy: Taxonomy, node_id: str) -> frozenset[str]:
        path = set()
        at: str | None = node_id
        while at is not None:
            path.add(at)
            at = taxonomy.nodes[at].parent
        return frozenset(path)

    def right(self, synset: str, more: Iterable[str] = ()) -> frozenset[str]:
        """Return the ids of the words that are right for a photo that shows a `synset`, with those above `more`."""
        above = {synset, *self._nouns.above(synset)}
        below = {known for known, its_own in self._known.items() if synset in its_own}
        paths = (self._up[node] for node in (*(below & self._up.keys()), *more, *({synset} & self._up.keys())))
        return frozenset(above | below).union(*paths)


def read_collection(folder: Path, judge: Judge) -> Collection:
    """Read the labels and find the photos of `folder`."""
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    photos = [one.path for one in find_photos([folder]) if isinstance(one, Photo)]
    if all(isinstance(value, str) for value in labels.values()):
        groups = [path.parent.name for path in photos]
        words = {group: judge.right(synset) for group, synset in labels.items()}
        return Collection(folder.name, photos, groups, [words[group] for group in groups], None)
    rows = [line.split("\t") for line in KINDS.read_text(encoding="utf-8").splitlines() if line[0] != "#"][1:]
    kinds = {kind: judge.right(synset, more.split("|") if more != "-" else ()) for kind, synset, more in rows}
    right = [frozenset[str]().union(*(kinds[kind] for kind in labels.get(path.name, ()))) for path in photos]
    return Collection(folder.name, photos, [path.name for path in photos], right, frozenset().union(*kinds.values()))


@dataclass(frozen=True)
class Figures:
    """The figures of a policy: shares of tags and of photos, 0 to 1, and tags per photo."""

    precision: float
    coverage: float
    wrong: float
    tags: float


def judge_tags(collection: Collection, scores: NDArray[np.float64], chooser: Chooser) -> Figures:
    """Count the right and wrong tags that `chooser` chooses."""
    rights, wrongs = count_tags(collection, scores, chooser)
    return Figures(
        precision=float(rights.sum() / max(1, rights.sum() + wrongs.sum())),
        coverage=float((rights > 0).mean()),
        wrong=float((wrongs > 0).mean()),
        tags=float((rights.sum() + wrongs.sum()) / max(1, len(rights))),
    )


def count_tags(
    collection: Collection, scores: NDArray[np.float64], chooser: Chooser
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many right and how many wrong tags `chooser` gives each photo, [photos] each."""
    counts = []
    for right, row in zip(collection.right, scores, strict=True):
        ids = [tag.synset or f"x-{tag.name.replace(' ', '-')}" for tag in chooser.choose({"objects": row})]
        judged = [one for one in ids if collection.judged is None or one in collection.judged]
        counts.append((sum(one in right for one in judged), sum(one not in right for one in judged)))
    rights, wrongs = np.array(counts).T
    return rights, wrongs


def logits_of(collection: Collection, model: Model, classifier: Classifier) -> NDArray[np.float64]:
    """Return [photos, crops, classes]: logits up to a constant, for the most crops there are."""
    rows = []
    for start in range(0, len(collection.paths), BATCH_SIZE):
        batch = collection.paths[start : start + BATCH_SIZE]
        crops = [prepare_photo(path, model.preprocessing, MOST_CROPS) for path in batch]
        scores = classifier.predict(np.concatenate(crops)).astype(np.float64)
        rows.append(np.log(np.maximum(scores, 1e-30)).reshape(len(batch), MOST_CROPS, -1))
    return np.concatenate(rows)


def softmax(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return probabilities over the last axis."""
    scaled = logits / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def policies(model: Model) -> dict[str, tuple[int, bool, Chooser]]:
    """Return each policy of the table: the crops, whether to use the card's temperature, and the chooser."""
    assert model.taxonomy is not None
    taxonomy, levels = model.taxonomy, model.card.thresholds

    def tree(threshold: float = 0.7) -> Chooser:
        rule = TreeRule(model.labels, taxonomy, levels=levels, threshold=threshold, max_tags=MAX_TAGS)
        return Chooser((rule,), MAX_TAGS)

    def flat(threshold: float | None) -> Chooser:
        return Chooser((LabelRule(model.labels, threshold=threshold, max_tags=5),), 5)

    rows: dict[str, tuple[int, bool, Chooser]] = {"default": (1, True, tree())}
    rows |= {f"`--crops {crops}`": (crops, True, tree()) for crops in range(2, MOST_CROPS + 1)}
    rows |= {f"`--threshold {threshold}`": (1, True, tree(threshold)) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)}
    rows["the 5 likeliest labels"] = (1, False, flat(None))
    rows["labels with p > 0.1, at most 5"] = (1, False, flat(0.1))
    return rows


def print_table(collections: Sequence[Collection], logits: Sequence[NDArray[np.float64]], model: Model) -> None:
    """Print the table of the README."""
    names = " | ".join(f"{one.name}: right tags | photos with one | with a wrong one | tags" for one in collections)
    print(f"| tags | {names} |\n| --- |{' --- |' * 4 * len(collections)}")
    for name, (crops, with_temperature, chooser) in policies(model).items():
        cells = []
        for collection, scores in zip(collections, logits, strict=True):
            temperature = model.card.temperature if with_temperature else 1.0
            figures = judge_tags(collection, softmax(scores[:, :crops], temperature).mean(axis=1), chooser)
            cells.append(f"{figures.precision:.3f} | {figures.coverage:.3f} | {figures.wrong:.3f} | {figures.tags:.1f}")
        print(f"| {name} | {' | '.join(cells)} |")


@dataclass(frozen=True)
class Counted:
    """Right and wrong tags of each photo of a collection, [photos], by level and threshold; at one temperature."""

    right: dict[tuple[str, float], NDArray[np.int64]]
    wrong: dict[tuple[str, float], NDArray[np.int64]]


def count(collection: Collection, probabilities: NDArray[np.float64], model: Model) -> Counted:
    """Count the tags of each level by itself, which no other level's threshold changes."""
    assert model.taxonomy is not None
    right, wrong = {}, {}
    for level, thresholds in THRESHOLDS.items():
        for threshold in thresholds:
            # 1 - 1e-9: no other level gives a tag.
            levels = replace(LevelThresholds(1 - 1e-9, 1 - 1e-9, 1 - 1e-9), **{level: threshold})
            rule = TreeRule(model.labels, model.taxonomy, levels=levels, max_tags=10**6)
            chooser = Chooser((rule,), 10**6)
            right[level, threshold], wrong[level, threshold] = count_tags(collection, probabilities, chooser)
    return Counted(right, wrong)


Setting = tuple[float, LevelThresholds]
Worth = Callable[[Setting, NDArray[np.bool_] | None], float]


def fit(worth: Worth, mask: NDArray[np.bool_] | None = None) -> Setting:
    """Return the setting of the greatest worth. `mask`: which photos of single objects to fit on."""
    grid = [
        (temperature, LevelThresholds(*levels))
        for temperature in TEMPERATURES
        for levels in itertools.product(*THRESHOLDS.values())
    ]
    return max(grid, key=lambda setting: worth(setting, mask))


def print_fit(collections: Sequence[Collection], logits: Sequence[NDArray[np.float64]], model: Model) -> None:
    """Print the fitted temperature and thresholds, and how they do on objects that they were not fitted on."""
    counted = {
        temperature: [
            count(collection, softmax(scores[:, 0], temperature), model)
            for collection, scores in zip(collections, logits, strict=True)
        ]
        for temperature in TEMPERATURES
    }

    def worth(setting: Setting, mask: NDArray[np.bool_] | None) -> float:
        """Return the share of photos with a right tag minus the cost of those with a wrong one, over collections."""
        temperature, levels = setting
        keys = [("root", levels.root), ("inner", levels.inner), ("leaf", levels.leaf)]
        total = 0.0
        for each, collection in zip(counted[temperature], collections, strict=True):
            right, wrong = sum(each.right[key] for key in keys) > 0, sum(each.wrong[key] for key in keys) > 0
            if mask is not None and collection.judged is None:
                right, wrong = right[mask], wrong[mask]
            total += right.mean() - COST_OF_WRONG * wrong.mean()
        return round(total, 6)

    temperature, levels = fit(worth)
    thresholds = {"root": levels.root, "inner": levels.inner, "leaf": levels.leaf}
    print(json.dumps({"temperature": temperature, "thresholds": thresholds}))
    for number, collection in enumerate(collections):
        if collection.judged is None:
            print_left_out(collection, counted, number, lambda mask: fit(worth, mask))


def print_left_out(
    collection: Collection,
    counted: dict[float, list[Counted]],
    number: int,
    fit_on: Callable[[NDArray[np.bool_]], Setting],
) -> None:
    """Print the figures of fits on all folders except one, measured on that one and summed over all folders."""
    groups = np.array(collection.groups)
    right = np.zeros(len(groups), np.int64)
    wrong = np.zeros(len(groups), np.int64)
    for group in sorted(set(collection.groups)):
        temperature, levels = fit_on(groups != group)
        for key in (("root", levels.root), ("inner", levels.inner), ("leaf", levels.leaf)):
            each = counted[temperature][number]
            right[groups == group] += each.right[key][groups == group]
            wrong[groups == group] += each.wrong[key][groups == group]
    precision, coverage = right.sum() / (right.sum() + wrong.sum()), (right > 0).mean()
    print(f"{collection.name}, each folder by a fit on the others: right {precision:.3f}, covered {coverage:.3f}")


def main() -> None:
    """Measure the collections, and print the table and the fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--wordnet", type=Path, default=NOUN_FILE)
    arguments = parser.parse_args()
    model = find_model(arguments.model)
    if model.taxonomy is None:
        raise SystemExit(f"{arguments.model} has no tree")
    ensure_built(model, lambda event: print(event_message(event), file=sys.stderr))
    synsets = [label.synset for label in model.labels if label.synset]
    judge = Judge(model.taxonomy, synsets, Nouns.read(arguments.wordnet))
    collections = [read_collection(folder, judge) for folder in arguments.photos]
    # Without the card's temperature, because the table and the fit apply their own.
    classifier = Classifier(replace(model, card=replace(model.card, temperature=1.0)))
    logits = [logits_of(collection, model, classifier) for collection in collections]
    print_table(collections, logits, model)
    if arguments.fit:
        print_fit(collections, logits, model)


if __name__ == "__main__":
    main()
