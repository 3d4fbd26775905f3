"""The health of an index: whether it is sound, and which process uses it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

from phototag.errors import IndexUnusable
from phototag.index import Index
from phototag.index._connection import Guard, check_is_ours, connect_read_only, damaged
from phototag.index._schema import unapplied
from phototag.index.rows import Run

MOST_FAULTS = 3  # a file of random bytes has thousands
_STRAYS = f"SELECT * FROM pragma_foreign_key_check LIMIT {MOST_FAULTS}"


@dataclass(frozen=True, slots=True)
class Health:
    """The state of an index.

    `faults`: its faults, with remedies. `photos`: the number of its photos, or None if that is unknown.
    `is_old`: an older phototag wrote it, and the next scan will migrate it. `running`: the last run, if it has not
    ended and its process lives.
    """

    faults: tuple[IndexUnusable, ...] = ()
    photos: int | None = None
    is_old: bool = False
    running: Run | None = None


def examine(path: Path) -> Health | None:
    """Return the state of the index at `path`, or None if there is none.

    Reads all of it. Takes no lock and changes nothing.
    """
    try:
        if not path.exists():
            return None
        check_is_ours(path)
        with Guard(path), contextlib.closing(connect_read_only(path)) as connection:
            return _health(path, connection)
    except OSError as error:
        what = f"the index {path} cannot be read ({error.strerror})"
        return Health((IndexUnusable(what, "check its permissions"),))
    except IndexUnusable as error:
        return Health((error,))


def _health(path: Path, connection: sqlite3.Connection) -> Health:
    is_old = bool(unapplied(connection, path))
    faults = [row[0] for row in connection.execute(f"PRAGMA integrity_check({MOST_FAULTS})") if row[0] != "ok"]
    if not faults:
        faults = [f"a row of {row[0]} is without its row of {row[2]}" for row in connection.execute(_STRAYS)]
    if faults:
        return Health(tuple(damaged(path, fault) for fault in faults))
    (photos,) = connection.execute("SELECT count(*) FROM photos").fetchone()
    last = [] if is_old else Index(path, connection).runs(1)
    running = next((run for run in last if run.finished is None and _is_alive(run.pid)), None)
    return Health(photos=photos, is_old=is_old, running=running)


def _is_alive(pid: int) -> bool:
    """Return whether a process of that number runs. It may be another than the one that had the number."""
    if sys.platform == "win32":  # os.kill would end the process
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
