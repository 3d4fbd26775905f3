"""What is fit to be printed, and where."""

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
    r"""Return `text` on one line, without anything that a terminal would act on.

    Names of files are any bytes: line breaks, escape sequences and bytes that are no UTF-8 come out as `\n`, `\x1b`
    and `\xff`.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def name_of(path: Path, *, relative: bool) -> str:
    """The path as the user would write it: `relative` to the current folder, or as it is."""
    with contextlib.suppress(ValueError):  # there is no way to another drive of Windows
        return printable(os.path.relpath(path) if relative else str(path))
    return printable(str(path))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as os.fsdecode hands it over
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def keep_native_noise_out() -> None:
    """Send what native code writes to file descriptor 2 nowhere, for the rest of the program.

    libtiff and TensorFlow write there what is of no use to the owner of a photo, and cron would mail it. What Python
    writes to stderr goes on to where it went. Anyone who sets `TF_CPP_MIN_LOG_LEVEL` gets it all.
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
    """Print an error, if there is anywhere to print it."""
    with contextlib.suppress(OSError):
        click.echo(printable(text), err=True)


def print_event(event: Event) -> None:
    """Print what phototag is doing, to stderr."""
    from phototag.cli.event_messages import event_message

    line = event_message(event)
    if line is not None:
        click.echo(printable(line), err=True)


def verbose_option(also: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--verbose`, and remember it for the door that all exceptions leave by; `also` is what else it does."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        ctx.find_root().meta[_VERBOSE] = value
        return value

    text = f"{also} Show the details of an internal error.".strip()
    return click.option("--verbose", "-v", is_flag=True, is_eager=True, callback=remember, help=text)


def is_verbose(ctx: click.Context) -> bool:
    """Was `--verbose` given to the command that runs?"""
    return bool(ctx.find_root().meta.get(_VERBOSE, False))


@contextlib.contextmanager
def interruptible(*, quiet: bool) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM ask for an orderly end: yields a function that says whether one did.

    The second one ends the program at once. What is written appears whole or not at all, so that is safe too.
    """
    from phototag.metadata.files import abandon_unfinished

    is_asked = False  # no threading.Event: a second signal while the first one sets it would wait for itself

    def asked() -> bool:
        return is_asked

    def ask(_: int, __: FrameType | None) -> None:
        nonlocal is_asked
        if is_asked:
            abandon_unfinished()
            os._exit(EXIT_INTERRUPTED)
        is_asked = True
        if not quiet:
            # Straight to the descriptor: the signal may have come in the midst of a print.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.write(sys.stderr.fileno(), b"Stopping after the batch in hand.\n")

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield asked
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Console:
    """Results to stdout, messages to stderr, and below them a progress bar where stderr is a terminal.

    Messages and failures go to `log` as well. Without `bar` there is none.
    """

    def __init__(self, *, quiet: bool, log: logging.Logger | None = None, bar: bool = True) -> None:
        self._quiet = quiet
        self._log = log
        self._bar: Any = None
        if bar and sys.stderr is not None and sys.stderr.isatty() and not quiet:
            from tqdm import tqdm

            self._bar = tqdm(unit="photo", dynamic_ncols=True, leave=False)

    def expect(self, count: Callable[[], int]) -> None:
        """Let the bar know how many photos there are; `count` is asked in a thread of its own."""
        if self._bar is not None:
            threading.Thread(target=self._set_total, args=(count,), daemon=True).start()

    def _set_total(self, count: Callable[[], int]) -> None:
        # The walk that does the work reports what is wrong with the paths; this one only counts.
        with contextlib.suppress(Exception):
            self._bar.total = count()
            self._bar.refresh()

    def result(self, line: str) -> None:
        """Print a result."""
        self._write(line, err=False)

    def failure(self, line: str) -> None:
        """Print what went wrong, also under `--quiet`."""
        if self._log is not None:
            self._log.error("%s", line.removeprefix("phototag: "))
        self._write(line, err=True)

    def message(self, line: str) -> None:
        """Print what is good to know."""
        if self._log is not None:
            self._log.info("%s", line)
        if not self._quiet:
            self._write(line, err=True)

    def advance(self) -> None:
        """Note that one more photo is done."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _write(self, line: str, *, err: bool) -> None:
        if self._bar is not None:
            self._bar.clear()
        try:
            click.echo(line, err=err)
        except BrokenPipeError:
            raise  # who read them has left, which is no error
        except OSError as error:
            if not err:  # messages are no reason to stop, results are
                message = f"the results cannot be written ({error.strerror}); check where they are sent"
                raise OutputError(message) from None
