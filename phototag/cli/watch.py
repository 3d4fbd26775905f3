"""`phototag watch`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED
from phototag.cli.finding_options import FINDING_SETTINGS, NamedPath, finding_options, take
from phototag.cli.run_log import open_log
from phototag.cli.scan import RUN_SETTINGS, Duration, running_options, take_print_options, writing_options
from phototag.cli.tag_options import tag_options, take_tag_settings
from phototag.cli.terminal import Console, interruptible, verbose_option

if TYPE_CHECKING:
    from phototag.cli.printer import PrintOptions
    from phototag.run.settings import Settings


@click.command()
@click.argument("paths", metavar="FOLDER...", nargs=-1, required=True, type=NamedPath(path_type=Path))
@click.option("--no-initial-scan", is_flag=True, help="Do not begin with a scan of the folders.")
@click.option(
    "--settle",
    type=Duration(),
    default="2s",
    show_default=True,
    metavar="TIME",
    help="How long a photo has to stay the same before it is tagged.",
)
@click.option(
    "--poll",
    type=Duration(),
    metavar="TIME",
    help="Look for changes every TIME: for network folders, of whose changes the system tells nothing.",
)
@writing_options
@tag_options
@finding_options
@running_options
@verbose_option("Also name what is unchanged and what was passed over, and why.")
@click.pass_context
def watch(ctx: click.Context, /, **options: Any) -> None:
    """Tag photos as they come into folders, or change there.

    Begins with a scan, and goes on until Ctrl-C or SIGTERM. Holds the index only while it works, and waits where
    another run does. Photos that are gone are forgotten by the next scan only.
    """
    from phototag.run.settings import Settings

    initial_scan = not options.pop("no_initial_scan")
    taken = take(options, *FINDING_SETTINGS, *RUN_SETTINGS, "settle", "poll")
    settings = Settings(**take_tag_settings(options), **taken)
    run_watch(settings, take_print_options(options), **options, initial_scan=initial_scan)
    ctx.exit(EXIT_INTERRUPTED)


def run_watch(
    settings: Settings, printing: PrintOptions, paths: tuple[Path, ...], log_file: Path | None, *, initial_scan: bool
) -> None:
    """Watch folders until the user stops phototag, and print the outcomes of their photos."""
    from phototag.cli.printer import Printer
    from phototag.run.outcome import Timings
    from phototag.run.session import Session
    from phototag.run.watch import watch as watch_folders

    with open_log(log_file) as log, interruptible(quiet=printing.quiet) as should_stop:
        console = Console(quiet=printing.quiet, log=log, bar=False)
        with Session(settings, Printer(console, printing, settings, paths).event) as session:
            for run in watch_folders(session, paths, should_stop, initial_scan=initial_scan):
                printer = Printer(console, printing, settings, run.paths)
                session.on_event = printer.event
                run.details = printer.needs_details
                run.timings = Timings() if printing.profile else None
                with closing(iter(run)) as outcomes:
                    for outcome in outcomes:
                        printer.show(outcome)
                if run.run is not None:
                    for line in (printer.summary(run), *printer.profile(run)):
                        console.message(line)
