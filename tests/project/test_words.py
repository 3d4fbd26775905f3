"""The words of phototag: plain English everywhere, and no words of the command line below `cli/`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest

from phototag import errors
from phototag.cli import cli
from phototag.cli.messages import spell
from phototag.run.settings import Settings
from tests.helpers import PROJECT

PACKAGE = PROJECT / "phototag"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Test modules are left out: their docstrings describe cases.
PROSE = MODULES + [
    path
    for folder in ("benchmarks", "examples", "models/taxonomies/source", "tests/helpers")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]
BELOW_CLI = [path for path in MODULES if PACKAGE / "cli" not in path.parents and path.name != "__main__.py"]
# Replaces an expression in an f-string.
VALUE = "\N{OBJECT REPLACEMENT CHARACTER}"
BRACED = f"{{{VALUE}}}"

# All patterns ignore case. Every run of white space is one space before they are tried.
FORBIDDEN = (
    # "There is no photo" says that none exists, and is English. "The file is no photo" negates the noun, as German
    # does; English negates the verb: "is not a photo". In "no longer" and "no larger than", "no" is an adverb.
    r"(?<!\bthere )\b(?:is|are) no (?!longer\b|more\b|less\b|\w+er than\b)",
    # Within one sentence: "Raises X if ...". A full stop inside a name, as in `OSError.errno`, does not end it.
    r"\braises\b(?:[^.]|\.(?=\S))*\bwhere\b",
    r"\bsave (?:for|that)\b",
    r"\bbut for\b",
    r"\bbe it\b",
    r"\banew\b",
    r"\bwho(?:so)?ever\b",
    r"\b(?:some|no)body\b",
    r"\bcom(?:es?|ing) to nothing\b",
)
# The start of a docstring that asks: "Is the value a path?" An imperative may begin with "Do" or "Have".
QUESTION = r"(?:is|are|does|did|has|can|could|may|must|was|were|will|would|should|shall)\b"

FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
# Flags of other programs that phototag tells the user to run.
FOREIGN_FLAGS = {"--force-reinstall"}  # of pip
PLACEHOLDER = re.compile(r"\{((?:\w+:)?[^{}\W\d][\w ]*)\}")


@dataclass(frozen=True)
class Text:
    """A docstring, a comment or a string literal, with white space as single spaces."""

    line: int
    text: str


def _docstring_nodes(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value


def docstrings(source: str) -> Iterator[Text]:
    for node in _docstring_nodes(ast.parse(source)):
        yield Text(node.lineno, str(node.value))


def literals(source: str) -> Iterator[Text]:
    """Every string that is not a docstring. An f-string is one text, with `VALUE` for each expression."""
    tree = ast.parse(source)
    yield from _literals(tree, set(_docstring_nodes(tree)))


def _literals(node: ast.AST, skipped: set[ast.Constant]) -> Iterator[Text]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and node not in skipped:
            yield Text(node.lineno, node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values]
        yield Text(node.lineno, "".join(parts))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _literals(part.value, skipped)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _literals(child, skipped)


def comments(source: str) -> Iterator[Text]:
    """Every comment. Comments on consecutive lines are one text, because a sentence may go on."""
    found: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if found and token.start[0] != last + 1:
            yield Text(first, " ".join(found))
            found = []
        if not found:
            first = token.start[0]
        found.append(token.string.lstrip("# "))
        last = token.start[0]
    if found:
        yield Text(first, " ".join(found))


def forbidden_words(source: str) -> list[str]:
    texts = (*docstrings(source), *comments(source), *literals(source))
    found = [
        f"{text.line}: {match[0]}"
        for text in texts
        for pattern in FORBIDDEN
        for match in re.finditer(pattern, " ".join(text.text.split()), re.IGNORECASE)
    ]
    return found + [f"{text.line}: {text.text.splitlines()[0]}" for text in docstrings(source) if is_question(text)]


def is_question(docstring: Text) -> bool:
    summary = " ".join(docstring.text.strip().split("\n\n")[0].split())
    return re.match(QUESTION, summary, re.IGNORECASE) is not None or re.search(r"\?(?: |$)", summary) is not None


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("path", PROSE, ids=name_of)
def test_the_prose_is_plain_english(path: Path) -> None:
    assert not forbidden_words(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        '"""A file that is no\nphoto."""',
        "# These are no\n# photos.",
        "raise ValueError(f'{path} is no photo')",
        'print(f\'{path}: {"fine" if path else "it is no photo"}\')',
        'def f():\n    """Return it.\n\n    Raises `OSError` in the rare case\n    where it fails.\n    """',
        "'Do it anew.'",
        'def f():\n    """Is it a photo"""',
        'def f():\n    """The way to the photo?"""',
    ],
)
def test_translated_words_are_found(source: str) -> None:
    assert forbidden_words(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""There is no photo, there are no photos, and it is no longer there, no larger than that, not a photo."""',
        '"""Raises `OSError` if it fails. The folder where it is stays."""',
        'def f():\n    """Issue a warning: did you mean `a?b`."""',
        "message = 'did you mean it?'",
    ],
)
def test_plain_words_are_not_found(source: str) -> None:
    assert not forbidden_words(source)


def commands(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, such as `models list`. A group is a command too."""
    for name, command in group.commands.items():
        yield " ".join((*names, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))


COMMANDS = dict(commands(cli))
COMMAND_LINE = re.compile(rf"\bphototag (?:{'|'.join(cli.commands)})\b")
OPTIONS = {
    name
    for command in COMMANDS.values()
    for option in command.params
    if isinstance(option, click.Option)
    for name in option.opts
}


def command_line_words(source: str, *, with_docstrings: bool = True) -> list[str]:
    texts = (*literals(source), *(docstrings(source) if with_docstrings else ()))
    return [
        match[0]
        for text in texts
        for pattern in (FLAG, COMMAND_LINE)
        for match in pattern.finditer(" ".join(text.text.split()))
        if match[0] not in FOREIGN_FLAGS
    ]


@pytest.mark.parametrize("path", BELOW_CLI, ids=name_of)
def test_only_the_command_line_knows_its_options_and_commands(path: Path) -> None:
    # The docstrings of `errors` explain placeholders by what the command line makes of them.
    with_docstrings = path.name != "errors.py"
    assert not command_line_words(path.read_text(encoding="utf-8"), with_docstrings=with_docstrings)


@pytest.mark.parametrize(
    "expression", ["'pass --index'", "f'{path}; see phototag models list'", "'(--dry-run)'", "'--input_op=x'"]
)
def test_words_of_the_command_line_are_found(expression: str) -> None:
    assert command_line_words(f"remedy = {expression}")


def is_known(placeholder: str) -> bool:
    """Whether a placeholder is a setting that the command line has as an option, or one of its commands."""
    kind, _, name = placeholder.rpartition(":")
    if kind:
        return kind == "command" and name in COMMANDS
    return name in {field.name for field in fields(Settings)} and spell(name) in OPTIONS


@pytest.mark.parametrize("path", BELOW_CLI, ids=name_of)
def test_every_placeholder_is_an_option_or_a_command(path: Path) -> None:
    texts = list(literals(path.read_text(encoding="utf-8")))
    assert not {match[1] for text in texts for match in PLACEHOLDER.finditer(text.text) if not is_known(match[1])}


@pytest.mark.parametrize(
    ("expression", "known"),
    [
        ("'choose another with {index}'", True),
        ("f'{path} is taken; choose another with {{index}}'", True),
        ("'choose another with {indx}'", False),
        ("f'{path} is taken; choose another with {{indx}}'", False),
        ("'see {command:models list}'", True),
        ("'see {command:models}'", True),
        ("'see {command:models lists}'", False),
        ("'see {comand:models list}'", False),
        ("'{from_config}'", False),  # a setting that is not an option
        ("'{report}'", False),  # an option that is not a setting
    ],
)
def test_a_wrong_placeholder_is_found(expression: str, known: bool) -> None:
    (text,) = literals(f"remedy = {expression}")
    (placeholder,) = PLACEHOLDER.findall(text.text)
    assert is_known(placeholder) is known


# Braces around an expression of an f-string. The first two are placeholders, and tests of their own follow.
BRACED_VALUES = {
    "models/find.py": "a setting that the user has to give",
    "run/settings.py": "a setting that is out of range",
    "metadata/xmp_proof.py": "a name of XML with its namespace",
    "models/describe.py": "a set as Python prints it",
}


def test_few_placeholders_are_made_when_phototag_runs() -> None:
    braced = {path for path in BELOW_CLI for text in literals(path.read_text(encoding="utf-8")) if BRACED in text.text}
    assert {path.relative_to(PACKAGE).as_posix() for path in braced} == set(BRACED_VALUES)


def test_a_fact_that_the_user_has_to_give_is_an_option() -> None:
    calls = [
        node
        for path in BELOW_CLI
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "MissingFact"
    ]
    assert len(calls) > 3
    assert all(isinstance(call.args[0], ast.Constant) and is_known(str(call.args[0].value)) for call in calls)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(threshold=2.0),
        Settings(max_tags=0),
        Settings(top=0),
        Settings(crops=99),
        Settings(jobs=0),
        Settings(batch_size=0),
        Settings(threshold=0.5, logit_threshold=0.0),
        Settings(top=1, max_tags=1),
    ],
)
def test_a_setting_that_is_out_of_range_is_an_option(settings: Settings) -> None:
    with pytest.raises(errors.ConfigError) as raised:
        settings.check()
    named = PLACEHOLDER.findall(raised.value.remedy)
    assert named and all(map(is_known, named))


def error_classes(kind: type[errors.PhototagError] = errors.PhototagError) -> Iterator[type[errors.PhototagError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from error_classes(subclass)


def test_each_error_class_has_a_code_of_its_own() -> None:
    classes = [kind for kind in error_classes() if kind.__module__ == "phototag.errors"]
    assert len(classes) > 10
    assert all("code" in vars(kind) for kind in classes)
    codes = [kind.code for kind in classes]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(?:-[a-z]+)*", code) for code in codes)
