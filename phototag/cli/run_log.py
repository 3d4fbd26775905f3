"""Records of unattended runs: a log of limited size, and a report for programs."""

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

# At this size phototag starts a new log and keeps the previous one, so the user needs no logrotate.
MAX_LOG = 1 << 20  # bytes
MAX_FAILURES = 10_000  # listed in a report; the others are only counted


# How a log and a report begin. phototag does not overwrite or extend a file that begins otherwise.
_LOG = re.compile(rb"\d{4}-\d\d-\d\d ")
_REPORT = re.compile(rb'\{\s*"phototag": "[^"]*",\s*"run":')


def _begins(path: Path, pattern: re.Pattern[bytes]) -> bool:
    """Return whether the file at `path` begins with `pattern`, is empty, or does not exist. Raises `OSError`."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except FileNotFoundError:
        return True
    return not head or pattern.match(head) is not None


class _Handler(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Ignore the error: a full disk must not end a run, or fill stderr with tracebacks."""


@contextmanager
def open_log(path: Path | None) -> Iterator[logging.Logger | None]:
    """Yield a log that appends to the file at `path`, or None without a path. An error that ends the run is logged too.

    Raises `ConfigError` if the file cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise ConfigError(f"the log {path} is not a file; choose another with --log-file")
        if not _begins(path, _LOG):  # it may be a photo, if the shell expanded a pattern after --log-file
            raise ConfigError(f"{path} is not a log of phototag's; choose another file with --log-file")
        handler = _Handler(path, maxBytes=MAX_LOG, backupCount=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(
            f"the log {path} cannot be written ({error.strerror}); choose another with --log-file"
        ) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    log = logging.Logger("phototag.run", logging.INFO)  # not registered, so no library can write to it
    log.addHandler(handler)
    try:
        yield log
    except BaseException as error:
        log.error("%s", printable(str(error)))
        raise
    finally:
        handler.close()


def check_report(path: Path | None) -> None:
    """Raise `ConfigError` if the file at `path` is not a report. Call this before a run: afterwards is too late."""
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
        raise OutputError(f"the report {path} is not a file; choose another with --report")
    if not _begins(path, _REPORT):
        raise OutputError(f"{path} is not a report of phototag's; choose another file with --report")


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Write a report as JSON, completely or not at all. Raises `OutputError`."""
    from phototag.metadata.files import write_file

    text = json.dumps(content, indent=2) + "\n"  # ASCII: paths may hold any bytes
    try:
        _check_report(path)
        write_file(path.absolute(), [text.encode()])
    except OSError as error:
        raise OutputError(
            f"the report {path} cannot be written ({error.strerror}); choose another with --report"
        ) from None
