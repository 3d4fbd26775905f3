"""The output of a run: a line for each photo, messages, the summary, and the report."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phototag._version import __version__
from phototag.cli.event_messages import event_message
from phototag.cli.messages import photo_reason, plural, rounded_box, spell
from phototag.cli.run_log import MAX_FAILURES, write_report
from phototag.cli.terminal import Console, name_of, printable
from phototag.errors import spelled
from phototag.run.defaults import worker_threads
from phototag.run.events import Event, FileSkipped, FolderGone, ModelLoading
from phototag.run.settings import Settings

if TYPE_CHECKING:
    from phototag.core import SkippedFile
    from phototag.run.outcome import Outcome, Stage
    from phototag.run.session import Scan

# What the user reads for each stage of `Timings`.
_STAGES: dict[Stage, str] = {
    "walk": "finding photos",
    "index": "asking the index for them",
    "load": "loading the model, or making it",
    "decode": "reading and decoding, in the worker threads",
    "infer": "the model",
    "write": "tags into files and the index, in a thread of its own",
    "wait": "the main thread, with nothing to do until the others were ready",
}


@dataclass(frozen=True)
class PrintOptions:
    """The options that choose what a run prints."""

    as_json: bool
    quiet: bool
    verbose: bool
    profile: bool


class Printer:
    """Prints the outcomes and events of a run.

    `count_photos`: returns how many photos there are, for the progress bar.
    """

    def __init__(self, console: Console, options: PrintOptions, settings: Settings, paths: tuple[Path, ...]) -> None:
        self._console = console
        self._options = options
        self._settings = settings
        self._paths = paths
        self._relative = not any(path.is_absolute() for path in paths)
        self._started = datetime.datetime.now(datetime.timezone.utc)
        self._failures: list[dict[str, str]] = []
        self.count_photos: Callable[[], int] | None = None

    @property
    def needs_details(self) -> bool:
        """Whether the tags of unchanged photos are printed."""
        return self._options.as_json or self._options.verbose or self._settings.dry_run

    def event(self, event: Event) -> None:
        """Print what phototag is doing."""
        if isinstance(event, FileSkipped):
            if self._options.verbose:
                self._show_skipped(event.file)
        elif isinstance(event, ModelLoading):
            # Count photos only when the work takes time. A run without new photos ends before the count would.
            if self.count_photos is not None:
                self._console.expect(self.count_photos)
        elif (line := event_message(event)) is not None:
            if isinstance(event, FolderGone):
                self._console.failure(f"phototag: {printable(line)}")
            else:
                self._console.message(printable(line))

    def _show_skipped(self, file: SkippedFile) -> None:
        self._console.message(f"{self._name(file.path)}: passed over: {spelled(file.reason, spell)}")

    def show(self, outcome: Outcome) -> None:
        """Print `outcome`."""
        self._console.advance()
        if outcome.note is not None:
            self._console.message(f"{self._name(outcome.path)}: {printable(outcome.note)}")
        if outcome.status == "failed":
            reason = photo_reason(outcome.error) if outcome.error is not None else ""
            if len(self._failures) < MAX_FAILURES:
                self._failures.append({"path": str(outcome.path), "error": reason})
            self._console.failure(f"phototag: {self._name(outcome.path)}: {printable(reason)}")
        if self._options.as_json:
            if not self._options.quiet or outcome.status == "failed":
                self._console.result(_json_line(outcome, with_boxes=self._settings.detect is not None))
        elif not self._options.quiet:
            self._show_text(outcome)

    def _show_text(self, outcome: Outcome) -> None:
        dry_run = self._settings.dry_run
        is_shown = outcome.status in ("tagged", "untagged") or (outcome.status == "unchanged" and dry_run)
        if not is_shown and not self._options.verbose:
            return  # early: a million photos may be unchanged
        name = self._name(outcome.path)
        tags = printable(", ".join(tag.name for tag in outcome.tags)) or "(nothing sure enough)"
        if is_shown:
            self._console.result(f"{name}: {tags}")
        elif outcome.status == "unchanged":
            self._console.message(f"{name}: unchanged: {tags}")
        elif outcome.error is not None and outcome.status == "skipped":
            self._console.message(f"{name}: skipped: {photo_reason(outcome.error)}")

    def _name(self, path: Path) -> str:
        """Return the path as the user would write it: relative if the paths on the command line are."""
        return name_of(path, relative=self._relative)

    def write_report(self, run: Scan, path: Path | None) -> None:
        """Write the report of `run` to `path`, if there is one. Raises `OutputError`."""
        if path is not None:
            write_report(path, self._as_report(run))

    def _as_report(self, run: Scan) -> dict[str, Any]:
        return {
            "phototag": __version__,
            "run": run.run.id if run.run is not None else None,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(self._seconds(), 3),
            "ending": run.status,
            "dry_run": self._settings.dry_run,
            "paths": [os.path.abspath(path) for path in self._paths],
            "write": self._settings.write,
            "counts": dict(run.report.counts),
            "other_files": run.report.other_files,
            "failures": self._failures,
        }

    def _seconds(self) -> float:
        return (datetime.datetime.now(datetime.timezone.utc) - self._started).total_seconds()

    def profile(self, run: Scan) -> Iterator[str]:
        """Yield the lines of --profile."""
        if run.timings is None:
            return
        wall, seconds, jobs = self._seconds(), run.timings.seconds, self._settings.jobs or worker_threads()
        yield f"Where {wall:.1f} s went, in seconds of the threads that did it ({plural(jobs, 'worker thread')}):"
        for stage, what in _STAGES.items():
            yield f"  {stage:<7}{seconds[stage]:>10.3f}  {what}"

    def summary(self, run: Scan) -> str:
        """Return one line with the counts."""
        report = run.report
        if report.photos == 0 and run.status == "complete":
            where = ", ".join(printable(str(path)) for path in self._paths)
            line = f"No photos found in {where}"
        else:
            counts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
            line = f"{plural(report.photos, 'photo')} in {self._seconds():.1f} s{': ' if counts else ''}{counts}"
        others = f"; {plural(report.other_files, 'other file')} passed over" if report.other_files else ""
        would = "; dry run, nothing written" if self._settings.dry_run else ""
        return f"{line}{others}{would}."


def _json_line(outcome: Outcome, *, with_boxes: bool) -> str:
    line = {
        "path": str(outcome.path),
        "status": outcome.status,
        "tags": [asdict(tag) for tag in outcome.tags],
        "predictions": [{**asdict(one.label), "score": one.score} for one in outcome.predictions],
        "written": [str(path) for path in outcome.written],
        "error": photo_reason(outcome.error) if outcome.error is not None else None,
        "note": outcome.note,
    }
    if with_boxes:
        line["boxes"] = [rounded_box(box) for box in outcome.boxes] if outcome.boxes is not None else None
    # ASCII only: bytes of a path outside UTF-8 survive as escaped surrogates in any encoding of stdout.
    return json.dumps(line)
