"""`phototag untag`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED
from phototag.cli.finding_options import NamedPath, default_index, finding_options, index_option, take_finding
from phototag.cli.terminal import Console, interruptible, name_of, plural, printable, verbose_option
from phototag.errors import PhotoError

if TYPE_CHECKING:
    from phototag.index import Index
    from phototag.photos import Found


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=NamedPath(path_type=Path))
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
    ctx.exit(_run_untag(take_finding(options).find(options["paths"]), options))


def _run_untag(found: Iterable[Found], options: dict[str, Any]) -> int:
    from phototag.index import open_index

    index_path = options["index"] or default_index()
    untagging = _Untagging(options)
    try:
        with (
            interruptible(quiet=options["quiet"]) as stop,
            open_index(index_path, read_only=options["dry_run"]) as index,
        ):
            for one in found:
                if stop():
                    break
                untagging.take(one, index)
            interrupted = stop()
    finally:
        untagging.console.close()
    return untagging.finish(interrupted=interrupted)


class _Untagging:
    """Untags what is found, prints it and counts it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.console = Console(quiet=options["quiet"])
        self._quiet: bool = options["quiet"]
        self._dry_run: bool = options["dry_run"]
        self._relative = not any(path.is_absolute() for path in options["paths"])
        self._photos = self._changed = self._failed = 0

    def take(self, one: Found, index: Index) -> None:
        """Untag a photo, or one that phototag cannot read itself; remove what a dead run left behind."""
        from phototag.metadata.files import remove_unfinished
        from phototag.photos import PassedOver

        if isinstance(one, PassedOver) and one.kind != "unreadable":
            if one.kind == "unfinished" and not self._dry_run:
                remove_unfinished(one.path)
            return
        self._photos += 1
        self.console.advance()
        try:
            if isinstance(one, PhotoError):
                raise one
            self._untag(one.path, index)
        except PhotoError as error:
            self._failed += 1
            self.console.failure(f"phototag: {self._name(Path(error.path))}: {printable(error.reason)}")

    def _untag(self, path: Path, index: Index) -> None:
        from phototag.metadata.writers import untag as untag_photo

        files = untag_photo(path, index, dry_run=self._dry_run)
        if not self._dry_run:
            index.untagged(path)
        if files:
            self._changed += 1
            if not self._quiet:
                self.console.result(f"{self._name(path)}: untagged ({', '.join(map(self._name, files))})")

    def finish(self, *, interrupted: bool) -> int:
        """Print the summary, and return the exit code."""
        failures = f", {self._failed} failed" if self._failed else ""
        would = "; dry run, nothing changed" if self._dry_run else ""
        self.console.message(f"{plural(self._photos, 'photo')}: {self._changed} untagged{failures}{would}.")
        if interrupted:
            self.console.message("Interrupted: run the same command again to go on.")
            return EXIT_INTERRUPTED
        return EXIT_PHOTOS_FAILED if self._failed else 0

    def _name(self, path: Path) -> str:
        return name_of(path, relative=self._relative)
