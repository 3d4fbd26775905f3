"""`phototag untag`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED
from phototag.cli.finding_options import NamedPath, default_index, finding_options, index_option, take_finding
from phototag.cli.terminal import Console, interruptible, name_of, plural, printable, verbose_option
from phototag.errors import ConfigError, PhotoError

if TYPE_CHECKING:
    from phototag.core import Photo, SkippedFile, WalkItem
    from phototag.index import Change, Index

T = TypeVar("T")


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
    if bool(options["paths"]) == (options["run"] is not None):
        raise ConfigError("say what to untag: either PATHs, or --run with the number of a scan")
    finding = take_finding(options)
    found = finding.find(options["paths"]) if options["run"] is None else ()
    ctx.exit(_run_untag(found, options))


def _run_untag(found: Iterable[WalkItem], options: dict[str, Any]) -> int:
    from phototag.index import open_index

    index_path = options["index"] or default_index()
    untagging = _Untagging(options)
    run: int | None = options["run"]
    try:
        with (
            interruptible(quiet=options["quiet"]) as stop,
            open_index(index_path, read_only=options["dry_run"]) as index,
        ):
            for undo in untagging.of_run(run, index) if run is not None else untagging.of_photos(found, index):
                if stop():
                    break
                undo()
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
        self._relative = bool(options["paths"]) and not any(path.is_absolute() for path in options["paths"])
        self._named = {os.path.abspath(path) for path in options["paths"]}
        self._files = self._changed = self._failed = 0
        self._noun = "photo" if options["run"] is None else "change"

    def of_photos(self, found: Iterable[WalkItem], index: Index) -> Iterator[Callable[[], None]]:
        """What untags each photo, also one that phototag cannot read itself, and what the user has named.

        Removes what a dead run left behind.
        """
        from phototag.core import SkippedFile
        from phototag.metadata.files import remove_unfinished

        for one in found:
            # What is no photo may have been one's companion: the user who names it knows.
            is_named = isinstance(one, SkippedFile) and one.kind == "other" and os.path.abspath(one) in self._named
            if not isinstance(one, SkippedFile) or one.kind == "unreadable" or is_named:
                yield partial(self._attempt, one, partial(self._untag, index=index))
            elif one.kind == "unfinished" and not self._dry_run:
                remove_unfinished(one.path)

    def of_run(self, run: int, index: Index) -> Iterator[Callable[[], None]]:
        """What takes back each change of a run, the last first. Raises `ConfigError` where there was no such run."""
        if not index.has_run(run):
            raise ConfigError(f"the index knows no run {run}; phototag status tells the numbers of the last ones")
        photos = index.written_in(run)
        for change in index.changes(run):
            yield partial(self._attempt, change, partial(self._take_back, index=index, photos=photos))

    def _attempt(self, one: T, untag_one: Callable[[T], None]) -> None:
        self._files += 1
        self.console.advance()
        try:
            if isinstance(one, PhotoError):
                raise one
            untag_one(one)
        except PhotoError as error:
            self._failed += 1
            self._name_fault(error)

    def _name_fault(self, error: PhotoError) -> None:
        self.console.failure(f"phototag: {self._name(Path(error.path))}: {printable(error.reason)}")

    def _untag(self, one: Photo | SkippedFile, index: Index) -> None:
        from phototag.core import Photo
        from phototag.metadata.untag import untag as untag_photo

        files: list[Path] = []
        faults: list[PhotoError] = []
        for path in (one.path, *(one.companions if isinstance(one, Photo) else ())):
            try:
                files += untag_photo(path, index, dry_run=self._dry_run)
            except PhotoError as error:  # the other files of the shot are untagged all the same
                faults.append(error)
        self._note(one.path, files)
        if faults:
            for fault in faults[:-1]:
                self._name_fault(fault)
            raise faults[-1]
        if not self._dry_run:
            index.untagged(one.path, forget_rejections=True)

    def _take_back(self, change: Change, index: Index, photos: Mapping[Path, Path]) -> None:
        from phototag.metadata.untag import take_back

        # A photo may have been moved since.
        moved = () if change.path.exists() else index.paths_of(change.digest)
        path = next((path for path in moved if path.exists()), change.path)
        if take_back(path, change.digest, change.undo, dry_run=self._dry_run):
            if not self._dry_run:
                index.untagged(photos.get(path, path))
            self._note(path, (path,))

    def _note(self, path: Path, files: Sequence[Path]) -> None:
        if files:
            self._changed += 1
            if not self._quiet:
                self.console.result(f"{self._name(path)}: untagged ({', '.join(map(self._name, files))})")

    def finish(self, *, interrupted: bool) -> int:
        """Print the summary, and return the exit code."""
        failures = f", {self._failed} failed" if self._failed else ""
        would = "; dry run, nothing changed" if self._dry_run else ""
        self.console.message(f"{plural(self._files, self._noun)}: {self._changed} untagged{failures}{would}.")
        if interrupted:
            self.console.message("Interrupted: run the same command again to go on.")
            return EXIT_INTERRUPTED
        return EXIT_PHOTOS_FAILED if self._failed else 0

    def _name(self, path: Path) -> str:
        return name_of(path, relative=self._relative)
