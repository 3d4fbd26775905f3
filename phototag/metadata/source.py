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

MAX_PHOTO = 1 << 29  # bytes; a file is held in memory twice while phototag writes into it
MAX_OTHER = 1 << 26  # bytes; for kinds of files that phototag does not write into


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open the file at `path`, and return it with its status.

    Raises `OSError`, and `Unwritable` if it is not a regular file.
    """
    # O_NONBLOCK, because opening a pipe would block.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):  # also for a folder, for which os.fdopen fails
            raise Unwritable("it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, status
    finally:
        os.close(descriptor)


def _check_size(file: BinaryIO, size: int, limit: int | None) -> None:
    """Raise `Unwritable` if the file is larger than `limit`, or, without a limit, too large for its kind."""
    if limit is None:
        limit = MAX_PHOTO
        if size > MAX_OTHER:  # perhaps a video next to a photo
            containers.check_kind(file.read(256))
            file.seek(0)
    if size > limit:
        raise Unwritable(f"it is larger than {limit >> 20} MB")


@dataclass(frozen=True)
class Source:
    """A file as it was read: its real path, its content, and its status at that time."""

    path: Path
    data: bytes
    status: os.stat_result

    @classmethod
    def read(cls, path: Path, limit: int | None = None) -> Source:
        """Read the file at `path`. `limit` is in bytes; without it, the limit depends on the kind of file.

        Raises `OSError`, and `Unwritable` if it is not a regular file, too large, or being written by another program.
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
        """The `content_digest` of the content."""
        return content_digest(self.data)

    def is_as_seen(self, photo: Photo) -> bool:
        """Return whether size and modification time are those of `photo`."""
        return (self.status.st_size, self.status.st_mtime_ns) == (photo.size, photo.mtime_ns)

    def is_as_left(self, journal: Journal) -> bool:
        """Return whether the content is as phototag left it, according to the journal."""
        return self.digest != NO_FILE and journal.undo_of(self.digest) is not None

    def check_writable(self) -> None:
        """Raise `Unwritable` if the file is read-only or has hard links."""
        if self.status.st_nlink > 1:
            raise Unwritable("it has several names (hard links)")
        if not self.status.st_mode & 0o222 or not os.access(self.path, os.W_OK):
            raise Unwritable("it is read-only")

    def replace(
        self, edits: Edits, prove: Callable[[bytes], None], journal: Journal | None, *, mtime_ns: int | None
    ) -> bytes:
        """Replace the file by its content with `edits`, if `prove` accepts the new file and the old one is unchanged.

        A `journal` records first how to undo the change. `mtime_ns` is the new modification time in nanoseconds; None
        means now. Returns the digest of the new content. Raises `Unwritable` and `OSError`; the file is unchanged then.
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
        """Remove the file. Raises `Unwritable` if another program changed it, and `OSError`."""
        self._check_unchanged()
        files.sync_postponed()  # the tags of the sidecar may just have been written into the photo
        os.unlink(self.path)
        files.sync_folder(self.path.parent)

    def _check_unchanged(self) -> None:
        now = os.stat(self.path)
        facts = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
        if any(getattr(now, fact) != getattr(self.status, fact) for fact in facts):
            raise Unwritable("it was changed by another program meanwhile")

    def taken_back(self, journal: Journal, is_credible: Callable[[bytes | None, bytes], bool]) -> bytes | None:
        """Return the content before all changes in the journal, or None if there was no file.

        The journal is a file that may be damaged. So its answer only counts if `is_credible` finds that phototag could
        have made the current content from it.
        """
        data, change = self.data, None
        # Search before the last change found: after tagging and untagging, the journal holds both contents of a photo.
        while (undo := journal.undo_of(content_digest(data), change, self.path)) is not None:
            change = undo.change
            if undo.edits is None:
                return None if is_credible(None, self.data) else self.data
            try:
                data = applied(data, unpacked(undo.edits, data))
            except ValueError:
                break  # the journal is damaged; the record in the file remains
        return data if data is self.data or is_credible(data, self.data) else self.data


def same_as(expected: bytes) -> Callable[[bytes], None]:
    """Return a proof for `Source.replace` that only accepts `expected`."""

    def prove(content: bytes) -> None:
        if content != expected:
            raise Unwritable("what was written does not read back")

    return prove
