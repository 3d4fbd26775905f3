"""The index: what is known about each photo between runs. The only module that writes SQL.

One SQLite file and one writer at a time. It holds nothing that cannot be made again by a scan.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

import phototag
from phototag.errors import IndexBusy, IndexUnusable
from phototag.metadata.files import Undo
from phototag.photos import Photo
from phototag.taxonomy import Label, Prediction, Tag

# In order; a name is never used again and a statement never changed once released.
_MIGRATIONS: Mapping[str, str] = {
    "0001_photos_and_runs": """
        CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            started TEXT NOT NULL,      -- ISO 8601, UTC
            finished TEXT,              -- NULL: still running, or killed
            pid INTEGER NOT NULL,
            version TEXT NOT NULL,
            counts TEXT                 -- JSON: photos by status
        );
        CREATE TABLE photos (
            path BLOB PRIMARY KEY,      -- absolute, the bytes of the file system
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            recipe TEXT NOT NULL,       -- digest of all that decides about the tags and where they go
            tags TEXT NOT NULL,         -- JSON
            predictions TEXT NOT NULL,  -- JSON: the model's likeliest labels
            written TEXT NOT NULL,      -- JSON: the files that hold the tags
            run INTEGER NOT NULL REFERENCES runs (id)
        ) WITHOUT ROWID;
    """,
    "0002_journal": """
        CREATE TABLE journal (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL REFERENCES runs (id),
            path BLOB NOT NULL,         -- of the file: a photo, or its sidecar
            digest BLOB NOT NULL,       -- SHA-256 of the file as this change left it
            undo BLOB                   -- what takes it back (metadata.edits.packed); NULL: there was no file
        );
        CREATE INDEX journal_by_digest ON journal (digest);
    """,
}


@dataclass(frozen=True, slots=True)
class Record:
    """What a run found out about a photo. `recipe` is the digest of all that decided about it."""

    photo: Photo
    recipe: str
    tags: tuple[Tag, ...]
    predictions: tuple[Prediction, ...]
    written: tuple[Path, ...]


class Index:
    """An open index. Use `open_index`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._run: int | None = None

    def current(self, photo: Photo, recipe: str) -> Record | None:
        """Return the record of `photo` if neither its size, its mtime nor the recipe has changed since, else None."""
        with _translated(self._path):
            row = self._connection.execute(
                "SELECT tags, predictions, written FROM photos "
                "WHERE path = ? AND size = ? AND mtime_ns = ? AND recipe = ?",
                (os.fsencode(photo.path), photo.size, photo.mtime_ns, recipe),
            ).fetchone()
            if row is None:
                return None
            return Record(photo, recipe, _tags(row[0]), _predictions(row[1]), _paths(row[2]))

    def add(self, records: Sequence[Record]) -> None:
        """Store `records`, all of them or none."""
        rows = [
            (
                os.fsencode(record.photo.path),
                record.photo.size,
                record.photo.mtime_ns,
                record.recipe,
                json.dumps([asdict(tag) for tag in record.tags]),
                json.dumps([asdict(prediction) for prediction in record.predictions]),
                json.dumps([str(path) for path in record.written]),
                self._run,
            )
            for record in records
        ]
        with _translated(self._path), self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO photos (path, size, mtime_ns, recipe, tags, predictions, written, run) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def forget(self, path: Path) -> None:
        """Forget the photo at `path`, so that it is done again. The journal of what was done to files stays."""
        with _translated(self._path), self._connection:
            self._connection.execute("DELETE FROM photos WHERE path = ?", (os.fsencode(path),))

    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        """Note, before it is done, that the file at `path` will have the SHA-256 `digest`.

        `undo`: the packed edits that take it back; None where there was no file.
        """
        with _translated(self._path), self._connection:
            self._connection.execute(
                "INSERT INTO journal (run, path, digest, undo) VALUES (?, ?, ?, ?)",
                (self._run, os.fsencode(path), digest, undo),
            )

    def undo_of(self, digest: bytes, before: int | None = None) -> Undo | None:
        """Return how a file of the SHA-256 `digest` is taken back by one change, or None where nothing is known.

        By its content and not its path: a photo may have been moved since. `before`: only by changes before that one.
        """
        with _translated(self._path):
            row = self._connection.execute(
                "SELECT id, undo FROM journal WHERE digest = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT 1",
                (digest, before),
            ).fetchone()
        return Undo(*row) if row is not None else None

    @contextlib.contextmanager
    def run(self, counts: Mapping[str, int]) -> Iterator[None]:
        """Note that a run is under way, and when it ends, that it did and its `counts` as they are then."""
        with _translated(self._path), self._connection:
            cursor = self._connection.execute(
                "INSERT INTO runs (started, pid, version) VALUES (?, ?, ?)", (_now(), os.getpid(), phototag.__version__)
            )
            self._run = cursor.lastrowid
        try:
            yield
        finally:
            with _translated(self._path), self._connection:
                self._connection.execute(
                    "UPDATE runs SET finished = ?, counts = ? WHERE id = ?",
                    (_now(), json.dumps(dict(counts)), self._run),
                )


# Photos of one subject have the same tags, and those of a library that is done have to be read fast.
@functools.lru_cache(maxsize=4096)
def _tags(text: str) -> tuple[Tag, ...]:
    return tuple(
        Tag(**{**tag, "path": tuple(map(str, tag["path"])), "synonyms": tuple(map(str, tag.get("synonyms", ())))})
        for tag in json.loads(text)
    )


@functools.lru_cache(maxsize=4096)
def _predictions(text: str) -> tuple[Prediction, ...]:
    return tuple(Prediction(Label(**one["label"]), one["score"]) for one in json.loads(text))


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(path) for path in json.loads(text))  # TypeError where one is no text


@contextlib.contextmanager
def open_index(path: Path, *, read_only: bool = False) -> Iterator[Index]:
    """Open the index at `path`, made if it is not there, for one process alone.

    `read_only` (for a dry run) takes no lock and makes nothing: an index that is not there reads as empty.

    Raises `IndexBusy` where another run holds it, `IndexUnusable` where it is unusable.
    """
    with contextlib.ExitStack() as stack:
        _check_is_ours(path)
        if not read_only:
            _make_folder(path)
            stack.enter_context(_locked(path))
        with _translated(path):
            connection = stack.enter_context(contextlib.closing(_connect(path, read_only)))
        yield Index(path, connection)


def _check_is_ours(path: Path) -> None:
    """Refuse another program's file before anything is made beside it or in it."""
    try:
        if path.exists() and not path.is_file():
            raise IndexUnusable(f"{path} is no file; choose another with --index")
        with path.open("rb") as file:
            head = file.read(APPLICATION_ID_OFFSET + 4)
    except OSError:  # not there, or SQLite will say better what is wrong
        return
    if head and not head.startswith(_SQLITE_HEAD):
        raise IndexUnusable(f"{path} is no index, or a damaged one; move it away or choose another with --index")
    if head and int.from_bytes(head[APPLICATION_ID_OFFSET:], "big") != APPLICATION_ID:
        raise IndexUnusable(f"{path} is another program's database; choose another place with --index")


# Where SQLite keeps the number that tells whose database it is (sqlite.org/fileformat.html, 1.3), and ours: "ptag".
APPLICATION_ID_OFFSET = 68
APPLICATION_ID = int.from_bytes(b"ptag", "big")
_SQLITE_HEAD = b"SQLite format 3\0"


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IndexUnusable(
            f"the folder of the index {path} cannot be made ({error.strerror}); choose another with --index"
        ) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the index. The system lets go of it when the process dies, however it dies."""
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise IndexBusy(
            f"another run holds the index {path}{_holder(path)}; wait for it or choose another with --index"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise IndexUnusable(f"the index {path} cannot be locked ({error}); choose another place with --index") from None
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    """Who holds the lock, as far as the index tells: it may be too busy to."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(path)) as connection:
        row = connection.execute(
            "SELECT pid, started FROM runs WHERE finished IS NULL ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            return f" (process {row[0]}, since {row[1]})"
    return ""


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    is_there = path.exists()
    read_only_connection = _read_only if is_there else lambda _: sqlite3.connect(":memory:")
    connection = read_only_connection(path) if read_only else sqlite3.connect(path)
    try:
        if not read_only:
            if not is_there or path.stat().st_size == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # checked by _check_is_ours ever after
            connection.execute("PRAGMA journal_mode = WAL")
            # With WAL this keeps the file sound on a power cut; the last moments may be lost, and are done again.
            connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, path, allowed=not (read_only and is_there))
    except BaseException:
        connection.close()
        raise
    return connection


def _read_only(path: Path) -> sqlite3.Connection:
    """Open the index without leaving a trace.

    `immutable` keeps SQLite from making files beside it, and needs no right to write there. While another process has
    the index open its write-ahead log is there, and then it has to be read too.
    """
    immutable = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{immutable}", uri=True)


def _migrate(connection: sqlite3.Connection, path: Path, *, allowed: bool) -> None:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone()
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations")} if known else set[str]()
    if not applied <= _MIGRATIONS.keys():
        raise IndexUnusable(
            f"the index {path} was written by a newer phototag; upgrade phototag or choose another with --index"
        )
    for name, statements in _MIGRATIONS.items():
        if name not in applied:
            if not allowed:
                raise IndexUnusable(
                    f"the index {path} is of an older phototag; scan once without --dry-run to bring it up to date"
                )
            connection.executescript(
                "BEGIN; CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied TEXT NOT NULL);"
                f"{statements}; INSERT INTO migrations VALUES ('{name}', '{_now()}'); COMMIT;"
            )


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        hint = "check its permissions and the room on the disk, or choose another with --index"
        raise IndexUnusable(f"the index {path} cannot be used ({error}); {hint}") from error
    # Where the file is sound and what is in it is not, reading it raises the rest.
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IndexUnusable(
            f"the index {path} is damaged ({error}); move it away, and the next scan makes a new one"
        ) from error


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
