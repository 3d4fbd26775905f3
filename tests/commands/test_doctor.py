"""`phototag doctor` as a user sees it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phototag.index import open_index
from phototag.index.health import examine
from tests.helpers.indexes import HOLD, RECORD
from tests.helpers.program import phototag, powerless


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index that knows a photo."""
    path = tmp_path / "index.sqlite3"
    with open_index(path) as opened, opened.run({}):
        opened.add([RECORD])
    return path


def doctor(*arguments: str | Path) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and the checks by their subjects."""
    result = phototag("doctor", "--format", "json", *arguments)
    checks: dict[str, list[dict[str, Any]]] = {}
    for line in result.stdout.splitlines():
        check = json.loads(line)
        checks.setdefault(check["subject"], []).append(check)
    return result.exit_code, checks


def test_all_is_well_on_a_machine_that_runs_these_tests(make_photo: Any, index: Path) -> None:
    folder = make_photo("trip/a.jpg").parent
    before = sorted(index.parent.rglob("*"))
    result = phototag("doctor", "--index", index, folder)
    assert result.exit_code == 0
    assert "FAULT" not in result.stdout
    assert "ok       TensorFlow: 2." in result.stdout
    assert "ok       photos: JPEG, PNG, TIFF, WebP, AVIF, HEIC by Pillow" in result.stdout
    assert f"ok       index: {index}, sound, 1 photo\n" in result.stdout
    assert f"ok       library: {folder}, 1 photo in 1 folder, may be written\n" in result.stdout
    assert sorted(index.parent.rglob("*")) == before


def test_it_makes_nothing_where_nothing_is(data_directory: Path) -> None:
    place = data_directory / "new"
    code, checks = doctor("--index", place / "index.sqlite3")
    assert code == 0
    assert checks["index"][0]["finding"].endswith("which the first scan makes")
    assert not place.exists()


def test_the_model_is_looked_for_and_run_if_asked(toy_model: Path, tmp_path: Path) -> None:
    code, checks = doctor("--model", toy_model, "--try-model")
    assert code == 0
    assert "toy, 3 classes" in checks["model"][0]["finding"]
    assert checks["model runs"][0]["finding"].startswith("on an image of 8 x 8 pixels, in ")
    code, checks = doctor("--model", tmp_path / "none")
    assert code == 1
    assert "is neither a directory nor an installed model" in checks["model"][0]["finding"]


DAMAGES = {
    "random bytes": lambda path: path.write_bytes(bytes(range(256)) * 400),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "bytes in the midst": lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * 8192),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_to_do_with_a_damaged_index(index: Path, damage: str) -> None:
    DAMAGES[damage](index)
    before = index.read_bytes()
    code, checks = doctor("--index", index)
    assert code == 1
    assert checks["index"][0]["state"] == "fault"
    assert "damaged" in checks["index"][0]["finding"]
    assert checks["index"][0]["remedy"].startswith("Move it away")
    assert index.read_bytes() == before


def test_a_row_that_belongs_to_no_photo_is_found(index: Path) -> None:
    with sqlite3.connect(index) as connection:
        connection.execute("INSERT INTO rejections VALUES (77, 'dog')")
    connection.close()
    code, checks = doctor("--index", index)
    assert (code, "a row of rejections is without its row of photos" in checks["index"][0]["finding"]) == (1, True)


def test_a_newer_index_is_a_fault_and_an_older_one_is_not(index: Path) -> None:
    with sqlite3.connect(index) as connection:
        connection.execute("DELETE FROM migrations WHERE name LIKE '0003%'")
    connection.close()
    code, checks = doctor("--index", index)
    assert (code, "of an older phototag" in checks["index"][0]["finding"]) == (0, True)
    with sqlite3.connect(index) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_from_the_future', '2099-01-01')")
    connection.close()
    code, checks = doctor("--index", index)
    assert (code, "upgrade phototag" in checks["index"][0]["finding"]) == (1, True)


def test_who_uses_the_index_is_told(index: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    code, checks = doctor("--index", index)
    process.kill()
    process.communicate()
    assert code == 0
    assert (checks["index"][1]["state"], f"process {process.pid}" in checks["index"][1]["finding"]) == ("warning", True)
    health = examine(index)
    assert health is not None
    assert (health.running, health.photos) == (None, 1)


def test_folders_that_may_not_be_written(make_photo: Any, index: Path) -> None:
    folder = make_photo("locked/a.jpg").parent
    make_photo("b.jpg")
    folder.chmod(0o555)
    command = powerless(sys.executable, "-m", "phototag", "doctor", "--index", index, folder.parent)
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    finally:
        folder.chmod(0o755)
    assert result.returncode == 1
    assert f"FAULT    library: 1 folder may not be written, {folder} is the first\n" in result.stdout


def test_a_library_that_is_not_there_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, checks = doctor(tmp_path / "empty")
    assert (code, checks["library"][0]["state"]) == (0, "warning")
    code, checks = doctor(tmp_path / "nowhere")
    assert (code, "does not exist" in checks["library"][0]["finding"]) == (1, True)


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "phototag", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        code, checks = doctor("--index", disk / "index.sqlite3")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert (code, checks["index's folder"][0]["remedy"]) == (1, "Make room there.")


def test_tensorflow_is_not_imported_to_be_found(index: Path) -> None:
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
        f"sys.argv = ['phototag', 'doctor', '--index', {str(index)!r}]\n"
        "from phototag.cli import main\n"
        "main()\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.endswith("False\n")
