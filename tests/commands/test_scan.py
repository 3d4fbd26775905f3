"""`phototag scan` as a user sees it, with a real SavedModel and real files."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from phototag.cli import cli
from phototag.errors import PhotoError
from phototag.index import open_index
from tests.helpers.program import lines, powerless, start_phototag
from tests.helpers.toys import export_toy

Scan = Callable[..., Result]
MakePhoto = Callable[..., Path]


def test_a_red_photo_is_tagged_red(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg", "red")
    result = scan(photo.parent)
    assert result.exit_code == 0
    assert result.stdout == f"{photo}: red\n"
    assert re.fullmatch(r"1 photo in [\d.]+ s: 1 tagged\.\n", result.stderr)
    sidecar = json.loads((photo.parent / "a.jpg.phototag.json").read_text())
    assert [tag["name"] for tag in sidecar["tags"]] == ["red"]
    assert sidecar["predictions"][0]["name"] == "red"


def test_each_photo_gets_its_own_tags(scan: Scan, make_photo: MakePhoto) -> None:
    for name, colour in {"r.jpg": "red", "g.jpg": "lime", "b.jpg": "blue", "w.jpg": "white"}.items():
        folder = make_photo(name, colour).parent
    result = scan(folder, "--format", "json")
    tags = {Path(line["path"]).name: [tag["name"] for tag in line["tags"]] for line in lines(result)}
    assert tags == {"b.jpg": ["blue"], "g.jpg": ["green"], "r.jpg": ["red"], "w.jpg": []}
    assert not (folder / "w.jpg.phototag.json").exists()


def test_json_lines_say_all_there_is(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg", "red")
    make_photo("b.jxl")
    (photo.parent / "c.jpg").write_bytes(b"no photo")
    tagged, skipped, failed = lines(scan(photo.parent, "--format", "json"))
    tag = {"name": "red", "confidence": 1.0, "path": ["red"], "synset": None, "synonyms": []}
    sidecar = f"{photo}.phototag.json"
    assert tagged.pop("predictions")[0] == {"name": "red", "synset": None, "score": 1.0}
    assert tagged.pop("note") is None
    assert tagged == {"path": str(photo), "status": "tagged", "tags": [tag], "written": [sidecar], "error": None}
    assert (skipped["status"], skipped["tags"], skipped["written"]) == ("skipped", [], [])
    assert "JPEG XL" in skipped["error"]
    assert (failed["status"], failed["path"]) == ("failed", str(photo.parent / "c.jpg"))
    assert "not a photo" in failed["error"]


def test_a_bad_photo_is_named_and_the_rest_is_done(scan: Scan, make_photo: MakePhoto) -> None:
    good = make_photo("b.jpg")
    bad = make_photo("a.jpg", size=(400, 400))
    bad.write_bytes(bad.read_bytes()[:-200])
    result = scan(good.parent)
    assert result.exit_code == 1
    assert f"phototag: {bad}: the file is truncated" in result.stderr
    assert result.stdout == f"{good}: red\n"
    assert "1 tagged, 1 failed" in result.stderr


def test_a_second_run_has_nothing_to_do(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    scan(photo.parent)
    result = scan(photo.parent)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 unchanged" in result.stderr
    (line,) = lines(scan(photo.parent, "--format", "json"))
    assert (line["status"], line["tags"][0]["name"]) == ("unchanged", "red")
    assert scan(photo.parent, "--verbose").stderr.startswith(f"{photo}: unchanged: red\n")


@pytest.mark.parametrize("change", [["--threshold", "0.8"], ["--max-tags", "3"], ["--write", "none"]])
def test_other_options_do_the_photos_again(scan: Scan, make_photo: MakePhoto, change: list[str]) -> None:
    photo = make_photo("a.jpg")
    scan(photo)
    assert "1 tagged" in scan(photo, *change).stderr


def test_force_does_the_photos_again(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    scan(photo)
    assert scan(photo, "--force").stdout == f"{photo}: red\n"


def test_a_dry_run_leaves_no_trace(scan: Scan, make_photo: MakePhoto, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    result = scan(photo, "--dry-run")
    assert result.stdout == f"{photo}: red\n"
    assert "dry run, nothing written" in result.stderr
    assert list(photo.parent.iterdir()) == [photo]
    assert not list(tmp_path.glob("index*"))


def test_write_none_only_prints(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    assert scan(photo, "--write", "none").stdout == f"{photo}: red\n"
    assert list(photo.parent.iterdir()) == [photo]
    assert "1 unchanged" in scan(photo, "--write", "none").stderr


def test_the_threshold_decides(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg", (255, 240, 0))  # by hand: 1 / (1 + exp(30 * (240 - 255) / 255)) = 0.854
    assert scan(photo, "--threshold", "0.8").stdout == f"{photo}: red\n"
    assert scan(photo, "--threshold", "0.9").stdout == f"{photo}: (nothing sure enough)\n"


def test_a_tag_that_is_no_longer_said_is_taken_back(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg", (255, 240, 0))
    scan(photo, "--threshold", "0.8")
    assert len(list(photo.parent.iterdir())) == 2
    scan(photo, "--threshold", "0.9")
    assert list(photo.parent.iterdir()) == [photo]


def test_max_tags_limits(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg", "white")
    both = scan(photo, "--threshold", "0.3", "--format", "json", "--dry-run")
    one = scan(photo, "--threshold", "0.3", "--format", "json", "--dry-run", "--max-tags", "1")
    assert [len(line["tags"]) for line in (*lines(both), *lines(one))] == [3, 1]


def test_exclude_and_default_excludes(scan: Scan, make_photo: MakePhoto) -> None:
    folder = make_photo("a.jpg").parent
    make_photo(".hidden/b.jpg")
    make_photo("drafts/c.jpg")
    assert scan(folder, "-n").stdout == f"{folder}/a.jpg: red\n{folder}/drafts/c.jpg: red\n"
    assert scan(folder, "-n", "--exclude", "drafts/").stdout == f"{folder}/a.jpg: red\n"
    assert "b.jpg: red" in scan(folder, "-n", "--no-default-excludes").stdout
    verbose = scan(folder, "-n", "-v", "--exclude", "drafts/").stderr
    assert f"{folder}/.hidden: passed over: excluded by default" in verbose
    assert f"{folder}/drafts: passed over: excluded by --exclude" in verbose


def test_follow_symlinks(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("real/a.jpg")
    (photo.parent.parent / "linked").mkdir()
    (photo.parent.parent / "linked/b.jpg").symlink_to(photo)
    assert scan(photo.parent.parent / "linked", "-n").stdout == ""
    assert scan(photo.parent.parent / "linked", "-n", "--follow-symlinks").stdout.endswith("b.jpg: red\n")


def test_quiet_prints_failures_only(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    result = scan(photo.parent, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    (photo.parent / "b.jpg").write_bytes(b"")
    result = scan(photo.parent, "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"phototag: {photo.parent}/b.jpg: the file is empty\n"


def test_relative_paths_are_printed_as_they_were_given(
    scan: Scan, make_photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("trip/a.jpg")
    monkeypatch.chdir(photo.parent.parent)
    assert scan("trip", "-n").stdout == "trip/a.jpg: red\n"
    monkeypatch.chdir(photo.parent)
    assert scan("../trip", "-n").stdout == "a.jpg: red\n"
    (line,) = lines(scan(".", "-n", "--format", "json"))
    assert line["path"] == str(photo)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"with space.jpg", "with space.jpg"),
        ("Größe 日本.jpg".encode(), "Größe 日本.jpg"),
        (b"two\nlines.jpg", r"two\nlines.jpg"),
        (b"\x1b[31mred.jpg", r"\x1b[31mred.jpg"),
        (b"-dash.jpg", "-dash.jpg"),
        (b"\xff\xfe.jpg", r"\xff\xfe.jpg"),
    ],
)
def test_any_name_is_tagged_and_printed_safely(scan: Scan, make_photo: MakePhoto, name: bytes, shown: str) -> None:
    photo = make_photo(name)
    assert scan(photo.parent).stdout == f"{photo.parent}/{shown}: red\n"
    assert (photo.parent / (os.fsdecode(name) + ".phototag.json")).is_file()
    assert scan(photo.parent).stdout == ""
    (line,) = lines(scan(photo.parent, "--format", "json"))
    assert os.fsencode(line["path"]) == os.fsencode(photo)


def test_a_leading_dash_on_the_command_line(scan: Scan, make_photo: MakePhoto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_photo("-dash.jpg").parent)
    assert scan("-n", "--", "-dash.jpg").stdout == "-dash.jpg: red\n"


def test_no_photos_are_no_error(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = scan(tmp_path / "empty")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"No photos found in {tmp_path}/empty.\n"
    (tmp_path / "empty/notes.txt").write_text("hello")
    (tmp_path / "empty/IMG_1.jpg.xmp").write_text("<x/>")  # which phototag itself may have written
    assert scan(tmp_path / "empty").stderr == f"No photos found in {tmp_path}/empty; 1 other file passed over.\n"
    assert "IMG_1.jpg.xmp: passed over: an XMP sidecar" in scan(tmp_path / "empty", "--verbose").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'PATH...'"),
        (["nowhere"], "phototag: nowhere does not exist; check the path"),
        ([".", "--threshold", "48"], "48.0 is not in the range 0<x<=1"),
        ([".", "--threshold", "nan"], "it must be a number above 0, at most 1"),
        ([".", "--max-tags", "0"], "0 is not in the range x>=1"),
        ([".", "--batch-size", "0"], "is not in the range"),
        ([".", "--write", "tattoo"], "'tattoo' is not one of"),
        ([".", "--treshold", "0.5"], "No such option"),
        ([".", "--exclude", "!"], "phototag: a pattern of --exclude is not in gitignore syntax"),
    ],
)
def test_wrong_usage_is_exit_2(scan: Scan, arguments: list[str], message: str) -> None:
    result = scan(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_path_stops_the_run_before_anything_is_written(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    result = scan(photo, photo.parent / "missing\x1b.jpg")
    assert result.exit_code == 2
    assert result.stderr == f"phototag: {photo.parent}/missing\\x1b.jpg does not exist; check the path\n"
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize("damage", ["missing", "no model", "too few labels", "NaN"])
def test_an_unusable_model_is_exit_3_and_nothing_is_written(
    scan: Scan, make_photo: MakePhoto, tmp_path: Path, damage: str
) -> None:
    photo, model = make_photo("a.jpg"), tmp_path / "model"
    if damage == "no model":
        model.mkdir()
    elif damage == "too few labels":
        export_toy(model, labels="red\ngreen\n")
    elif damage == "NaN":
        export_toy(model, factor=float("nan"))
    result = scan(photo, model=model)
    assert result.exit_code == 3
    *before, last = result.stderr.splitlines()
    assert str(model) in last
    assert not [line for line in before if "model" not in line.split(":")[0]]  # on its way into LiteRT
    assert list(photo.parent.iterdir()) == [photo]


def test_an_unusable_index_is_exit_3(scan: Scan, make_photo: MakePhoto, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    (tmp_path / "index.sqlite3").write_bytes(b"no database at all" * 100)
    result = scan(photo)
    assert result.exit_code == 3
    assert "index.sqlite3 is not an index, or a damaged one; move it away" in result.stderr
    assert list(photo.parent.iterdir()) == [photo]


def test_a_held_index_is_exit_4(scan: Scan, make_photo: MakePhoto, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    with open_index(tmp_path / "index.sqlite3") as index, index.run({}):
        result = scan(photo)
    assert result.exit_code == 4
    assert f"another run holds the index {tmp_path}/index.sqlite3 (process {os.getpid()}, since " in result.stderr
    assert scan(photo).exit_code == 0


def test_a_bug_is_an_apology_and_a_traceback_only_on_request(
    scan: Scan, make_photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("a.jpg")
    monkeypatch.setattr("phototag.images.preprocess.Preprocessing.crops", lambda *_: 1 / 0)
    result = scan(photo)
    assert result.exit_code == 3
    assert result.stderr.endswith("Run it again with --verbose for the details to report.\n")
    assert "Traceback" not in result.stderr
    assert "Traceback" in scan(photo, "--verbose").stderr


@pytest.mark.slow
def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(
    toy_model: Path, make_photo: MakePhoto, tmp_path: Path
) -> None:
    folder = make_photo("a.jpg").parent
    arguments = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", "-n", folder]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = start_phototag(*arguments, stderr=theirs)
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(ours, 4096):
                seen.extend(chunk)
        except OSError:  # how Linux says that the other side has gone
            pass

    reader = threading.Thread(target=read)
    reader.start()
    output, _ = process.communicate(timeout=120)
    reader.join()
    os.close(ours)
    assert output == f"{folder}/a.jpg: red\n"
    assert "photo/s]" in seen.decode()
    assert "1 photo in" in seen.decode()
    _, errors = start_phototag(*arguments).communicate(timeout=120)
    assert re.fullmatch(r"1 photo in [\d.]+ s: 1 tagged; dry run, nothing written\.\n", errors)


def test_a_photo_that_may_not_be_read_or_written_beside(toy_model: Path, make_photo: MakePhoto, tmp_path: Path) -> None:
    locked, photo = make_photo("a.jpg"), make_photo("folder/b.jpg")
    locked.chmod(0)
    photo.parent.chmod(0o555)
    arguments = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", locked.parent]
    command = powerless(sys.executable, "-m", "phototag", *arguments)
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    finally:
        locked.chmod(0o644)
        photo.parent.chmod(0o755)
    assert result.returncode == 1
    assert f"{locked}: it may not be read; check its permissions" in result.stderr
    assert f"{photo}: its sidecar b.jpg.phototag.json cannot be written (Permission denied)" in result.stderr
    assert list(photo.parent.iterdir()) == [photo]


def test_every_kind_of_error_has_an_exit_code() -> None:
    import phototag.errors as errors
    from phototag.cli import _EXIT_CODES

    known_types = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [
        kind for kind in known_types if issubclass(kind, errors.PhototagError) and kind is not errors.PhototagError
    ]
    assert all(any(issubclass(kind, known) for known, _ in _EXIT_CODES) for kind in kinds)
    assert PhotoError in kinds


def test_version() -> None:
    import phototag

    result = CliRunner().invoke(cli, ["--version"])
    assert result.output == f"phototag, version {phototag.__version__}\n"


@pytest.mark.parametrize("options", [["--jobs", "1"], ["--jobs", "7", "--batch-size", "1"], ["--batch-size", "1024"]])
def test_jobs_and_batch_size_change_nothing_but_speed(scan: Scan, make_photo: MakePhoto, options: list[str]) -> None:
    for number in range(5):
        folder = make_photo(f"{number}.jpg", ["red", "lime"][number % 2]).parent
    assert scan(folder, "-n", *options).stdout == scan(folder, "-n").stdout


def test_an_empty_path_is_not_the_current_folder(scan: Scan, make_photo: MakePhoto, monkeypatch: Any) -> None:
    photo = make_photo("a.jpg")
    monkeypatch.chdir(photo.parent)
    result = scan("")
    assert (result.exit_code, "a path is empty; is a variable unset?" in result.stderr) == (2, True)
    assert list(photo.parent.iterdir()) == [photo]


def test_a_dry_run_shows_what_is_done_already_too(scan: Scan, make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    scan(photo)
    assert scan(photo, "-n").stdout == f"{photo}: red\n"


def test_an_unreadable_folder_is_named_and_the_rest_is_done(
    toy_model: Path, make_photo: MakePhoto, tmp_path: Path
) -> None:
    photo, hidden = make_photo("a.jpg"), make_photo("locked/b.jpg")
    hidden.parent.chmod(0)
    arguments = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", photo.parent]
    command = powerless(sys.executable, "-m", "phototag", *arguments)
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    finally:
        hidden.parent.chmod(0o755)
    assert result.returncode == 1
    assert result.stdout == f"{photo}: red\n"
    reason = "the folder cannot be read (permission denied); check its permissions"
    assert f"phototag: {hidden.parent}: {reason}\n" in result.stderr


def test_there_are_no_more_worker_threads_than_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = next(option for option in cli.commands["scan"].params if option.name == "jobs")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    memory = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (1 << 30) // 4096}
    monkeypatch.setattr("os.sysconf", memory.get, raising=False)
    with click.Context(cli.commands["scan"]) as context:
        assert jobs.get_default(context) == 2
        memory["SC_PHYS_PAGES"] *= 16
        assert jobs.get_default(context) == 8
        memory["SC_PHYS_PAGES"] = 1
        assert jobs.get_default(context) == 1
