"""`phototag watch` as a user sees it: the real program, real files, and the system's own events."""

from __future__ import annotations

import errno
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from phototag.core import Photo
from phototag.errors import ConfigError
from phototag.index import open_index
from phototag.photos.find import find_photos
from phototag.photos.watch import Arrivals, Watch, patterns_for
from phototag.run.session import Scan, Session
from tests.helpers.indexes import HOLD
from tests.helpers.program import phototag

MakePhoto = Callable[..., Path]
PATIENCE = 120  # seconds for a line; TensorFlow takes its time


class Program:
    """A running `phototag watch`, and the lines it has yet to be asked for."""

    def __init__(self, *arguments: Any) -> None:
        command = [sys.executable, "-m", "phototag", "watch", *map(os.fspath, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.readers: list[threading.Thread] = []
        self.stdout = self._lines(self.process.stdout)
        self.stderr = self._lines(self.process.stderr)

    def _lines(self, stream: Any) -> queue.Queue[str]:
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            with stream:
                for line in stream:
                    lines.put(line)

        self.readers.append(threading.Thread(target=read))
        self.readers[-1].start()
        return lines

    def expect(self, text: str, stream: queue.Queue[str] | None = None) -> str:
        """Wait for a line with `text` in it; return it with all that came before."""
        seen = ""
        while text not in seen:
            seen += (stream or self.stdout).get(timeout=PATIENCE)
        return seen

    def end(self) -> int:
        """Ask for the end, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture
def watch(toy_model: Path, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts `phototag watch` with the toy model and an index of the test's own."""
    programs = []

    def start(*arguments: Any) -> Program:
        program = Program("--model", toy_model, "--index", tmp_path / "index.sqlite3", "--settle", "0.5", *arguments)
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.process.kill()
        program.process.wait()
        for reader in program.readers:
            reader.join()


@pytest.mark.slow
def test_photos_are_tagged_as_they_come(watch: Any, make_photo: MakePhoto, tmp_path: Path) -> None:
    there = make_photo("there.jpg")
    folder = there.parent
    (folder / ".phototagignore").write_text("drafts/\n")
    elsewhere = make_photo("../elsewhere/trip/deep/moved.jpg", "lime")
    program = watch(folder, "--write", "embed")
    assert "there.jpg: red" in program.expect("there.jpg")
    program.expect("Watching 1 folder", program.stderr)

    make_photo("drafts/left out.jpg")
    make_photo("new.jpg", "blue")
    assert program.expect("new.jpg").count("\n") == 1
    assert "red" not in phototag("show", folder / "new.jpg").stdout
    assert "blue" in phototag("show", folder / "new.jpg").stdout

    shutil.copyfile(elsewhere, folder / "new.jpg")  # changed
    assert "new.jpg: green" in program.expect("new.jpg")

    (tmp_path / "elsewhere/trip").rename(folder / "trip")
    assert "deep/moved.jpg: green" in program.expect("moved.jpg")

    data = make_photo("../grown.jpg", "red", (600, 400)).read_bytes()
    with (folder / "growing.jpg").open("wb", buffering=0) as file:
        for start in range(0, len(data), len(data) // 6 + 1):
            file.write(data[start : start + len(data) // 6 + 1])
            time.sleep(0.2)
    assert program.expect("growing.jpg") == f"{folder}/growing.jpg: red\n"

    time.sleep(2)  # for events of its own, which must come to nothing
    assert program.end() == 130
    assert program.stdout.empty()
    with open_index(tmp_path / "index.sqlite3") as index:
        assert [run.counts["tagged"] for run in index.runs(99)] == [1] * 5
        assert index.count()["photos"] == 4
    assert not list(folder.rglob(".phototag-*"))


@pytest.mark.slow
def test_it_waits_for_its_turn(watch: Any, make_photo: MakePhoto, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "index.sqlite3")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    program = watch(photo.parent)
    program.expect("Waiting for another run that holds the index", program.stderr)
    assert program.process.poll() is None
    holder.kill()
    holder.communicate()
    assert program.expect("a.jpg") == f"{photo}: red\n"
    program.expect("Watching", program.stderr)
    with open_index(tmp_path / "index.sqlite3"):  # it holds nothing while it waits for photos
        pass
    assert program.end() == 130


@pytest.mark.slow
def test_a_folder_that_goes_and_comes_back(watch: Any, make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make_photo("a.jpg").parent
    program = watch(folder)
    program.expect("Watching", program.stderr)
    folder.rename(tmp_path / "away")
    program.expect(f"{folder} is gone", program.stderr)
    make_photo("../away/b.jpg", "lime")
    (tmp_path / "away").rename(folder)
    program.expect(f"{folder} is there again", program.stderr)
    program.expect(f"{folder}/b.jpg: green")
    make_photo("c.jpg", "blue")
    program.expect(f"{folder}/c.jpg: blue")
    assert program.end() == 130
    with open_index(tmp_path / "index.sqlite3") as index:
        assert index.count()["photos"] == 3


def test_all_names_of_a_run_are_as_its_folder_was_named(
    toy_model: Path, make_photo: MakePhoto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_photo("a.jpg").parent
    (folder / "notes.txt").write_text("text")

    def runs(session: Session, folders: Sequence[Path], *_: Any, **__: Any) -> Iterator[Scan]:
        yield session.scan(folders)
        yield session.scan([folder])  # as after it has come back

    monkeypatch.setattr("phototag.run.watch.watch", runs)
    monkeypatch.chdir(folder)
    result = phototag("watch", "-v", "--profile", "--model", toy_model, "--index", tmp_path / "index.sqlite3", ".")
    names = [line.partition(": ")[0] for line in result.output.splitlines() if line.startswith(("a", "notes", "/"))]
    assert sorted(names) == [f"{folder}/a.jpg", f"{folder}/notes.txt", "a.jpg", "notes.txt"]
    assert result.output.count("s went, in seconds of the threads that did it") == 2


@pytest.mark.slow
def test_without_a_scan_first_and_by_polling(watch: Any, make_photo: MakePhoto) -> None:
    folder = make_photo("a.jpg").parent
    program = watch(folder, "--no-initial-scan", "--poll", "0.5")
    program.expect("Watching", program.stderr)
    time.sleep(1)  # until it has looked for the first time
    make_photo("b.jpg", "lime")
    assert program.expect("b.jpg") == f"{folder}/b.jpg: green\n"
    assert program.end() == 130


def test_what_cannot_be_watched_is_one_sentence(make_photo: MakePhoto, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    assert f"{photo} is not a folder" in phototag("watch", photo).stderr
    assert phototag("watch", photo).exit_code == 2
    assert phototag("watch", tmp_path / "nowhere").exit_code == 2


def test_a_missing_watchdog_is_named_with_the_remedy(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['watchdog'] = None\n"
        f"sys.argv = ['phototag', 'watch', {str(tmp_path)!r}]\n"
        "from phototag.cli import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        f"phototag: watching needs the package watchdog; install it with: {sys.executable} -m pip install watchdog\n"
    )


@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_inst")])
def test_the_systems_limit_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    from watchdog.observers.api import BaseObserver

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, "limit reached")

    monkeypatch.setattr(BaseObserver, "schedule", refuse)
    with pytest.raises(ConfigError, match=remedy), Watch([tmp_path], 1):
        pass


def test_a_file_is_at_rest_once_it_stays_the_same(tmp_path: Path) -> None:
    arrivals = Arrivals(settle=0.2)
    growing, gone, own = tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "a.jpg.phototag.json"
    for path in (growing, gone, own):
        path.write_bytes(b"1")
        arrivals.note(str(path))
    assert arrivals.at_rest() == []
    gone.unlink()
    time.sleep(0.25)
    growing.write_bytes(b"12")
    assert arrivals.at_rest() == []
    time.sleep(0.25)
    assert arrivals.at_rest() == [growing]
    assert arrivals.at_rest() == []


def test_a_walk_is_narrowed_to_the_folders_in_question(tmp_path: Path) -> None:
    names = ["a", "a/b", "a/b/c", "d [x]*", "d [x]*/e#!", "d x", "drafts", "a/drafts", " f ", "\\g\n"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
    (tmp_path / "a/.phototagignore").write_text("*.gif\n")

    def found(*folders: str, exclude: tuple[str, ...] = ()) -> set[str]:
        patterns = patterns_for(tmp_path, {tmp_path / folder for folder in folders})
        photos = [one for one in find_photos([tmp_path], exclude=(*patterns, *exclude)) if isinstance(one, Photo)]
        return {str(photo.path.parent.relative_to(tmp_path)) for photo in photos}

    assert found("a/b") == {"a", "a/b"}
    assert found("") == set()
    assert found("d [x]*/e#!") == {"d [x]*", "d [x]*/e#!"}
    assert found(" f ", "\\g\n") == {" f ", "\\g\n"}
    assert found("a/drafts", "a/b", exclude=("drafts/",)) == {"a", "a/b"}
    assert found(*names) == set(names)
    assert patterns_for(tmp_path, {tmp_path / str(number) for number in range(99)}) == ()
