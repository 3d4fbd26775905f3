"""`phototag status`."""

from __future__ import annotations

import collections
import datetime
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.finding_options import index_option
from phototag.cli.messages import plural
from phototag.cli.terminal import Console, printable, verbose_option

if TYPE_CHECKING:
    from phototag.index import Failure, Run

_SHOWN_FAILURES = 5  # of each reason


@click.command()
@click.option("--runs", type=click.IntRange(min=0), default=5, show_default=True, help="How many runs to tell of.")
@index_option
@click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or one JSON object.",
)
@verbose_option("Name all photos that failed.")
@click.pass_context
def status(ctx: click.Context, /, **options: Any) -> None:
    """Say what is known of the library: photos, what failed and why, and the last runs.

    A run's number is what untag --run takes.
    """
    from phototag.index import is_held, open_index
    from phototag.paths import default_index

    path: Path = options["index"] or default_index()
    with open_index(path, read_only=True) as index:
        counts, failures, runs = index.count(), index.failures(), index.runs(options["runs"])
    is_running = is_held(path)
    console = Console(quiet=False)
    if options["format"] == "json":
        told = [{**asdict(run), "ending": _ending(run, is_running and run is runs[0])} for run in runs]
        failed = [{"path": str(one.path), "error": one.reason, "run": one.run} for one in failures]
        console.result(json.dumps({"index": str(path), **counts, "failures": failed, "runs": told}))
        return
    shown = None if options["verbose"] else _SHOWN_FAILURES
    for line in (*_count_lines(path, counts), *_failure_lines(failures, shown), *_run_lines(runs, is_running)):
        console.result(line)


def _count_lines(path: Path, counts: dict[str, int]) -> Iterator[str]:
    yield f"index: {printable(str(path))}{'' if path.exists() else ', not there yet'}"
    tagged, rejected = counts["tagged"], counts["rejected"]
    people = f", {rejected:,} of them without tags that people removed" if rejected else ""
    yield f"{plural(counts['photos'], 'photo')}: {tagged:,} tagged, {counts['photos'] - tagged:,} without tags{people}"


def _failure_lines(failures: Iterable[Failure], shown: int | None) -> Iterator[str]:
    by_reason: dict[str, list[str]] = collections.defaultdict(list)
    for one in failures:
        by_reason[one.reason].append(printable(str(one.path)))
    if not by_reason:
        return
    yield f"{plural(sum(map(len, by_reason.values())), 'failure')}:"
    for reason, paths in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        yield f"  {printable(reason)} ({len(paths):,})"
        yield from (f"    {path}" for path in paths[:shown])
        if shown is not None and len(paths) > shown:
            yield f"    and {len(paths) - shown:,} more (--verbose names them)"


def _run_lines(runs: list[Run], is_running: bool) -> Iterator[str]:
    if runs:
        yield "last runs:"
    for run in runs:
        counts = ", ".join(f"{count:,} {status}" for status, count in run.counts.items() if count) or "no photos"
        ending = _ending(run, is_running and run is runs[0])
        where = printable(" ".join(run.paths))
        yield f"  {run.id:>4}  {_local(run.started)}  {_took(run):>8}  {ending}: {counts}  {where}".rstrip()


def _ending(run: Run, is_running: bool) -> str:
    if run.finished is not None:
        return run.ending or "complete"
    return f"running (process {run.pid})" if is_running else "died"


def _local(time: str) -> str:
    try:
        return datetime.datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):  # a damaged index
        return printable(time)


def _took(run: Run) -> str:
    if run.finished is None:
        return ""
    try:
        return str(datetime.datetime.fromisoformat(run.finished) - datetime.datetime.fromisoformat(run.started))
    except (ValueError, TypeError):  # a damaged index
        return ""
