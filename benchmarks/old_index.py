"""Indexes as phototag 0.1.0 made them, to measure and test how they are migrated."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

# Gives an index the tables of phototag 0.1.0, which kept the scores of one model for each photo.
TO_0_1_0 = """
BEGIN;
CREATE TABLE scores (
    photo INTEGER PRIMARY KEY REFERENCES photos (id) ON DELETE CASCADE, model TEXT NOT NULL, scores BLOB NOT NULL
);
INSERT INTO scores SELECT photo, result_keys.key, value FROM results JOIN result_keys ON result_keys.id = results.key;
DROP TABLE results;
DROP TABLE result_keys;
DELETE FROM migrations WHERE name = '0004_results';
COMMIT;
"""


def make_old(path: Path) -> None:
    """Give the index at `path` the tables of phototag 0.1.0."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_0_1_0)
