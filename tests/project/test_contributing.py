"""The examples of CONTRIBUTING.md work, and what it names exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import PROJECT
from tests.project.test_architecture import Function, definitions, references

PAGE = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# The files of the examples, by their path.
EXAMPLES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
FILE = re.compile(r"`((?:phototag|tests)/[\w/]+\.py)(?:: ([\w.]+))?`")


@pytest.mark.parametrize("function", sorted(set(references(PAGE))), ids=": ".join)
def test_every_function_exists(function: Function) -> None:
    assert function.name in definitions(function.file)


@pytest.mark.parametrize("name", sorted({name for name, _ in FILE.findall(PAGE)}))
def test_every_file_exists(name: str) -> None:
    assert (PROJECT / name).exists()


def test_every_make_target_is_explained() -> None:
    targets = set(re.findall(r"`make ([a-z-]+)`", PAGE))
    assert {"test", "test-fast", "check", "lint", "types", "dist", "bench", "format"} <= targets
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project with the examples in it."""
    for name in ("phototag", "tests", "models"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, tmp_path)
    for name, text in EXAMPLES.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text)
    commands = tmp_path / "phototag" / "cli" / "__init__.py"
    before, end = commands.read_text().split("apply_settings(cli)")
    added = "from phototag.cli.count import count\n\ncli.add_command(count)\napply_settings(cli)"
    commands.write_text(before + added + end)
    return tmp_path


@pytest.mark.slow
def test_the_examples_work(copy: Path) -> None:
    assert len(EXAMPLES) == 4
    example = next(name for name in EXAMPLES if name.startswith("tests/"))
    tests = [example, "tests/project/test_layers.py", "tests/project/test_imports.py", "tests/commands/test_config.py"]
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    ran = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    count = [sys.executable, "-m", "phototag", "count", "models"]
    assert subprocess.run(count, cwd=copy, capture_output=True, text=True).stdout == "0\n"
