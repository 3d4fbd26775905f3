"""Find how sure the default model must be of each of its most specific words, the leaves of the tree.

    python benchmarks/leaves.py OBJECTS SCENES FEATURES [--write] [--wordnet /usr/share/wordnet/data.noun]

OBJECTS and SCENES are folders as calibrate.py takes them: photos of one object each, and photos with all their objects.
FEATURES is an .npz file with `source`, `photo` and `logits`. Its rows of the source `imagenet` are used. Their photos
are named after their class, and the model was trained on them.

A leaf needs what the card says unless it earned less. What it earned is the lowest of `STEPS` at which it was right on
at least one photo and wrong on none. Photos of ImageNet count for both, although the model is surer of them than of
others. Two limits keep leaves with little evidence from earning too much:

- A leaf needs what the words above it need for themselves.
- A leaf that was right on fewer than five photos of OBJECTS and SCENES needs its family's floor: the lowest step at
  which the tags of the family's leaves are right often enough, those leaves included that are wrong somewhere. There
  are two families, because the model's wrong leaves are mostly animals that it does not know.

Prints the floors and what tags do on OBJECTS: with the card alone, with all evidence, on half of the categories by the
evidence of the other half, and on half of the photos likewise. With --write, writes leaves.tsv.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from calibrate import look_at, softmax
from judging import ROOT, Collection, Judge, Truth, read_collection
from numpy.typing import NDArray
from wordnet import NOUN_FILE, Nouns

from phototag.analysis.classifier import Classifier
from phototag.models.find import DEFAULT_MODEL, Model, find_model
from phototag.vocabulary.taxonomy import Node, Taxonomy
from phototag.zoo.build import ensure_built

LEAVES = ROOT / "models" / "taxonomies" / "source" / "leaves.tsv"
HEADER = """\
# How sure a model must be of a leaf of the tree, where less than the default model's card says is enough.
# Written by benchmarks/leaves.py from labelled photos. A threshold in words.tsv counts more.
#
# id         WordNet 3.0 synset of the class
# threshold  how sure a model must be, 0 to 1
# name       for the reader; not read
"""
STEPS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
# A floor needs this share of right tags, of at least so many. It is the rule for the words of the head.
RIGHT_ENOUGH = 0.93
SAID_ENOUGH = 5
# Leaves that the labels call right and the eye does not. Caltech's emus are labelled as birds, and each ostrich is one.
NOT_LOWERED = frozenset({"n01518878"})
HALVES = 50


@dataclass(frozen=True)
class Evidence:
    """What photos say about words, all [photos, words].

    `masses`: how sure the model is, 0 to 1. `right`: whether the word holds. `judged`: whether it is judged at all.
    """

    masses: NDArray[np.float64]
    right: NDArray[np.bool_]
    judged: NDArray[np.bool_]

    def of(self, photos: NDArray[np.bool_]) -> Evidence:
        """Return the evidence of some of the photos."""
        return Evidence(self.masses[photos], self.right[photos], self.judged[photos])


class Tree:
    """The words of a model's tree as arrays, all [words], in the order of the tree.

    `card`: what each word needs now. `own_above`: the most that a word above it needs for itself.
    """

    def __init__(self, model: Model) -> None:
        assert model.taxonomy is not None
        self.temperature = model.card.temperature
        self.nodes = list(model.taxonomy.nodes.values())
        row = {node.id: number for number, node in enumerate(self.nodes)}
        parents = {node.parent for node in self.nodes}
        # is_above[a, b]: word b is above word a, or is it
        self.is_above = np.eye(len(row), dtype=bool)
        for number, node in enumerate(self.nodes):
            if node.parent is not None:
                self.is_above[number] |= self.is_above[row[node.parent]]
        self.is_tag = np.array([node.state == "tag" for node in self.nodes])
        self.is_leaf = self.is_tag & np.array([node.id not in parents for node in self.nodes])
        self.family = np.array([self.nodes[int(np.argmax(above))].name == "animal" for above in self.is_above])
        own = np.array([node.threshold or 0.0 for node in self.nodes])
        self.own_above = np.where(self.is_above, own, 0.0).max(axis=1)
        levels = model.card.thresholds
        level = [self._level(node, node.id in parents, levels.root, levels.inner, levels.leaf) for node in self.nodes]
        self.card = np.where(own > 0, own, level)
        self._classes = np.zeros((len(model.labels), len(row)))
        for number, label in enumerate(model.labels):
            if label.synset in row and self.nodes[row[label.synset]].state != "never":
                self._classes[number] = self.is_above[row[label.synset]]

    def _level(self, node: Node, has_words_below: bool, root: float, inner: float, leaf: float) -> float:
        if not has_words_below:
            return leaf
        tags_above = self.is_above[self.nodes.index(node)] & self.is_tag
        return root if tags_above.sum() <= 1 else inner

    def evidence(self, logits: NDArray[np.float64], truths: Sequence[Truth]) -> Evidence:
        """Return the evidence of photos, from their logits and what is known of them."""
        return Evidence(
            softmax(logits, self.temperature) @ self._classes,
            np.array([[node.id in truth.right for node in self.nodes] for truth in truths]),
            np.array([[node.id in truth.judged for node in self.nodes] for truth in truths]),
        )

    def tags(self, masses: NDArray[np.float64], needed: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the tags of photos with those above them, [photos, words]."""
        said = (masses >= needed) & self.is_tag
        return (said.astype(np.float32) @ self.is_above.astype(np.float32) > 0) & self.is_tag


def thresholds(
    tree: Tree, objects: Evidence, scenes: Evidence, imagenet: Evidence
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Return what each word needs, [words], and the floors of the families; a floor of 1 lowers nothing."""
    photos = [objects, scenes, imagenet]
    # How sure the model was at most where the word was wrong, and where it was right: [words].
    wrong = np.max([np.where(~one.right & one.judged, one.masses, 0).max(axis=0) for one in photos], axis=0)
    right = np.max([np.where(one.right & one.judged, one.masses, 0).max(axis=0) for one in photos], axis=0)
    kept = np.array([node.threshold is not None or node.id in NOT_LOWERED for node in tree.nodes])
    right[kept | ~tree.is_leaf] = 0
    floors = {
        name: floor_of([objects, scenes], np.where((tree.family == is_animal), right, 0), tree.own_above)
        for name, is_animal in (("animals", True), ("others", False))
    }
    needed = tree.card.copy()
    floor = np.where(tree.family, floors["animals"], floors["others"])
    for step in reversed(STEPS):
        times = sum(((one.masses >= step) & one.right & one.judged).sum(axis=0) for one in (objects, scenes))
        earned = (right >= step) & (wrong < step) & (tree.own_above <= step)
        needed = np.where(earned & ((step >= floor) | (times >= SAID_ENOUGH)) & (step < tree.card), step, needed)
    return needed, floors


def floor_of(photos: list[Evidence], right: NDArray[np.float64], own_above: NDArray[np.float64]) -> float:
    """Return the lowest step at which the leaves of a family are right often enough, those wrong somewhere among them.

    `right`: how sure the model was at most where the leaf was right, [words]; 0 for words that are not of the family.
    """
    for step in STEPS:
        said = right_tags = 0
        for one in photos:
            tags = (one.masses >= step) & (right >= step) & (own_above <= step) & one.judged
            said, right_tags = said + int(tags.sum()), right_tags + int((tags & one.right).sum())
        if said >= SAID_ENOUGH and right_tags / said >= RIGHT_ENOUGH:
            return step
    return 1.0


def figures(tree: Tree, photos: list[tuple[Evidence, NDArray[np.float64]]]) -> str:
    """Return the figures of the tags on photos, each with what words need there."""
    counts = np.zeros(7)
    for one, needed in photos:
        tags = tree.tags(one.masses, needed) & one.judged
        right, leaves = tags & one.right, tags & tree.is_leaf
        counts += (
            tags.sum(), right.sum(), right.any(axis=1).sum(), leaves.any(axis=1).sum(), len(tags),
            leaves.sum(), (leaves & right).sum(),
        )  # fmt: skip
    said, right_tags, covered, with_leaf, total, leaf_tags, right_leaves = counts
    return (
        f"right {right_tags / said:.4f}, covered {covered / total:.3f}, "
        f"a leaf on {with_leaf / total:.3f}, leaves right {right_leaves / leaf_tags:.3f}"
    )


def halves(groups: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
    """Yield which photos belong to a random half of the groups, and which to the other; then further halves."""
    generator, names = random.Random(1), sorted(set(groups))
    for _ in range(HALVES):
        half = np.isin(groups, generator.sample(names, len(names) // 2))
        yield half
        yield ~half


def without_earned(taxonomy: Taxonomy) -> Taxonomy:
    """Return the tree without the thresholds of leaves.tsv."""
    rows = LEAVES.read_text(encoding="utf-8").splitlines() if LEAVES.exists() else []
    fitted = {row.split("\t")[0] for row in rows}
    nodes = (replace(node, threshold=None) if node.id in fitted else node for node in taxonomy.nodes.values())
    return Taxonomy(nodes, str(LEAVES))


def measured(tree: Tree, collection: Collection, model: Model, classifier: Classifier) -> Evidence:
    """Run the model on the photos of `collection` and return their evidence."""
    return tree.evidence(look_at(collection, model, classifier).logits[:, 0], collection.truths)


def main() -> None:
    """Measure, print the figures, and write the thresholds if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=Path)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--wordnet", type=Path, default=NOUN_FILE)
    arguments = parser.parse_args()
    model = find_model(DEFAULT_MODEL)
    assert model.taxonomy is not None
    ensure_built(model, lambda _: None)
    judge = Judge(
        model.taxonomy, [label.synset for label in model.labels if label.synset], Nouns.read(arguments.wordnet)
    )
    tree = Tree(replace(model, taxonomy=without_earned(model.taxonomy)))
    classifier = Classifier(replace(model, card=replace(model.card, temperature=1.0)))
    collection = read_collection(arguments.objects, judge)
    objects = measured(tree, collection, model, classifier)
    scenes = measured(tree, read_collection(arguments.scenes, judge), model, classifier)
    with np.load(arguments.features) as features:
        rows = features["source"] == "imagenet"
        truths = [judge.object_truth(photo.split("_")[0]) for photo in features["photo"][rows].tolist()]
        imagenet = tree.evidence(features["logits"][rows].astype(np.float64), truths)
    needed, floors = thresholds(tree, objects, scenes, imagenet)
    print(f"floors: {floors}; {int((needed < tree.card).sum())} of {int(tree.is_leaf.sum())} leaves need less")
    print("as the card says:", figures(tree, [(objects, tree.card)]))
    print("all evidence:", figures(tree, [(objects, needed)]))
    photos = [str(path) for path in collection.paths]
    for name, groups in (("categories", collection.groups), ("photos", photos)):
        shown_on = [
            (objects.of(~half), thresholds(tree, objects.of(half), scenes, imagenet)[0]) for half in halves(groups)
        ]
        print(f"half of the {name} by the other half:", figures(tree, shown_on))
    if arguments.write:
        lines = [
            f"{node.id}\t{threshold:g}\t{node.name}\n"
            for node, threshold, card in zip(tree.nodes, needed, tree.card, strict=True)
            if threshold < card
        ]
        LEAVES.write_text(HEADER + "id\tthreshold\tname\n" + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
