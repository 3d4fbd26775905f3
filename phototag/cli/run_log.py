"""What a run leaves for those who were not there: a log that keeps itself short, and a report for programs."""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phototag.cli.terminal import printable
from phototag.errors import ConfigError, OutputError

# The log is turned over at this size and the one before kept, so that nobody has to set up logrotate.
MAX_LOG = 1 << 20  # bytes
MAX_FAILURES = 10_000  # named in a report; the rest is counted


# How they begin. Nothing else is written over or added to.
_LOG = re.compile(rb"\d{4}-\d\d-\d\d ")
_REPORT = re.compile(rb'\{\s*"phototag": "[^"]*",\s*"run":')


def _begins(path: Path, pattern: re.Pattern[bytes]) -> bool:
    """Does the file at `path` begin as `pattern` says, if there is one and anything in it? Raises `OSError`."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except FileNotFoundError:
        return True
    return not head or pattern.match(head) is not None


class _Handler(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """A full disk is no reason to end a run, nor to fill stderr with tracebacks."""


@contextmanager
def open_log(path: Path | None) -> Iterator[logging.Logger | None]:
    """Open the log at `path`, to be added to, also by the error that ends it all; None for none.

    Raises `ConfigError` where it cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        if path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise ConfigError(f"the log {path} is no file; choose another with --log-file")
        if not _begins(path, _LOG):  # of two photos where the shell had a pattern, it may be the first
            raise ConfigError(f"{path} is no log of phototag's; choose another file with --log-file")
        handler = _Handler(path, maxBytes=MAX_LOG, backupCount=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(
            f"the log {path} cannot be written ({error.strerror}); choose another with --log-file"
        ) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    log = logging.Logger("phototag.run", logging.INFO)  # of its own: nothing else may write there
    log.addHandler(handler)
    try:
        yield log
    except BaseException as error:
        log.error("%s", printable(str(error)))
        raise
    finally:
        handler.close()


def check_report(path: Path | None) -> None:
    """Raise `ConfigError` where there is something at `path` that is no report; better before a run than after it."""
    try:
        if path is not None:
            _check_report(path)
    except OSError as error:
        raise ConfigError(
            f"the report {path} cannot be written ({error.strerror}); choose another with --report"
        ) from None
    except OutputError as error:
        raise ConfigError(str(error)) from None


def _check_report(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OutputError(f"the report {path} is no file; choose another with --report")
    if not _begins(path, _REPORT):
        raise OutputError(f"{path} is no report of phototag's; choose another file with --report")


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Write a report as JSON, whole or not at all. Raises `OutputError`."""
    from phototag.metadata.files import write_file

    text = json.dumps(content, indent=2) + "\n"  # ASCII: paths may be any bytes
    try:
        _check_report(path)
        write_file(path.absolute(), [text.encode()])
    except OSError as error:
        raise OutputError(
            f"the report {path} cannot be written ({error.strerror}); choose another with --report"
        ) from None
