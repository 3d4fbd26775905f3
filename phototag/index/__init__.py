"""The index: what is known about each photo between runs. The only part that writes SQL.

One SQLite file and one writer at a time. It holds nothing that cannot be made again by a scan, but for what people
have rejected and the way back from what was written, which the photos and sidecars note as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import filelock

from phototag._version import __version__
from phototag.core import Label, Photo, Prediction, Tag, Undo
from phototag.errors import IndexBusy, IndexUnusable
from phototag.index._schema import APPLICATION_ID, APPLICATION_ID_OFFSET, migrate, now, unapplied


@dataclass(frozen=True, slots=True)
class Record:
    """What a run found out about a photo and did with it.

    `photo` is as it was afterwards. `recipe` is the digest of all that decided about it. `written`: the files beside
    it, or itself, that hold the tags. `digest`: the `content_digest` of it, where it is known. `model` identifies what
    gave the `scores` (as `scores.pack` makes them); None where those that are stored stay. `rejected`: names of tags
    that a person has removed. `write`: the name of the writer. `own_tags`: names of the tags that are
    phototag's own in those files, not a person's of the same name.
    """

    photo: Photo
    recipe: str
    tags: tuple[Tag, ...]
    predictions: tuple[Prediction, ...]
    written: tuple[Path, ...]
    digest: bytes | None = None
    model: str = ""
    scores: bytes | None = None
    rejected: tuple[str, ...] = ()
    write: str = ""
    own_tags: tuple[str, ...] = ()


class IndexedPhoto(NamedTuple):
    """What the index knows of a photo: a row of its table.

    `recipe` and `write` are as in `Record`; `files` and `companions` names beside `path`, as bytes, parted by "/".
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
        """Have size and mtime stayed the same?"""
        return self.size == photo.size and self.mtime_ns == _storable(photo.mtime_ns)

    def covers(self, companions: Sequence[Path]) -> bool:
        """Have all of these files of the same shot been seen to?"""
        return not companions or set(_names(self.companions)).issuperset(path.name for path in companions)

    @property
    def written(self) -> tuple[Path, ...]:
        """The files that hold the tags."""
        return tuple(Path(os.fsdecode(self.path)).with_name(name) for name in _names(self.files))

    def is_written(self, is_there: Callable[[bytes, bytes], bool]) -> bool:
        """Are the files that hold the tags still there? `is_there` is asked with a folder and a name in it."""
        if not self.files:
            return True
        folder, _, own = self.path.rpartition(_SEPARATOR)
        return all(name == own or is_there(folder, name) for name in self.files.split(b"/"))


_SEPARATOR = os.sep.encode()
# As bytes whatever a damaged index has there: that is used where nobody looks out for errors of its.
_KNOWN = "id, size, mtime_ns, recipe, write, CAST(files AS BLOB), CAST(companions AS BLOB), CAST(path AS BLOB)"


class _Ahead(NamedTuple):
    """All that the index knows of the paths from `first` to `last`, by path; `last` is None where there are no more."""

    first: bytes
    last: bytes | None
    rows: Mapping[bytes, IndexedPhoto]

    def covers(self, path: bytes) -> bool:
        return self.first <= path and (self.last is None or path <= self.last)


_NOTHING_AHEAD = _Ahead(b"\xff", b"", {})
# How many rows are read when one is asked for: the photos of a folder are asked for one after the other.
_ROWS_AHEAD = 500


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a file, as the journal has it; fields as in `Index.note_change`."""

    path: Path
    digest: bytes
    undo: bytes | None


@dataclass(slots=True)
class Run:
    """A run, as the index remembers it.

    `started` and `finished` are ISO 8601, UTC; `finished` is None where it still runs or died. `ending`: how it ended.
    `counts`: photos by status. `paths`: what was to be scanned.
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


class Index:
    """An open index. Use `open_index`. May be used by several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._using = _Guard(path)
        self._run: int | None = None
        self._ahead = _NOTHING_AHEAD

    # --- Photos -------------------------------------------------------------------------------------------------------

    def known(self, photo: Photo) -> IndexedPhoto | None:
        """Return what is known of the photo at that path, whatever it was then."""
        path = os.fsencode(photo)
        ahead = self._ahead
        if not ahead.covers(path):
            with self._using:
                ahead = self._ahead = self._read_ahead(path)
        return ahead.rows.get(path)

    def _read_ahead(self, path: bytes) -> _Ahead:
        query = f"SELECT {_KNOWN} FROM photos WHERE path >= ? ORDER BY path LIMIT ?"
        rows = [IndexedPhoto._make(row) for row in self._connection.execute(query, (path, _ROWS_AHEAD))]
        return _Ahead(path, rows[-1].path if len(rows) == _ROWS_AHEAD else None, {row.path: row for row in rows})

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """A change of the photos: all of it or nothing, and what was read ahead is read again."""
        with self._using, self._connection:
            self._ahead = _NOTHING_AHEAD
            yield

    def tags(self, known: IndexedPhoto) -> tuple[Tag, ...]:
        """Return the tags of a photo."""
        with self._using:
            return _tags(self._one("SELECT tags FROM photos WHERE id = ?", known.id))

    def own_tags(self, known: IndexedPhoto) -> tuple[str, ...]:
        """Return the names of the tags that are phototag's own in the files of a photo."""
        with self._using:
            return tuple(map(str, json.loads(self._one("SELECT noted FROM photos WHERE id = ?", known.id))))

    def predictions(self, known: IndexedPhoto) -> tuple[Prediction, ...]:
        """Return the model's likeliest labels for a photo."""
        with self._using:
            return _predictions(self._one("SELECT predictions FROM photos WHERE id = ?", known.id))

    def scores(self, known: IndexedPhoto, model: str) -> bytes | None:
        """Return the packed scores of a photo if `model` gave them, else None."""
        return self._scores("photo = ?", known.id, model)

    def scores_of(self, digest: bytes, model: str) -> bytes | None:
        """Return the packed scores that `model` gave any photo of that `content_digest`, or None."""
        return self._scores("photo IN (SELECT id FROM photos WHERE digest = ?)", digest, model)

    def _scores(self, where: str, value: int | bytes, model: str) -> bytes | None:
        with self._using:
            row = self._connection.execute(
                f"SELECT scores FROM scores WHERE {where} AND model = ? LIMIT 1", (value, model)
            ).fetchone()
            return bytes(row[0]) if row is not None else None

    def digest(self, known: IndexedPhoto) -> bytes | None:
        """Return the `content_digest` of a photo as it was stored."""
        with self._using:
            return self._one("SELECT digest FROM photos WHERE id = ?", known.id)  # type: ignore[no-any-return]

    def rejected(self, known: IndexedPhoto) -> tuple[str, ...]:
        """Return the names of the tags of a photo that a person has removed."""
        with self._using:
            rows = self._connection.execute("SELECT name FROM rejections WHERE photo = ? ORDER BY name", (known.id,))
            return tuple(str(name) for (name,) in rows)

    def rejected_with(self, digest: bytes) -> tuple[str, ...] | None:
        """Return what people removed from photos of that `content_digest`; None where none is known."""
        with self._using:
            rows = self._connection.execute(
                "SELECT name FROM photos LEFT JOIN rejections ON photo = id WHERE digest = ? ORDER BY name", (digest,)
            ).fetchall()
        return tuple(dict.fromkeys(str(name) for (name,) in rows if name is not None)) if rows else None

    def adopt(self, photo: Photo, digest: bytes) -> IndexedPhoto | None:
        """Let a photo that is not known take over what is known of one with its content: it was moved, or copied.

        None where there is none. The other stays known, until it is found to be gone.
        """
        with self._using:
            query = f"SELECT {_KNOWN} FROM photos WHERE digest = ? ORDER BY id DESC LIMIT 1"
            row = self._connection.execute(query, (digest,)).fetchone()
        if row is None:
            return None
        other, path = IndexedPhoto._make(row), os.fsencode(photo)
        was, own = (each.rpartition(_SEPARATOR)[2] for each in (other.path, path))
        files = b"/".join(own + name[len(was) :] if name.startswith(was) else name for name in other.files.split(b"/"))
        with self._changing():
            cursor = self._connection.execute(
                "INSERT INTO photos"
                " (path, size, mtime_ns, recipe, write, files, companions, digest, tags, noted, predictions, run) "
                "SELECT ?, ?, ?, recipe, write, ?, companions, digest, tags, noted, predictions, run "
                "FROM photos WHERE id = ?",
                (path, photo.size, _storable(photo.mtime_ns), files, other.id),
            )
            number = cursor.lastrowid or 0
            for table, columns in (("scores", "model, scores"), ("rejections", "name")):
                self._connection.execute(
                    f"INSERT INTO {table} (photo, {columns}) SELECT ?, {columns} FROM {table} WHERE photo = ?",
                    (number, other.id),
                )
        return other._replace(id=number, size=photo.size, mtime_ns=photo.mtime_ns, files=files, path=path)

    def add(
        self,
        records: Sequence[Record],
        failures: Sequence[tuple[Path, str]] = (),
        touched: Sequence[tuple[IndexedPhoto, Photo]] = (),
    ) -> None:
        """Store `records`, the paths and reasons of what failed, and the new sizes and times of what is `touched`.

        All or none.
        """
        with self._changing():
            for record in records:
                self._add(record)
            self._connection.executemany(
                "UPDATE photos SET size = ?, mtime_ns = ? WHERE id = ?",
                [(photo.size, _storable(photo.mtime_ns), known.id) for known, photo in touched],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO failures (path, reason, run) VALUES (?, ?, ?)",
                [(os.fsencode(path), _text(reason), self._run) for path, reason in failures],
            )

    def _add(self, record: Record) -> None:
        photo, path = record.photo, os.fsencode(record.photo)
        self._connection.execute(
            "INSERT INTO photos"
            " (path, size, mtime_ns, recipe, write, files, companions, digest, tags, noted, predictions, run) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (path) DO UPDATE SET "
            "size = ?2, mtime_ns = ?3, recipe = ?4, write = ?5, files = ?6, companions = ?7, digest = ?8, tags = ?9, "
            "noted = ?10, predictions = ?11, run = ?12",
            (
                path,
                photo.size,
                _storable(photo.mtime_ns),
                record.recipe,
                record.write,
                _joined(record.written),
                _joined(photo.companions),
                record.digest,
                _dumped([[tag.name, tag.confidence, tag.path, tag.synset, tag.synonyms] for tag in record.tags]),
                _dumped(record.own_tags),
                _dumped([[one.label.name, one.label.synset, one.score] for one in record.predictions]),
                self._run,
            ),
        )
        number = self._one("SELECT id FROM photos WHERE path = ?", path)
        if record.scores is not None:
            self._connection.execute(
                "INSERT OR REPLACE INTO scores (photo, model, scores) VALUES (?, ?, ?)",
                (number, record.model, record.scores),
            )
        self._connection.execute("DELETE FROM rejections WHERE photo = ?", (number,))
        self._connection.executemany(
            "INSERT OR IGNORE INTO rejections (photo, name) VALUES (?, ?)",
            [(number, _text(n)) for n in record.rejected],
        )
        self._connection.execute("DELETE FROM failures WHERE path = ?", (path,))

    def untagged(self, path: Path, *, forget_rejections: bool = False) -> None:
        """Note that the tags of the photo at `path` were taken back, so that the next scan writes them again.

        `forget_rejections`: those as well that a person had removed.
        """
        with self._changing():
            if forget_rejections:
                self._connection.execute(
                    "DELETE FROM rejections WHERE photo = (SELECT id FROM photos WHERE path = ?)", (os.fsencode(path),)
                )
            self._connection.execute(
                "UPDATE photos SET recipe = '', tags = '[]', noted = '[]', files = x'' WHERE path = ?",
                (os.fsencode(path),),
            )

    def below(self, root: Path, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, Path]]:
        """Yield number and path of each photo at or below `root` whose number is wanted, lazily.

        Those that were yielded may be forgotten meanwhile.
        """
        path, after, end = _below(root)
        rows = self._rows("SELECT id, path FROM photos WHERE path = ?", path)
        while True:
            yield from ((number, Path(os.fsdecode(found))) for number, found in rows if is_wanted(number))
            query = "SELECT id, path FROM photos WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
            rows = self._rows(query, after, end, _ROWS_AHEAD)
            if not rows:
                return
            after = rows[-1][1]

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._using:
            return self._connection.execute(query, values).fetchall()

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget photos, by their numbers. The journal of what was done to files stays."""
        with self._changing():
            self._connection.executemany("DELETE FROM photos WHERE id = ?", [(number,) for number in numbers])

    def written_in(self, run: int) -> dict[Path, Path]:
        """Return the files that hold the tags of that run, each with its photo."""
        with self._using:
            query = f"SELECT {_KNOWN} FROM photos WHERE run = ? AND files <> x''"
            rows = [IndexedPhoto._make(row) for row in self._connection.execute(query, (run,))]
        return {file: Path(os.fsdecode(row.path)) for row in rows for file in row.written}

    def paths_of(self, digest: bytes) -> list[Path]:
        """Return the paths of the photos of that `content_digest`."""
        with self._using:
            rows = self._connection.execute("SELECT path FROM photos WHERE digest = ?", (digest,))
            return [Path(os.fsdecode(path)) for (path,) in rows]

    def count(self) -> dict[str, int]:
        """Count the photos: `photos` in all, those that are `tagged`, and those with `rejected` tags."""
        with self._using:
            photos, tagged = self._connection.execute("SELECT count(*), total(files <> x'') FROM photos").fetchone()
            rejected = self._one("SELECT count(DISTINCT photo) FROM rejections")
            return {"photos": photos, "tagged": int(tagged), "rejected": rejected}

    def folders(self) -> list[Path]:
        """Return the folders that hold the photos, each once."""
        with self._using:
            rows = self._connection.execute("SELECT path FROM photos ORDER BY path")
            return [Path(folder) for folder in dict.fromkeys(os.path.dirname(os.fsdecode(path)) for (path,) in rows)]

    def _one(self, query: str, *values: object) -> Any:
        return self._connection.execute(query, values).fetchone()[0]

    # --- The journal --------------------------------------------------------------------------------------------------
    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        """Note, before it is done, that the file at `path` will have the `content_digest` `digest`.

        `undo`: the packed edits that take it back; None where there was no file.
        """
        with self._using, self._connection:
            self._connection.execute(
                "INSERT INTO journal (run, path, digest, undo) VALUES (?, ?, ?, ?)",
                (self._run, os.fsencode(path), digest, undo),
            )

    def undo_of(self, digest: bytes, before: int | None = None) -> Undo | None:
        """Return how a file of that `content_digest` is taken back by one change, or None where nothing is known.

        By its content and not its path: a photo may have been moved since. `before`: only by changes before that one.
        """
        with self._using:
            row = self._connection.execute(
                "SELECT id, undo FROM journal WHERE digest = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT 1",
                (digest, before),
            ).fetchone()
        return Undo(*row) if row is not None else None

    def changes(self, run: int) -> list[Change]:
        """Return what that run changed, the last first."""
        with self._using:
            rows = self._connection.execute(
                "SELECT path, digest, undo FROM journal WHERE run = ? ORDER BY id DESC", (run,)
            )
            return [Change(Path(os.fsdecode(path)), digest, undo) for path, digest, undo in rows]

    # --- Runs and failures --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def run(self, counts: Mapping[str, int], paths: Sequence[Path] = ()) -> Iterator[Run]:
        """Note that a run is under way, and when it ends, that it did, its `counts` as they are then and its `ending`.

        An `ending` that nobody sets is "complete", or "failed" where an error ends it.
        """
        run = Run(0, now(), None, os.getpid(), __version__, counts, tuple(map(str, paths)))
        with self._using, self._connection:
            cursor = self._connection.execute(
                "INSERT INTO runs (started, pid, version, paths) VALUES (?, ?, ?, ?)",
                (run.started, run.pid, run.version, json.dumps(run.paths)),
            )
            run.id = self._run = cursor.lastrowid or 0
        try:
            yield run
        except BaseException:
            run.ending = run.ending or "failed"
            raise
        finally:
            with self._using, self._connection:
                self._connection.execute(
                    "UPDATE runs SET finished = ?, counts = ?, ending = ? WHERE id = ?",
                    (now(), json.dumps(dict(counts)), run.ending or "complete", run.id),
                )

    def runs(self, limit: int) -> list[Run]:
        """Return the last runs, the latest first."""
        with self._using:
            rows = self._connection.execute(
                "SELECT id, started, finished, pid, version, counts, paths, ending FROM runs ORDER BY id DESC LIMIT ?",
                (limit,),
            )
            return [
                Run(
                    number,
                    str(started),
                    str(finished) if finished is not None else None,
                    int(pid),
                    str(version),
                    _counts(counts or "{}"),
                    tuple(map(str, json.loads(paths))),
                    str(ending) if ending is not None else None,
                )
                for number, started, finished, pid, version, counts, paths, ending in rows
            ]

    def has_run(self, run: int) -> bool:
        """Is there a run of that number?"""
        with self._using:
            return self._connection.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is not None

    def failures(self) -> list[Failure]:
        """Return what failed when it was last tried, by path."""
        with self._using:
            rows = self._connection.execute("SELECT path, reason, run FROM failures ORDER BY path")
            return [Failure(Path(os.fsdecode(path)), str(reason), int(run)) for path, reason, run in rows]

    def settle_failures(self, root: Path, is_settled: Callable[[Path], bool]) -> None:
        """Forget the failures of earlier runs at and below `root` that this run, which has been there, has settled."""
        with self._using:
            query = f"SELECT path FROM failures WHERE run <> ?4 AND {_BELOW}"
            rows = self._connection.execute(query, (*_below(root), self._run)).fetchall()
        settled = [row for row in rows if is_settled(Path(os.fsdecode(row[0])))]
        with self._using, self._connection:
            self._connection.executemany("DELETE FROM failures WHERE path = ?", settled)


# Paths at and below a folder: "0" is what comes after "/".
_BELOW = "(path = ?1 OR (path >= ?2 AND path < ?3))"


def _below(root: Path) -> tuple[bytes, bytes, bytes]:
    path = os.fsencode(root)
    folder = path.rstrip(os.sep.encode())
    return path, folder + os.sep.encode(), folder + bytes([ord(os.sep) + 1])


def _storable(mtime_ns: int) -> int:
    """The time as SQLite has room for it: one after 2262, which a file may have, becomes the last it knows."""
    return max(-_LAST_TIME, min(mtime_ns, _LAST_TIME))


_LAST_TIME = (1 << 63) - 1


def _joined(paths: Iterable[Path]) -> bytes:
    return b"/".join(os.fsencode(path.name) for path in paths)


def _names(joined: bytes) -> list[str]:
    return [os.fsdecode(name) for name in joined.split(b"/") if name.strip(b".")]


def _text(text: str) -> str:
    """`text` as SQLite takes it: bytes of a path that are no UTF-8 come as lone surrogates, which it refuses."""
    return text.encode("utf-8", "backslashreplace").decode()


def _counts(text: str) -> dict[str, int]:
    """The counts of a run. Raises `ValueError` and others of `_DAMAGE` where it is something else."""
    return {str(status): int(count) for status, count in json.loads(text).items()}


_dumped = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for each call


def _tags(text: str) -> tuple[Tag, ...]:
    return tuple(
        Tag(str(name), float(confidence), tuple(map(str, path)), synset, tuple(map(str, synonyms)))
        for name, confidence, path, synset, synonyms in json.loads(text)
    )


def _predictions(text: str) -> tuple[Prediction, ...]:
    return tuple(Prediction(Label(str(name), synset), float(score)) for name, synset, score in json.loads(text))


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
        with _Guard(path):
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
    lock = filelock.FileLock(_lock_of(path))
    try:
        lock.acquire(timeout=0.3, poll_interval=0.05)  # phototag status may ask who holds it just now
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


def _lock_of(path: Path) -> str:
    """The lock's file: one for an index, by whichever link it is named."""
    return f"{os.path.realpath(path)}.lock"


def is_held(path: Path) -> bool:
    """Does a run hold the index at `path` right now?"""
    if not os.path.exists(_lock_of(path)):  # asking would make it
        return False
    try:
        with filelock.FileLock(_lock_of(path), timeout=0):
            return False
    except filelock.Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


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
    read_only_connection = _read_only if is_there else lambda _: sqlite3.connect(":memory:", check_same_thread=False)
    connection = read_only_connection(path) if read_only else sqlite3.connect(path, check_same_thread=False)
    try:
        if not read_only:
            if not is_there or path.stat().st_size == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # checked by _check_is_ours ever after
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            # With WAL this keeps the file sound on a power cut; the last moments may be lost, and are done again.
            connection.execute("PRAGMA synchronous = NORMAL")
        migrate(connection, path, allowed=not (read_only and is_there))
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
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{immutable}", uri=True, check_same_thread=False)


class _Guard:
    """One thread at a time, and SQLite's errors as ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._lock.release()
        if isinstance(error, sqlite3.OperationalError):
            hint = "check its permissions and the room on the disk, or choose another with --index"
            raise IndexUnusable(f"the index {self._path} cannot be used ({error}); {hint}") from error
        # Where the file is sound and what is in it is not, reading it raises the rest.
        if isinstance(error, _DAMAGE):
            raise IndexUnusable(_damaged(self._path, error)) from error


_DAMAGE = (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


# --- Its health -------------------------------------------------------------------------------------------------------

MOST_FAULTS = 3  # a file of random bytes has thousands


@dataclass(frozen=True, slots=True)
class Health:
    """How an index is.

    `faults`: what is wrong with it, a sentence each, that says what to do. `photos`: how many it knows, None where that
    cannot be told. `is_old`: of an older phototag, which the next scan changes. `running`: the last run, where it has
    not ended and its process lives.
    """

    faults: tuple[str, ...] = ()
    photos: int | None = None
    is_old: bool = False
    running: Run | None = None


def examine(path: Path) -> Health | None:
    """Return how the index at `path` is, whatever it is; None where there is none.

    Reads all of it. Takes no lock and changes nothing.
    """
    try:
        if not path.exists():
            return None
        _check_is_ours(path)
        with _Guard(path), contextlib.closing(_read_only(path)) as connection:
            return _health(path, connection)
    except OSError as error:
        return Health((f"the index {path} cannot be read ({error.strerror}); check its permissions",))
    except IndexUnusable as error:
        return Health((str(error),))


def _health(path: Path, connection: sqlite3.Connection) -> Health:
    is_old = bool(unapplied(connection, path))
    faults = [row[0] for row in connection.execute(f"PRAGMA integrity_check({MOST_FAULTS})") if row[0] != "ok"]
    if not faults:
        faults = [f"a row of {row[0]} is without its row of {row[2]}" for row in connection.execute(_STRAYS)]
    if faults:
        return Health(tuple(_damaged(path, fault) for fault in faults))
    (photos,) = connection.execute("SELECT count(*) FROM photos").fetchone()
    last = [] if is_old else Index(path, connection).runs(1)
    running = next((run for run in last if run.finished is None and _is_alive(run.pid)), None)
    return Health(photos=photos, is_old=is_old, running=running)


_STRAYS = f"SELECT * FROM pragma_foreign_key_check LIMIT {MOST_FAULTS}"


def _is_alive(pid: int) -> bool:
    """Does a process of that number run? It may be another than the one that had it."""
    if sys.platform == "win32":  # where asking would end it
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _damaged(path: Path, what: object) -> str:
    return f"the index {path} is damaged ({what}); move it away, and the next scan makes a new one"
