"""`phototag untag`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED
from phototag.cli.finding_options import FINDING_SETTINGS, NamedPath, finding_options, index_option, take
from phototag.cli.messages import photo_reason, plural
from phototag.cli.terminal import Console, interruptible, name_of, printable, verbose_option
from phototag.errors import ConfigError

if TYPE_CHECKING:
    from phototag.run.untag import Untagged


@click.command()
@click.argument("paths", metavar="[PATH...]", nargs=-1, type=NamedPath(path_type=Path))
@click.option(
    "--run",
    metavar="ID",
    type=click.IntRange(min=1),
    help="In place of PATHs: take back what one scan wrote; phototag status tells its number.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Print what would be untagged; change nothing.")
@finding_options
@index_option
@click.option("--quiet", "-q", is_flag=True, help="Print failures only.")
@verbose_option()
@click.pass_context
def untag(ctx: click.Context, /, **options: Any) -> None:
    """Remove what phototag wrote, from photos and from their sidecars.

    A file that has not changed since becomes byte for byte what it was. Of others only phototag's tags are removed;
    keywords that people wrote stay.
    """
    paths, run = options["paths"], options["run"]
    if bool(paths) == (run is not None):
        raise ConfigError("say what to untag: either PATHs, or --run with the number of a scan")
    from phototag.run.session import Session
    from phototag.run.settings import Settings

    session = Session(Settings(**take(options, *FINDING_SETTINGS, "index", "dry_run")))
    printer = _Printer(paths, run, quiet=options["quiet"], dry_run=session.settings.dry_run)
    with interruptible(quiet=options["quiet"]) as should_stop:
        printer.show_all(session.untag(paths, should_stop) if run is None else session.untag_run(run, should_stop))
        interrupted = should_stop()
    ctx.exit(printer.finish(interrupted=interrupted))


class _Printer:
    """Prints the photos that were untagged, and counts them."""

    def __init__(self, paths: tuple[Path, ...], run: int | None, *, quiet: bool, dry_run: bool) -> None:
        self._console = Console(quiet=quiet)
        self._quiet = quiet
        self._dry_run = dry_run
        self._relative = bool(paths) and not any(path.is_absolute() for path in paths)
        self._noun = "photo" if run is None else "change"
        self._files = self._changed = self._failed = 0

    def show_all(self, results: Iterator[Untagged]) -> None:
        """Print each result."""
        try:
            for result in results:
                self._show(result)
        finally:
            self._console.close()

    def _show(self, result: Untagged) -> None:
        self._files += 1
        self._console.advance()
        if result.files:
            self._changed += 1
            if not self._quiet:
                files = ", ".join(map(self._name, result.files))
                self._console.result(f"{self._name(result.path)}: untagged ({files})")
        self._failed += bool(result.errors)
        for error in result.errors:
            self._console.failure(f"phototag: {self._name(Path(error.path))}: {printable(photo_reason(error))}")

    def finish(self, *, interrupted: bool) -> int:
        """Print the summary, and return the exit code."""
        failures = f", {self._failed} failed" if self._failed else ""
        would = "; dry run, nothing changed" if self._dry_run else ""
        self._console.message(f"{plural(self._files, self._noun)}: {self._changed} untagged{failures}{would}.")
        if interrupted:
            self._console.message("Interrupted: run the same command again to go on.")
            return EXIT_INTERRUPTED
        return EXIT_PHOTOS_FAILED if self._failed else 0

    def _name(self, path: Path) -> str:
        return name_of(path, relative=self._relative)
