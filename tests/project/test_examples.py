"""The examples are what the systems take that they are for, and what this phototag takes."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from phototag.cli import cli
from tests.helpers import PROJECT

EXAMPLES = PROJECT / "examples"
UNITS = sorted((EXAMPLES / "systemd").iterdir())
CRON = re.compile(r"(?:# )?(?P<when>(?:[\d*,/-]+ +){5})(?P<command>.+)")


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=["="], comment_prefixes=["#"])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def cron_lines() -> list[re.Match[str]]:
    matches = map(CRON.fullmatch, (EXAMPLES / "crontab").read_text().splitlines())
    return [match for match in matches if match is not None]


def commands() -> list[str]:
    """Every command line of the examples."""
    services = [unit(path)["Service"]["ExecStart"] for path in UNITS if path.suffix == ".service"]
    return [*services, *(match["command"] for match in cron_lines())]


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_that_phototag_takes(command: str) -> None:
    words = shlex.split(command.partition(">")[0])
    program = next(number for number, word in enumerate(words) if word.endswith("/bin/phototag"))
    name, *arguments = words[program + 1 :]
    with cli.make_context("phototag", [name, *arguments]) as parent:
        _, found, rest = cli.resolve_command(parent, [name, *arguments])
        assert isinstance(found, click.Command)
        with found.make_context(name, rest, parent=parent) as context:
            assert context.params["paths"]


def test_the_crontab_has_five_fields_and_a_command_a_line() -> None:
    lines = cron_lines()
    assert len(lines) == 2
    rest = (EXAMPLES / "crontab").read_text().splitlines()
    assert all(not line or line.startswith("#") or CRON.fullmatch(line) for line in rest)
    assert not any("%" in line["command"] for line in lines)  # to cron, the end of a line


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_units_are_what_systemd_takes(path: Path, tmp_path: Path) -> None:
    sections = set(unit(path).sections())
    assert sections <= {"Unit", "Service", "Timer", "Install"}
    if path.suffix == ".timer":
        assert path.with_suffix(".service") in UNITS
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for each in UNITS:  # with a program that is there
        text = each.read_text().replace("%h/.venvs/phototag/bin/phototag", sys.executable)
        (tmp_path / each.name).write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert path.name not in result.stderr
    assert result.returncode == 0, result.stderr
