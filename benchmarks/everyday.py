"""Judge all tags of everyday photos without running the model, and compare them with the goals.

    python benchmarks/everyday.py FEATURES CROSS [--coco128 FOLDER] [--detector FILE] [--list]
                                  [--head FILE --thresholds FILE] [--wordnet /usr/share/wordnet/data.noun]

FEATURES is an .npz file with one row for each photo: `source`, `photo`, `pooled` [N, 1280] and `logits` [N, 1000] of
the default model, `labels` [N, L] by eye (1 holds, 0 does not, -1 unknown or arguable) and their `words` [L].

CROSS is an .npz file with `words` [W] and `p` [W, N]: the probabilities of each word by heads that did not see the
photo. The training script writes it. The sources in `CROSS_FITTED` trained the head that ships, so they are judged by
these. Those in `NEVER_SEEN` are judged by the head itself, or by the one in --head with the thresholds in --thresholds,
a JSON object of words.

--coco128: the folder of that source, with labels.json for its things. Without it they are not judged. Those of
`imagenet` are judged by the class, which the model itself learned from these photos. --detector: an .npz file with
`source`, `photo` and `best` [M, 80], the best score of a detector for each of COCO's kinds, for rows with --detect.

Prints a table of the figures of judging.py for each source: by the head alone, without it, and by both. Then the goals,
and each word. With --list, the wrong tags of each photo.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from calibrate import MAX_TAGS, softmax
from judging import Figures, Judge, Judged, Truth, figures, judge_tags, read_json, scene_truth, share
from numpy.typing import NDArray
from wordnet import NOUN_FILE, Nouns

from phototag.core import Results, ScoreLine
from phototag.models.find import DEFAULT_MODEL, Model, find_model
from phototag.models.head import Head, read_head
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.evidence import Rule, words_of_tree
from phototag.vocabulary.head_rule import DetectorRule, HeadRule
from phototag.vocabulary.tree_rule import TreeRule

CROSS_FITTED = ("coco128", "coco-mini", "coco-vqa", "openimages", "imagenet")
NEVER_SEEN = ("bsds", "camera")
# Names that labels have and words of the tree do not.
NAMES = {"flowers": "flower"}
HEAD, TREE, ALL, DETECT = "head alone", "without the head", "all tags", "all tags, --detect"


@dataclass(frozen=True)
class Goal:
    """What a figure of the tags of a source must reach. `at_most`: or not exceed."""

    source: str
    tags: str
    figure: str
    value: float
    at_most: bool = False

    def is_met(self, found: Figures) -> bool:
        """Return whether the figure, of three digits for the precision and of two for shares of photos, is enough."""
        value = round(getattr(found, self.figure), 3 if self.figure == "precision" else 2)
        return value <= self.value if self.at_most else value >= self.value


GOALS = (
    Goal("bsds", HEAD, "precision", 0.98),
    Goal("bsds", HEAD, "right", 0.91),
    Goal("bsds", HEAD, "none", 0.07, at_most=True),
    Goal("camera", HEAD, "precision", 0.937),
    Goal("camera", HEAD, "right", 0.64),
    Goal("camera", HEAD, "none", 0.24, at_most=True),
    Goal("coco128", ALL, "none", 0.05, at_most=True),
    Goal("coco128", ALL, "right", 0.92),
    Goal("coco128", ALL, "right_no_io", 0.83),
    Goal("coco128", ALL, "precision", 0.96),
    Goal("coco128", ALL, "tall", 0.75),
    Goal("coco128", DETECT, "tall", 0.87),
)
WORDS_GOAL = 23


class Photos:
    """The rows of a file of features, with what a head says of them and what is known of them.

    `source`, `photo`: [N]. `words`: the probabilities of the head's words, [N, W]; by cross-fitted heads for those
    photos that the head saw. `objects`: the probabilities of the classes, [N, classes].
    """

    def __init__(self, features: Mapping[str, NDArray], cross: Mapping[str, NDArray], model: Model, head: Head) -> None:
        self.source, self.photo = features["source"], features["photo"].tolist()
        logits = features["logits"].astype(np.float64)
        self.objects = softmax(logits, model.card.temperature)
        self.words = probabilities(head, features["pooled"].astype(np.float64), softmax(logits, head.temperature))
        fitted = {NAMES.get(word, word): p for word, p in zip(cross["words"].tolist(), cross["p"], strict=True)}
        seen = np.isin(self.source, CROSS_FITTED)
        for column, word in enumerate(head.words):
            by_others = fitted.get(word, np.full(len(seen), np.nan))
            # A word that the cross-fitted heads do not know is not said.
            self.words[seen, column] = np.nan_to_num(by_others[seen], nan=0.0)
        self._labels, self._names = features["labels"], features["words"].tolist()

    def rows(self, source: str) -> list[int]:
        """Return the numbers of the rows of a source."""
        return np.flatnonzero(self.source == source).tolist()

    def results(self, row: int, boxes: Sequence[SimpleNamespace] = ()) -> Results:
        """Return the results of the analyzers for a photo."""
        return {"objects": self.objects[row], "words": self.words[row], "boxes": boxes}

    def truth(self, row: int, judge: Judge, coco128: Mapping[str, list[str]]) -> Truth:
        """Return what is known of a photo. `coco128`: the kinds of things of the photos of that source."""
        source, photo = self.source[row], self.photo[row]
        labels = {
            name: None if label < 0 else bool(label)
            for name, label in zip(self._names, self._labels[row].tolist(), strict=True)
        }
        if source == "imagenet":
            return judge.scene_truth(labels, judge.object_truth(photo.split("_")[0]))
        if source == "coco128" and photo in coco128:
            things = scene_truth(judge, photo, coco128[photo], None)
            return judge.scene_truth(labels, things)
        return judge.scene_truth(labels)


def probabilities(head: Head, pooled: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of the head's words, [N, W], from pooled features and probabilities of the classes."""
    mass = scores @ head.classes.T
    odds = np.clip(np.log((mass + 0.001) / (1.001 - mass)), -6, 6)
    total = np.sqrt(np.maximum(pooled, 0)) @ head.weights.T + head.bias + head.mass_weight * odds
    return 1 / (1 + np.exp(-total))


class Choosers:
    """The choosers that are compared, by the names of their rows. All give tags of the model's tree."""

    def __init__(self, model: Model, head: Head, thresholds: Mapping[str, float]) -> None:
        assert model.taxonomy is not None
        ids = {node.name: node.id for node in model.taxonomy.nodes.values()}
        self.words = [ids[word] for word in head.words]
        self.needed = {ids[word]: threshold for word, threshold in thresholds.items()}
        self._model, self._taxonomy = model, model.taxonomy
        detector = DetectorRule(model.taxonomy, ScoreLine())
        self._choosers = {
            TREE: self._chooser([]),
            ALL: self._chooser([self._head()]),
            DETECT: self._chooser([self._head(joined=["n00007846"]), detector]),
        }

    def tags(self, name: str, results: Results, truth: Truth) -> Judged:
        """Return the judged tags of a photo."""
        if name != HEAD:
            return judge_tags(self._choosers[name].choose(results), truth)
        pairs = zip(self.words, results["words"].tolist(), strict=True)
        said = frozenset(word for word, p in pairs if p >= self.needed.get(word, np.inf))
        return Judged(said & truth.right, (said & truth.judged) - truth.right, said - truth.judged - truth.right, truth)

    def _head(self, joined: Sequence[str] = ()) -> HeadRule:
        return HeadRule(self.words, self.needed, self._taxonomy, joined=joined)

    def _chooser(self, more: Sequence[Rule]) -> Chooser:
        levels = self._model.card.thresholds
        tree = TreeRule(self._model.labels, self._taxonomy, levels=levels, max_tags=MAX_TAGS)
        return Chooser(tree, words_of_tree(self._taxonomy), MAX_TAGS, more)


def read_detector(path: Path | None) -> dict[tuple[str, str], list[SimpleNamespace]]:
    """Return what a detector found for persons, by source and photo."""
    if path is None:
        return {}
    with np.load(path) as file:
        keys = zip(file["source"].tolist(), file["photo"].tolist(), strict=True)
        return {
            key: [SimpleNamespace(name="person", score=score)]
            for key, score in zip(keys, file["best"][:, 0].astype(float).tolist(), strict=True)
        }


def print_figures(found: Mapping[tuple[str, str], list[Judged]]) -> None:
    """Print the table of figures, and whether the goals are met."""
    print("| source | photos | tags of | tags | right tags | photos with one | no io | with a wrong one | without a tag"
          " | tall person | said |\n| --- |" + " --- |" * 10)  # fmt: skip
    for (source, name), photos in found.items():
        one = figures(photos)
        values = (one.precision, one.right, one.right_no_io, one.wrong, one.none, one.tall, one.said)
        cells = " | ".join(f"{value:.3f}" for value in values)
        print(f"| {source} | {len(photos)} | {name} | {one.tags:.2f} | {cells} |")
    print("\n| goal | | reached | |\n| --- | --- | --- | --- |")
    for goal in GOALS:
        photos = found.get((goal.source, goal.tags))
        if photos:
            reached, sign = figures(photos), "<=" if goal.at_most else ">="
            value, verdict = getattr(reached, goal.figure), "met" if goal.is_met(reached) else "missed"
            print(f"| {goal.source}, {goal.tags}: {goal.figure} | {sign} {goal.value} | {value:.3f} | {verdict} |")


def print_words(found: Mapping[tuple[str, str], list[Judged]], judge: Judge, choosers: Choosers) -> None:
    """Print how often each word that a head may say is right among all tags, by the two groups of sources."""
    print("\n| word | threshold | cross-fitted: right | never seen: right |\n| --- | --- | --- | --- |")
    counts = {group: Counter[tuple[str, bool]]() for group in (CROSS_FITTED, NEVER_SEEN)}
    for (source, name), photos in found.items():
        if name == ALL:
            for one in photos:
                group = counts[CROSS_FITTED if source in CROSS_FITTED else NEVER_SEEN]
                group.update((word, True) for word in one.right)
                group.update((word, False) for word in one.wrong)
    for word in choosers.words:
        cells = [f"{count[word, True]}/{count[word, True] + count[word, False]}" for count in counts.values()]
        print(f"| {judge.names([word])} | {choosers.needed.get(word, 'waits')} | {' | '.join(cells)} |")
    spoken = len(choosers.needed)
    print(
        f"\n{spoken} words have a threshold: the goal of {WORDS_GOAL} is {'met' if spoken >= WORDS_GOAL else 'missed'}"
    )


def print_wrong(source: str, names: Iterable[str], photos: Sequence[Judged], judge: Judge) -> None:
    """Print the wrong tags of each photo, and how often each is wrong."""
    counts: Counter[str] = Counter()
    for name, one in zip(names, photos, strict=True):
        counts.update(one.wrong)
        if one.wrong:
            print(f"{source}/{name}: wrong {judge.names(one.wrong)}; right {judge.names(one.right) or 'none'}")
    print(f"{source}, wrong tags:", {judge.names([word]): count for word, count in counts.most_common()})
    unjudged = Counter(word for one in photos for word in one.unjudged)
    total = sum(len(one.tags) for one in photos)
    print(f"{source}, not judged: {share(unjudged.total(), total):.2f} of the tags,",
          {judge.names([word]): count for word, count in unjudged.most_common(20)})  # fmt: skip


def shipped_or_given(model: Model, head: Path | None, thresholds: Path | None) -> tuple[Head, Mapping[str, float]]:
    """Return the head that is judged, and the thresholds of its words."""
    if head is None:
        if model.head is None or model.card.head is None:
            raise SystemExit(f"{model.card.name} has no head; name one with --head")
        return model.head, model.card.head.thresholds
    if thresholds is None:
        raise SystemExit("--head needs --thresholds")
    assert model.taxonomy is not None
    digest = f"sha256:{hashlib.sha256(head.read_bytes()).hexdigest()}"
    known = {node.name for node in model.taxonomy.nodes.values()}
    return read_head(head, digest, known, len(model.labels)), read_json(thresholds)


def main() -> None:
    """Judge the tags of all sources, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("cross", type=Path)
    for name in ("--coco128", "--detector", "--head", "--thresholds"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--wordnet", type=Path, default=NOUN_FILE)
    arguments = parser.parse_args()
    model = find_model(DEFAULT_MODEL)
    judge = Judge.of(model, Nouns.read(arguments.wordnet))
    head, thresholds = shipped_or_given(model, arguments.head, arguments.thresholds)
    choosers = Choosers(model, head, thresholds)
    with np.load(arguments.features) as features, np.load(arguments.cross) as cross:
        photos = Photos(features, cross, model, head)
    coco128 = read_json(arguments.coco128 / "labels.json") if arguments.coco128 else {}
    boxes = read_detector(arguments.detector)
    found: dict[tuple[str, str], list[Judged]] = {}
    for source in (*CROSS_FITTED, *NEVER_SEEN):
        rows = photos.rows(source)
        truths = [photos.truth(row, judge, coco128) for row in rows]
        detected = [boxes.get((source, photos.photo[row])) for row in rows]
        for name in (HEAD, TREE, ALL, DETECT):
            if name != DETECT or all(one is not None for one in detected):
                results = [photos.results(row, one or ()) for row, one in zip(rows, detected, strict=True)]
                found[source, name] = [
                    choosers.tags(name, one, truth) for one, truth in zip(results, truths, strict=True)
                ]
    print_figures(found)
    print_words(found, judge, choosers)
    if arguments.list:
        for source in (*CROSS_FITTED, *NEVER_SEEN):
            print_wrong(source, [photos.photo[row] for row in photos.rows(source)], found[source, ALL], judge)


if __name__ == "__main__":
    main()
