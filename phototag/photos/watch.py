"""What comes into a library while one looks: files that are new or changed, once they have stopped growing.

The only part that imports watchdog.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from phototag.errors import ConfigError
from phototag.photos.find import OWN_SUFFIX, UNFINISHED

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

# How long to sleep while nothing comes, in seconds: as late as that it is noticed that a folder has gone.
IDLE = 1.0
# Above that many folders a walk through all of the library is faster than telling each folder apart.
MANY_FOLDERS = 20
MAX_PATTERN = 1000  # characters, of those that `find_photos` takes

# What tells that a file has changed: its kind, number, size and time of change; None where there is none.
_Look: TypeAlias = tuple[int, int, int, int] | None


class Arrivals:
    """Files that were noted, until they have stayed the same for `settle` seconds. For several threads.

    A folder that is noted stands for all files below it. What is gone by then was never there.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._lock = threading.Lock()
        self._noted = threading.Event()
        self._pending: dict[str, tuple[_Look, float]] = {}

    def note(self, path: str) -> None:
        """Note that the file or folder at `path` has come or changed; phototag's own are no news."""
        if path.endswith((OWN_SUFFIX, ".xmp")) or UNFINISHED.fullmatch(os.path.basename(path)):
            return
        now = time.monotonic()
        with self._lock:
            self._pending[path] = (self._pending.get(path, (None,))[0], now)
        self._noted.set()

    def wait(self) -> None:
        """Wait until something is noted, or has had time to settle, or a little while."""
        with self._lock:
            busy = bool(self._pending)
        if busy:
            time.sleep(min(0.2, self._settle / 4))
        else:
            self._noted.wait(IDLE)
        self._noted.clear()

    def at_rest(self) -> list[Path]:
        """Take out the files that are at rest now."""
        now = time.monotonic()
        with self._lock:
            pending = list(self._pending.items())
        settled: list[Path] = []
        for path, (look, since) in pending:
            current = _look(path)
            with self._lock:
                if self._pending.get(path) != (look, since):
                    continue  # noted again meanwhile
                if current is None:
                    del self._pending[path]
                elif current != look:
                    self._pending[path] = (current, now)
                elif now - since >= self._settle:
                    del self._pending[path]
                    settled.append(Path(path))
        return [path for path in settled if not self._is_folder(path)]

    def _is_folder(self, path: Path) -> bool:
        """Note the files below `path`, where it is a folder."""
        if not path.is_dir():
            return False
        for folder, _, files in os.walk(path):
            for name in files:
                self.note(os.path.join(folder, name))
        return True


def _look(path: str) -> _Look:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return stat.S_IFMT(status.st_mode), status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(slots=True)
class _Root:
    """A folder that is watched. `identity`: its device and number; None while it is not there."""

    path: Path
    identity: tuple[int, int] | None = None
    watch: ObservedWatch | None = None


class Watch:
    """Watches the folders `roots` with all that is below them, from when it is entered until it is left.

    `settle`: how long a file has to stay the same, in seconds. `poll`: look for changes that often, in seconds, rather
    than being told by the system; None for the latter.

    Raises `ConfigError` where that cannot be done.
    """

    def __init__(self, roots: Sequence[Path], settle: float, poll: float | None = None) -> None:
        self._roots = [_Root(Path(os.path.abspath(root))) for root in roots]
        self._arrivals = Arrivals(settle)
        self._observer = _make_observer(poll)

    def __enter__(self) -> Watch:
        self._observer.start()
        try:
            for root in self._roots:
                self._begin(root)
        except BaseException:
            self._observer.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._observer.stop()
        self._observer.join(5)

    @property
    def roots(self) -> list[Path]:
        """The folders, absolute."""
        return [root.path for root in self._roots]

    def wait(self) -> None:
        """Wait until there may be something to do."""
        self._arrivals.wait()

    def at_rest(self) -> list[Path]:
        """Return the files that came or changed and are at rest now, each once."""
        return self._arrivals.at_rest()

    def changed_roots(self) -> Iterator[tuple[Path, bool]]:
        """Yield each folder that has gone since the last call, with False, or come back, or been replaced, with True.

        What was in it when it came, and what happened before, was not seen.
        """
        for root in self._roots:
            before, watch = root.identity, root.watch
            if _identity(root.path) == before and (watch is None or self._is_watched(watch)):
                continue
            self._end(root)
            self._begin(root)
            if root.identity is not None or before is not None:
                yield root.path, root.identity is not None

    def _is_watched(self, watch: ObservedWatch) -> bool:
        return any(emitter.watch == watch and emitter.is_alive() for emitter in self._observer.emitters)

    def _begin(self, root: _Root) -> None:
        root.identity = _identity(root.path)
        if root.identity is None:
            return
        # Events come with the path without links, and photos are known by the path that was given.
        real = os.path.realpath(root.path)
        handler = _make_handler(lambda path: self._arrivals.note(f"{root.path}{path.removeprefix(real)}"))
        try:
            root.watch = self._observer.schedule(handler, real, recursive=True)
        except FileNotFoundError:
            root.identity = None
        except OSError as error:
            raise ConfigError(_refusal(root.path, error)) from None

    def _end(self, root: _Root) -> None:
        if root.watch is not None:
            with contextlib.suppress(Exception):  # what is watched is gone, and its watch may be
                self._observer.unschedule(root.watch)
        root.watch = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _refusal(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return (
            f"{path} has more folders than this system watches; raise that with: sysctl fs.inotify.max_user_watches="
            "1048576, or use --poll"
        )
    if error.errno == errno.EMFILE:
        return (
            f"{path} cannot be watched, because other programs watch too many; raise that with: sysctl "
            "fs.inotify.max_user_instances=1024, or use --poll"
        )
    return f"{path} cannot be watched ({error.strerror}); check its permissions, or use --poll"


def _make_observer(poll: float | None) -> BaseObserver:
    try:
        from watchdog.observers import Observer
        from watchdog.observers.polling import PollingObserver
    except ImportError:
        raise ConfigError(
            f"watching needs the package watchdog; install it with: {sys.executable} -m pip install watchdog"
        ) from None
    return Observer() if poll is None else PollingObserver(timeout=poll)


def _make_handler(note: Callable[[str], None]) -> Any:
    from watchdog.events import FileSystemEventHandler

    class Handler(FileSystemEventHandler):
        """Notes what has come or changed. Reading a file is an event too, and no news; nor is a folder's new time."""

        def dispatch(self, event: FileSystemEvent) -> None:
            kinds = ("created", "moved") if event.is_directory else ("created", "moved", "modified", "closed")
            if event.event_type in kinds:
                path = event.dest_path if event.event_type == "moved" else event.src_path
                if path:  # it may have been moved away
                    note(os.fsdecode(path))

    return Handler()


def patterns_for(root: Path, folders: Collection[Path]) -> tuple[str, ...]:
    """Return patterns that exclude all folders below `root` but those on the way to `folders`.

    To be put before other patterns, which stand above them. Without any where there are too many for a gain.
    """
    ways = {way for folder in folders for way in (folder, *folder.parents) if way != root and way.is_relative_to(root)}
    patterns = ["/*/"]
    for way in sorted(ways):
        name = _escaped(way.relative_to(root).as_posix())
        patterns += [f"!/{name}/", f"/{name}/*/"]
    is_feasible = len(folders) <= MANY_FOLDERS and all(len(pattern) <= MAX_PATTERN for pattern in patterns)
    return tuple(patterns) if is_feasible else ()


def _escaped(path: str) -> str:
    return "".join(f"\\{character}" if character in "\\*?[]!# " else character for character in path)
