"""Judge tags on labelled photos, for the other benchmarks.

A collection is a folder of photos with a labels.json. For photos of one object each, it is `{"llama": "n02437616",
...}`: the WordNet 3.0 synset that the photos in each subfolder show. A tag is right if it is that synset, a kind of it,
or a word that it is a kind of, by WordNet or by the tree. Words of people and places (scene_words.tsv) are not judged
on these photos, because they are not labelled there. They are counted.

For scenes, labels.json is `{"1.jpg": ["dog", "chair"], ...}`: all things in each photo that are of the kinds in
kinds.tsv. If there is a scenes.json too, it has the words of people and places: `{"words": [...], "photos": {"1.jpg":
{"yes": [...], "maybe": [...]}}}`. The words in `yes` hold. Those in `maybe` are arguable, and not judged. All others of
`words` are wrong. Tags about which no label decides are not judged.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection as Ids
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from phototag.core import Photo, Tag
from phototag.models.find import Model
from phototag.photos.find import find_photos
from phototag.vocabulary.taxonomy import Taxonomy

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "models" / "taxonomies" / "source"))
from wordnet import Nouns  # noqa: E402

KINDS = Path(__file__).with_name("kinds.tsv")
SCENE_WORDS = Path(__file__).with_name("scene_words.tsv")
TALL = Path(__file__).with_name("tall.txt")
PERSON = "n00007846"
IN_OR_OUT = frozenset({"x-indoor", "x-outdoor"})


@dataclass(frozen=True)
class Truth:
    """What is known of a photo, as ids of words.

    `right`: the words that hold. `judged`: those that are judged, the right ones among them. `there`: what a person
    would name, of which a share is said. `has_tall`: whether a person is taller than a fifth of the picture.
    """

    right: frozenset[str]
    judged: frozenset[str]
    there: frozenset[str] = frozenset()
    has_tall: bool = False

    def without(self, words: Ids[str]) -> Truth:
        """Return what is known of the other words."""
        left_out = frozenset(words)
        return replace(self, right=self.right - left_out, judged=self.judged - left_out, there=self.there - left_out)

    def joined(self, other: Truth, arguable: Ids[str] = ()) -> Truth:
        """Return what both say. Words that are right by one of them are right. `arguable` words are not judged."""
        right = self.right | other.right
        judged = ((self.judged | other.judged) - frozenset(arguable)) | right
        return Truth(right, judged, self.there | other.there, self.has_tall or other.has_tall)


@dataclass(frozen=True)
class Collection:
    """Labelled photos. For each: `groups`, the folder or file that was labelled, and `truths`.

    `has_scenes`: whether words of people and places are judged. `is_of_objects`: whether a photo shows one object.
    """

    name: str
    paths: list[Path]
    groups: list[str]
    truths: list[Truth]
    is_of_objects: bool
    has_scenes: bool


class Judge:
    """Knows which words are right for what a photo shows."""

    def __init__(self, taxonomy: Taxonomy, classes: Iterable[str], nouns: Nouns) -> None:
        self._nouns = nouns
        self._nodes, self._classes = taxonomy.nodes, frozenset(classes)
        self._path = {node: frozenset(self._up(node)) for node in taxonomy.nodes}
        self._known = {synset: {synset, *nouns.above(synset)} for synset in {*classes, *taxonomy.nodes}}
        by_name = {node.name: node.id for node in taxonomy.nodes.values() if node.state == "tag"}
        rows = [row for row in table(SCENE_WORDS) if row["word"] in by_name]
        self.scene_words = {row["label"]: by_name[row["word"]] for row in rows}
        places = {by_name[row["word"]] for row in rows if row["is"] == "place"}
        things = {by_name[row["word"]] for row in rows if row["is"] == "thing"}
        self.place_words = (places.union(*(self._path[place] for place in places)) | self._below(places)) - things
        self._kinds = {row["kind"]: row for row in table(KINDS)}
        more = {kind: row["more"].split("|") if row["more"] != "-" else [] for kind, row in self._kinds.items()}
        self._right_for = {kind: self.right(row["synset"], more[kind]) for kind, row in self._kinds.items()}
        self._named = {
            kind: frozenset({by_name[kind]}) if kind in by_name else self._word_for(row["synset"], more[kind])
            for kind, row in self._kinds.items()
        }
        self._by_kinds = frozenset[str]().union(*self._right_for.values())

    @classmethod
    def of(cls, model: Model, nouns: Nouns) -> Judge:
        """Return the judge of the tags of `model`, which has a tree."""
        assert model.taxonomy is not None
        return cls(model.taxonomy, [label.synset for label in model.labels if label.synset], nouns)

    @property
    def leaves(self) -> frozenset[str]:
        """The classes that may be tags: nothing is below them."""
        return frozenset(word for word in self._classes if word in self._nodes and self._nodes[word].state == "tag")

    def names(self, words: Iterable[str]) -> str:
        """Return the names of words, in order."""
        return ", ".join(sorted(self._nodes[word].name for word in words))

    def right(self, synset: str, more: Iterable[str] = ()) -> frozenset[str]:
        """Return the ids of the words that are right for a photo that shows a `synset`, with those above `more`."""
        above = {synset, *self._nouns.above(synset)}
        below = {known for known, its_own in self._known.items() if synset in its_own}
        paths = (self._path[node] for node in (*(below & self._path.keys()), *more, *({synset} & self._path.keys())))
        return frozenset(above | below).union(*paths)

    def object_truth(self, synset: str) -> Truth:
        """Return what is known of a photo of one object. Other things are wrong; people and places are not judged."""
        right = self.right(synset)
        return Truth(right, (frozenset(self._nodes) - self.place_words) | right, self._word_for(synset, ()))

    def kinds_truth(self, kinds: Iterable[str]) -> Truth:
        """Return what is known of a photo with all its things of the kinds in kinds.tsv."""
        kinds = list(kinds)
        right = frozenset[str]().union(*(self._right_for[kind] for kind in kinds))
        return Truth(right, self._by_kinds, frozenset[str]().union(*(self._named[kind] for kind in kinds)))

    def scene_truth(self, labels: Mapping[str, bool | None], objects: Truth | None = None) -> Truth:
        """Return what labels by eye say, and what is known of the `objects` already.

        `labels`: for each label, whether it holds, or None if that is arguable or unknown. A word above one that holds
        is right. A word below one that does not hold is wrong. Of people and places, the eye says more than `objects`.
        """
        known = {self.scene_words[label]: holds for label, holds in labels.items() if label in self.scene_words}
        there = frozenset(word for word, holds in known.items() if holds)
        right = frozenset[str]().union(*(self._path[word] for word in there))
        arguable = {word for word, holds in known.items() if holds is None}
        around = self._below(arguable).union(*(self._path[word] for word in arguable)) - known.keys()
        arguable = (arguable | around) - right
        absent = {word for word, holds in known.items() if holds is False} - right
        # The top of words that were all looked for and are not there.
        tops = {word for place in known for word in self._path[place] if self._nodes[word].parent is None}
        absent |= (tops & self.place_words) - known.keys() - right - arguable
        judged = (right | absent | (self._below(absent) - known.keys())) - arguable
        by_eye = Truth(right, frozenset(judged), there)
        if objects is None:
            return by_eye
        # A person may be a child, and the eye saw whether it is.
        seen = {word for word, holds in known.items() if not holds} & self.place_words
        return objects.without(seen - right).joined(by_eye, arguable)

    def _up(self, node_id: str) -> Iterator[str]:
        at: str | None = node_id
        while at is not None:
            yield at
            at = self._nodes[at].parent

    def _below(self, words: Ids[str]) -> set[str]:
        return {node for node, path in self._path.items() if not path.isdisjoint(words)}

    def _word_for(self, synset: str, more: Iterable[str]) -> frozenset[str]:
        """Return the word that a person would say for a synset: its own, or one near it."""
        near = (synset, *more, *self._nouns.above(synset))
        return frozenset([word for word in near if word in self._nodes and self._nodes[word].state == "tag"][:1])


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table with tabs and `#` comments."""
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]


def read_collection(folder: Path, judge: Judge) -> Collection:
    """Read the labels and find the photos of `folder`."""
    labels = read_json(folder / "labels.json")
    photos = [one.path for one in find_photos([folder]) if isinstance(one, Photo)]
    if all(isinstance(value, str) for value in labels.values()):
        groups = [path.parent.name for path in photos]
        truth_of = {group: judge.object_truth(synset) for group, synset in labels.items()}
        return Collection(folder.name, photos, groups, [truth_of[group] for group in groups], True, False)
    scenes = folder / "scenes.json"
    by_eye = read_json(scenes) if scenes.exists() else None
    truths = [scene_truth(judge, path.name, labels.get(path.name, ()), by_eye) for path in photos]
    return Collection(folder.name, photos, [path.name for path in photos], truths, False, by_eye is not None)


def scene_truth(judge: Judge, photo: str, kinds: Sequence[str], by_eye: Mapping[str, dict] | None) -> Truth:
    """Return what is known of a photo from its kinds of things and, if there is one, the content of scenes.json."""
    things = judge.kinds_truth(kinds)
    if by_eye is not None:
        labels = by_eye["photos"][photo]
        words = {word: word in labels["yes"] for word in by_eye["words"]} | dict.fromkeys(labels["maybe"])
        things = judge.scene_truth(words, things)
    tall = Truth(frozenset(), frozenset(), has_tall="person" in kinds and photo in tall_photos())
    return things.joined(tall)


def tall_photos() -> frozenset[str]:
    """Return the names of the photos with a person taller than a fifth of the picture."""
    return frozenset(line for line in TALL.read_text(encoding="utf-8").splitlines() if line and line[0] != "#")


def read_json(path: Path) -> dict:
    """Return the object in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def id_of(tag: Tag) -> str:
    """Return the id of a tag's word."""
    return tag.synset or f"x-{tag.name.replace(' ', '-')}"


@dataclass(frozen=True)
class Judged:
    """The judged tags of one photo, as ids. `unjudged`: those about which no label decides. `said`: of what is there.

    `truth` is the photo's.
    """

    right: frozenset[str]
    wrong: frozenset[str]
    unjudged: frozenset[str]
    truth: Truth

    @property
    def tags(self) -> frozenset[str]:
        """All tags of the photo."""
        return self.right | self.wrong | self.unjudged


def judge_tags(tags: Iterable[Tag], truth: Truth) -> Judged:
    """Part the tags of a photo by what is known of it."""
    ids = frozenset(map(id_of, tags))
    return Judged(ids & truth.right, (ids & truth.judged) - truth.right, ids - truth.judged - truth.right, truth)


@dataclass(frozen=True)
class Figures:
    """Shares of judged tags and of photos, 0 to 1, and tags per photo.

    precision: of the judged tags, those that are right. right, wrong: photos with such a tag. right_no_io: photos with
    a right tag other than indoor and outdoor. none: photos without a tag. tall: of the photos with a tall person, those
    that say person; 0 if no photo shows one. said: of the words that apply, those that are said.
    """

    tags: float
    precision: float
    right: float
    right_no_io: float
    wrong: float
    none: float
    tall: float
    said: float


def figures(photos: Sequence[Judged]) -> Figures:
    """Return the figures of the tags of photos."""
    right = sum(len(one.right) for one in photos)
    judged = right + sum(len(one.wrong) for one in photos)
    tall = [PERSON in one.tags for one in photos if one.truth.has_tall]
    there = sum(len(one.truth.there) for one in photos)
    return Figures(
        tags=share(sum(len(one.tags) for one in photos), len(photos)),
        precision=share(right, judged),
        right=share(sum(bool(one.right) for one in photos), len(photos)),
        right_no_io=share(sum(bool(one.right - IN_OR_OUT) for one in photos), len(photos)),
        wrong=share(sum(bool(one.wrong) for one in photos), len(photos)),
        none=share(sum(not one.tags for one in photos), len(photos)),
        tall=share(sum(tall), len(tall)),
        said=share(sum(len(one.truth.there & one.tags) for one in photos), there),
    )


def share(part: float, whole: float) -> float:
    """Return a share, and 0 of nothing."""
    return part / whole if whole else 0.0
