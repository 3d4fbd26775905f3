"""Nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import PROJECT
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


PACKAGE = PROJECT / "phototag"
# Which parts of phototag may import a module, at the top or inside a function.
ALLOWED = {
    "tensorflow": {"classifier"},
    "ai_edge_litert": {"classifier"},
    "keras": set(),
    "torch": set(),
    "pickle": {"checkpoint"},
    "click": {"cli"},
    "tqdm": {"cli"},
    "sqlite3": {"index"},
    "watchdog": {"watching"},
    "rawpy": {"opening"},
    "PIL": {"diagnosis", "opening", "preprocessing", "classifier"},
}


def imports() -> Iterator[tuple[str, str]]:
    """Each part of phototag with each module it imports."""
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((part, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield part, node.module or ""


@pytest.mark.parametrize("module", ALLOWED)
def test_each_part_imports_only_what_is_its_business(module: str) -> None:
    importing = {part for part, imported in imports() if imported.partition(".")[0] == module}
    assert importing <= ALLOWED[module]


def test_errors_import_nothing_of_phototag() -> None:
    assert not [name for part, name in imports() if part == "errors" and name.startswith("phototag")]


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    importing = {part for part, name in imports() if name.startswith("phototag.cli")}
    assert importing <= {"cli", "__main__"}
