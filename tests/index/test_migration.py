"""Indexes of phototag 0.1.0 keep working."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from benchmarks.old_index import make_old
from phototag.core import Photo
from phototag.errors import IndexUnusable
from phototag.index import open_index
from phototag.index.health import examine
from tests.helpers.indexes import RECORD
from tests.helpers.program import imported_by

Scan = Callable[..., Result]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An index of 0.1.0 that knows three photos; one of them was looked at by another model, one by none."""
    path = tmp_path / "old.sqlite3"
    records = [replace(RECORD, photo=Photo(f"/p/{number}.jpg", 1, 2), digest=b"%d" % number) for number in range(3)]
    records[1] = replace(records[1], results={"other": b"others"}, names={"other": "objects"})
    records[2] = replace(records[2], results={})
    with open_index(path) as index, index.run({}):
        index.add(records)
    make_old(path)
    return path


def test_the_scores_of_an_old_index_become_results(old: Path) -> None:
    keys = ["model", "other"]
    with open_index(old) as index:
        known = [index.known(Photo(f"/p/{number}.jpg", 1, 2)) for number in range(3)]
        results = [index.results(one, keys) for one in known if one is not None]
        assert results == [{"model": b"scores"}, {"other": b"others"}, {}]
        assert [one.recipe for one in known if one is not None] == ["recipe"] * 3
        assert index.results_of(b"1", keys) == {"other": b"others"}
        assert index.count()["photos"] == 3
    with contextlib.closing(sqlite3.connect(old)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables >= {"results", "result_keys"}
        assert "scores" not in tables
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_scores_of_no_photo_do_not_stop_a_migration(old: Path) -> None:
    with contextlib.closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("INSERT INTO scores VALUES (99, 'model', x'00')")
    with open_index(old) as index:
        assert index.count()["photos"] == 3
        assert index.results_of(b"0", ["model"]) == {"model": b"scores"}


def test_an_old_index_is_told_and_read_only_by_a_scan_that_may_write(old: Path) -> None:
    health = examine(old)
    assert health is not None
    assert (health.is_old, health.faults, health.photos) == (True, (), 3)
    with (
        pytest.raises(IndexUnusable, match="is of an older phototag; scan once without dry_run="),
        open_index(old, read_only=True),
    ):
        pass


def test_the_next_scan_with_an_old_index_has_nothing_to_do(
    scan: Scan, make_photo: Callable[..., Path], toy_model: Path, tmp_path: Path
) -> None:
    library = make_photo("a.jpg").parent
    make_photo("b.jpg", "blue")
    assert scan(library).exit_code == 0
    index = tmp_path / "index.sqlite3"
    make_old(index)
    arguments = ["scan", "--model", str(toy_model), "--index", str(index), str(library)]
    assert not imported_by(*arguments) & {"tensorflow", "ai_edge_litert", "PIL"}
    again = scan(library)
    assert (again.exit_code, "2 unchanged" in again.stderr) == (0, True)
    # Another threshold needs no model either: the scores came along.
    make_old(index)
    assert not imported_by(*arguments, "--threshold", "0.9") & {"tensorflow", "ai_edge_litert", "PIL"}
