"""`phototag scan`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED
from phototag.cli.finding_options import Finding, NamedPath, default_index, finding_options, index_option, take_finding
from phototag.cli.tag_options import TagOptions, find_wanted_model, make_tagger, scorer, tag_options, take_tag_options
from phototag.cli.terminal import Console, interruptible, name_of, plural, printable, verbose_option

if TYPE_CHECKING:
    from phototag.index import Index
    from phototag.models import Model
    from phototag.photos import Found
    from phototag.tagging import Classify, Outcome, Pipeline, Writer


@dataclass(frozen=True)
class ScanOptions:
    """The options of `scan`, as the command line gives them."""

    paths: tuple[Path, ...]
    write: str
    touch: bool
    dry_run: bool
    tags: TagOptions
    finding: Finding
    force: bool
    jobs: int
    batch_size: int
    index: Path | None
    format: str
    quiet: bool
    verbose: bool


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="Print failures only."),
        click.option(
            "--format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="One line a photo, or one JSON object a line.",
        ),
        index_option,
        click.option(
            "--batch-size", type=click.IntRange(1, 1024), default=16, show_default=True, help="Photos a batch."
        ),
        click.option(
            "--jobs", type=click.IntRange(1, 256), default=_cores, help="Decoder threads. [default: one a core]"
        ),
        click.option("--force", is_flag=True, help="Tag photos again that are done."),
    ):
        command = option(command)
    return command


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # those that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=NamedPath(path_type=Path))
@click.option(
    "--write",
    type=click.Choice(["json", "embed", "xmp", "none"]),
    default="json",
    show_default=True,
    help="Where tags go: into PHOTO.phototag.json beside each photo, into the photo itself, into PHOTO.xmp beside it, "
    "or nowhere but stdout.",
)
@click.option("--touch", is_flag=True, help="With --write embed: let a photo's time of change be that of the writing.")
@click.option("--dry-run", "-n", is_flag=True, help="Print the tags; write nothing and remember nothing.")
@tag_options
@finding_options
@_run_options
@verbose_option("Also name what is unchanged and what was passed over, and why.")
@click.pass_context
def scan(ctx: click.Context, /, **options: Any) -> None:
    """Tag photos and folders of photos.

    What was done before is left alone, so that the same command goes on where it stopped, and costs next to nothing
    when there is nothing new.
    """
    tags = take_tag_options(options)
    ctx.exit(run_scan(ScanOptions(finding=take_finding(options), tags=tags, **options)))


def run_scan(options: ScanOptions) -> int:
    """Scan, print what comes, and return the exit code."""
    from phototag.index import open_index

    started = time.monotonic()
    found = options.finding.find(options.paths)  # first of all: a wrong path or pattern is known before any work
    model = find_wanted_model(options.tags)
    index_path = options.index or default_index()
    console = Console(quiet=options.quiet)
    output = _Output(options, console)
    try:
        with interruptible(quiet=options.quiet) as stop, open_index(index_path, read_only=options.dry_run) as index:
            pipeline = _pipeline(options, model, index, console)
            outcomes = closing(pipeline.run(output.note_passed_over(found), stop))
            with nullcontext() if options.dry_run else index.run(output.report.counts), outcomes as each:
                for outcome in each:
                    output.show(outcome)
            interrupted = stop()
    finally:
        console.close()
    console.message(output.summary(time.monotonic() - started))
    if interrupted:
        console.message("Interrupted: run the same command again to go on.")
        return EXIT_INTERRUPTED
    return 0 if output.report.all_well else EXIT_PHOTOS_FAILED


def _count_photos(options: ScanOptions) -> int:
    from phototag.photos import Photo

    return sum(isinstance(one, Photo) for one in options.finding.find(options.paths))


def _pipeline(options: ScanOptions, model: Model, index: Index, console: Console) -> Pipeline:
    from phototag.building import ensure_built
    from phototag.photos import prepare_photo
    from phototag.tagging import Pipeline, recipe_digest

    tagger = make_tagger(options.tags, model)
    writer = _writer(options, model, index)
    crops = options.tags.crops

    def load_classifier() -> Classify:
        # Only now is there work that takes time: a run with nothing new is over before the photos are counted.
        console.expect(lambda: _count_photos(options))
        ensure_built(model, console.message)
        from phototag.classifier import Classifier

        return scorer(options.tags, Classifier(model, options.tags.engine, console.message))

    return Pipeline(
        decode=lambda path: prepare_photo(path, model.preprocessing, crops),
        load_classifier=load_classifier,
        tagger=tagger,
        writer=writer,
        index=index,
        recipe=recipe_digest(model, crops, tagger, writer),
        jobs=options.jobs,
        batch_size=max(1, options.batch_size // crops),
        dry_run=options.dry_run,
        force=options.force,
    )


def _writer(options: ScanOptions, model: Model, index: Index) -> Writer:
    from phototag.metadata.json_sidecar import JsonSidecarWriter
    from phototag.metadata.writers import EmbedWriter, XmpSidecarWriter
    from phototag.tagging import NullWriter

    if options.write == "json":
        return JsonSidecarWriter(model.card.name, model.digest)
    if options.write == "embed":
        return EmbedWriter(model.card.name, index, touch=options.touch)
    return XmpSidecarWriter(model.card.name, index) if options.write == "xmp" else NullWriter()


class _Output:
    """Prints what a run comes to, and counts it."""

    def __init__(self, options: ScanOptions, console: Console) -> None:
        from phototag.tagging import Report

        self.report = Report()
        self._options = options
        self._console = console
        self._relative = not any(path.is_absolute() for path in options.paths)

    def note_passed_over(self, found: Iterable[Found]) -> Iterator[Found]:
        """Hand `found` on, and take note of what is no photo or excluded; remove what a dead run left behind."""
        from phototag.metadata.files import remove_unfinished
        from phototag.photos import PassedOver

        for one in found:
            if isinstance(one, PassedOver) and one.kind == "unfinished" and not self._options.dry_run:
                remove_unfinished(one.path)
            if isinstance(one, PassedOver) and one.kind != "unreadable":
                self.report.other_files += one.kind == "other"
                if self._options.verbose:
                    self._console.message(f"{self._name(one.path)}: passed over: {one.reason}")
            yield one

    def show(self, outcome: Outcome) -> None:
        """Print `outcome` and count it."""
        self.report.add(outcome)
        self._console.advance()
        if outcome.note is not None:
            self._console.message(f"{self._name(outcome.path)}: {printable(outcome.note)}")
        if outcome.status == "failed":
            self._console.failure(f"phototag: {self._name(outcome.path)}: {printable(outcome.error or '')}")
        if self._options.format == "json":
            if not self._options.quiet or outcome.status == "failed":
                self._console.result(_json_line(outcome))
        elif not self._options.quiet:
            self._show_text(outcome)

    def _show_text(self, outcome: Outcome) -> None:
        is_shown = outcome.status in ("tagged", "untagged") or (outcome.status == "unchanged" and self._options.dry_run)
        if not is_shown and not self._options.verbose:
            return  # before anything is computed: there may be a million photos with nothing new
        name = self._name(outcome.path)
        tags = printable(", ".join(tag.name for tag in outcome.tags)) or "(nothing sure enough)"
        if is_shown:
            self._console.result(f"{name}: {tags}")
        elif outcome.status == "unchanged":
            self._console.message(f"{name}: unchanged: {tags}")
        elif outcome.status == "skipped":
            self._console.message(f"{name}: skipped: {outcome.error}")

    def _name(self, path: Path) -> str:
        """The path as the user would write it: relative where the paths that were given are."""
        return name_of(path, relative=self._relative)

    def summary(self, seconds: float) -> str:
        """One line with the counts."""
        report = self.report
        if report.photos == 0:
            where = ", ".join(printable(str(path)) for path in self._options.paths)
            line = f"No photos found in {where}"
        else:
            counts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
            line = f"{plural(report.photos, 'photo')} in {seconds:.1f} s: {counts}"
        others = f"; {plural(report.other_files, 'other file')} passed over" if report.other_files else ""
        would = "; dry run, nothing written" if self._options.dry_run else ""
        return f"{line}{others}{would}."


def _json_line(outcome: Outcome) -> str:
    # ASCII only: bytes of a path that are no UTF-8 survive as escaped surrogates, whatever the encoding of stdout.
    return json.dumps(
        {
            "path": str(outcome.path),
            "status": outcome.status,
            "tags": [asdict(tag) for tag in outcome.tags],
            "predictions": [{**asdict(one.label), "score": one.score} for one in outcome.predictions],
            "written": [str(path) for path in outcome.written],
            "error": outcome.error,
            "note": outcome.note,
        }
    )
