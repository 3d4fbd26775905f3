"""Write files atomically: write a temporary file in the same folder, sync it, check it, then rename it."""

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
from pathlib import Path

from phototag.errors import PhotoError
from phototag.metadata.edits import Data
from phototag.metadata.keywords import Unwritable
from phototag.photos.digest import content_digest
from phototag.photos.kinds import UNFINISHED_PREFIX, UNFINISHED_SUFFIX

if sys.platform != "win32":
    import fcntl

# Attributes that the kernel or a privileged program manages. It sets them on each new file itself.
_NOT_OURS = ("security.", "trusted.", "system.nfs4_acl", "com.apple.provenance", "com.apple.quarantine")


# The journal's digest for a removed file.
NO_FILE = content_digest(b"")
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)


def now() -> str:
    """Return the current date and time in phototag's format: ISO 8601, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")


def moment(date: str) -> int:
    """Return a date in the format of `now` as nanoseconds since 1970. Raises ValueError for other formats."""
    try:
        return (datetime.datetime.fromisoformat(date) - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
    except (TypeError, OverflowError) as error:  # without a time zone, or out of range
        raise ValueError(str(error)) from None


def remove_unfinished(path: Path) -> None:
    """Remove a temporary file of a run that died. Leave it if a process may still be writing it."""
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
    """Write `pieces` to the file at `path`, replacing it as a whole or, on any error, not at all.

    `like` is the status of the existing file: the new one gets its mode, owner and extended attributes, which include
    ACLs. Without `like`, the mode is `mode`. `times` are the access and modification times in nanoseconds; None means
    now.

    `before_rename` is called when the content is on the disk. It gets the content read back from the disk if
    `read_back`, otherwise None. If it raises an error, the old file stays. After the return, a power cut cannot bring
    the old file back, except inside `folders_synced_once`.

    Raises `OSError` if the folder cannot be written to, and `Unwritable` if an attribute cannot be kept.
    """
    with _temporary_file(path) as (descriptor, temporary):
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
        if times is not None:  # last, because reading changes the access time
            os.utime(temporary, ns=times)
        os.replace(temporary, path)
    sync_folder(path.parent)


def os_fault(path: Path, what: str, error: OSError) -> PhotoError:
    """Return the `PhotoError` for an OSError. `what` says what failed, for example "it cannot be written"."""
    remedy = "check the folder's permissions and the room on the disk"
    if error.errno == errno.ENAMETOOLONG:
        remedy = "shorten the photo's name"
    return PhotoError(path, f"{what} ({error.strerror})", remedy)


@contextlib.contextmanager
def folders_synced_once() -> Iterator[None]:
    """Postpone this thread's calls of `sync_folder` to the end, and sync each folder only once.

    Each sync waits for the disk. For a small photo that takes as long as everything else. Until the end, a power cut
    may bring back the old version of a file, undamaged.
    """
    outer = _postponed.folders
    _postponed.folders = set()
    try:
        yield
    finally:
        put_off, _postponed.folders = _postponed.folders, outer
        for folder in put_off:
            sync_folder(folder)


def sync_postponed() -> None:
    """Sync the postponed folders now. Call this before removing a file whose replacement must already be durable."""
    while _postponed.folders:
        _sync(_postponed.folders.pop())


class _Postponed(threading.local):
    """The folders that a thread has yet to sync. None if the thread syncs at once."""

    folders: set[Path] | None = None


_postponed = _Postponed()


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable, if the system supports it."""
    if _postponed.folders is not None:
        _postponed.folders.add(folder)
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
def _temporary_file(path: Path) -> Iterator[tuple[int, str]]:
    """Create a temporary file in the folder of `path`. It is locked while it is written, and removed on errors."""
    descriptor, temporary = tempfile.mkstemp(prefix=UNFINISHED_PREFIX, suffix=UNFINISHED_SUFFIX, dir=path.parent)
    _unfinished.add(temporary)
    try:
        _lock(descriptor)
        yield descriptor, temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        _unfinished.discard(temporary)
        os.close(descriptor)


_unfinished: set[str] = set()  # temporary files of this process


def abandon_unfinished() -> None:
    """Remove the temporary files of all threads of this process. For a process that is about to end at once."""
    for temporary in tuple(_unfinished):
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _lock(descriptor: int) -> bool:
    """Lock an open file, and return whether that succeeded. The system releases the lock if the process dies."""
    if sys.platform == "win32":  # Windows does not let anyone remove an open file
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
    # Last: a change of owner clears the special bits, and ACLs affect the mode.
    os.chmod(temporary, stat.S_IMODE(like.st_mode))


def _copy_attributes(path: Path, temporary: str) -> None:
    if not hasattr(os, "listxattr"):
        return
    try:
        names = os.listxattr(path)
    except OSError:  # the file system has no extended attributes
        return
    for name in names:
        if not name.startswith(_NOT_OURS):
            try:
                os.setxattr(temporary, name, os.getxattr(path, name))
            except OSError:
                raise Unwritable(f"its extended attribute {name} cannot be kept") from None
