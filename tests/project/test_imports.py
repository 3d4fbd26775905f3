"""Nothing heavy is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.program import imported_by

HEAVY = ("tensorflow", "keras", "ai_edge_litert", "numpy", "PIL", "pillow_heif", "rawpy", "tqdm", "sqlite3")


def test_importing_phototag_imports_nothing_heavy() -> None:
    script = "import sys, phototag; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not {name.partition(".")[0] for name in output.split()} & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["scan", "--help"], ["scan"], ["nonsense"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not imported_by(*arguments) & set(HEAVY)


@pytest.mark.slow
def test_a_run_imports_no_engine_that_it_does_not_need(scan, make_photo, toy_model: Path, tmp_path: Path) -> None:
    photo = make_photo("a.jpg")
    assert scan(photo).exit_code == 0
    options = ["scan", "--model", str(toy_model), "--index", str(tmp_path / "index.sqlite3"), str(photo)]
    engines = {"tensorflow", "keras", "ai_edge_litert"}
    for extra in ([], ["--dry-run"]):
        assert not imported_by(*options, *extra) & engines
    assert imported_by(*options, "--force") & engines == {"ai_edge_litert"}
    assert imported_by(*options, "--force", "--engine", "tensorflow") & engines == {"tensorflow", "keras"}
