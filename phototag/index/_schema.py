"""The tables of the index, and the migrations from those of older versions."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from phototag.errors import IndexUnusable

# In order. Once released, a name is never used again and a statement never changes.
MIGRATIONS: Mapping[str, str] = {
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
            digest BLOB NOT NULL,       -- digest.content_digest of the file as this change left it
            undo BLOB                   -- what takes it back (metadata.edits.packed); NULL: there was no file
        );
        CREATE INDEX journal_by_digest ON journal (digest);
    """,
    "0003_scores_rejections_failures": """
        ALTER TABLE runs ADD COLUMN paths TEXT NOT NULL DEFAULT '[]';  -- JSON: what was to be scanned
        ALTER TABLE runs ADD COLUMN ending TEXT;  -- how it ended, where it did not die
        -- Without their scores and digests, photos have to be looked at again.
        DROP TABLE photos;
        CREATE TABLE photos (
            id INTEGER PRIMARY KEY,
            path BLOB NOT NULL UNIQUE,  -- absolute, the bytes of the file system
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            recipe TEXT NOT NULL,       -- digest of all that decides about the tags and where they go; '': taken back
            write TEXT NOT NULL,        -- the writer: json, embed, xmp or none; '': not known
            files BLOB NOT NULL,        -- names of the files beside it that hold the tags, parted by "/"
            companions BLOB NOT NULL,   -- names of the files of the same shot that have them too, likewise
            digest BLOB,                -- digest.content_digest of it; NULL: not known
            tags TEXT NOT NULL,         -- JSON: name, confidence, path, synset and synonyms of each
            noted TEXT NOT NULL,        -- JSON: names of the tags that are phototag's own in those files
            predictions TEXT NOT NULL,  -- JSON: the model's likeliest labels: name, synset and score of each
            run INTEGER NOT NULL REFERENCES runs (id)
        );
        CREATE INDEX photos_by_digest ON photos (digest);
        CREATE INDEX photos_by_run ON photos (run);
        CREATE TABLE scores (
            photo INTEGER PRIMARY KEY REFERENCES photos (id) ON DELETE CASCADE,
            model TEXT NOT NULL,        -- identifies what gave them
            scores BLOB NOT NULL        -- as scores.pack makes it
        );
        CREATE TABLE rejections (
            photo INTEGER NOT NULL REFERENCES photos (id) ON DELETE CASCADE,
            name TEXT NOT NULL,         -- of a tag that a person has removed
            PRIMARY KEY (photo, name)
        ) WITHOUT ROWID;
        CREATE TABLE failures (
            path BLOB PRIMARY KEY,      -- of a photo or a folder, absolute
            reason TEXT NOT NULL,
            run INTEGER NOT NULL REFERENCES runs (id)
        ) WITHOUT ROWID;
        CREATE INDEX journal_by_run ON journal (run);
    """,
    # One row per photo and result replaces one row per photo, so that each model and analyzer keeps its results.
    "0004_results": """
        CREATE TABLE result_keys (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,   -- identifies all that decides about the result
            name TEXT NOT NULL          -- of the result: objects
        );
        CREATE TABLE results (
            photo INTEGER NOT NULL REFERENCES photos (id) ON DELETE CASCADE,
            key INTEGER NOT NULL REFERENCES result_keys (id),
            value BLOB NOT NULL,        -- packed by the result's type
            PRIMARY KEY (photo, key)
        ) WITHOUT ROWID;
        INSERT INTO result_keys (key, name) SELECT DISTINCT model, 'objects' FROM scores ORDER BY model;
        INSERT INTO results (photo, key, value)
            SELECT scores.photo, result_keys.id, scores.scores FROM scores
            JOIN result_keys ON result_keys.key = scores.model
            WHERE scores.photo IN (SELECT id FROM photos)  -- a damaged index may have scores of no photo
            ORDER BY scores.photo;
        DROP TABLE scores;
    """,
}

# The offset of the application ID in a database file (sqlite.org/fileformat.html, 1.3), and phototag's ID: "ptag".
APPLICATION_ID_OFFSET = 68
APPLICATION_ID = int.from_bytes(b"ptag", "big")


def migrate(connection: sqlite3.Connection, path: Path, *, allowed: bool) -> None:
    """Bring the tables up to date.

    Raises `IndexUnusable` if that is not `allowed`, or if a newer phototag made them.
    """
    names = unapplied(connection, path)
    if names and not allowed:
        what = f"the index {path} is of an older phototag"
        raise IndexUnusable(what, "scan once without {dry_run} to bring it up to date")
    for name in names:
        connection.executescript(
            "BEGIN; CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied TEXT NOT NULL);"
            f"{MIGRATIONS[name]}; INSERT INTO migrations VALUES ('{name}', '{now()}'); COMMIT;"
        )


def unapplied(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return the names of the migrations that the tables still need.

    Raises `IndexUnusable` if a newer phototag made the tables.
    """
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone()
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations")} if known else set[str]()
    if not applied <= MIGRATIONS.keys():
        what = f"the index {path} was written by a newer phototag"
        raise IndexUnusable(what, "upgrade phototag or choose another with {index}")
    return [name for name in MIGRATIONS if name not in applied]


def now() -> str:
    """Return the time, ISO 8601, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
