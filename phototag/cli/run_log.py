"""What a run leaves for those who were not there: a log that keeps itself short, and a report for programs."""

from __future__ import annotations

import json
import logging
import logging.handlers
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phototag.cli.terminal import printable
from phototag.errors import ConfigError, OutputError

# The log is turned over at this size and the one before kept, so that nobody has to set up logrotate.
MAX_LOG = 1 << 20  # bytes
MAX_FAILURES = 10_000  # named in a report; the rest is counted


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


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Write a report as JSON, whole or not at all. Raises `OutputError`."""
    from phototag.metadata.files import write_file

    text = json.dumps(content, indent=2) + "\n"  # ASCII: paths may be any bytes
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"the report {path} is no file; choose another with --report")
        write_file(path.absolute(), [text.encode()])
    except OSError as error:
        raise OutputError(
            f"the report {path} cannot be written ({error.strerror}); choose another with --report"
        ) from None
