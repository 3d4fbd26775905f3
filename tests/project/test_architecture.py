"""What docs/architecture.md says about the code is true.

The way of one photo never goes up: a step calls only functions of its own part or of lower layers. What it finds goes
back as a return value or an item of a generator. The only calls from a lower layer into a higher one are those of
functions and values that were handed down, and the page lists them.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from tests.helpers import PROJECT
from tests.project.test_layers import ALLOWED, LAYER_OF, LAYERS

PAGE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
REFERENCE = re.compile(r"`(phototag/[\w/]+\.py): ([\w.]+)`")
PACKAGE = str(PROJECT / "phototag") + os.sep


def table(heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is `heading`."""
    rows = re.search(rf"^\| {heading} \|.*\n(?:\|.*\n)+", PAGE, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[0].splitlines()[2:]]


def names_in(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


class Function(NamedTuple):
    """A function or a method: its file, relative to the project, and its name with those of what it is inside."""

    file: str
    name: str

    @property
    def layer(self) -> int:
        return LAYER_OF[self.part]

    @property
    def part(self) -> str:
        return self.file.split("/")[1].removesuffix(".py")


def references(text: str) -> list[Function]:
    return [Function(*found) for found in REFERENCE.findall(text)]


class Step(NamedTuple):
    number: int
    by: int | None
    thread: str
    function: Function


def steps() -> Iterator[Step]:
    for number, by, thread, cell, _ in table("step"):
        (function,) = references(cell)
        yield Step(int(number), int(by) if by else None, thread, function)


STEPS = {step.number: step for step in steps()}


# --- What is named exists ---------------------------------------------------------------------------------------------

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@functools.cache
def definitions(file: str) -> dict[str, Definition]:
    """The functions and classes of a file by their names, with those of what they are inside."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                yield prefix + child.name, child
                yield from below(child, f"{prefix}{child.name}.")
            else:
                yield from below(child, prefix)

    path = PROJECT / file
    return dict(below(ast.parse(path.read_text(encoding="utf-8")), "")) if path.exists() else {}


@pytest.mark.parametrize("function", sorted(set(references(PAGE))), ids=": ".join)
def test_every_function_exists(function: Function) -> None:
    assert function.name in definitions(function.file)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE))))
def test_every_file_exists(name: str) -> None:
    assert any((folder / name).exists() for folder in (PROJECT, PROJECT / "phototag"))


# --- The tables of the layers -----------------------------------------------------------------------------------------


def test_the_table_of_layers_is_the_tested_one() -> None:
    documented = [(int(layer), name) for layer, cell, _ in table("layer") for name in names_in(cell)]
    there = [
        (number, layer & {path.stem for path in Path(PACKAGE).iterdir()}) for number, layer in enumerate(LAYERS, 1)
    ]
    assert sorted(documented) == sorted((number, part) for number, layer in there for part in layer)
    assert [layer for layer, _ in documented] == sorted(layer for layer, _ in documented)


def test_the_table_of_third_party_packages_is_the_tested_one() -> None:
    documented = {package: names_in(where) for packages, where in table("package") for package in names_in(packages)}
    assert documented == ALLOWED


# --- The way of one photo ---------------------------------------------------------------------------------------------


def test_the_steps_are_numbered_in_order() -> None:
    assert list(STEPS) == list(range(1, len(STEPS) + 1))


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.number)
def test_no_step_goes_up(step: Step) -> None:
    """The caller is an earlier step in the same part or a higher layer; an answer needs no step."""
    if step.by is None:
        assert step.number == 1
        return
    caller = STEPS[step.by]
    assert caller.number < step.number
    assert caller.function.part == step.function.part or caller.function.layer < step.function.layer


class Call(NamedTuple):
    """A call: the thread that made it, and the functions of phototag that were running in it, the innermost first."""

    function: Function
    thread: str
    callers: tuple[Function, ...]


@functools.cache
def function_at(file: str, line: int) -> Function | None:
    """The innermost function around a line, or None for code of a module or a class."""
    innermost: tuple[int, str, Definition] | None = None
    for name, node in definitions(file).items():
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if first <= line <= (node.end_lineno or first) and (innermost is None or first >= innermost[0]):
            innermost = first, name, node
    return (
        Function(file, innermost[1]) if innermost is not None and not isinstance(innermost[2], ast.ClassDef) else None
    )


def at(frame: FrameType) -> Iterator[Function]:
    """The function of phototag that runs in `frame`, if one does."""
    code = frame.f_code
    if code.co_filename.startswith(PACKAGE):
        function = function_at(os.path.relpath(code.co_filename, PROJECT), code.co_firstlineno)
        if function is not None:
            yield function


def functions_of(frame: FrameType | None) -> Iterator[Function]:
    while frame is not None:
        yield from at(frame)
        frame = frame.f_back


@pytest.fixture
def calls(scan: Callable[..., Any], make_photo: Callable[..., Path]) -> list[Call]:
    """All calls of four scans: two that write into the photo, and two that write a sidecar."""
    folder = make_photo("a.jpg").parent
    make_photo("gone.jpg", "blue")
    found: list[Call] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            thread = threading.current_thread().name
            found.extend(Call(function, thread, tuple(functions_of(frame.f_back))) for function in at(frame))

    before = sys.getprofile()
    for write in ("embed", "embed", "json", "json"):
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            result = scan("--write", write, "--jobs", "1", folder)
        finally:
            sys.setprofile(before)
            threading.setprofile(None)
        assert result.exit_code == 0, result.output
        (folder / "gone.jpg").unlink(missing_ok=True)
    return found


def test_a_real_scan_takes_these_steps(calls: list[Call]) -> None:
    for step in STEPS.values():
        if step.by is None:
            continue  # `main`, which the tests do not run
        made = [call for call in calls if call.function == step.function]
        assert made, step
        in_thread = [call for call in made if kind_of(call.thread) == step.thread]
        assert in_thread, step
        caller = STEPS[step.by]
        if caller.thread == step.thread and caller.by is not None:
            assert any(caller.function in call.callers for call in in_thread), step


def kind_of(thread: str) -> str:
    """`look` for `look_0`, as the thread pools name their threads."""
    return thread.partition("_")[0] if "_" in thread else "main"


def test_a_real_scan_calls_up_only_what_is_handed_down(calls: list[Call]) -> None:
    up = {
        (call.function, call.callers[0])
        for call in calls
        if call.callers and call.function.layer < call.callers[0].layer
    }
    rows = [(references(called), references(callers)) for _, called, callers, _ in table("handed down")]
    for function, caller in up:
        assert any(is_named(function, called) for called, _ in rows), f"{caller} calls up {function}"
    for called, _ in rows:
        assert any(is_named(function, called) for function, _ in up), called


def is_named(function: Function, called: list[Function]) -> bool:
    """Whether `called` has the function, or the method of an interface in a lower layer that it implements."""
    methods = {one.name.rpartition(".")[2] for one in called if one.part == "core"}
    return function in called or function.name.rpartition(".")[2] in methods
