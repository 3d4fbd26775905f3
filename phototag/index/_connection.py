"""Open and lock the file of an index, and turn SQLite's errors into phototag's."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import filelock

from phototag.errors import IndexBusy, IndexUnusable
from phototag.index._schema import APPLICATION_ID, APPLICATION_ID_OFFSET, migrate

_SQLITE_HEAD = b"SQLite format 3\0"
# A sound file with damaged content raises any of these when it is read.
_DAMAGE = (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Guard:
    """A lock that lets in one thread at a time, and turns SQLite's errors into `IndexUnusable`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._lock.release()
        if isinstance(error, sqlite3.OperationalError):
            hint = "check its permissions and the room on the disk, or choose another with {index}"
            raise IndexUnusable(f"the index {self._path} cannot be used ({error})", hint) from error
        if isinstance(error, _DAMAGE):
            raise damaged(self._path, error) from error


def damaged(path: Path, what: object) -> IndexUnusable:
    """Return the error for a damaged index."""
    return IndexUnusable(f"the index {path} is damaged ({what})", "move it away, and the next scan makes a new one")


def check_is_ours(path: Path) -> None:
    """Refuse another program's file before anything is created beside it or in it. Raises `IndexUnusable`."""
    try:
        if path.exists() and not path.is_file():
            raise IndexUnusable(f"{path} is not a file", "choose another with {index}")
        with path.open("rb") as file:
            head = file.read(APPLICATION_ID_OFFSET + 4)
    except OSError:  # the file is missing, or SQLite will say better what is wrong
        return
    if head and not head.startswith(_SQLITE_HEAD):
        raise IndexUnusable(f"{path} is not an index, or a damaged one", "move it away or choose another with {index}")
    if head and int.from_bytes(head[APPLICATION_ID_OFFSET:], "big") != APPLICATION_ID:
        raise IndexUnusable(f"{path} is another program's database", "choose another place with {index}")


def make_folder(path: Path) -> None:
    """Create the folder of the index at `path`. Raises `IndexUnusable`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder of the index {path} cannot be made ({error.strerror})"
        raise IndexUnusable(what, "choose another with {index}") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the index at `path`. The system releases it when the process dies, however it dies.

    Raises `IndexBusy` if another run holds it, `IndexUnusable` if the file system has no locks.
    """
    lock = filelock.FileLock(_lock_of(path))
    try:
        lock.acquire(timeout=0.3, poll_interval=0.05)  # `is_held` of another process holds it for a moment
    except filelock.Timeout:
        what = f"another run holds the index {path}{_holder(path)}"
        raise IndexBusy(what, "wait for it or choose another with {index}", index=str(path)) from None
    except (OSError, NotImplementedError) as error:
        what = f"the index {path} cannot be locked ({error})"
        raise IndexUnusable(what, "choose another place with {index}") from None
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Return whether a run holds the index at `path` right now."""
    if not os.path.exists(_lock_of(path)):  # FileLock would create it
        return False
    try:
        with filelock.FileLock(_lock_of(path), timeout=0):
            return False
    except filelock.Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def _lock_of(path: Path) -> str:
    """Return the path of the lock file, which is the same for all links to one index."""
    return f"{os.path.realpath(path)}.lock"


def _holder(path: Path) -> str:
    """Return who holds the lock, or an empty text if the index is too busy to tell."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect_read_only(path)) as connection:
        row = connection.execute(
            "SELECT pid, started FROM runs WHERE finished IS NULL ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            return f" (process {row[0]}, since {row[1]})"
    return ""


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the index at `path` and bring its tables up to date. A missing one reads as empty if `read_only`."""
    is_there = path.exists()
    if not read_only:
        connection = sqlite3.connect(path, check_same_thread=False)
    elif is_there:
        connection = connect_read_only(path)
    else:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        if not read_only:
            if not is_there or path.stat().st_size == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # `check_is_ours` reads it from now on
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            # With WAL this keeps the file sound on a power cut. The next scan repeats changes that were lost.
            connection.execute("PRAGMA synchronous = NORMAL")
        migrate(connection, path, allowed=not (read_only and is_there))
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open the index for reading, without leaving a trace.

    `immutable` keeps SQLite from creating files beside it, and needs no right to write there. While another process has
    the index open, its write-ahead log exists and has to be read too.
    """
    immutable = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{immutable}", uri=True, check_same_thread=False)
