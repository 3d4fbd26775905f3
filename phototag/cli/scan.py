"""`phototag scan`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED
from phototag.cli.finding_options import FINDING_SETTINGS, NamedPath, finding_options, index_option, take
from phototag.cli.run_log import check_report, open_log
from phototag.cli.tag_options import tag_options, take_tag_settings
from phototag.cli.terminal import Console, interruptible, verbose_option
from phototag.errors import OutputError
from phototag.run.defaults import BATCH_SIZE, worker_threads

if TYPE_CHECKING:
    from phototag.cli.printer import PrintOptions
    from phototag.run.settings import Settings

# The settings that `writing_options` and `running_options` fill in, and those that only `scan` has.
RUN_SETTINGS = ("write", "touch", "jobs", "batch_size", "index")
_SCAN_SETTINGS = ("dry_run", "force", "forget_rejections", "max_runtime")


def writing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose where tags go."""
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
    """Add the options that choose how a run works and what it prints."""
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
            "--batch-size",
            type=click.IntRange(1, 1024),
            default=BATCH_SIZE,
            show_default=True,
            help="Photos a batch.",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(1, 256),
            default=worker_threads,
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
    from phototag.run.settings import Settings

    settings = Settings(
        **take_tag_settings(options), **take(options, *FINDING_SETTINGS, *RUN_SETTINGS, *_SCAN_SETTINGS)
    )
    ctx.exit(run_scan(settings, take_print_options(options), **options))


def take_print_options(options: dict[str, Any]) -> PrintOptions:
    """Take the options of `PrintOptions` out of a command's parameters."""
    from phototag.cli.printer import PrintOptions

    return PrintOptions(as_json=options.pop("format") == "json", **take(options, "quiet", "verbose", "profile"))


def run_scan(
    settings: Settings, printing: PrintOptions, paths: tuple[Path, ...], report: Path | None, log_file: Path | None
) -> int:
    """Scan, print the outcomes, and return the exit code."""
    from phototag.run.session import Session

    Session(settings).find(paths)  # reports a wrong path or pattern before any work
    check_report(report)
    with open_log(log_file) as log:
        console = Console(quiet=printing.quiet, log=log)
        try:
            return _scan(settings, printing, paths, report, console)
        finally:
            console.close()


def _scan(
    settings: Settings, printing: PrintOptions, paths: tuple[Path, ...], report: Path | None, console: Console
) -> int:
    from phototag.cli.printer import Printer
    from phototag.run.outcome import Timings
    from phototag.run.session import Session

    printer = Printer(console, printing, settings, paths)
    with Session(settings, printer.event) as session, interruptible(quiet=printing.quiet) as should_stop:
        timings = Timings() if printing.profile else None
        run = session.scan(paths, should_stop, details=printer.needs_details, timings=timings)
        printer.count_photos = lambda: session.count(paths)
        try:
            with closing(iter(run)) as outcomes:
                for outcome in outcomes:
                    printer.show(outcome)
        except BaseException:
            with suppress(OutputError):  # the error that ended the run matters more
                printer.write_report(run, report)
            raise
    console.close()  # the progress bar, before the summary
    printer.write_report(run, report)
    for line in (printer.summary(run), *printer.profile(run)):
        console.message(line)
    if run.status != "complete":
        why = "Interrupted" if run.status == "interrupted" else "Out of time (--max-runtime)"
        console.message(f"{why}: run the same command again to go on.")
    if run.status == "interrupted":
        return EXIT_INTERRUPTED
    return 0 if run.report.all_well else EXIT_PHOTOS_FAILED
