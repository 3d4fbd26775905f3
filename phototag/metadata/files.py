"""Files that appear whole or not at all: written beside their place, made durable, checked, then renamed into it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from phototag.core import Photo, Prediction, Tag
from phototag.metadata.edits import Data
from phototag.metadata.keywords import Unwritable
from phototag.photos.digest import content_digest
from phototag.photos.kinds import UNFINISHED_PREFIX, UNFINISHED_SUFFIX

if sys.platform != "win32":
    import fcntl

# Attributes that the kernel or a privileged program keeps for itself, and gives each new file as it sees fit.
_NOT_OURS = ("security.", "trusted.", "system.nfs4_acl", "com.apple.provenance", "com.apple.quarantine")


# What the journal has for the digest of a file that was removed.
NO_FILE = content_digest(b"")
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)


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


def now() -> str:
    """Return the date and time as phototag notes them: ISO 8601, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")


def moment(date: str) -> int:
    """Return what `now` has returned in nanoseconds since 1970. Raises ValueError where it is something else."""
    try:
        return (datetime.datetime.fromisoformat(date) - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
    except (TypeError, OverflowError) as error:  # without a time zone; beyond all calendars
        raise ValueError(str(error)) from None


def remove_unfinished(path: Path) -> None:
    """Remove a file that a run was writing when it died; leave it where one is still writing it, or may be."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor):
                os.unlink(path)
        finally:
            os.close(descriptor)


def write_file(
    path: Path,
    pieces: Iterable[Data],
    *,
    like: os.stat_result | None = None,
    mode: int = 0o644,
    times: tuple[int, int] | None = None,
    before_rename: Callable[[bytes | None], None] = lambda _: None,
    read_back: bool = False,
) -> None:
    """Make the file at `path` consist of `pieces`: all of them, or leave it as it is.

    `like`: the file that `path` is now; the new one gets its mode, owner and extended attributes (with them its ACLs).
    Without it the mode is `mode`. `times`: of access and of change, in nanoseconds; else now. `before_rename` is called
    when all is on the disk, with the content read back from there if `read_back`; what it raises leaves the file as it
    is. After the return a power cut will not bring the old file back, but see `folders_synced_once`.

    Raises `OSError` where the folder cannot be written, `Unwritable` where an attribute cannot be kept.
    """
    with _beside(path) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            for piece in pieces:
                file.write(piece)
        if like is None:
            with contextlib.suppress(OSError):  # not every mount has modes
                os.chmod(temporary, mode)
        else:
            _make_like(path, temporary, like)
        os.fsync(descriptor)
        before_rename(_content(descriptor) if read_back else None)
        if times is not None:  # last: reading counts as access
            os.utime(temporary, ns=times)
        os.replace(temporary, path)
    sync_folder(path.parent)


def os_fault(what: str, error: OSError) -> str:
    """Say why a file could not be written, and what to do about it: the rest of a sentence about a photo."""
    hint = "check the folder's permissions and the room on the disk"
    if error.errno == errno.ENAMETOOLONG:
        hint = "shorten the photo's name"
    return f"{what} ({error.strerror}); {hint}"


@contextlib.contextmanager
def folders_synced_once() -> Iterator[None]:
    """Put off what `sync_folder` does in this thread to the end, to do it once for each folder.

    Each is a wait for the disk, which for a small photo takes as long as all else. Until the end a power cut may bring
    back a file as it was before, whole.
    """
    outer = _put_off.folders
    _put_off.folders = set()
    try:
        yield
    finally:
        put_off, _put_off.folders = _put_off.folders, outer
        for folder in put_off:
            sync_folder(folder)


def sync_put_off() -> None:
    """Do now what was put off: before something is removed that has to be there until the rest is durable."""
    while _put_off.folders:
        _sync(_put_off.folders.pop())


class _PutOff(threading.local):
    """The folders that a thread is yet to sync; None where it does so at once."""

    folders: set[Path] | None = None


_put_off = _PutOff()


def sync_folder(folder: Path) -> None:
    """Make a rename or a removal in `folder` durable, where the system can."""
    if _put_off.folders is not None:
        _put_off.folders.add(folder)
    else:
        _sync(folder)


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[int, str]]:
    """A new file in the folder of `path`, locked for as long as it is being written, and gone if that fails."""
    descriptor, temporary = tempfile.mkstemp(prefix=UNFINISHED_PREFIX, suffix=UNFINISHED_SUFFIX, dir=path.parent)
    _in_the_making.add(temporary)
    try:
        _lock(descriptor)
        yield descriptor, temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        _in_the_making.discard(temporary)
        os.close(descriptor)


_in_the_making: set[str] = set()  # paths of this process's unfinished files


def abandon_unfinished() -> None:
    """Remove what this process is writing right now, which another thread may be; for when it ends at once."""
    for temporary in tuple(_in_the_making):
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _lock(descriptor: int) -> bool:
    """Lock an open file for this process, and say whether nobody else has; the system unlocks it when one dies."""
    if sys.platform == "win32":  # where nobody can remove a file that is open
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read()


def _make_like(path: Path, temporary: str, like: os.stat_result) -> None:
    if hasattr(os, "chown"):
        own = os.stat(temporary)
        if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
            try:
                os.chown(temporary, like.st_uid, like.st_gid)
            except OSError:
                raise Unwritable("it belongs to another user or group, which a new file could not") from None
    _copy_attributes(path, temporary)
    # After the owner, whose change takes the special bits away, and the ACLs, which have a say in the mode.
    os.chmod(temporary, stat.S_IMODE(like.st_mode))


def _copy_attributes(path: Path, temporary: str) -> None:
    if not hasattr(os, "listxattr"):
        return
    try:
        names = os.listxattr(path)
    except OSError:  # a file system without them
        return
    for name in names:
        if not name.startswith(_NOT_OURS):
            try:
                os.setxattr(temporary, name, os.getxattr(path, name))
            except OSError:
                raise Unwritable(f"its extended attribute {name} cannot be kept") from None
