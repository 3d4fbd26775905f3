"""`phototag watch`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED
from phototag.cli.finding_options import NamedPath, default_index, finding_options, take_finding
from phototag.cli.run_log import open_log
from phototag.cli.scan import (
    Duration,
    Output,
    ScanOptions,
    make_pipeline,
    running_options,
    scorer_loader,
    tag_all,
    writing_options,
)
from phototag.cli.tag_options import find_wanted_model, tag_options, take_tag_options
from phototag.cli.terminal import Console, interruptible, plural, printable, verbose_option
from phototag.errors import ConfigError, IndexBusy

if TYPE_CHECKING:
    from phototag.core import WalkItem
    from phototag.run.pipeline import Pipeline


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
    initial_scan, settle, poll = not options.pop("no_initial_scan"), options.pop("settle"), options.pop("poll")
    tags = take_tag_options(options)
    settings = ScanOptions(
        finding=take_finding(options),
        tags=tags,
        dry_run=False,
        force=False,
        forget_rejections=False,
        max_runtime=None,
        report=None,
        **options,
    )
    ctx.exit(run_watch(settings, settle, poll, initial_scan=initial_scan))


def run_watch(options: ScanOptions, settle: float, poll: float | None, *, initial_scan: bool) -> int:
    """Watch until somebody asks for the end, tag what comes, and return the exit code.

    `settle`, `poll`: in seconds, as `Watch` takes them.
    """
    from phototag.photos.watch import Watch

    options.finding.find(options.paths)  # a wrong path or pattern is known before any work
    for path in options.paths:
        if not path.is_dir():
            raise ConfigError(f"{path} is no folder; watch the one it is in, or scan it")
    with (
        open_log(options.log_file) as log,
        interruptible(quiet=options.quiet) as asked,
        Watch(options.paths, settle, poll) as watching,
    ):
        console = Console(quiet=options.quiet, log=log, bar=False)
        work = _Work(options, watching.roots, console, asked)
        if initial_scan:
            work.scan(options.paths)
        if not asked():
            console.message(f"Watching {plural(len(options.paths), 'folder')}; Ctrl-C ends it.")
        while not asked():
            for root, is_there in watching.changed_roots():
                if is_there:
                    console.message(f"{printable(str(root))} is there again.")
                    work.scan([root])
                else:
                    console.failure(f"phototag: {printable(str(root))} is gone; it is watched again when it is back")
            work.tag(watching.at_rest())
            watching.wait()
    return EXIT_INTERRUPTED


class _Work:
    """What is done about photos that come: run after run, with a model that stays loaded."""

    def __init__(
        self, options: ScanOptions, roots: Sequence[Path], console: Console, asked: Callable[[], bool]
    ) -> None:
        self._options = options
        self._roots = roots
        self._console = console
        self._asked = asked
        self._model = find_wanted_model(options.tags)
        self._load_scorer = functools.cache(scorer_loader(options, self._model, console))

    def scan(self, paths: Sequence[Path]) -> None:
        """Scan `paths` as `phototag scan` does."""
        options = replace(self._options, paths=tuple(paths))
        with self._turn(options) as pipeline:
            try:
                found = options.finding.find(options.paths)
            except ConfigError:  # gone again
                return
            if pipeline is not None:
                self._run(options, pipeline, found)

    def tag(self, paths: Sequence[Path]) -> None:
        """Tag what is a photo among the files `paths`, unless it is done."""
        found = list(self._find(set(paths)))
        if not found:
            return
        with self._turn(self._options) as pipeline:
            if pipeline is None:
                return
            new = [one for one in found if not pipeline.is_done(one)]
            if new:  # what is not walked is not gone
                self._run(self._options, replace(pipeline, roots=()), iter(new))

    def _run(self, options: ScanOptions, pipeline: Pipeline, found: Iterator[WalkItem]) -> None:
        output = Output(options, self._console)
        output.ending = tag_all(pipeline, found, output, self._asked)
        self._console.message(output.summary())

    def _find(self, paths: set[Path]) -> Iterator[WalkItem]:
        """Find those of the files `paths` that a scan would find, by a walk through no more folders than need be."""
        from phototag.core import SkippedFile
        from phototag.photos.watch import patterns_for

        finding = self._options.finding
        for root in self._roots:
            below = {path for path in paths if path.is_relative_to(root)}
            paths -= below
            if not below:
                continue
            narrow = patterns_for(root, {path.parent for path in below})
            try:
                found = replace(finding, exclude=(*narrow, *finding.exclude)).find([root])
            except ConfigError:  # the root has gone
                continue
            for one in found:
                is_photo = not isinstance(one, SkippedFile) or one.kind == "unreadable"
                if is_photo and not below.isdisjoint({Path(one.path), *getattr(one, "companions", ())}):
                    yield one

    @contextmanager
    def _turn(self, options: ScanOptions) -> Iterator[Pipeline | None]:
        """Hold the index, once nobody else does; None where the end was asked for meanwhile."""
        from phototag.index import open_index

        path = options.index or default_index()
        is_waiting = False
        with ExitStack() as stack:
            while not self._asked():
                try:
                    index = stack.enter_context(open_index(path))
                except IndexBusy:
                    if not is_waiting:
                        self._console.message(f"Waiting for another run that holds the index {printable(str(path))}.")
                    is_waiting = True
                    time.sleep(0.5)
                    continue
                yield make_pipeline(options, self._model, index, self._load_scorer)
                return
            yield None
