"""Measure on labelled photos how reliable a model's tags are, and fit its temperature and thresholds.

    python benchmarks/calibrate.py PHOTOS... [--fit] [--temperature T] [--list] [--model NAME|DIR]

Each PHOTOS is a folder with labels, as judging.py describes them. Prints a table for each. Its rows are the defaults of
scan, other thresholds and crops, and the usual ways without a tree. Its columns are shares:

- right tags: of the judged tags. The other columns are shares of photos, apart from the tags per photo.
- no io: photos with a right tag other than indoor and outdoor, which nearly every photo has.
- tall person: photos that say person, of those with a person taller than a fifth of the picture (tall.txt).
- said: of all words that hold, those that are said.
- places: photos of objects with a word of people or places. These words are not judged there, so look at them: --list
  prints them, and the wrong tags of each photo.

With --fit, also prints the temperature and thresholds for the model card, without a head of words. They give the
greatest share of photos with a right tag, if each photo with a wrong tag cancels three with a right one. The figures of
half of the photos, or of the folders of objects, by a fit on the other half follow. With --temperature, only the
thresholds are fitted. Do not use photos that the model was trained on, because it is surer of these than of others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from judging import Collection, Judge, Judged, figures, judge_tags, read_collection, share
from numpy.typing import NDArray
from wordnet import NOUN_FILE, Nouns

from phototag.analysis.classifier import Classifier
from phototag.cli.event_messages import event_message
from phototag.core import Results
from phototag.images.decode import prepare_photo
from phototag.images.preprocess import MOST_CROPS
from phototag.models.find import DEFAULT_MODEL, Model, find_model
from phototag.run.choosing import make_chooser
from phototag.run.settings import Settings
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.evidence import words_of_labels, words_of_tree
from phototag.vocabulary.label_rule import LabelRule
from phototag.vocabulary.taxonomy import LevelThresholds
from phototag.vocabulary.tree_rule import TreeRule
from phototag.zoo.build import ensure_built

BATCH_SIZE = 8
MAX_TAGS = 12
# A photo with a wrong tag cancels this many photos with a right one.
COST_OF_WRONG = 3
TEMPERATURES = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1)
THRESHOLDS = {
    "root": (0.35, 0.4, 0.45, 0.5, 0.55),
    "inner": (0.65, 0.7, 0.75, 0.8),
    "leaf": (0.8, 0.85, 0.9),
}
HALVES = 10
# The folders whose photos trained the head that ships.
TRAINED_ON = ("coco128",)


@dataclass(frozen=True)
class Looked:
    """What a model gives for photos and their crops.

    logits: up to a constant, [photos, crops, classes]. words: probabilities, [photos, crops, words], without a head 0
    words.
    """

    logits: NDArray[np.float64]
    words: NDArray[np.float64]

    def results(self, crops: int, temperature: float) -> list[Results]:
        """Return the results for each photo: the means over its crops."""
        scores = softmax(self.logits[:, :crops], temperature).mean(axis=1)
        words = self.words[:, :crops].mean(axis=1)
        return [{"objects": row, "words": of_row} for row, of_row in zip(scores, words, strict=True)]


def look_at(collection: Collection, model: Model, classifier: Classifier) -> Looked:
    """Run the model on the photos. `classifier` has a temperature of 1."""
    logits, words = [], []
    for start in range(0, len(collection.paths), BATCH_SIZE):
        batch = collection.paths[start : start + BATCH_SIZE]
        crops = [prepare_photo(path, model.preprocessing, MOST_CROPS) for path in batch]
        given = classifier.results(np.concatenate(crops), "probabilities")
        rows = np.log(np.maximum(given["objects"].astype(np.float64), 1e-30))
        logits.append(rows.reshape(len(batch), MOST_CROPS, -1))
        of_head = given.get("words", np.zeros((len(rows), 0), np.float32)).astype(np.float64)
        words.append(of_head.reshape(len(batch), MOST_CROPS, -1))
    return Looked(np.concatenate(logits), np.concatenate(words))


def softmax(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return probabilities over the last axis."""
    scaled = logits / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def judged(collection: Collection, results: Sequence[Results], chooser: Chooser) -> list[Judged]:
    """Return the judged tags that `chooser` gives each photo."""
    pairs = zip(results, collection.truths, strict=True)
    return [judge_tags(chooser.choose(one), truth) for one, truth in pairs]


def tree_chooser(model: Model, levels: LevelThresholds) -> Chooser:
    """Return a chooser without a head."""
    assert model.taxonomy is not None
    rule = TreeRule(model.labels, model.taxonomy, levels=levels, max_tags=MAX_TAGS)
    return Chooser(rule, words_of_tree(model.taxonomy), MAX_TAGS)


def policies(model: Model) -> Iterator[tuple[str, int, bool, Chooser]]:
    """Yield each policy of the table: its name, the crops, whether to use the card's temperature, and the chooser."""

    def flat(threshold: float | None) -> Chooser:
        return Chooser(LabelRule(model.labels, threshold=threshold, max_tags=5), words_of_labels(model.labels), 5)

    default = make_chooser(Settings(), model)
    yield "default", 1, True, default
    if "words" in default.needs:
        yield "without the head", 1, True, tree_chooser(model, model.card.thresholds)
    for crops in range(2, MOST_CROPS + 1):
        yield f"`--crops {crops}`", crops, True, default
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        yield f"`--threshold {threshold}`", 1, True, make_chooser(Settings(threshold=threshold), model)
    yield "the 5 likeliest labels", 1, False, flat(None)
    yield "labels with p > 0.1, at most 5", 1, False, flat(0.1)


def columns(collection: Collection, photos: Sequence[Judged], judge: Judge) -> dict[str, float]:
    """Return the figures of the table of `collection`, by column."""
    found = figures(photos)
    row = {"right tags": found.precision, "photos with one": found.right}
    if collection.has_scenes:
        row |= {"no io": found.right_no_io}
    row |= {"with a wrong one": found.wrong}
    if collection.has_scenes:
        row |= {"without a tag": found.none, "tall person": found.tall, "said": found.said}
    if collection.is_of_objects:
        with_leaf = sum(not one.tags.isdisjoint(judge.leaves) for one in photos)
        places = sum(not one.tags.isdisjoint(judge.place_words) for one in photos)
        row |= {"with a leaf": share(with_leaf, len(photos)), "places": share(places, len(photos))}
    return row | {"tags": found.tags}


def print_table(collection: Collection, looked: Looked, model: Model, judge: Judge, lists: bool) -> None:
    """Print a table of the README, and with `lists` what to look at."""
    for number, (name, crops, with_temperature, chooser) in enumerate(policies(model)):
        results = looked.results(crops, model.card.temperature if with_temperature else 1.0)
        photos = judged(collection, results, chooser)
        row = columns(collection, photos, judge)
        if number == 0:
            print(f"\n| {collection.name} | {' | '.join(row)} |\n| --- |{' --- |' * len(row)}")
            default = photos
        cells = (f"{value:.1f}" if column == "tags" else f"{value:.3f}" for column, value in row.items())
        print(f"| {name} | {' | '.join(cells)} |")
    if collection.has_scenes and collection.name in TRAINED_ON and model.card.name == DEFAULT_MODEL:
        print("The head was trained on these photos. everyday.py judges them by heads that did not see them.")
    if lists:
        print_list(collection, default, judge)


def print_list(collection: Collection, photos: Sequence[Judged], judge: Judge) -> None:
    """Print the wrong tags of each photo, and of photos of objects the words of places, with their counts."""
    counts: Counter[str] = Counter()
    for path, one in zip(collection.paths, photos, strict=True):
        places = one.unjudged & judge.place_words if collection.is_of_objects else frozenset()
        counts.update(places)
        if one.wrong or places:
            print(f"{path.parent.name}/{path.name}: wrong {judge.names(one.wrong)}; places {judge.names(places)}")
    print(f"{collection.name}, words of places:", {judge.names([word]): n for word, n in counts.most_common()})


Setting = tuple[float, LevelThresholds]


@dataclass(frozen=True)
class Outcome:
    """What a setting does on a collection, all [photos]: the right and wrong tags."""

    right: NDArray[np.int64]
    wrong: NDArray[np.int64]


def outcomes(
    collections: Sequence[Collection], looked: Sequence[Looked], model: Model, temperatures: Sequence[float]
) -> dict[Setting, list[Outcome]]:
    """Return what each setting does on each collection."""
    found: dict[Setting, list[Outcome]] = {}
    for temperature in temperatures:
        results = [one.results(1, temperature) for one in looked]
        for levels in itertools.starmap(LevelThresholds, itertools.product(*THRESHOLDS.values())):
            chooser = tree_chooser(model, levels)
            for collection, of_collection in zip(collections, results, strict=True):
                photos = judged(collection, of_collection, chooser)
                right, wrong = ([len(getattr(one, name)) for one in photos] for name in ("right", "wrong"))
                found.setdefault((temperature, levels), []).append(Outcome(np.array(right), np.array(wrong)))
    return found


def best(found: dict[Setting, list[Outcome]], masks: Sequence[NDArray[np.bool_]]) -> Setting:
    """Return the setting of the greatest worth on the photos in `masks`, one for each collection.

    Of equals, the one with the higher thresholds.
    """

    def worth(setting: Setting) -> tuple[float, float]:
        pairs = zip(found[setting], masks, strict=True)
        each = [(one.right[mask] > 0).mean() - COST_OF_WRONG * (one.wrong[mask] > 0).mean() for one, mask in pairs]
        _, levels = setting
        return round(float(sum(each)), 6), levels.root + levels.inner + levels.leaf

    return max(found, key=worth)


def print_fit(collections: Sequence[Collection], found: dict[Setting, list[Outcome]]) -> None:
    """Print the fitted temperature and thresholds, and how fits on halves do on the photos that they did not see."""
    temperature, levels = best(found, [np.ones(len(one.paths), bool) for one in collections])
    thresholds = {"root": levels.root, "inner": levels.inner, "leaf": levels.leaf}
    print("\n" + json.dumps({"temperature": temperature, "thresholds": thresholds}))
    counts = np.zeros((len(collections), 4))
    for halves in halves_of(collections):
        setting = best(found, halves)
        for number, (outcome, half) in enumerate(zip(found[setting], halves, strict=True)):
            right, wrong = outcome.right[~half], outcome.wrong[~half]
            counts[number] += (right.sum(), wrong.sum(), (right > 0).sum(), len(right))
    for collection, (right, wrong, covered, total) in zip(collections, counts, strict=True):
        figures_ = f"right {share(right, right + wrong):.3f}, covered {share(covered, total):.3f}"
        print(f"{collection.name}, each half by a fit on the other: {figures_}")


def halves_of(collections: Sequence[Collection]) -> Iterator[list[NDArray[np.bool_]]]:
    """Yield which photos of each collection belong to a random half of its groups, and which to the other."""
    generator = random.Random(0)
    for _ in range(HALVES):
        groups = [sorted(set(one.groups)) for one in collections]
        chosen = [generator.sample(names, len(names) // 2) for names in groups]
        halves = [np.isin(one.groups, names) for one, names in zip(collections, chosen, strict=True)]
        yield halves
        yield [~half for half in halves]


def main() -> None:
    """Measure the collections, and print the tables and the fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--wordnet", type=Path, default=NOUN_FILE)
    arguments = parser.parse_args()
    model = find_model(arguments.model)
    if model.taxonomy is None:
        raise SystemExit(f"{arguments.model} has no tree")
    ensure_built(model, lambda event: print(event_message(event), file=sys.stderr))
    judge = Judge.of(model, Nouns.read(arguments.wordnet))
    collections = [read_collection(folder, judge) for folder in arguments.photos]
    # Without the card's temperature, because the tables and the fit apply their own.
    classifier = Classifier(replace(model, card=replace(model.card, temperature=1.0)))
    looked = [look_at(collection, model, classifier) for collection in collections]
    for collection, one in zip(collections, looked, strict=True):
        print_table(collection, one, model, judge, arguments.list)
    if arguments.fit:
        temperatures = TEMPERATURES if arguments.temperature is None else (arguments.temperature,)
        print_fit(collections, outcomes(collections, looked, model, temperatures))


if __name__ == "__main__":
    main()
