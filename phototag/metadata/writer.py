"""What a writer of tags does, and what it returns. The writers are in `json_sidecar`, `xmp_sidecar` and `embed`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phototag.core import Photo, Prediction, Tag
from phototag.metadata.keywords import key


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer did: the `files` that hold the tags now, the `photo` as it is now, and a `note` for its owner.

    `digest`: the `content_digest` of the photo as it is now, where the writer has read or written all of it.
    `rejected`: names of tags, of those asked for or written before, that a person has removed since; they are not
    written. `own_tags`: names of the tags there that phototag wrote, and not the user; None: all that were asked for.
    """

    files: tuple[Path, ...]
    photo: Photo
    note: str | None = None
    digest: bytes | None = None
    rejected: tuple[str, ...] = ()
    own_tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class EarlierTags:
    """What an earlier run left in the `files` of a photo, for an index that was lost.

    `rejected`: names of tags that a person has removed, as they are noted there.
    """

    tags: tuple[Tag, ...]
    predictions: tuple[Prediction, ...]
    files: tuple[Path, ...]
    rejected: tuple[str, ...] = ()


class Writer(Protocol):
    """Puts tags where the user wants them."""

    @property
    def name(self) -> str:
        """What `--write` calls it."""

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make the files of `photo` say `tags` and nothing else of phototag's; those that a person removed stay away.

        `previous`: names of the tags that they said after the last run. Raises `PhotoError`.
        """

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return what an earlier run by the same recipe left that the index may not know; None if nothing."""


@dataclass(frozen=True)
class NullWriter:
    """Writes nothing: for people who want the tags on stdout alone."""

    name = "none"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Write nothing."""
        return Written((), photo)

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Nothing ever stands."""
        return None


def are_left(tags: Iterable[Tag], rejected: Iterable[str]) -> bool:
    """Return whether any of `tags` is not one of the names that were `rejected`."""
    return not {key(tag.name) for tag in tags} <= set(map(key, rejected))
