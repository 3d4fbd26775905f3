"""The values that all parts share: photos as files, labels, tags, events, and the undoing of changes to files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from phototag.errors import PhotoError


class _Named:
    """A file with its path, which is stored as text: making a `Path` takes longer than the rest of a walk.

    Functions that take a path, such as `os.fsencode`, take the file itself without that cost.
    """

    __slots__ = ("_name",)
    _name: str

    def __fspath__(self) -> str:
        return self._name

    @property
    def path(self) -> Path:
        """The absolute path. Each access makes a new `Path`."""
        return Path(self._name)


_set = object.__setattr__  # as a frozen dataclass's own `__init__` does


@dataclass(frozen=True, init=False)
class Photo(_Named):
    """A photo's file as a stat saw it. `size` is in bytes, `mtime_ns` in nanoseconds since 1970.

    `companions`: the other files of the same shot, which get the same tags: the RAW, and a Live Photo's video.
    """

    __slots__ = ("companions", "mtime_ns", "size")
    path: Path  # the property above, declared so that the dataclass compares, shows and replaces it like a field
    size: int
    mtime_ns: int
    companions: tuple[Path, ...]

    def __init__(
        self, path: str | os.PathLike[str], size: int, mtime_ns: int, companions: tuple[Path, ...] = ()
    ) -> None:
        _set(self, "_name", os.fspath(path))
        _set(self, "size", size)
        _set(self, "mtime_ns", mtime_ns)
        _set(self, "companions", companions)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle and copy would set the slots of a frozen class one by one, which it refuses.
        return type(self), (self._name, self.size, self.mtime_ns, self.companions)


@dataclass(frozen=True, init=False)
class SkippedFile(_Named):
    """A file or folder that a walk skips: excluded, not a photo, or a photo that phototag cannot read.

    `reason` may hold placeholders for settings, as a remedy does (`errors.spelled`). `sidecar`: any XMP sidecar.
    `unfinished`: a temporary file of phototag.
    """

    __slots__ = ("kind", "reason")
    path: Path
    kind: Literal["unreadable", "other", "sidecar", "excluded", "unfinished"]
    reason: str

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: Literal["unreadable", "other", "sidecar", "excluded", "unfinished"],
        reason: str,
    ) -> None:
        _set(self, "_name", os.fspath(path))
        _set(self, "kind", kind)
        _set(self, "reason", reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name, self.kind, self.reason)


WalkItem: TypeAlias = Photo | SkippedFile | PhotoError


class Canonical(Protocol):
    """A value that digests hash. Its text does not change if its class or its fields are renamed."""

    def canonical(self) -> str:
        """Return the text of the value for digests."""


def canonical(value: object) -> str:
    """Return the text of `value` for digests.

    It is the `repr` that phototag 0.1.0 hashed, because indexes, recipes and conversions hold those digests. `value`:
    None, a bool, a number, a string, a `Canonical`, or tuples and lists of these.

    Raises `TypeError` for other types, because renaming could change their `repr`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, tuple | list):
        parts = ", ".join(map(canonical, value))
        if isinstance(value, list):
            return f"[{parts}]"
        return f"({parts},)" if len(value) == 1 else f"({parts})"
    if hasattr(value, "canonical"):
        return str(value.canonical())
    raise TypeError(f"{type(value).__name__} has no canonical text")


def canonical_record(name: str, /, **fields: object) -> str:
    """Return the canonical text of a record: `name` and `fields` as phototag 0.1.0 spelled them."""
    return f"{name}({', '.join(f'{field}={canonical(value)}' for field, value in fields.items())})"


@dataclass(frozen=True, slots=True)
class Label:
    """The name that a model gives a class, and the WordNet 3.0 synset of the class if it is known."""

    name: str
    synset: str | None = None

    def canonical(self) -> str:
        """Return the text for digests."""
        return f"Label(name={self.name!r}, synset={self.synset!r})"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label and its score, 0 to 1."""

    label: Label
    score: float


@dataclass(frozen=True, slots=True)
class Tag:
    """A word that describes a photo.

    `confidence`: the model's probability, 0 to 1, that the tag is right. `path`: the names from the top of the tree to
    the tag's own. `synset`: its WordNet 3.0 id, or None. `synonyms`: other words for the same thing.
    """

    name: str
    confidence: float
    path: tuple[str, ...]
    synset: str | None
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Undo:
    """How to restore a file: by applying packed `edits`, or by removing the file if they are None.

    `change`: the number of the change in the journal. Later changes have greater numbers.
    """

    change: int
    edits: bytes | None


class Journal(Protocol):
    """A record of how to undo changes to files."""

    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        """Record a change before it is made: the file at `path` will have the `content_digest` `digest`, or `NO_FILE`.

        `undo`: the packed edits that restore the file; they start from nothing if it is removed. None: it is new.
        """

    def undo_of(self, digest: bytes, before: int | None = None, path: Path | None = None) -> Undo | None:
        """Return how to undo the change that gave a file this `content_digest`, or None if none is recorded.

        `before`: consider only changes before this one. `path`: prefer changes to this file.
        """


# The results of analyzers for one photo, by name.
Results: TypeAlias = Mapping[str, Any]
# The names: the scores of a classifier, the probabilities of its head, its likeness vector, and what a detector found,
# which is a tuple of `Box`. A model's further outputs have the names of their results.
OBJECTS, WORDS, LOOK, BOXES = "objects", "words", "look", "boxes"


# --- Detected objects -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """An object that a detector found: the name of its kind, the score, 0 to 1, and where it is.

    The edges are fractions of the upright photo, 0 to 1, with left < right and top < bottom.
    """

    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


def best_score(boxes: Iterable[Box], name: str) -> float:
    """Return the best score, 0 to 1, of the boxes of the kind `name`; 0 if there is none."""
    return max((box.score for box in boxes if box.name == name), default=0.0)


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """What the best score of a kind says about the photo: `slope` * logit(score) + `offset`, added to the log-odds.

    A score below `floor`, 0 to 1, counts as `floor`. So does a photo without a box of the kind.

    The line was fitted for `person` with CenterNet, on 212 photos that CenterNet was not trained on. Among floors up to
    .2, which all give the same tags at .7, .15 gives the smallest log loss on 397 photos judged by eye. In 163 of the
    165 photos that show a person, the score is above .18, so below that the line is a guess.
    """

    slope: float = 3.0
    offset: float = 1.7
    floor: float = 0.15

    def log_odds(self, score: float) -> float:
        """Return what to add to the log-odds of a word if the best score of its kind is `score`, 0 to 1."""
        bounded = min(max(score, self.floor), _SUREST)
        return self.slope * math.log(bounded / (1 - bounded)) + self.offset


# The highest score that a line takes: the log-odds of 1 are infinite.
_SUREST = 0.999


# --- Events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelBuilding:
    """phototag begins to build the model `name` in `directory`, which takes several seconds."""

    name: str
    directory: Path


@dataclass(frozen=True, slots=True)
class ModelConverting:
    """phototag begins to convert the model `name` for LiteRT, which takes several seconds."""

    name: str


@dataclass(frozen=True, slots=True)
class EngineChosen:
    """The model `name` runs in TensorFlow although LiteRT was preferred. `reason` is the rest of a sentence."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """phototag waits for another process that uses the `model` with that name or the `index` at that path."""

    model: str | None = None
    index: Path | None = None


# The events that the parts below `run` report. `run.events` adds those of a run.
WorkEvent: TypeAlias = ModelBuilding | ModelConverting | EngineChosen | WaitingFor
OnWorkEvent: TypeAlias = Callable[[WorkEvent], None]


def ignore(_: object) -> None:
    """Ignore an event."""
