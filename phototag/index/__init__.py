"""The index: phototag's knowledge about each photo between runs. Only this package contains SQL.

It is one SQLite file with one writer at a time. A scan can rebuild it, except for the tags that users removed and for
how to undo changes. Photos and sidecars record these two as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from phototag._version import __version__
from phototag.core import Photo, Prediction, Tag, Undo
from phototag.index import rows
from phototag.index._connection import Guard, check_is_ours, connect, is_held, locked, make_folder
from phototag.index._schema import now
from phototag.index.rows import INDEXED_PHOTO, SEPARATOR, Change, Failure, IndexedPhoto, Record, Run

__all__ = ["Change", "Failure", "Index", "IndexedPhoto", "Record", "Run", "is_held", "open_index"]


class _Ahead(NamedTuple):
    """All rows of the index with paths from `first` to `last`, by path. `last` is None after the last row."""

    first: bytes
    last: bytes | None
    rows: Mapping[bytes, IndexedPhoto]

    def covers(self, path: bytes) -> bool:
        return self.first <= path and (self.last is None or path <= self.last)


_NOTHING_AHEAD = _Ahead(b"\xff", b"", {})
# How many rows are read when one is needed. A scan asks for the photos of a folder one after another.
_ROWS_AHEAD = 500
# How many changes that gave files the same content are searched for one to the same file. There may be thousands:
# sidecars with the same tags.
_MOST_ALIKE = 100


class Index:
    """An open index; `open_index` opens it. Many threads may use it at the same time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._using = Guard(path)
        self._run: int | None = None
        self._ahead = _NOTHING_AHEAD
        self._key_ids: dict[str, int] = {}

    # --- Photos -------------------------------------------------------------------------------------------------------

    def known(self, photo: Photo) -> IndexedPhoto | None:
        """Return the row for the path of `photo`, even if the photo has changed since. None if there is none."""
        path = os.fsencode(photo)
        ahead = self._ahead
        if not ahead.covers(path):
            with self._using:
                ahead = self._ahead = self._read_ahead(path)
        return ahead.rows.get(path)

    def _read_ahead(self, path: bytes) -> _Ahead:
        query = f"SELECT {INDEXED_PHOTO} FROM photos WHERE path >= ? ORDER BY path LIMIT ?"
        found = [IndexedPhoto._make(row) for row in self._connection.execute(query, (path, _ROWS_AHEAD))]
        return _Ahead(path, found[-1].path if len(found) == _ROWS_AHEAD else None, {row.path: row for row in found})

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Open a transaction that changes photos, and drop the rows that were read ahead."""
        with self._using:
            self._ahead = _NOTHING_AHEAD
            try:
                with self._connection:
                    yield
            except BaseException:
                self._key_ids.clear()  # some of them may have been added in this transaction
                raise

    def tags(self, known: IndexedPhoto) -> tuple[Tag, ...]:
        """Return the tags of a photo."""
        with self._using:
            return rows.tags(self._one("SELECT tags FROM photos WHERE id = ?", known.id))

    def own_tags(self, known: IndexedPhoto) -> tuple[str, ...]:
        """Return the names of the tags that phototag wrote into the files of a photo."""
        with self._using:
            return tuple(map(str, json.loads(self._one("SELECT noted FROM photos WHERE id = ?", known.id))))

    def predictions(self, known: IndexedPhoto) -> tuple[Prediction, ...]:
        """Return the model's likeliest labels for a photo."""
        with self._using:
            return rows.predictions(self._one("SELECT predictions FROM photos WHERE id = ?", known.id))

    def digest(self, known: IndexedPhoto) -> bytes | None:
        """Return the `content_digest` of a photo as it was stored."""
        with self._using:
            return self._one("SELECT digest FROM photos WHERE id = ?", known.id)  # type: ignore[no-any-return]

    def rejected(self, known: IndexedPhoto) -> tuple[str, ...]:
        """Return the names of the tags of a photo that the user removed."""
        with self._using:
            found = self._connection.execute("SELECT name FROM rejections WHERE photo = ? ORDER BY name", (known.id,))
            return tuple(str(name) for (name,) in found)

    def rejected_with(self, digest: bytes) -> tuple[str, ...] | None:
        """Return the tags that the user removed from photos with that `content_digest`; None if none is known."""
        with self._using:
            found = self._connection.execute(
                "SELECT name FROM photos LEFT JOIN rejections ON photo = id WHERE digest = ? ORDER BY name", (digest,)
            ).fetchall()
        return tuple(dict.fromkeys(str(name) for (name,) in found if name is not None)) if found else None

    # --- Results ------------------------------------------------------------------------------------------------------

    def results(self, known: IndexedPhoto, keys: Collection[str]) -> dict[str, bytes]:
        """Return those packed results of a photo that are stored under one of `keys`, by key."""
        marks = ", ".join("?" * len(keys))
        # CAST: a damaged index may hold a value of any type. It is found out again if it is not a packed result.
        query = (
            "SELECT result_keys.key, CAST(value AS BLOB) FROM results JOIN result_keys ON result_keys.id = results.key "
            f"WHERE photo = ? AND result_keys.key IN ({marks})"
        )
        with self._using:
            return {str(key): bytes(packed) for key, packed in self._connection.execute(query, (known.id, *keys))}

    def results_of(self, digest: bytes, keys: Collection[str]) -> dict[str, bytes]:
        """Return the packed results, by key, of any photo with that `content_digest`."""
        # One photo for each key: a library may hold thousands of copies. CROSS JOIN keeps the order of the tables.
        query = (
            "SELECT CAST(value AS BLOB) FROM result_keys CROSS JOIN photos CROSS JOIN results "
            "ON results.photo = photos.id AND results.key = result_keys.id "
            "WHERE result_keys.key = ? AND digest = ? LIMIT 1"
        )
        with self._using:
            # Most photos are new, and one query tells.
            if self._connection.execute("SELECT 1 FROM photos WHERE digest = ? LIMIT 1", (digest,)).fetchone() is None:
                return {}
            found = [(key, self._connection.execute(query, (key, digest)).fetchone()) for key in keys]
            return {key: bytes(row[0]) for key, row in found if row is not None}

    def _key_id(self, key: str, name: str) -> int:
        """Return the number of a result key. Add the key if it is new."""
        if key not in self._key_ids:
            self._connection.execute("INSERT OR IGNORE INTO result_keys (key, name) VALUES (?, ?)", (key, name))
            self._key_ids[key] = self._one("SELECT id FROM result_keys WHERE key = ?", key)
        return self._key_ids[key]

    # --- Changing photos ----------------------------------------------------------------------------------------------

    def adopt(self, photo: Photo, digest: bytes) -> IndexedPhoto | None:
        """Copy the row of a photo with the same content to an unknown photo, which was moved or copied.

        Return None if there is no such row. The other row stays until a scan finds that its photo is gone.
        """
        with self._using:
            query = f"SELECT {INDEXED_PHOTO} FROM photos WHERE digest = ? ORDER BY id DESC LIMIT 1"
            row = self._connection.execute(query, (digest,)).fetchone()
        if row is None:
            return None
        other, path = IndexedPhoto._make(row), os.fsencode(photo)
        was, own = (each.rpartition(SEPARATOR)[2] for each in (other.path, path))
        files = b"/".join(own + name[len(was) :] if name.startswith(was) else name for name in other.files.split(b"/"))
        with self._changing():
            cursor = self._connection.execute(
                "INSERT INTO photos"
                " (path, size, mtime_ns, recipe, write, files, companions, digest, tags, noted, predictions, run) "
                "SELECT ?, ?, ?, recipe, write, ?, companions, digest, tags, noted, predictions, run "
                "FROM photos WHERE id = ?",
                (path, photo.size, rows.storable(photo.mtime_ns), files, other.id),
            )
            number = cursor.lastrowid or 0
            for table, columns in (("results", "key, value"), ("rejections", "name")):
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
        """Store `records`, the paths and reasons of `failures`, and the sizes and times of `touched` photos.

        Uses one transaction for all of them.
        """
        with self._changing():
            for record in records:
                self._add(record)
            self._connection.executemany(
                "UPDATE photos SET size = ?, mtime_ns = ? WHERE id = ?",
                [(photo.size, rows.storable(photo.mtime_ns), known.id) for known, photo in touched],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO failures (path, reason, run) VALUES (?, ?, ?)",
                [(os.fsencode(path), rows.text(reason), self._run) for path, reason in failures],
            )

    def _add(self, record: Record) -> None:
        photo, path = record.photo, os.fsencode(record.photo)
        before = self._connection.execute("SELECT id, digest FROM photos WHERE path = ?", (path,)).fetchone()
        self._connection.execute(
            "INSERT INTO photos"
            " (path, size, mtime_ns, recipe, write, files, companions, digest, tags, noted, predictions, run) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (path) DO UPDATE SET "
            "size = ?2, mtime_ns = ?3, recipe = ?4, write = ?5, files = ?6, companions = ?7, digest = ?8, tags = ?9, "
            "noted = ?10, predictions = ?11, run = ?12",
            (
                path,
                photo.size,
                rows.storable(photo.mtime_ns),
                record.recipe,
                record.write,
                rows.joined(record.written),
                rows.joined(photo.companions),
                record.digest,
                rows.tags_column(record.tags),
                rows.dumped(record.own_tags),
                rows.predictions_column(record.predictions),
                self._run,
            ),
        )
        number = before[0] if before is not None else self._one("SELECT id FROM photos WHERE path = ?", path)
        if record.results:
            if before is not None and before[1] != record.seen:  # the stored results are of other content
                self._connection.execute("DELETE FROM results WHERE photo = ?", (number,))
            self._connection.executemany(
                "INSERT OR REPLACE INTO results (photo, key, value) VALUES (?, ?, ?)",
                [(number, self._key_id(key, record.names[key]), value) for key, value in record.results.items()],
            )
        self._connection.execute("DELETE FROM rejections WHERE photo = ?", (number,))
        self._connection.executemany(
            "INSERT OR IGNORE INTO rejections (photo, name) VALUES (?, ?)",
            [(number, rows.text(name)) for name in record.rejected],
        )
        self._connection.execute("DELETE FROM failures WHERE path = ?", (path,))

    def untagged(self, path: Path, *, forget_rejections: bool = False) -> None:
        """Note that the tags of the photo at `path` were removed, so that the next scan writes them again.

        `forget_rejections`: also those that the user had removed.
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
        """Yield the number and path of each wanted photo at or below `root`, lazily.

        The caller may forget photos that were yielded.
        """
        path, after, end = _below(root)
        found = self._rows("SELECT id, path FROM photos WHERE path = ?", path)
        while True:
            yield from ((number, Path(os.fsdecode(at))) for number, at in found if is_wanted(number))
            query = "SELECT id, path FROM photos WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
            found = self._rows(query, after, end, _ROWS_AHEAD)
            if not found:
                return
            after = found[-1][1]

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._using:
            return self._connection.execute(query, values).fetchall()

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget photos by their numbers. The journal keeps the changes to their files."""
        with self._changing():
            self._connection.executemany("DELETE FROM photos WHERE id = ?", [(number,) for number in numbers])

    def written_in(self, run: int) -> dict[Path, Path]:
        """Return the files that hold the tags of that run, each with its photo."""
        with self._using:
            query = f"SELECT {INDEXED_PHOTO} FROM photos WHERE run = ? AND files <> x''"
            found = [IndexedPhoto._make(row) for row in self._connection.execute(query, (run,))]
        return {file: Path(os.fsdecode(row.path)) for row in found for file in row.written}

    def paths_of(self, digest: bytes) -> list[Path]:
        """Return the paths of the photos with that `content_digest`."""
        with self._using:
            found = self._connection.execute("SELECT path FROM photos WHERE digest = ?", (digest,))
            return [Path(os.fsdecode(path)) for (path,) in found]

    def count(self) -> dict[str, int]:
        """Return how many `photos` there are, how many are `tagged`, and how many have `rejected` tags."""
        with self._using:
            photos, tagged = self._connection.execute("SELECT count(*), total(files <> x'') FROM photos").fetchone()
            rejected = self._one("SELECT count(DISTINCT photo) FROM rejections")
            return {"photos": photos, "tagged": int(tagged), "rejected": rejected}

    def folders(self) -> list[Path]:
        """Return the folders that hold the photos, each once."""
        with self._using:
            found = self._connection.execute("SELECT path FROM photos ORDER BY path")
            return [Path(folder) for folder in dict.fromkeys(os.path.dirname(os.fsdecode(path)) for (path,) in found)]

    def _one(self, query: str, *values: object) -> Any:
        return self._connection.execute(query, values).fetchone()[0]

    # --- The journal --------------------------------------------------------------------------------------------------

    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        """Note, before the change, that the file at `path` will have the `content_digest` `digest`.

        `undo`: the packed edits that undo the change; None if there was no file.
        """
        with self._using, self._connection:
            self._connection.execute(
                "INSERT INTO journal (run, path, digest, undo) VALUES (?, ?, ?, ?)",
                (self._run, os.fsencode(path), digest, undo),
            )

    def undo_of(self, digest: bytes, before: int | None = None, path: Path | None = None) -> Undo | None:
        """Return how to undo the last change to a file with that `content_digest`, or None if none is known.

        A photo may have been moved since, so its content counts first. `before`: only earlier changes. `path`: among
        the last changes to files of that content, prefer those to this file. Two photos may have become the same.
        """
        with self._using:
            row = self._connection.execute(
                "SELECT id, undo FROM (SELECT id, undo, path FROM journal"
                f" WHERE digest = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT {_MOST_ALIKE})"
                " ORDER BY path = ?3 DESC, id DESC LIMIT 1",
                (digest, before, None if path is None else os.fsencode(path)),
            ).fetchone()
        return Undo(*row) if row is not None else None

    def changes(self, run: int) -> list[Change]:
        """Return the changes of that run, the last first."""
        with self._using:
            found = self._connection.execute(
                "SELECT path, digest, undo FROM journal WHERE run = ? ORDER BY id DESC", (run,)
            )
            return [Change(Path(os.fsdecode(path)), digest, undo) for path, digest, undo in found]

    # --- Runs and failures --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def run(self, counts: Mapping[str, int], paths: Sequence[Path] = ()) -> Iterator[Run]:
        """Record the start of a run and, on exit, its end with the `counts` and `Run.ending` of that time.

        The ending is "complete" unless the caller sets another, and "failed" after an error.
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
            found = self._connection.execute(
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
                    rows.counts(counts or "{}"),
                    tuple(map(str, json.loads(paths))),
                    str(ending) if ending is not None else None,
                )
                for number, started, finished, pid, version, counts, paths, ending in found
            ]

    def has_run(self, run: int) -> bool:
        """Return whether there is a run with that number."""
        with self._using, contextlib.suppress(OverflowError):  # of a number larger than SQLite's integers
            return self._connection.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is not None
        return False

    def failures(self) -> list[Failure]:
        """Return the photos and folders that failed when they were last tried, by path."""
        with self._using:
            found = self._connection.execute("SELECT path, reason, run FROM failures ORDER BY path")
            return [Failure(Path(os.fsdecode(path)), str(reason), int(run)) for path, reason, run in found]

    def settle_failures(self, root: Path, is_settled: Callable[[Path], bool]) -> None:
        """Forget the failures of earlier runs at and below `root` that this run has settled."""
        with self._using:
            query = f"SELECT path FROM failures WHERE run <> ?4 AND {_BELOW}"
            found = self._connection.execute(query, (*_below(root), self._run)).fetchall()
        settled = [row for row in found if is_settled(Path(os.fsdecode(row[0])))]
        with self._using, self._connection:
            self._connection.executemany("DELETE FROM failures WHERE path = ?", settled)


# Paths at and below a folder: "0" comes after "/".
_BELOW = "(path = ?1 OR (path >= ?2 AND path < ?3))"


def _below(root: Path) -> tuple[bytes, bytes, bytes]:
    path = os.fsencode(root)
    folder = path.rstrip(os.sep.encode())
    return path, folder + os.sep.encode(), folder + bytes([ord(os.sep) + 1])


@contextlib.contextmanager
def open_index(path: Path, *, read_only: bool = False) -> Iterator[Index]:
    """Open the index at `path` for one process alone; create it if it is missing.

    `read_only` takes no lock and creates nothing: a missing index reads as empty.

    Raises `IndexBusy` if another run holds it, `IndexUnusable` if it cannot be used.
    """
    with contextlib.ExitStack() as stack:
        check_is_ours(path)
        if not read_only:
            make_folder(path)
            stack.enter_context(locked(path))
        with Guard(path):
            connection = stack.enter_context(contextlib.closing(connect(path, read_only=read_only)))
        yield Index(path, connection)
