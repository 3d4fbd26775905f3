"""The layers of phototag: a part imports only from the layers below its own, never from a neighbour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import PROJECT

PACKAGE = PROJECT / "phototag"
# The highest first; parts of one layer are neighbours. A part is a module or a package directly in `phototag`.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"service", "__init__"},
    {"run", "doctor"},
    {"analysis", "zoo"},
    {"engines"},
    {"models", "index"},
    {"images", "metadata"},
    {"photos", "vocabulary"},
    {"core", "paths"},
    {"errors", "_version"},
)
LAYER_OF = {part: number for number, layer in enumerate(LAYERS) for part in layer}
# Which modules may import each third-party package, at the top or inside a function.
ALLOWED = {
    "tensorflow": {"engines"},
    "ai_edge_litert": {"engines"},
    "keras": set[str](),
    "torch": set[str](),
    "pickle": {"zoo"},
    "click": {"cli"},
    "tqdm": {"cli"},
    "sqlite3": {"index"},
    "watchdog": {"photos"},
    "rawpy": {"images"},
    "PIL": {"images", "metadata.foreign", "engines", "doctor"},
    "pillow_heif": {"images", "metadata.foreign"},
    "piexif": {"metadata.facts"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`run.pipeline` for `phototag/run/pipeline.py`; `run` for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that `path` imports, at the top, inside functions and for type checking, with its full name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            if node.module == "phototag":  # `from phototag import errors` imports a module
                yield from (f"phototag.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_part_has_a_layer() -> None:
    assert {name_of(path).split(".")[0] for path in MODULES} <= set(LAYER_OF)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_lower_layers(path: Path) -> None:
    part = name_of(path).split(".")[0]
    imported = {module for module in imports(path) if module.split(".")[0] == "phototag"}
    upwards = {module for module in imported if part_of(module) != part and LAYER_OF[part_of(module)] <= LAYER_OF[part]}
    assert not upwards


@pytest.mark.parametrize("package", ALLOWED)
def test_a_third_party_package_has_few_importers(package: str) -> None:
    importing = {name_of(path) for path in MODULES if any(module.split(".")[0] == package for module in imports(path))}
    assert not {name for name in importing if not ALLOWED[package] & {name, name.split(".")[0]}}


def test_the_errors_and_the_version_import_nothing_of_phototag() -> None:
    for name in ("errors", "_version"):
        assert not [module for module in imports(PACKAGE / f"{name}.py") if module.startswith("phototag")]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function and method of a module, with its number of lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_can_be_held_in_the_head(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 520
    assert not [(name, lines) for name, lines in functions(path) if lines > 60]
