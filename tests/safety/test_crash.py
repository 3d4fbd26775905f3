"""Runs that are killed, collide, or lose the ground under their feet; by the real program with a toy of a model."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import crash
from phototag.index import open_index
from tests.helpers.program import phototag

MakePhoto = Callable[..., Path]

# Each look at a photo is announced, and takes until there is a file called as the variable GATE says.
WAITING = """
import os, time
import phototag.images.decode as opening
read_picture = opening.read_picture
def waiting(path, *others):
    print("looking at", path, flush=True)
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.02)
    return read_picture(path, *others)
opening.read_picture = waiting
"""


@pytest.fixture
def start(toy_model: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `phototag scan` with the toy and an index of the test's own; the program begins with `before`."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str | Path, before: str = "", index: str = "index.sqlite3", **options: Any) -> Any:
        command: list[str | Path] = [sys.executable, "-c", before + crash.PROGRAM, "scan", "--model", toy_model]
        command += ["--index", tmp_path / index, *arguments]
        environment = {**os.environ, "GATE": str(tmp_path / "gate")}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([os.fspath(one) for one in command], env=environment, **pipes, **options))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for `process`; return its exit code and what it printed."""
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.mark.slow
@pytest.mark.parametrize("write", ["json", "embed"])
def test_after_kill_9_a_normal_run_comes_to_the_same(toy_model: Path, tmp_path: Path, write: str) -> None:
    hits, _ = crash.compare(tmp_path, toy_model, write, kills=5, photos=40, seed=7)
    assert hits


@pytest.mark.slow
def test_of_two_scans_one_works_and_the_other_ends_at_once(start: Any, make_photo: MakePhoto, tmp_path: Path) -> None:
    photo, other = make_photo("a.jpg"), make_photo("../other/b.jpg", "lime").resolve()
    first = start(photo.parent, before=WAITING)
    first.stdout.readline()
    code, output, errors = end_of(start(photo.parent))
    assert (code, output) == (4, "")
    assert f"another run holds the index {tmp_path}/index.sqlite3 (process {first.pid}, since " in errors
    assert errors.count("\n") == 1
    code, output, _ = end_of(start(other.parent, index="other.sqlite3"))  # two libraries, side by side
    assert (code, output) == (0, f"{other}: green\n")
    assert first.poll() is None
    (tmp_path / "gate").touch()
    assert end_of(first)[:2] == (0, f"{photo}: red\n")


@pytest.mark.slow
@pytest.mark.parametrize("room", [4096, 200_000])
def test_no_room_for_the_index_is_one_sentence(start: Any, make_photo: MakePhoto, room: int) -> None:
    for number in range(300):
        photo = make_photo(f"{number:03}.jpg", (number % 256, 0, 0), (16, 16))
    limit = start(
        photo.parent, "--batch-size", "1", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    )
    code, output, errors = end_of(limit)
    assert code == 3
    assert errors.count("\n") == 1
    assert "cannot be used" in errors
    assert "check its permissions and the room on the disk" in errors
    if room == 4096:
        assert output == ""
        assert not list(photo.parent.glob("*.json"))
    code, _, errors = end_of(start(photo.parent))
    assert code == 0
    assert "failed" not in errors
    assert not list(photo.parent.glob(".phototag-*"))


def make_newer(index: Path) -> None:
    with open_index(index):
        pass
    with sqlite3.connect(index) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_from_the_future', '2099-01-01')")
    connection.close()


def make_random(index: Path) -> None:
    index.write_bytes(bytes(range(255, -1, -1)) * 99)


@pytest.mark.parametrize(("spoil", "remedy"), [(make_newer, "upgrade phototag"), (make_random, "move it away")])
def test_an_index_that_cannot_be_used_touches_no_photo(
    start: Any, make_photo: MakePhoto, tmp_path: Path, spoil: Callable[[Path], None], remedy: str
) -> None:
    photo, index = make_photo("a.jpg"), tmp_path / "index.sqlite3"
    spoil(index)
    before = index.read_bytes()
    code, output, errors = end_of(start("--write", "embed", photo.parent))
    assert (code, output, errors.count("\n")) == (3, "", 1)
    assert remedy in errors
    assert list(photo.parent.iterdir()) == [photo]
    assert index.read_bytes() == before
    result = phototag("doctor", "--index", index)
    assert result.exit_code == 1
    assert remedy in result.stdout


@pytest.mark.slow
def test_a_folder_that_vanishes_in_mid_run_is_named_and_nothing_is_forgotten(
    start: Any, make_photo: MakePhoto, tmp_path: Path
) -> None:
    for number in range(40):
        folder = make_photo(f"{number:03}.jpg", (200 + number, 0, 0)).parent
    assert end_of(start(folder))[0] == 0
    for number in range(40):
        make_photo(f"{number:03}.jpg", (0, 200 + number, 0))
    process = start(folder, "--batch-size", "4", "--jobs", "2", before=WAITING)
    process.stdout.readline()
    folder.rename(tmp_path / "away")
    (tmp_path / "gate").touch()
    code, _, errors = end_of(process)
    assert code == 1
    assert f"phototag: {folder}/000.jpg: it is gone" in errors  # what was in hand
    assert errors.count(f"phototag: {folder}: the folder cannot be read") == 1  # the rest
    (tmp_path / "away").rename(folder)
    with open_index(tmp_path / "index.sqlite3") as index:
        assert index.count()["photos"] == 40
        assert folder in [failure.path for failure in index.failures()]
    code, output, _ = end_of(start(folder))
    assert (code, output.count(": green\n")) == (0, 40)
    with open_index(tmp_path / "index.sqlite3") as index:
        assert (index.count()["photos"], len(index.failures())) == (40, 0)


def test_an_empty_mount_point_makes_nothing_forgotten(start: Any, make_photo: MakePhoto, tmp_path: Path) -> None:
    disk = make_photo("disk/a.jpg").parent
    make_photo("here/b.jpg", "lime")
    assert end_of(start(disk.parent))[0] == 0
    disk.rename(tmp_path / "away")
    disk.mkdir()
    assert end_of(start(disk.parent))[0] == 0
    disk.rmdir()
    shutil.move(tmp_path / "away", disk)
    code, output, errors = end_of(start(disk.parent))
    assert (code, output) == (0, "")
    assert "2 unchanged" in errors


@pytest.mark.slow
def test_an_answer_that_takes_long_is_waited_for(start: Any, make_photo: MakePhoto, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    process = start(photo.parent, before=WAITING)
    process.stdout.readline()
    time.sleep(1)
    (tmp_path / "gate").touch()
    assert end_of(process)[:2] == (0, f"{photo}: red\n")
