"""Runs that nobody watches: what they leave behind, when they stop, and what `phototag status` tells of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from phototag.cli import run_log
from phototag.core import Photo
from phototag.index import Record, open_index
from tests.helpers.program import phototag
from tests.helpers.writing import keywords, remove_red

Scan = Callable[..., Result]
MakePhoto = Callable[..., Path]


# --- The log and the report -------------------------------------------------------------------------------------------


def test_a_report_tells_programs_what_a_run_came_to(scan: Scan, library: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert scan("--report", file, library).exit_code == 1
    report = json.loads(file.read_text())
    assert report["counts"] == {"tagged": 6, "untagged": 1, "unchanged": 0, "skipped": 0, "failed": 1}
    assert (report["ending"], report["run"], report["paths"]) == ("complete", 1, [str(library)])
    assert [Path(failure["path"]).name for failure in report["failures"]] == ["broken.jpg"]
    assert "not a photo" in report["failures"][0]["error"]
    assert scan("--report", file, "--dry-run", library).exit_code == 1
    report = json.loads(file.read_text())
    assert (report["dry_run"], report["run"], report["counts"]["unchanged"]) == (True, None, 7)


def test_a_report_is_left_also_where_the_run_fails(scan: Scan, library: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    (tmp_path / "index.sqlite3").write_bytes(b"random bytes" * 99)
    assert scan("--report", file, library).exit_code == 3
    assert json.loads(file.read_text())["ending"] == "failed"


def test_a_report_that_cannot_be_written_is_one_sentence(scan: Scan, library: Path, tmp_path: Path) -> None:
    result = scan("--report", tmp_path / "no" / "folder.json", library)
    assert result.exit_code == 3
    assert "choose another with --report" in result.stderr.splitlines()[-1]
    assert (library / "0.jpg.phototag.json").exists()


def test_the_log_has_failures_and_the_summary_of_each_run(scan: Scan, library: Path, tmp_path: Path) -> None:
    file = tmp_path / "phototag.log"
    for _ in range(2):
        result = scan("--quiet", "--log-file", file, library)
        assert (result.exit_code, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1
    lines = file.read_text().splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:,]+ \d+ ERROR .*broken\.jpg: .*", lines[0])
    assert re.fullmatch(r".* INFO 8 photos in .* s: 6 tagged, 1 untagged, 1 failed\.", lines[1])
    assert "7 unchanged" in lines[3]


def test_the_log_keeps_itself_short(scan: Scan, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "MAX_LOG", 400)
    for _ in range(8):
        scan("--quiet", "--log-file", tmp_path / "phototag.log", library)
    logs = sorted(tmp_path.glob("phototag.log*"))
    assert [log.name for log in logs] == ["phototag.log", "phototag.log.1"]
    assert all(log.stat().st_size <= 400 for log in logs)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo])
def test_a_log_that_cannot_be_written_ends_the_run_before_it_begins(
    scan: Scan, library: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "log")
    result = scan("--log-file", tmp_path / "log", library)
    assert result.exit_code == 2
    assert not list(library.glob("*.json"))


# --- When a run stops -------------------------------------------------------------------------------------------------


def test_a_run_that_is_out_of_time_stops_and_the_next_goes_on(
    scan: Scan, library: Path, status: Callable[..., Any]
) -> None:
    result = scan("--max-runtime", "0.000001s", library)
    assert result.exit_code == 0
    assert "Out of time (--max-runtime): run the same command again to go on." in result.stderr
    assert "No photos found" not in result.stderr
    result = scan("--max-runtime", "2h", library)
    assert "6 tagged, 1 untagged, 1 failed" in result.stderr
    assert [run["ending"] for run in status("--format", "json")["runs"]] == ["complete", "out of time"]


@pytest.mark.parametrize("time", ["0", "soon", "-1", "1d", "nan", "1e9"])
def test_a_time_that_is_none_is_refused(scan: Scan, library: Path, time: str) -> None:
    result = scan(f"--max-runtime={time}", library)
    assert result.exit_code == 2
    assert "90s, 30m or 2h" in result.stderr


# --- phototag status --------------------------------------------------------------------------------------------------


def test_status_tells_of_photos_failures_and_runs(scan: Scan, library: Path, status: Callable[..., Any]) -> None:
    scan(library)
    scan("--dry-run", library)  # leaves no trace
    text = status()
    assert "7 photos: 6 tagged, 1 without tags" in text
    assert re.search(r"1 failure:\n  .*not a photo.* \(1\)\n    .*broken\.jpg\n", text)
    assert re.search(
        r"\n     1  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d:\d\d:\d\d  complete: 6 tagged, 1 untagged, 1 failed  ", text
    )
    told = status("--format", "json")
    assert (told["photos"], told["tagged"], told["rejected"], len(told["runs"])) == (7, 6, 0, 1)
    assert [Path(one["path"]).name for one in told["failures"]] == ["broken.jpg"]


def test_status_groups_failures_by_reason(scan: Scan, library: Path, status: Callable[..., Any]) -> None:
    for number in range(9):
        (library / f"empty{number}.jpg").touch()
    scan(library)
    text = status()
    assert text.index("the file is empty (9)") < text.index("not a photo")
    assert "    and 4 more (--verbose names them)" in text
    assert text.count("empty0") == status("--verbose").count("empty8") == 1


def test_status_of_nothing_makes_nothing(status: Callable[..., Any], tmp_path: Path) -> None:
    assert "not there yet" in status()
    assert status("--format", "json")["photos"] == 0
    assert not list(tmp_path.iterdir())


def test_status_knows_a_run_that_runs_and_one_that_died(status: Callable[..., Any], tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from phototag.index import open_index\n"
        "with open_index(pathlib.Path(sys.argv[1])) as index, index.run({}, [pathlib.Path('/p')]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "index.sqlite3")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert status("--format", "json")["runs"][0]["ending"] == f"running (process {holder.pid})"
    holder.kill()
    holder.communicate()
    assert "died: no photos  /p" in status()


def test_status_of_a_damaged_index_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite3"
    path.write_bytes(b"random bytes" * 99)
    result = phototag("status", "--index", path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "move it away" in result.stderr


# --- Where the time goes ----------------------------------------------------------------------------------------------


def profile(result: Result) -> dict[str, float]:
    return {
        stage: float(seconds) for stage, seconds in re.findall(r"^  (\w+) +(\d+\.\d{3})  ", result.stderr, re.MULTILINE)
    }


def test_a_profile_tells_where_the_time_went(scan: Scan, library: Path) -> None:
    assert profile(scan(library)) == {}
    first, second = profile(scan("--profile", "--force", library)), profile(scan("--profile", library / "0.jpg"))
    assert list(first) == ["walk", "index", "load", "decode", "infer", "write", "wait"]
    assert first["decode"] > 0 < first["write"]
    assert second["load"] == second["decode"] == second["infer"] == 0


# --- What one photo must not do to a run ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [10**10, -(10**9)])
def test_a_photo_of_an_impossible_time_is_tagged_once(scan: Scan, make_photo: MakePhoto, seconds: int) -> None:
    photo, other = make_photo("a.jpg"), make_photo("b.jpg", "lime")
    os.utime(photo, (seconds, seconds))
    if photo.stat().st_mtime != seconds:
        pytest.skip("a file system without such times")
    assert scan("--quiet", photo.parent).exit_code == 0
    assert all(Path(f"{path}.phototag.json").exists() for path in (photo, other))
    assert "2 unchanged" in scan(photo.parent).stderr


def test_a_sidecar_that_rejects_what_is_no_text_ends_no_run(scan: Scan, make_photo: MakePhoto) -> None:
    photo, other = make_photo("a.jpg"), make_photo("b.jpg", "lime")
    sidecar = Path(f"{photo}.phototag.json")
    sidecar.write_text('{"phototag": "0.1", "tags": [], "rejected": ["\\ud800", 5, "lawn"]}')
    assert scan(photo.parent).exit_code == 0
    assert json.loads(sidecar.read_text())["rejected"] == ["lawn"]
    assert Path(f"{other}.phototag.json").exists()


@pytest.mark.parametrize("option", ["--log-file", "--report"])
def test_no_photo_is_made_a_log_or_a_report(scan: Scan, make_photo: MakePhoto, option: str) -> None:
    photo = make_photo("a.jpg")
    before = photo.read_bytes()
    result = scan(option, photo, photo.parent)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{photo} is not a " in result.stderr
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE photos SET id = 1 << 50 WHERE id = 1",
        "UPDATE photos SET id = -5 WHERE id = 1",
        "UPDATE photos SET files = 5",
        "UPDATE photos SET files = x'2e2e2f2f'",
        "UPDATE photos SET path = 3 WHERE id = 1",
        "UPDATE results SET value = 9000000000000",
        "UPDATE runs SET counts = '[1]'",
        'UPDATE runs SET counts = \'{"tagged": "x"}\'',
        "UPDATE runs SET started = 5",
        "INSERT INTO failures VALUES (x'ff', x'ff', 1)",
    ],
)
def test_a_damaged_row_is_told_in_a_sentence_or_does_no_harm(
    scan: Scan, library: Path, tmp_path: Path, damage: str
) -> None:
    index = tmp_path / "index.sqlite3"
    scan(library)
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute(damage)
    for result in (phototag("status", "--index", index), scan("--verbose", library), scan("--top", "2", library)):
        assert "bug" not in result.stderr
        assert result.exit_code in (0, 1) or f"the index {index} is damaged" in result.stderr


def test_untag_forgets_what_only_the_index_knew_a_person_had_removed(
    scan: Scan, make_photo: MakePhoto, tmp_path: Path
) -> None:
    photo = make_photo("a.jpg")
    tags = Path(f"{photo}.phototag.json")
    scan(photo.parent)
    with open_index(tmp_path / "index.sqlite3") as index, index.run({}):
        known = index.known(Photo(photo, 0, 0))
        assert known is not None
        record = Record(Photo(photo, known.size, known.mtime_ns), "", (), (), (), rejected=("red",))
        index.add([record])
    tags.unlink()
    assert "red" not in scan(photo.parent).stdout
    assert phototag("untag", "--index", tmp_path / "index.sqlite3", photo).exit_code == 0
    assert "red" in scan(photo.parent).stdout


def test_an_index_has_one_lock_by_whichever_link_it_is_named(scan: Scan, make_photo: MakePhoto, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    link = tmp_path / "link.sqlite3"
    link.symlink_to("index.sqlite3")
    with open_index(link):
        assert scan(photo).exit_code == 4


@pytest.mark.needs_exiftool
def test_a_photo_that_is_restored_gets_its_tags_again(scan: Scan, make_photo: MakePhoto) -> None:
    """Also where a person had given it one of them: that it stands there is no sign that the others were removed."""
    photo = make_photo("a.jpg", (200, 180, 10))
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-XMP-dc:Subject=red", str(photo)], check=True)
    before = photo.read_bytes()
    scan("--write", "embed", "--top", "2", photo)
    assert keywords(photo) == ["green", "red"]
    photo.write_bytes(before)
    scan("--write", "embed", "--top", "2", photo)
    assert keywords(photo) == ["green", "red"]


def test_a_library_without_a_photo_left_is_no_quiet_success(scan: Scan, library: Path) -> None:
    scan(library)
    away = library.rename(library.with_name("away"))
    library.mkdir()
    result = scan("--quiet", library)
    assert result.exit_code == 1
    assert f"{library}: no photo is left in it" in result.stderr
    library.rmdir()
    away.rename(library)
    assert "7 unchanged" in scan(library).stderr


@pytest.mark.needs_exiftool
@pytest.mark.parametrize(("before", "after"), [("json", "embed"), ("embed", "json"), ("xmp", "json"), ("xmp", "embed")])
def test_what_a_person_removed_stays_away_from_where_tags_go_now(
    scan: Scan, make_photo: MakePhoto, before: str, after: str
) -> None:
    photo = make_photo("a.jpg", (200, 180, 10))
    scan("--write", before, "--top", "2", photo)
    remove_red(photo, before)
    result = scan("--write", after, "--top", "2", "--format", "json", photo)
    assert [tag["name"] for tag in json.loads(result.stdout)["tags"]] == ["green"]
    assert keywords(photo) == ["green"]
