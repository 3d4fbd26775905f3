"""A file as it was read, and its safe replacement."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phototag.core import Journal, Photo
from phototag.metadata import containers, files
from phototag.metadata.edits import Edits, applied, inverse, packed, pieces, unpacked
from phototag.metadata.files import NO_FILE
from phototag.metadata.keywords import Unwritable
from phototag.photos.digest import content_digest

MAX_PHOTO = 1 << 29  # bytes; a file is held in memory twice while it is written into
MAX_OTHER = 1 << 26  # bytes; a file of a kind that is not written into


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """The file at `path`, open, and its status. Raises `OSError`, and `Unwritable` where it is no file."""
    # O_NONBLOCK: a pipe would keep us waiting.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):  # also a folder, which cannot be made a file object
            raise Unwritable("it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, status
    finally:
        os.close(descriptor)


def _check_size(file: BinaryIO, size: int, limit: int | None) -> None:
    """Raise `Unwritable` where the file is larger than `limit`, or than one of its kind may be."""
    if limit is None:
        limit = MAX_PHOTO
        if size > MAX_OTHER:  # a film beside a photo, perhaps
            containers.check_kind(file.read(256))
            file.seek(0)
    if size > limit:
        raise Unwritable(f"it is larger than {limit >> 20} MB")


@dataclass(frozen=True)
class Source:
    """A file as it was read: where it really is, its content, and its status at that time."""

    path: Path
    data: bytes
    status: os.stat_result

    @classmethod
    def read(cls, path: Path, limit: int | None = None) -> Source:
        """Raises `OSError`, and `Unwritable` where it is no file, too large, or being changed.

        `limit`: in bytes; where None, what a file of its kind may have.
        """
        real = Path(os.path.realpath(path))
        with opened(real) as (file, status):
            _check_size(file, status.st_size, limit)
            data = file.read(status.st_size + 1)
        if len(data) != status.st_size:
            raise Unwritable("it is being written by another program")
        return cls(real, data, status)

    @functools.cached_property
    def digest(self) -> bytes:
        """`content_digest` of the content."""
        return content_digest(self.data)

    def is_as_seen(self, photo: Photo) -> bool:
        """Is the file what `photo` says of it?"""
        return (self.status.st_size, self.status.st_mtime_ns) == (photo.size, photo.mtime_ns)

    def is_as_left(self, journal: Journal) -> bool:
        """Is the file as phototag left it, by what the journal knows?"""
        return self.digest != NO_FILE and journal.undo_of(self.digest) is not None

    def check_writable(self) -> None:
        """Raise `Unwritable` where the file's owner does not want it changed, or another name would lose it."""
        if self.status.st_nlink > 1:
            raise Unwritable("it has several names (hard links)")
        if not self.status.st_mode & 0o222 or not os.access(self.path, os.W_OK):
            raise Unwritable("it is read-only")

    def replace(
        self, edits: Edits, prove: Callable[[bytes], None], journal: Journal | None, *, mtime_ns: int | None
    ) -> bytes:
        """Put the file with `edits` in its place, once `prove` accepts what is on the disk and nobody has changed it.

        With a `journal` the way back is noted there first. `mtime_ns`: its time of change afterwards; None: now. Return
        the digest of the new content. Raises `Unwritable` and `OSError`; then nothing has changed.
        """
        digest = b""

        def before_rename(content: bytes | None) -> None:
            nonlocal digest
            assert content is not None
            prove(content)
            digest = content_digest(content)
            if journal is not None:
                journal.note_change(self.path, digest, packed(inverse(edits)))
            self._check_unchanged()

        files.write_file(
            self.path,
            pieces(memoryview(self.data), edits),
            like=self.status,
            times=(self.status.st_atime_ns, mtime_ns) if mtime_ns is not None else None,
            before_rename=before_rename,
            read_back=True,
        )
        return digest

    def remove(self) -> None:
        """Remove the file. Raises `Unwritable` and `OSError`."""
        self._check_unchanged()
        files.sync_put_off()  # what a sidecar has may just have gone into its photo
        os.unlink(self.path)
        files.sync_folder(self.path.parent)

    def _check_unchanged(self) -> None:
        now = os.stat(self.path)
        facts = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
        if any(getattr(now, fact) != getattr(self.status, fact) for fact in facts):
            raise Unwritable("it was changed by another program meanwhile")

    def taken_back(self, journal: Journal, is_credible: Callable[[bytes | None, bytes], bool]) -> bytes | None:
        """Return the content before all changes that the journal knows; None where there was no file.

        What the journal says counts where `is_credible` finds that it could have become what is there: it is a file
        that anything may have happened to.
        """
        data, change = self.data, None
        # Each change before the last one: a photo that was tagged and untagged is in the journal with both contents.
        while (undo := journal.undo_of(content_digest(data), change)) is not None:
            change = undo.change
            if undo.edits is None:
                return None if is_credible(None, self.data) else self.data
            try:
                data = applied(data, unpacked(undo.edits, data))
            except ValueError:
                break  # a damaged journal; what is noted in the file remains
        return data if data is self.data or is_credible(data, self.data) else self.data


def same_as(expected: bytes) -> Callable[[bytes], None]:
    """Return a proof for `Source.replace` that accepts `expected` alone."""

    def prove(content: bytes) -> None:
        if content != expected:
            raise Unwritable("what was written does not read back")

    return prove
