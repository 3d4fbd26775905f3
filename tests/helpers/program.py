"""Ways to run phototag, and to read its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from click.testing import CliRunner, Result

from phototag.cli import cli


def phototag(*arguments: Any) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, [os.fspath(argument) for argument in arguments])


def powerless(*command: Any) -> list[str]:
    """Return `command` without root's privileges, because root may read and write everything."""
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return [*prefix, *map(os.fspath, command)]


def lines(result: Result) -> list[dict[str, Any]]:
    """Return the objects that `--format json` printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def imported_by(*arguments: str) -> set[str]:
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('IMPORTED', *sorted({name.partition('.')[0] for name in sys.modules})))\n"
        f"sys.argv = ['phototag', *{arguments!r}]\n"
        "from phototag.cli import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    return set(result.stdout.rpartition("IMPORTED ")[2].split())


def start_phototag(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """Start the real program."""
    command = [sys.executable, "-m", "phototag", *map(os.fspath, arguments)]
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**settings, **options})
