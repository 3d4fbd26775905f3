"""Look at photos: read, decode and analyze them. Uses neither the index nor a writer, so it can run anywhere.

`look` does all the work for one photo. Its job and its answer can be pickled. `LocalLooker` does the work in threads,
with the models of this process.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from phototag.analysis.analyzer import Analyzer, result_types, unpacked
from phototag.core import Results
from phototag.errors import OutOfMemory
from phototag.run.outcome import Timings, timed

if TYPE_CHECKING:
    from phototag.images.decode import Picture


@dataclass(frozen=True, slots=True)
class LookJob:
    """One photo to look at.

    `keys`: the results that are wanted. `known`: packed results by key, which other analyzers may need.
    """

    path: str
    keys: frozenset[str]
    known: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to a `LookJob`: the `content_digest` of the photo's file, and packed results by key.

    Results that the index already has are left out.
    """

    digest: bytes
    results: Mapping[str, bytes]


# Returns those keys of a job that are still wanted for a file with that digest. The index may have the others.
StillWanted: TypeAlias = Callable[[bytes], Collection[str]]


class Later(Protocol):
    """An answer that comes later, such as a `concurrent.futures.Future`."""

    def result(self) -> Seen:
        """Wait for the answer. Raises `PhotoError` if the photo cannot be read, `ModelError` if a model fails."""


class Looker(Protocol):
    """Looks at photos: here in threads, or on other machines."""

    @property
    def ahead(self) -> int:
        """The number of photos that should be submitted ahead."""

    def submit(self, job: LookJob, still_wanted: StillWanted | None = None) -> Later:
        """Start to look at a photo. A looker that can call `still_wanted` skips the work for known content."""

    def close(self) -> None:
        """Drop the photos that have not been started."""


def look(job: LookJob, analyzers: Sequence[Analyzer]) -> Seen:
    """Look at one photo. Raises `PhotoError` if it cannot be read, `ModelError` if a model fails."""
    work = _begin(job, analyzers, None, None)
    _finish([work], analyzers)
    return work.seen()


def look_at(image: Path | bytes, analyzers: Sequence[Analyzer]) -> Results:
    """Return all results of one image by name, as a scan would store and read them.

    Raises `PhotoError` if it cannot be read, `ModelError` if a model fails.
    """
    from phototag.images.decode import read_picture

    kinds = result_types(analyzers)
    picture = read_picture(image, _largest_side(analyzers))
    work = _prepared_work(picture, frozenset(kind.key for kind in kinds), {}, analyzers)
    _finish([work], analyzers)
    return {kind.name: kind.unpack(work.packed[kind.key]) for kind in kinds}


@dataclass(slots=True)
class _Work:
    """A photo in progress: its results so far, and the analyzers that have yet to run."""

    digest: bytes
    results: dict[str, Any]
    packed: dict[str, bytes]
    keys: frozenset[str]
    pending: collections.deque[tuple[Analyzer, Any]]

    def note(self, analyzer: Analyzer, results: Results) -> None:
        """Add the results of `analyzer`, the first of the pending ones."""
        self.pending.popleft()
        for kind in analyzer.results:
            self.results[kind.name] = results[kind.name]
            if kind.key in self.keys:
                self.packed[kind.key] = kind.pack(results[kind.name])

    def seen(self) -> Seen:
        return Seen(self.digest, self.packed)


def _begin(
    job: LookJob, analyzers: Sequence[Analyzer], still_wanted: StillWanted | None, timings: Timings | None
) -> _Work:
    """Read and decode a photo, and prepare it for every analyzer that has to run."""
    from phototag.images.decode import read_picture  # imports Pillow, which a run without new photos does not need

    with timed(timings, "decode"):
        picture = read_picture(Path(job.path), _largest_side(analyzers))
        keys = job.keys if still_wanted is None else frozenset(still_wanted(picture.digest))
        return _prepared_work(picture, keys, unpacked(result_types(analyzers), job.known), analyzers)


def _prepared_work(
    picture: Picture, keys: frozenset[str], known: dict[str, Any], analyzers: Sequence[Analyzer]
) -> _Work:
    running = _running(analyzers, keys, known)
    prepared = _prepared(picture, running)
    return _Work(picture.digest, known, {}, keys, collections.deque(zip(running, prepared, strict=True)))


def _running(analyzers: Sequence[Analyzer], keys: Collection[str], known: Collection[str]) -> list[Analyzer]:
    """Return the analyzers to run for results with these `keys`, in order, including those that they depend on."""
    names: set[str] = set()
    running: list[Analyzer] = []
    for analyzer in reversed(analyzers):  # an analyzer comes after those that it depends on
        if any(kind.key in keys or kind.name in names for kind in analyzer.results):
            running.insert(0, analyzer)
            names.update(name for name in analyzer.after if name not in known)
    return running


def _prepared(picture: Picture, running: Sequence[Analyzer]) -> list[Any]:
    """Decode the picture once, large enough for all, and return what each analyzer needs of it."""
    if not running:
        return []
    picture.shortest_side = _largest_side(running)
    return [analyzer.prepare(picture) for analyzer in running]


def _largest_side(analyzers: Sequence[Analyzer]) -> int:
    return max(analyzer.shortest_side for analyzer in analyzers)


def _finish(works: Sequence[_Work], analyzers: Sequence[Analyzer]) -> None:
    """Run the pending analyzers, each for all photos that wait for it."""
    for analyzer in analyzers:
        waiting = [work for work in works if work.pending and work.pending[0][0] is analyzer]
        if waiting:
            found = analyzer.analyse([work.pending[0][1] for work in waiting], [work.results for work in waiting])
            for work, results in zip(waiting, found, strict=True):
                work.note(analyzer, results)


class LocalLooker:
    """Looks at photos in `jobs` threads of this process.

    Analyzers that work by photo run in the same thread. The others run in batches of `batch_size` photos, in the thread
    that asks for the first result of the batch.
    """

    def __init__(
        self, analyzers: Sequence[Analyzer], jobs: int, batch_size: int, timings: Timings | None = None
    ) -> None:
        self._analyzers = analyzers
        self._batch_size = batch_size
        self._timings = timings
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="look")
        self._tickets: collections.deque[_Ticket] = collections.deque()  # in order of submission

    @property
    def ahead(self) -> int:
        """One batch to analyze, and one to decode meanwhile."""
        return 2 * self._batch_size

    def submit(self, job: LookJob, still_wanted: StillWanted | None = None) -> Later:
        """Start to look at a photo in a thread."""
        ticket = _Ticket(self, self._pool.submit(self._look, job, still_wanted), self._timings)
        self._tickets.append(ticket)
        return ticket

    def close(self) -> None:
        """Drop the photos that have not been started, and wait for the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _look(self, job: LookJob, still_wanted: StillWanted | None) -> _Work:
        work = _begin(job, self._analyzers, still_wanted, self._timings)
        while work.pending and work.pending[0][0].by_photo:
            analyzer, prepared = work.pending[0]
            try:
                with timed(self._timings, "infer"):
                    (results,) = analyzer.analyse([prepared], [work.results])
            except OutOfMemory:  # the other threads need memory too; `finish` tries again alone
                break
            work.note(analyzer, results)
        return work

    def finish(self, ticket: _Ticket) -> _Work:
        """Return the finished work of `ticket`. Runs the pending analyzers for it and the photos after it."""
        while self._tickets and self._tickets[0].is_done:
            self._tickets.popleft()
        work = ticket.work()
        if work.pending:
            at = self._tickets.index(ticket)
            batch = [self._tickets[number] for number in range(at, min(at + self._batch_size, len(self._tickets)))]
            works = [other.work() for other in batch if other.can_be_read()]
            with timed(self._timings, "infer"):
                _finish([other for other in works if other.pending], self._analyzers)
        return work


class _Ticket:
    """An answer of `LocalLooker`. Either a thread finishes it, or it waits for its batch."""

    def __init__(self, looker: LocalLooker, future: Future[_Work], timings: Timings | None) -> None:
        self._looker = looker
        self._future = future
        self._timings = timings
        self.is_done = False

    def result(self) -> Seen:
        """Wait for the answer."""
        try:
            return self._looker.finish(self).seen()
        finally:
            self.is_done = True

    def work(self) -> _Work:
        """Wait for the thread, and return its work. Raises the errors of the thread."""
        with timed(self._timings, "wait"):
            return self._future.result()

    def can_be_read(self) -> bool:
        """Wait for the thread, and return whether it could read the photo."""
        with timed(self._timings, "wait"):
            return self._future.exception() is None
