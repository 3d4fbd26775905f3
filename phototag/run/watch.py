"""Watch folders, and yield runs for photos that appear or change. The model stays loaded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from phototag.core import Photo, SkippedFile, WaitingFor, WalkItem
from phototag.errors import ConfigError, IndexBusy
from phototag.index import Index, open_index
from phototag.photos.watch import Watch, patterns_for
from phototag.run.events import FolderBack, FolderGone, WatchStarted
from phototag.run.outcome import Outcome
from phototag.run.record import Recorder
from phototag.run.session import Scan, Session

_BUSY_PAUSE = 0.5  # seconds


@dataclass
class Turn(Scan):
    """A run that waits until no other process holds the index.

    `only_new`: skip photos that are up to date. If all are, nothing runs, and `run` stays None.
    """

    only_new: bool = False

    def __iter__(self) -> Generator[Outcome, None, None]:
        """Wait for the index, tag the photos and yield their outcomes. Raises `ModelError` and `IndexUnusable`."""
        with ExitStack() as stack:
            index = self._opened(stack)
            if index is None:
                return
            if self.only_new:
                recorder = self.session.recorder(index)
                self.found = [one for one in self.found if not _is_done(one, recorder)]
                if not self.found:
                    return
            yield from self.outcomes(index, time.monotonic())

    def _opened(self, stack: ExitStack) -> Index | None:
        """Return the index, or None if the user stopped phototag while another process held it."""
        path, is_waiting = self.session.index_path, False
        while not self.should_stop():
            try:
                return stack.enter_context(open_index(path, read_only=self.session.settings.dry_run))
            except IndexBusy:
                if not is_waiting:
                    self.session.on_event(WaitingFor(index=path))
                is_waiting = True
                time.sleep(_BUSY_PAUSE)
        return None


def _is_done(one: WalkItem, recorder: Recorder) -> bool:
    if not isinstance(one, Photo):
        return False
    known = recorder.index.known(one)
    return known is not None and known.is_of(one) and recorder.is_done(one, known)


def watch(
    session: Session, folders: Sequence[Path], should_stop: Callable[[], bool], *, initial_scan: bool
) -> Iterator[Turn]:
    """Yield runs, which the caller iterates over: one for all photos in `folders`, then one for each change.

    Ends when `should_stop` returns True. Raises `ConfigError` if a path or a setting is wrong, `ModelError` if there is
    no such model. Iterating raises `ConfigError` if a folder cannot be watched.
    """
    session.find(folders)  # reports a wrong path, pattern or model before any work
    session.check()
    for path in folders:
        if not path.is_dir():
            raise ConfigError(f"{path} is not a folder", "watch the one it is in, or scan it")
    return _runs(session, folders, should_stop, initial_scan=initial_scan)


def _runs(
    session: Session, folders: Sequence[Path], should_stop: Callable[[], bool], *, initial_scan: bool
) -> Iterator[Turn]:
    with Watch(folders, session.settings.settle, session.settings.poll) as watching:
        if initial_scan:
            yield from _all(session, folders, should_stop)
        if not should_stop():
            session.on_event(WatchStarted(len(folders)))
        while not should_stop():
            for root, is_there in watching.changed_roots():
                session.on_event(FolderBack(root) if is_there else FolderGone(root))
                if is_there:
                    yield from _all(session, [root], should_stop)
            found = list(_find(session, watching.roots, set(watching.at_rest())))
            if found:
                # No roots: photos that this run does not walk are not gone.
                yield Turn(session, found, tuple(folders), (), should_stop, only_new=True)
            watching.wait()


def _all(session: Session, folders: Sequence[Path], should_stop: Callable[[], bool]) -> Iterator[Turn]:
    """Yield a run for all photos in `folders`."""
    try:
        found = session.find(folders)
    except ConfigError:  # the folder is gone again
        return
    roots = [Path(os.path.abspath(folder)) for folder in folders]
    yield Turn(session, found, tuple(folders), roots, should_stop)


def _find(session: Session, roots: Sequence[Path], paths: set[Path]) -> Iterator[WalkItem]:
    """Yield those of the files `paths` that a scan would find. Walks through as few folders as possible."""
    for root in roots:
        below = {path for path in paths if path.is_relative_to(root)}
        paths -= below
        if not below:
            continue
        try:
            found = session.find([root], exclude=patterns_for(root, {path.parent for path in below}))
        except ConfigError:  # the root is gone
            continue
        for one in found:
            is_photo = not isinstance(one, SkippedFile) or one.kind == "unreadable"
            if is_photo and not below.isdisjoint({Path(one.path), *getattr(one, "companions", ())}):
                yield one
