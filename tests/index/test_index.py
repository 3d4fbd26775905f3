from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from phototag.core import Photo
from phototag.errors import IndexBusy, IndexUnusable
from phototag.index import Change, Index, open_index
from phototag.index._schema import APPLICATION_ID, MIGRATIONS
from tests.helpers.indexes import HOLD, PHOTO, RECORD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "index.sqlite3"


def photo_like(photo: Photo, **changes: Any) -> Photo:
    return Photo(**{"path": photo.path, "size": photo.size, "mtime_ns": photo.mtime_ns, **changes})


def facts(index: Index) -> tuple[Any, ...]:
    known = index.known(PHOTO)
    assert known is not None
    return known.recipe, index.tags(known), index.predictions(known), known.written


FACTS = (RECORD.recipe, RECORD.tags, RECORD.predictions, RECORD.written)


def test_what_is_added_is_there_in_the_next_run(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        assert index.known(PHOTO) is None
        index.add([RECORD])
        assert facts(index) == FACTS
    for read_only in (False, True):
        with open_index(path, read_only=read_only) as index:
            assert facts(index) == FACTS
            known = index.known(PHOTO)
            assert known is not None
            assert known.is_of(PHOTO)
            assert index.digest(known) == b"digest"
            stored = {"model": b"scores"}
            assert index.results(known, ["model", "another"]) == index.results_of(b"digest", ["model"]) == stored
            assert index.results(known, ["another"]) == index.results_of(b"another", ["model"]) == {}
            assert index.results(known, []) == {}
            assert index.rejected(known) == ("cat",)


@pytest.mark.parametrize("change", [{"size": 1235}, {"mtime_ns": PHOTO.mtime_ns + 1}])
def test_another_size_or_time_of_change_is_told(path: Path, change: dict[str, int]) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
        known = index.known(photo_like(PHOTO, **change))
        assert known is not None
        assert not known.is_of(photo_like(PHOTO, **change))
        assert index.known(photo_like(PHOTO, path=Path("/p/b.jpg"))) is None


def test_what_is_read_ahead_is_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in which photos are asked for, added and forgotten."""
    monkeypatch.setattr("phototag.index._ROWS_AHEAD", 3)
    random = Random(7)
    there: set[str] = set()
    with open_index(path) as index, index.run({}):
        for _ in range(600):
            name = f"/p/{random.randrange(4)}/{random.randrange(9)}.jpg"
            photo = photo_like(PHOTO, path=Path(name))
            known = index.known(photo)
            assert (known is not None) == (name in there)
            if known is not None and random.random() < 0.3:
                index.forget([known.id])
                there.remove(name)
            elif known is None and random.random() < 0.5:
                index.add([replace(RECORD, photo=photo)])
                there.add(name)
    assert there


def test_results_stay_beside_others_until_the_content_changes(path: Path) -> None:
    keys = ["model", "other"]
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
        index.add([replace(RECORD, results={}, recipe="another", rejected=())])
        known = index.known(PHOTO)
        assert known is not None
        assert (known.recipe, index.rejected(known)) == ("another", ())
        assert index.results(known, keys) == {"model": b"scores"}
        other = replace(RECORD, results={"other": b"new"}, names={"other": "objects"})
        index.add([other])
        assert index.results(known, keys) == {"model": b"scores", "other": b"new"}
        index.add([replace(RECORD, results={"model": b"again"})])
        assert index.results(known, keys) == {"model": b"again", "other": b"new"}
        index.add([replace(other, digest=b"changed", seen=b"changed")])
        assert index.results(known, keys) == {"other": b"new"}


def test_results_of_a_photo_that_phototag_wrote_into_stay(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        index.add([replace(RECORD, digest=b"written", seen=b"digest")])
        index.add([replace(RECORD, digest=b"again", seen=b"written", results={"o": b"new"}, names={"o": "objects"})])
        known = index.known(PHOTO)
        assert known is not None
        assert index.results(known, ["model", "o"]) == {"model": b"scores", "o": b"new"}


def test_a_photo_takes_over_what_is_known_of_its_content(path: Path) -> None:
    here, there = Path("/p/a.jpg"), Path("/q/b.jpg")
    files = (here, Path("/p/a.jpg.phototag.json"), Path("/p/IMG_1.CR2.xmp"))
    with open_index(path) as index, index.run({}):
        index.add([replace(RECORD, photo=photo_like(PHOTO, path=here), written=files)])
        assert index.adopt(photo_like(PHOTO, path=there), b"other") is None
        moved = photo_like(PHOTO, path=there, mtime_ns=1)
        known = index.adopt(moved, b"digest")
        assert known is not None
        assert known == index.known(moved)
        assert (known.recipe, index.tags(known), index.rejected(known)) == ("recipe", RECORD.tags, ("cat",))
        assert index.results(known, ["model"]) == {"model": b"scores"}
        assert [file.as_posix() for file in known.written] == ["/q/b.jpg", "/q/b.jpg.phototag.json", "/q/IMG_1.CR2.xmp"]
        assert index.known(photo_like(PHOTO, path=here)) is not None
        assert (index.rejected_with(b"digest"), index.rejected_with(b"other")) == (("cat",), None)


def test_photos_can_be_forgotten_with_all_that_belongs_to_them(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        for name in ("a/1.jpg", "a/2.jpg", "a-b/3.jpg", "a0/4.jpg"):
            index.add([replace(RECORD, photo=photo_like(PHOTO, path=Path("/p") / name), digest=name.encode())])
        first = index.known(photo_like(PHOTO, path=Path("/p/a/1.jpg")))
        assert first is not None
        rest = list(index.below(Path("/p/a"), lambda number: number != first.id))
        assert [path for _, path in rest] == [Path("/p/a/2.jpg")]
        assert len(list(index.below(Path("/"), lambda _: True))) == 4
        assert [path for _, path in index.below(Path("/p/a0/4.jpg"), lambda _: True)] == [Path("/p/a0/4.jpg")]
        index.forget(number for number, _ in rest)
        assert index.known(photo_like(PHOTO, path=Path("/p/a/2.jpg"))) is None
        assert index.results_of(b"a/2.jpg", ["model"]) == {}
        assert index.count() == {"photos": 3, "tagged": 3, "rejected": 3}


def test_photos_may_be_forgotten_while_others_are_yet_to_be_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phototag.index._ROWS_AHEAD", 3)
    with open_index(path) as index, index.run({}):
        paths = [Path(f"/p/{number}.jpg") for number in range(10)]
        index.add([replace(RECORD, photo=photo_like(PHOTO, path=each)) for each in paths])
        told = []
        for number, each in index.below(Path("/p"), lambda _: True):
            told.append(each)
            index.forget([number])
        assert told == paths
        assert index.count()["photos"] == 0


def test_failures_are_there_until_they_are_settled(path: Path) -> None:
    broken, mended = Path("/p/" + os.fsdecode(b"\xff.jpg")), Path("/p/mended.jpg")
    with open_index(path) as index, index.run({}):
        index.add([], [(broken, "it is \udcff"), (mended, "it was")])
    with open_index(path) as index, index.run({}) as run:
        index.add([replace(RECORD, photo=photo_like(PHOTO, path=mended))])
        assert [(one.path, one.reason) for one in index.failures()] == [(broken, "it is \\udcff")]
        index.add([], [(Path("/p/new.jpg"), "new")])
        index.settle_failures(Path("/p"), lambda _: False)
        assert len(index.failures()) == 2
        index.settle_failures(Path("/p"), lambda _: True)
        assert [(one.path.name, one.run) for one in index.failures()] == [("new.jpg", run.id)]


def test_an_index_of_an_older_phototag_is_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied TEXT NOT NULL)")
        for name in list(MIGRATIONS)[:2]:
            connection.executescript(MIGRATIONS[name])
            connection.execute("INSERT INTO migrations VALUES (?, '2026')", (name,))
        connection.execute("INSERT INTO runs (id, started, pid, version) VALUES (1, '2026', 1, '0')")
        connection.execute("INSERT INTO journal VALUES (1, 1, x'2f70', x'00', NULL)")
    connection.close()
    with pytest.raises(IndexUnusable, match="older phototag"), open_index(path, read_only=True):
        pass
    with open_index(path) as index:
        assert index.runs(1)[0].paths == ()
        assert index.changes(1) == [Change(Path("/p"), b"\0", None)]
        with index.run({}):
            index.add([RECORD])
        assert facts(index) == FACTS


def test_the_last_runs_are_told_with_how_they_ended(path: Path) -> None:
    with open_index(path) as index:
        with index.run({"tagged": 1}, [Path("/p")]):
            pass
        with index.run({}) as run:
            run.ending = "interrupted"
        with pytest.raises(KeyError), index.run({}):
            raise KeyError
        told = index.runs(2)
        assert [run.ending for run in told] == ["failed", "interrupted"]
        assert (index.runs(9)[-1].counts, index.runs(9)[-1].paths) == ({"tagged": 1}, ("/p",))


def test_a_run_leaves_its_counts(path: Path) -> None:
    counts = {"tagged": 0}
    with open_index(path) as index, index.run(counts):
        counts["tagged"] = 3
    with sqlite3.connect(path) as connection:
        ((pid, finished, stored),) = connection.execute("SELECT pid, finished, counts FROM runs")
    connection.close()
    assert (pid, stored) == (os.getpid(), '{"tagged": 3}')
    assert finished


def test_one_run_holds_an_index_and_the_other_learns_which(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(IndexBusy, match=rf"process {holder.pid}, since 20"), open_index(path):
        pass
    with open_index(path, read_only=True) as index:
        assert index.known(PHOTO) is None
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
        assert index.known(PHOTO) is None
    assert not path.parent.exists()


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexUnusable, match="cannot be made"), open_index(tmp_path / "file" / "index.sqlite3"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(IndexUnusable, match="is not a file"), open_index(tmp_path / "folder"):
        pass


def test_a_dry_run_reads_an_index_and_leaves_no_trace(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
    before = sorted(path.parent.iterdir())
    with open_index(path, read_only=True) as index:
        assert facts(index) == FACTS
        assert sorted(path.parent.iterdir()) == before
    assert sorted(path.parent.iterdir()) == before


def test_a_dry_run_sees_what_a_running_one_has_done(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
        with open_index(path, read_only=True) as reader:
            assert facts(reader) == FACTS


@pytest.mark.parametrize("column", ["tags", "predictions"])
@pytest.mark.parametrize("value", ["not JSON", "[1]", '[["name"]]', "{}x", '["five!"]'])
def test_a_damaged_row_is_one_sentence(path: Path, column: str, value: str) -> None:
    with open_index(path) as index, index.run({}):
        index.add([RECORD])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE photos SET {column} = ?", (value,))
    connection.close()
    with pytest.raises(IndexUnusable, match="is damaged"), open_index(path) as index:
        facts(index)


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
    with pytest.raises(IndexUnusable, match="is not a file"), open_index(path, read_only=read_only):
        pass


def test_results_of_content_do_not_take_longer_with_many_copies(path: Path) -> None:
    def steps(index: Index) -> int:
        """The work of SQLite, in hundreds of its instructions."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        index._connection.set_progress_handler(step, 100)
        assert index.results_of(b"digest", ["another", "model"]) == {"model": b"scores"}
        index._connection.set_progress_handler(None, 0)
        return count

    with open_index(path) as index, index.run({}):
        index.add([RECORD])
        before = steps(index)
        index.add([replace(RECORD, photo=Photo(f"/p/{number}.jpg", 1, 2)) for number in range(2000)])
        assert steps(index) <= before + 1


def test_a_transaction_that_cannot_be_committed_leaves_no_key_behind(path: Path) -> None:
    with open_index(path) as index, index.run({}):
        index._connection.execute("BEGIN")
        index._connection.execute("PRAGMA defer_foreign_keys = ON")
        index._connection.execute("INSERT INTO rejections (photo, name) VALUES (99, 'of no photo')")
        with pytest.raises(IndexUnusable):
            index.add([RECORD])
        index.add([RECORD])
        assert index.results_of(b"digest", ["model"]) == {"model": b"scores"}
