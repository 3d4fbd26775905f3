"""Output to the terminal: escaped text, results and messages, the progress bar, and Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED
from phototag.errors import OutputError

if TYPE_CHECKING:
    from phototag.run.events import Event

_VERBOSE = "phototag.verbose"


def printable(text: str) -> str:
    r"""Return `text` on one line, without control characters.

    A file name may hold any bytes. Line breaks, escapes and bytes outside UTF-8 become `\n`, `\x1b` and `\xff`.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def name_of(path: Path, *, relative: bool) -> str:
    """Return the path as the user would write it: `relative` to the current folder, or unchanged."""
    with contextlib.suppress(ValueError):  # on Windows, no relative path leads to another drive
        return printable(os.path.relpath(path) if relative else str(path))
    return printable(str(path))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's form of a byte outside UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def keep_native_noise_out() -> None:
    """Discard what native code writes to file descriptor 2, for the rest of the program.

    libtiff and TensorFlow write messages there that do not help the user, and cron would mail them. What Python writes
    to stderr still arrives. If the user sets `TF_CPP_MIN_LOG_LEVEL`, nothing is discarded.
    """
    if sys.stderr is None or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    with contextlib.suppress(OSError, ValueError):
        ours = os.dup(sys.stderr.fileno())
        sys.stderr = open(ours, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")  # noqa: SIM115
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def print_error(text: str) -> None:
    """Print an error to stderr. Does nothing if stderr cannot be written."""
    with contextlib.suppress(OSError):
        click.echo(printable(text), err=True)


def print_event(event: Event) -> None:
    """Print the message for an event, if it has one, to stderr."""
    from phototag.cli.event_messages import event_message

    line = event_message(event)
    if line is not None:
        click.echo(printable(line), err=True)


def verbose_option(also: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--verbose`, and remember it for `is_verbose`. `also` is help for its other effects."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        ctx.find_root().meta[_VERBOSE] = value
        return value

    text = f"{also} Show the details of an internal error.".strip()
    return click.option("--verbose", "-v", is_flag=True, is_eager=True, callback=remember, help=text)


def is_verbose(ctx: click.Context) -> bool:
    """Return whether the running command got `--verbose`."""
    return bool(ctx.find_root().meta.get(_VERBOSE, False))


@contextlib.contextmanager
def interruptible(*, quiet: bool) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C or SIGTERM asked the program to stop.

    A second signal ends the program at once. This is safe, because files are written completely or not at all.
    """
    from phototag.metadata.files import abandon_unfinished

    is_signalled = False  # not a threading.Event: a second signal during its `set` would deadlock

    def should_stop() -> bool:
        return is_signalled

    def on_signal(_: int, __: FrameType | None) -> None:
        nonlocal is_signalled
        if is_signalled:
            abandon_unfinished()
            os._exit(EXIT_INTERRUPTED)
        is_signalled = True
        if not quiet:
            # Write to the descriptor: the signal may have interrupted a print.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.write(sys.stderr.fileno(), b"Stopping after the batch in hand.\n")

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield should_stop
        return
    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield should_stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Console:
    """Prints results to stdout, messages to stderr, and a progress bar if stderr is a terminal and `bar` is set.

    Messages and failures also go to `log`.
    """

    def __init__(self, *, quiet: bool, log: logging.Logger | None = None, bar: bool = True) -> None:
        self._quiet = quiet
        self._log = log
        self._bar: Any = None
        if bar and sys.stderr is not None and sys.stderr.isatty() and not quiet:
            from tqdm import tqdm

            self._bar = tqdm(unit="photo", dynamic_ncols=True, leave=False)

    def expect(self, count: Callable[[], int]) -> None:
        """Set the total of the progress bar to what `count` returns. `count` runs in its own thread."""
        if self._bar is not None:
            threading.Thread(target=self._set_total, args=(count,), daemon=True).start()

    def _set_total(self, count: Callable[[], int]) -> None:
        # Ignore errors: the scan's own walk reports them.
        with contextlib.suppress(Exception):
            self._bar.total = count()
            self._bar.refresh()

    def result(self, line: str) -> None:
        """Print a result."""
        self._write(line, err=False)

    def failure(self, line: str) -> None:
        """Print a failure, even with `--quiet`."""
        if self._log is not None:
            self._log.error("%s", line.removeprefix("phototag: "))
        self._write(line, err=True)

    def message(self, line: str) -> None:
        """Print a message, unless the console is quiet."""
        if self._log is not None:
            self._log.info("%s", line)
        if not self._quiet:
            self._write(line, err=True)

    def advance(self) -> None:
        """Advance the progress bar by one photo."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.close()

    def _write(self, line: str, *, err: bool) -> None:
        if self._bar is not None:
            self._bar.clear()
        try:
            click.echo(line, err=err)
        except BrokenPipeError:
            raise  # the program that read the output has ended, which is not an error
        except OSError as error:
            if not err:  # a run can do without messages, but not without results
                message = f"the results cannot be written ({error.strerror}); check where they are sent"
                raise OutputError(message) from None
