"""The rows of the index as values: photos, changes, runs and failures. Also their form in columns."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from phototag.core import Label, Photo, Prediction, Tag


@dataclass(frozen=True, slots=True)
class Record:
    """The result of a run for one photo.

    photo: the photo as it is now, after anything that was written into it.
    recipe: the digest of everything that determines the tags and where they go; empty if the photo failed.
    written: the files that hold the tags: the photo itself, or files beside it.
    digest: the `content_digest` of the photo as it is now, or None if unknown.
    seen: the `content_digest` of the photo when it was analyzed, or None. Results of other content are dropped.
    results: packed results of the analyzers by key, without those that the index already has.
    names: the name of each result, by key.
    rejected: names of tags that the user removed.
    write: the name of the writer.
    own_tags: names of the tags in those files that phototag wrote, and not the user.
    """

    photo: Photo
    recipe: str
    tags: tuple[Tag, ...]
    predictions: tuple[Prediction, ...]
    written: tuple[Path, ...]
    digest: bytes | None = None
    seen: bytes | None = None
    results: Mapping[str, bytes] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    rejected: tuple[str, ...] = ()
    write: str = ""
    own_tags: tuple[str, ...] = ()


SEPARATOR = os.sep.encode()


class IndexedPhoto(NamedTuple):
    """The row of a photo in the index.

    `recipe` and `write` are those of `Record`. `files` and `companions` are names of files in the folder of `path`, as
    bytes, separated by "/".
    """

    id: int
    size: int
    mtime_ns: int
    recipe: str
    write: str
    files: bytes
    companions: bytes
    path: bytes

    def is_of(self, photo: Photo) -> bool:
        """Return whether size and modification time are those of `photo`."""
        return self.size == photo.size and self.mtime_ns == storable(photo.mtime_ns)

    def covers(self, companions: Sequence[Path]) -> bool:
        """Return whether all of these files of the same shot have been tagged."""
        return not companions or set(names(self.companions)).issuperset(path.name for path in companions)

    @property
    def written(self) -> tuple[Path, ...]:
        """The files that hold the tags."""
        return tuple(Path(os.fsdecode(self.path)).with_name(name) for name in names(self.files))

    def is_written(self, is_there: Callable[[bytes, bytes], bool]) -> bool:
        """Return whether the files that hold the tags still exist. `is_there` takes a folder and a name in it."""
        if not self.files:
            return True
        folder, _, own = self.path.rpartition(SEPARATOR)
        return all(name == own or is_there(folder, name) for name in self.files.split(b"/"))


# CAST to BLOB: a damaged index may hold any type, and callers of `IndexedPhoto` do not expect a TypeError.
INDEXED_PHOTO = "id, size, mtime_ns, recipe, write, CAST(files AS BLOB), CAST(companions AS BLOB), CAST(path AS BLOB)"


@dataclass(frozen=True, slots=True)
class Change:
    """A change to a file, as the journal has it. The fields are the arguments of `Index.note_change`."""

    path: Path
    digest: bytes
    undo: bytes | None


@dataclass(slots=True)
class Run:
    """A run, as the index remembers it.

    `started` and `finished` are ISO 8601, UTC. `finished` is None while the run goes on, and if it died. `ending` says
    how it ended. `counts`: photos by status. `paths`: the folders and photos that the user named.
    """

    id: int
    started: str
    finished: str | None
    pid: int
    version: str
    counts: Mapping[str, int]
    paths: tuple[str, ...]
    ending: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo or a folder that failed when it was last tried."""

    path: Path
    reason: str
    run: int


# --- Columns ----------------------------------------------------------------------------------------------------------

_LAST_TIME = (1 << 63) - 1

dumped = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for each call


def storable(mtime_ns: int) -> int:
    """Return a time that SQLite can store. A file's time may lie after 2262; that becomes the last that fits."""
    return max(-_LAST_TIME, min(mtime_ns, _LAST_TIME))


def joined(paths: Iterable[Path]) -> bytes:
    """Return the names of files in one folder as a column."""
    return b"/".join(os.fsencode(path.name) for path in paths)


def names(column: bytes) -> list[str]:
    """Return the names in a column. "." and ".." are skipped: a damaged index must not lead out of the folder."""
    return [os.fsdecode(name) for name in column.split(b"/") if name.strip(b".")]


def text(value: str) -> str:
    """Return `value` in a form that SQLite accepts. It refuses lone surrogates: bytes of a path outside UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode()


def tags_column(tags: Iterable[Tag]) -> str:
    """Return `tags` as a column."""
    return dumped([[tag.name, tag.confidence, tag.path, tag.synset, tag.synonyms] for tag in tags])


def tags(column: str) -> tuple[Tag, ...]:
    """Return the tags in a column. Raises `ValueError` or `TypeError` if it is damaged."""
    return tuple(
        Tag(str(name), float(confidence), tuple(map(str, path)), synset, tuple(map(str, synonyms)))
        for name, confidence, path, synset, synonyms in json.loads(column)
    )


def predictions_column(predictions: Iterable[Prediction]) -> str:
    """Return `predictions` as a column."""
    return dumped([[one.label.name, one.label.synset, one.score] for one in predictions])


def predictions(column: str) -> tuple[Prediction, ...]:
    """Return the predictions in a column. Raises `ValueError` or `TypeError` if it is damaged."""
    return tuple(Prediction(Label(str(name), synset), float(score)) for name, synset, score in json.loads(column))


def counts(column: str) -> dict[str, int]:
    """Return the counts of a run. Raises `ValueError`, `TypeError` or `AttributeError` if the column is damaged."""
    return {str(status): int(count) for status, count in json.loads(column).items()}
