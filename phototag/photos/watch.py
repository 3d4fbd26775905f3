"""Files that are created or changed while phototag runs, reported once they have stopped growing.

Only this module imports watchdog.
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
from phototag.photos.ignore import MAX_PATTERN
from phototag.photos.kinds import OWN_SUFFIX, UNFINISHED, XMP_SUFFIX

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

# Seconds to sleep while nothing happens. A missing folder is noticed at most this late.
IDLE = 1.0
# For more folders than this, walking the whole library is faster than matching each folder.
MANY_FOLDERS = 20

# The state of a file, which differs after a change: type, inode, size and modification time. None: it does not exist.
_State: TypeAlias = tuple[int, int, int, int] | None


class Arrivals:
    """The files that were noted and have not yet stayed the same for `settle` seconds. Thread-safe.

    Noting a folder notes all files below it. Files that disappear in the meantime are dropped.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._lock = threading.Lock()
        self._noted = threading.Event()
        self._pending: dict[str, tuple[_State, float]] = {}

    def note(self, path: str) -> None:
        """Note that the file or folder at `path` was created or changed. Ignore phototag's own files and sidecars."""
        if path.endswith((OWN_SUFFIX, XMP_SUFFIX)) or UNFINISHED.fullmatch(os.path.basename(path)):
            return
        now = time.monotonic()
        with self._lock:
            self._pending[path] = (self._pending.get(path, (None,))[0], now)
        self._noted.set()

    def wait(self) -> None:
        """Wait until a file is noted or may have settled, at most `IDLE` seconds."""
        with self._lock:
            busy = bool(self._pending)
        if busy:
            time.sleep(min(0.2, self._settle / 4))
        else:
            self._noted.wait(IDLE)
        self._noted.clear()

    def at_rest(self) -> list[Path]:
        """Remove and return the files that have settled."""
        now = time.monotonic()
        with self._lock:
            pending = list(self._pending.items())
        settled: list[Path] = []
        for path, (state, since) in pending:
            current = _state(path)
            with self._lock:
                if self._pending.get(path) != (state, since):
                    continue  # noted again by another thread
                if current is None:
                    del self._pending[path]
                elif current != state:
                    self._pending[path] = (current, now)
                elif now - since >= self._settle:
                    del self._pending[path]
                    settled.append(Path(path))
        return [path for path in settled if not self._note_below(path)]

    def _note_below(self, path: Path) -> bool:
        """Note the files below `path` if it is a folder. Return whether it is one."""
        if not path.is_dir():
            return False
        for folder, _, files in os.walk(path):
            for name in files:
                self.note(os.path.join(folder, name))
        return True


def _state(path: str) -> _State:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return stat.S_IFMT(status.st_mode), status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(slots=True)
class _Root:
    """A watched folder. `identity` holds its device and inode; None while it does not exist."""

    path: Path
    identity: tuple[int, int] | None = None
    watch: ObservedWatch | None = None


class Watch:
    """A watch over the folders `roots` and everything below them. It begins on entry and ends on exit.

    `settle`: the seconds for which a file has to stay the same. `poll`: the seconds between two checks for changes, or
    None to have the system report them.

    Raises `ConfigError` if the folders cannot be watched.
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
        """The absolute paths of the folders."""
        return [root.path for root in self._roots]

    def wait(self) -> None:
        """Wait until there may be something to do, at most `IDLE` seconds."""
        self._arrivals.wait()

    def at_rest(self) -> list[Path]:
        """Return the new and changed files that have settled, each once."""
        return self._arrivals.at_rest()

    def changed_roots(self) -> Iterator[tuple[Path, bool]]:
        """Yield the folders that have changed since the last call, each with whether it exists now.

        False: the folder has disappeared. True: it is back, or was replaced. The files that it brought along, and
        earlier changes, were not reported.
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
        # Events hold the path without links, but the index knows photos by the path that the user gave.
        real = os.path.realpath(root.path)
        handler = _make_handler(lambda path: self._arrivals.note(f"{root.path}{path.removeprefix(real)}"))
        try:
            root.watch = self._observer.schedule(handler, real, recursive=True)
        except FileNotFoundError:
            root.identity = None
        except OSError as error:
            raise _refusal(root.path, error) from None

    def _end(self, root: _Root) -> None:
        if root.watch is not None:
            with contextlib.suppress(Exception):  # the folder is gone, and perhaps its watch too
                self._observer.unschedule(root.watch)
        root.watch = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _refusal(path: Path, error: OSError) -> ConfigError:
    if error.errno == errno.ENOSPC:
        return ConfigError(
            f"{path} has more folders than this system watches",
            "raise that with: sysctl fs.inotify.max_user_watches=1048576, or use {poll}",
        )
    if error.errno == errno.EMFILE:
        return ConfigError(
            f"{path} cannot be watched, because other programs watch too many",
            "raise that with: sysctl fs.inotify.max_user_instances=1024, or use {poll}",
        )
    return ConfigError(f"{path} cannot be watched ({error.strerror})", "check its permissions, or use {poll}")


def _make_observer(poll: float | None) -> BaseObserver:
    try:
        from watchdog.observers import Observer
        from watchdog.observers.polling import PollingObserver
    except ImportError:
        remedy = f"install it with: {sys.executable} -m pip install watchdog"
        raise ConfigError("watching needs the package watchdog", remedy) from None
    return Observer() if poll is None else PollingObserver(timeout=poll)


def _make_handler(note: Callable[[str], None]) -> Any:
    from watchdog.events import FileSystemEventHandler

    class Handler(FileSystemEventHandler):
        """Notes new and changed files. Ignores other events: a file that was read, a folder's modification time."""

        def dispatch(self, event: FileSystemEvent) -> None:
            kinds = ("created", "moved") if event.is_directory else ("created", "moved", "modified", "closed")
            if event.event_type in kinds:
                path = event.dest_path if event.event_type == "moved" else event.src_path
                if path:  # empty if the file was moved out of the folder
                    note(os.fsdecode(path))

    return Handler()


def patterns_for(root: Path, folders: Collection[Path]) -> tuple[str, ...]:
    """Return patterns that exclude all folders below `root` except those that lead to `folders`.

    Put them before other patterns, which then take precedence. Empty if `folders` are too many for any gain.
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
