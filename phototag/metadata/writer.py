"""The interface of the writers, and their results. The writers are in `json_sidecar`, `xmp_sidecar` and `embed`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phototag.core import Photo, Prediction, Tag
from phototag.metadata.keywords import key


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a writer: the `files` that hold the tags, the `photo` as it is now, and a `note` for the user.

    `digest` is the `content_digest` of the photo as it is now, if the writer has read or written the whole file.
    `rejected` are the names of tags, wanted now or written before, that the user removed; they are not written.
    `own_tags` are the names of phototag's own tags there, without the user's keywords. None means all tags that were to
    be written.
    """

    files: tuple[Path, ...]
    photo: Photo
    note: str | None = None
    digest: bytes | None = None
    rejected: tuple[str, ...] = ()
    own_tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class EarlierTags:
    """The tags that an earlier run left in the `files` of a photo, for a lost index.

    `rejected` are the recorded names of tags that the user removed.
    """

    tags: tuple[Tag, ...]
    predictions: tuple[Prediction, ...]
    files: tuple[Path, ...]
    rejected: tuple[str, ...] = ()


class Writer(Protocol):
    """A writer of tags for photos."""

    @property
    def name(self) -> str:
        """The value of the setting `write`."""

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make `tags` phototag's only tags for `photo`. Tags that the user removed are not written.

        `previous` are the names of the tags that the files had after the last run. Raises `PhotoError`.
        """

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return the tags of an earlier run with the same recipe that the index may not know, or None."""


@dataclass(frozen=True)
class NullWriter:
    """The writer that writes nothing, for users who only want the tags on stdout."""

    name = "none"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Return a result without files."""
        return Written((), photo)

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return None."""
        return None


def are_left(tags: Iterable[Tag], rejected: Iterable[str]) -> bool:
    """Return whether any of `tags` is not among the `rejected` names."""
    return not {key(tag.name) for tag in tags} <= set(map(key, rejected))
