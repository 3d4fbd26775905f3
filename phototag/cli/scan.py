"""`phototag scan`."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from phototag._version import __version__
from phototag.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED
from phototag.cli.finding_options import Finding, NamedPath, default_index, finding_options, index_option, take_finding
from phototag.cli.messages import spell
from phototag.cli.run_log import MAX_FAILURES, check_report, open_log, write_report
from phototag.cli.tag_options import TagOptions, find_wanted_model, make_chooser, scorer, tag_options, take_tag_options
from phototag.cli.terminal import Console, interruptible, name_of, plural, printable, verbose_option
from phototag.errors import OutputError, spelled

if TYPE_CHECKING:
    from phototag.core import WalkItem
    from phototag.index import Index, Run
    from phototag.models.find import Model
    from phototag.run.pipeline import Outcome, Pipeline, Pixels, Scorer, Stage, Timings, Writer

# How a run ended; "failed": by an error.
RunStatus: TypeAlias = Literal["complete", "interrupted", "out of time", "failed"]


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
    forget_rejections: bool
    max_runtime: float | None
    index: Path | None
    report: Path | None
    log_file: Path | None
    profile: bool
    format: str
    quiet: bool
    verbose: bool


def writing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where tags go."""
    for option in (
        click.option(
            "--touch", is_flag=True, help="With --write embed: let a photo's time of change be that of the writing."
        ),
        click.option(
            "--write",
            type=click.Choice(["json", "embed", "xmp", "none"]),
            default="json",
            show_default=True,
            help="Where tags go: into PHOTO.phototag.json beside each photo, into the photo itself, into PHOTO.xmp "
            "beside it, or nowhere but stdout.",
        ),
    ):
        command = option(command)
    return command


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a run goes about its work, and what it prints."""
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="Print failures only."),
        click.option(
            "--format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="One line a photo, or one JSON object a line.",
        ),
        click.option("--profile", is_flag=True, help="Print where the time went."),
        click.option(
            "--log-file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Add failures and the summary to a log, which is turned over at 1 MB.",
        ),
        index_option,
        click.option(
            "--batch-size", type=click.IntRange(1, 1024), default=16, show_default=True, help="Photos a batch."
        ),
        click.option(
            "--jobs",
            type=click.IntRange(1, 256),
            default=_worker_threads,
            help="Worker threads. [default: one a core, fewer where memory is short]",
        ),
    ):
        command = option(command)
    return command


def _scan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--report",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write what the run came to as JSON.",
        ),
        click.option(
            "--max-runtime",
            type=Duration(),
            metavar="TIME",
            help="Stop in good order after 90s, 30m or 2h (without a unit: seconds); the next run goes on.",
        ),
        click.option("--forget-rejections", is_flag=True, help="Write tags again that people removed from the photos."),
        click.option("--force", is_flag=True, help="Tag photos again that are done."),
    ):
        command = option(command)
    return command


class Duration(click.ParamType[float]):
    """`90s`, `30m` or `2h`, or a number of seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) *([smh]?)", str(value).strip())
        seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match is not None else 0
        if seconds <= 0:
            self.fail("it must be a time such as 90s, 30m or 2h", param, ctx)
        return seconds


# What a worker thread may take at its worst: a photo of 50 megapixels decoded, once over, and an interpreter.
_MEMORY_A_THREAD = 400 << 20  # bytes


def _worker_threads() -> int:
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # those that this process may use
        cores = len(os.sched_getaffinity(0))
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, where nobody runs this on a small computer
        return cores
    return max(1, min(cores, memory // _MEMORY_A_THREAD))


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=NamedPath(path_type=Path))
@writing_options
@click.option("--dry-run", "-n", is_flag=True, help="Print the tags; write nothing and remember nothing.")
@tag_options
@finding_options
@_scan_options
@running_options
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
    found = options.finding.find(options.paths)  # first of all: a wrong path or pattern is known before any work
    check_report(options.report)
    with open_log(options.log_file) as log:
        console = Console(quiet=options.quiet, log=log)
        output = Output(options, console)
        try:
            output.ending = _scan(options, found, output, console)
        except BaseException:
            with suppress(OutputError):  # what ended the run is of more interest
                output.write_report()
            raise
        finally:
            console.close()
        output.write_report()
        console.message(output.summary())
        for line in output.profile():
            console.message(line)
        if output.ending != "complete":
            why = "Interrupted" if output.ending == "interrupted" else "Out of time (--max-runtime)"
            console.message(f"{why}: run the same command again to go on.")
    if output.ending == "interrupted":
        return EXIT_INTERRUPTED
    return 0 if output.report.all_well else EXIT_PHOTOS_FAILED


def _scan(options: ScanOptions, found: Iterable[WalkItem], output: Output, console: Console) -> RunStatus:
    """Show all outcomes in `output`, and return how the run ended."""
    from phototag.index import open_index

    model = find_wanted_model(options.tags)
    index_path = options.index or default_index()
    deadline = math.inf if options.max_runtime is None else time.monotonic() + options.max_runtime
    with interruptible(quiet=options.quiet) as asked, open_index(index_path, read_only=options.dry_run) as index:
        pipeline = make_pipeline(options, model, index, scorer_loader(options, model, console))
        return tag_all(pipeline, found, output, asked, deadline)


def tag_all(
    pipeline: Pipeline, found: Iterable[WalkItem], output: Output, asked: Callable[[], bool], deadline: float = math.inf
) -> RunStatus:
    """Tag what is `found` in one run, show all outcomes in `output`, and return how it ended.

    It ends early when somebody has `asked` for that, or at `deadline`, in seconds of the monotonic clock.
    """

    def stop() -> bool:
        return asked() or time.monotonic() > deadline

    index_run = nullcontext() if pipeline.dry_run else pipeline.index.run(output.report.counts, output.paths)
    outcomes = closing(pipeline.run(output.note_passed_over(found), stop))
    with index_run as run, outcomes as each:
        output.run = run
        for outcome in each:
            output.show(outcome)
        output.timings = pipeline.timings
        ending: RunStatus = "interrupted" if asked() else "out of time" if stop() else "complete"
        if run is not None:
            run.ending = ending
    return ending


def _count_photos(options: ScanOptions) -> int:
    from phototag.core import Photo

    return sum(isinstance(one, Photo) for one in options.finding.find(options.paths))


def scorer_loader(options: ScanOptions, model: Model, console: Console) -> Callable[[], Scorer]:
    """Return what loads the model, for `make_pipeline`."""

    def load_scorer() -> Scorer:
        from phototag.zoo.build import ensure_built

        # Only now is there work that takes time: a run with nothing new is over before the photos are counted.
        console.expect(lambda: _count_photos(options))
        ensure_built(model, console.event)
        from phototag.analysis.classifier import Classifier

        return scorer(options.tags, Classifier(model, options.tags.engine, console.event, options.jobs))

    return load_scorer


def make_pipeline(options: ScanOptions, model: Model, index: Index, load_scorer: Callable[[], Scorer]) -> Pipeline:
    """Make the pipeline that does what `options` say."""
    from phototag.images.decode import read_picture
    from phototag.run.pipeline import Pipeline, Timings, recipe_digest, scores_digest

    chooser = make_chooser(options.tags, model)
    crops = options.tags.crops

    def look(path: Path, is_known: Callable[[bytes], bool]) -> tuple[bytes, Pixels | None]:
        picture = read_picture(path, model.preprocessing.shortest_side)
        return picture.digest, None if is_known(picture.digest) else picture.view(model.preprocessing, crops)

    recipe = recipe_digest(model, crops, chooser, options.write)
    return Pipeline(
        look=look,
        load_scorer=load_scorer,
        chooser=chooser,
        writer=_writer(options, model, index, recipe),
        index=index,
        recipe=recipe,
        model=scores_digest(model, crops, "probabilities" if options.tags.logit_threshold is None else "logits"),
        classes=len(model.labels),
        jobs=options.jobs,
        batch_size=max(1, options.batch_size // crops),
        dry_run=options.dry_run,
        force=options.force,
        forget_rejections=options.forget_rejections,
        timings=Timings() if options.profile else None,
        roots=[Path(os.path.abspath(path)) for path in options.paths],
        details=options.format == "json" or options.verbose or options.dry_run,
    )


def _writer(options: ScanOptions, model: Model, index: Index, recipe: str) -> Writer:
    again = options.forget_rejections
    if options.write == "none":
        from phototag.run.pipeline import NullWriter

        return NullWriter()
    if options.write == "json":
        from phototag.metadata.json_sidecar import JsonSidecarWriter

        return JsonSidecarWriter(model.card.name, model.digest, index, recipe, again)
    from phototag.metadata.writers import EmbedWriter, XmpSidecarWriter

    if options.write == "embed":
        return EmbedWriter(model.card.name, index, recipe, again, touch=options.touch)
    return XmpSidecarWriter(model.card.name, index, recipe, again)


# The stages of `tagging.Timings`, for people.
_STAGES: dict[Stage, str] = {
    "walk": "finding photos",
    "index": "asking the index for them",
    "load": "loading the model, or making it",
    "decode": "reading and decoding, in the worker threads",
    "infer": "the model",
    "write": "tags into files and the index, in a thread of its own",
    "wait": "the main thread, with nothing to do until the others were ready",
}


class Output:
    """Prints what a run comes to, and counts it."""

    def __init__(self, options: ScanOptions, console: Console) -> None:
        from phototag.run.pipeline import Report

        self.report = Report()
        self.ending: RunStatus = "failed"
        self.run: Run | None = None
        self.timings: Timings | None = None
        self._started = datetime.datetime.now(datetime.timezone.utc)
        self._failures: list[dict[str, str]] = []
        self._options = options
        self._console = console
        self._relative = not any(path.is_absolute() for path in options.paths)

    @property
    def paths(self) -> tuple[Path, ...]:
        """What was to be scanned."""
        return self._options.paths

    def note_passed_over(self, found: Iterable[WalkItem]) -> Iterator[WalkItem]:
        """Hand `found` on, and take note of what is no photo or excluded; remove what a dead run left behind."""
        from phototag.core import SkippedFile
        from phototag.metadata.files import remove_unfinished

        for one in found:
            if isinstance(one, SkippedFile) and one.kind == "unfinished" and not self._options.dry_run:
                remove_unfinished(one.path)
            if isinstance(one, SkippedFile) and one.kind != "unreadable":
                self.report.other_files += one.kind == "other"
                if self._options.verbose:
                    self._console.message(f"{self._name(one.path)}: passed over: {spelled(one.reason, spell)}")
            yield one

    def show(self, outcome: Outcome) -> None:
        """Print `outcome` and count it."""
        self.report.add(outcome)
        self._console.advance()
        if outcome.note is not None:
            self._console.message(f"{self._name(outcome.path)}: {printable(outcome.note)}")
        if outcome.status == "failed":
            if len(self._failures) < MAX_FAILURES:
                self._failures.append({"path": str(outcome.path), "error": outcome.error or ""})
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

    def write_report(self) -> None:
        """Write what --report asks for. Raises `OutputError`."""
        if self._options.report is not None:
            write_report(self._options.report, self._as_report())

    def _as_report(self) -> dict[str, Any]:
        return {
            "phototag": __version__,
            "run": self.run.id if self.run is not None else None,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(self._seconds(), 3),
            "ending": self.ending,
            "dry_run": self._options.dry_run,
            "paths": [os.path.abspath(path) for path in self._options.paths],
            "write": self._options.write,
            "counts": dict(self.report.counts),
            "other_files": self.report.other_files,
            "failures": self._failures,
        }

    def _seconds(self) -> float:
        return (datetime.datetime.now(datetime.timezone.utc) - self._started).total_seconds()

    def profile(self) -> Iterator[str]:
        """What --profile prints."""
        if self.timings is None:
            return
        wall, seconds, jobs = self._seconds(), self.timings.seconds, self._options.jobs
        yield f"Where {wall:.1f} s went, in seconds of the threads that did it ({plural(jobs, 'worker thread')}):"
        for stage, what in _STAGES.items():
            yield f"  {stage:<7}{seconds[stage]:>10.3f}  {what}"

    def summary(self) -> str:
        """One line with the counts."""
        report = self.report
        if report.photos == 0 and self.ending == "complete":
            where = ", ".join(printable(str(path)) for path in self._options.paths)
            line = f"No photos found in {where}"
        else:
            counts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
            line = f"{plural(report.photos, 'photo')} in {self._seconds():.1f} s{': ' if counts else ''}{counts}"
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
