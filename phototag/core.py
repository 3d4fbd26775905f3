"""The values that all parts share: photos as files, labels, tags, events, and how to undo a change of a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from phototag.errors import PhotoError


class _Named:
    """A file, known by its path, which is kept as text: to make a `Path` costs more than all else a walk does.

    What takes a path, `os.fsencode` say, takes the file itself at no such cost.
    """

    __slots__ = ("_name",)
    _name: str

    def __fspath__(self) -> str:
        return self._name

    @property
    def path(self) -> Path:
        """The absolute path, made anew each time."""
        return Path(self._name)


_set = object.__setattr__  # what a frozen dataclass's own `__init__` does


@dataclass(frozen=True, init=False)
class Photo(_Named):
    """A photo's file as one stat saw it. `size` is in bytes, `mtime_ns` in nanoseconds since 1970.

    `companions`: the other files of the same shot, which are to get its tags: the RAW, and a Live Photo's video.
    """

    __slots__ = ("companions", "mtime_ns", "size")
    path: Path  # the property above; named here, so that it is compared, shown and replaced like the others
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


@dataclass(frozen=True, init=False)
class SkippedFile(_Named):
    """A file or folder that is left alone: a photo phototag cannot read, no photo at all, or excluded.

    `sidecar`: an XMP sidecar, phototag's or not. `unfinished`: a file that phototag itself was writing.
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


WalkItem: TypeAlias = Photo | SkippedFile | PhotoError


class Canonical(Protocol):
    """A value that digests hash: its text never changes, however the code spells its class and its fields."""

    def canonical(self) -> str:
        """Return the text that stands for the value in digests."""


def canonical(value: object) -> str:
    """Return the text of `value` for digests.

    phototag 0.1.0 hashed the `repr`, and its indexes, recipes and conversions hold those digests. This is that text,
    spelled out. `value`: None, a bool, a number, a string, a `Canonical`, or tuples and lists of these.

    Raises `TypeError` for other types, whose `repr` could change with a rename.
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
    """The name that a model gives a class, and the WordNet 3.0 synset it stands for where that is known."""

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
    """What phototag says of a photo.

    `confidence` is the probability, 0 to 1, that it is right by the model's account; `path` leads from the top of the
    tree to the tag's own name; `synset` is its WordNet 3.0 id, where it has one; `synonyms` are other words for it.
    """

    name: str
    confidence: float
    path: tuple[str, ...]
    synset: str | None
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Undo:
    """How a file is taken back to what it was: by packed `edits`, or, where these are None, by removing it.

    `change`: the number of the change in the journal, later ones have greater ones.
    """

    change: int
    edits: bytes | None


class Journal(Protocol):
    """Remembers how to take back what was done to files."""

    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        """Note, before it is done, that the file at `path` will have the `content_digest` `digest`, or `NO_FILE`.

        `undo`: the packed edits that take it back, of nothing where the file goes; None where there was no file.
        """

    def undo_of(self, digest: bytes, before: int | None = None) -> Undo | None:
        """Return how a file of that `content_digest` is taken back by one change, or None where nothing is known.

        `before`: only by changes before that one.
        """


# The results of analyzers for one photo, by name.
Results: TypeAlias = Mapping[str, Any]


# --- Events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelBuilding:
    """phototag begins to build the model `name` in `directory`, which takes some seconds."""

    name: str
    directory: Path


@dataclass(frozen=True, slots=True)
class ModelConverting:
    """phototag begins to convert the model `name` for LiteRT, which takes some seconds."""

    name: str


@dataclass(frozen=True, slots=True)
class EngineChosen:
    """The model `name` runs in TensorFlow although LiteRT was preferred. `reason` is the rest of a sentence."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """phototag waits until another process is done with the `model` of that name or the `index` at that path."""

    model: str | None = None
    index: Path | None = None


# What the parts below `run` report while they work. `run.events` adds the events of a run.
WorkEvent: TypeAlias = ModelBuilding | ModelConverting | EngineChosen | WaitingFor
OnWorkEvent: TypeAlias = Callable[[WorkEvent], None]


def ignore(_: object) -> None:
    """Take an event and do nothing."""
