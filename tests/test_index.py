from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from phototag.errors import IndexBusy, IndexUnusable
from phototag.index import Record, open_index
from phototag.photos import Photo
from phototag.taxonomy import Label, Prediction, Tag

PHOTO = Photo(Path("/p/" + os.fsdecode(b"\xff\n.jpg")), 1234, 1_700_000_000_123_456_789)
RECORD = Record(
    PHOTO,
    "recipe",
    (Tag("dog", 0.9, ("animal", "dog"), "n02084071"),),
    (Prediction(Label("pug", "n02110958"), 0.5),),
    (Path("/p/a.json"),),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "index.sqlite3"


def test_what_is_added_is_there_in_the_next_run(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        assert index.current(PHOTO, "recipe") is None
        index.add([RECORD])
        assert index.current(PHOTO, "recipe") == RECORD
    with open_index(path) as index:
        assert index.current(PHOTO, "recipe") == RECORD
    with open_index(path, read_only=True) as index:
        assert index.current(PHOTO, "recipe") == RECORD


@pytest.mark.parametrize(
    ("photo", "recipe"),
    [
        (replace(PHOTO, size=1235), "recipe"),
        (replace(PHOTO, mtime_ns=PHOTO.mtime_ns + 1), "recipe"),
        (replace(PHOTO, path=Path("/p/b.jpg")), "recipe"),
        (PHOTO, "another"),
    ],
)
def test_anything_that_changed_makes_a_photo_new(path: Path, photo: Photo, recipe: str) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
        assert index.current(photo, recipe) is None


def test_a_run_leaves_its_counts(path: Path) -> None:
    counts = {"tagged": 0}
    with open_index(path) as index, index.run(counts):
        counts["tagged"] = 3
    with sqlite3.connect(path) as connection:
        ((pid, finished, stored),) = connection.execute("SELECT pid, finished, counts FROM runs")
    connection.close()
    assert (pid, stored) == (os.getpid(), '{"tagged": 3}')
    assert finished


HOLD = """
import pathlib, sys
from phototag.index import open_index
with open_index(pathlib.Path(sys.argv[1])) as index, index.run({}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_run_holds_an_index_and_the_other_learns_which(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(IndexBusy, match=rf"process {holder.pid}, since 20"), open_index(path):
        pass
    with open_index(path, read_only=True) as index:
        assert index.current(PHOTO, "recipe") is None
    with open_index(path.with_name("another.sqlite3")):
        pass
    holder.kill()  # the lock goes with the process, however it ends
    holder.communicate()
    with open_index(path):
        pass


@pytest.mark.parametrize(
    "content", [b"random bytes" * 100, b"SQLite format 3\0" + bytes(52) + b"ptag" + b"\xff" * 5000]
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_index_is_one_sentence(path: Path, content: bytes, read_only: bool) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(IndexUnusable, match=r"damaged.* move it away"), open_index(path, read_only=read_only):
        pass
    assert path.read_bytes() == content
    if not content.startswith(b"SQLite"):
        assert list(path.parent.iterdir()) == [path]


def test_a_newer_index_is_left_alone(path: Path) -> None:
    with open_index(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_from_the_future', '2099-01-01')")
    connection.close()
    with pytest.raises(IndexUnusable, match="written by a newer phototag"), open_index(path):
        pass


def test_a_dry_run_makes_no_index(path: Path) -> None:
    with open_index(path, read_only=True) as index:
        assert index.current(PHOTO, "recipe") is None
    assert not path.parent.exists()


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexUnusable, match="cannot be made"), open_index(tmp_path / "file" / "index.sqlite3"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(IndexUnusable, match="is no file"), open_index(tmp_path / "folder"):
        pass


def test_a_dry_run_reads_an_index_and_leaves_no_trace(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
    before = sorted(path.parent.iterdir())
    with open_index(path, read_only=True) as index:
        assert index.current(PHOTO, "recipe") == RECORD
        assert sorted(path.parent.iterdir()) == before
    assert sorted(path.parent.iterdir()) == before


def test_a_dry_run_sees_what_a_running_one_has_done(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
        with open_index(path, read_only=True) as reader:
            assert reader.current(PHOTO, "recipe") == RECORD


@pytest.mark.parametrize("column", ["tags", "predictions", "written"])
@pytest.mark.parametrize("value", ["not JSON", "[1]", '[{"name": 1}]', "{}x"])
def test_a_damaged_row_is_one_sentence(path: Path, column: str, value: str) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE photos SET {column} = ?", (value,))
    connection.close()
    with pytest.raises(IndexUnusable, match="is damaged"), open_index(path) as index:
        index.current(PHOTO, "recipe")


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(IndexUnusable, match="another program's database"), open_index(path):
        pass
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_pipe_is_no_index(path: Path, read_only: bool) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(IndexUnusable, match="is no file"), open_index(path, read_only=read_only):
        pass
