"""The pipeline: photos in, an outcome for each out, in order, with bounded memory.

A looker works ahead, and one thread writes behind. The thread that takes the outcomes queries the index and feeds both.
docs/architecture.md follows one photo through the pipeline.
"""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from phototag.core import Photo, WalkItem
from phototag.errors import PhotoError
from phototag.index import IndexedPhoto
from phototag.run.looker import Later, Looker, LookJob
from phototag.run.outcome import Outcome, Timings, timed
from phototag.run.presence import Presence
from phototag.run.record import Recorder, Sight

# The most photos that one transaction forgets. A transaction takes memory, and space on the disk for a second copy.
_MOST_FORGOTTEN = 10_000


@dataclass(frozen=True, slots=True)
class _Pending:
    """A photo in progress: its row in the index, and the knowledge about its content, now or later.

    stored: packed results, by key, that the index has for this photo.
    copied: packed results, by key, that the index has for another photo with the same content.
    digest: the `content_digest` that `stored` is valid for.
    """

    photo: Photo
    known: IndexedPhoto | None
    sight: Sight | Later
    stored: Mapping[str, bytes] = field(default_factory=dict)
    copied: Mapping[str, bytes] = field(default_factory=dict)
    digest: bytes | None = None

    def wait(self) -> Sight | None:
        """Return what is known about the photo, or None if `stored` are results of other content.

        Raises `PhotoError` if the photo cannot be read.
        """
        if isinstance(self.sight, Sight):
            return self.sight
        seen = self.sight.result()
        if self.stored and seen.digest != self.digest:
            return None
        new = {**self.copied, **seen.results}
        return Sight(seen.digest, {**self.stored, **new}, tuple(new))


# A photo in progress, or an outcome that waits for its turn.
_Item: TypeAlias = _Pending | Outcome


@dataclass(frozen=True)
class Pipeline:
    """Turns photos into outcomes.

    `looker` is closed after the run. `roots`: the absolute paths of the folders that are walked. Photos that are gone
    from them are forgotten. `timings`: filled in if given.
    """

    looker: Looker
    recorder: Recorder
    roots: Sequence[Path] = ()
    timings: Timings | None = None

    def run(self, found: Iterable[WalkItem], should_stop: Callable[[], bool]) -> Generator[Outcome, None, None]:
        """Yield the outcome of each photo in `found`, in that order, after its tags were written and recorded.

        Once `should_stop` returns True, photos in progress are finished and no others are started.

        Raises `ModelError` if a model fails, and `IndexUnusable` if the index fails.
        """
        presence = Presence()
        with ThreadPoolExecutor(1, thread_name_prefix="write") as writing:
            try:
                if self.timings is not None:
                    found = self.timings.of_each("walk", found)
                items = self._items(presence.note(found), presence, should_stop)
                yield from self._in_order(items, writing, should_stop)
            finally:
                self.looker.close()
        if not should_stop():
            yield from self._missing(presence)
            if not self.recorder.dry_run:
                self._forget_gone(presence)

    # --- Photos that need no look -------------------------------------------------------------------------------------

    def _items(self, found: Iterable[WalkItem], presence: Presence, should_stop: Callable[[], bool]) -> Iterator[_Item]:
        """Settle the photos for which the index or the files suffice, and submit the others to the looker."""
        for one in found:
            if should_stop():
                return
            if isinstance(one, Photo):
                yield self._set_out(one, presence)
            elif isinstance(one, PhotoError):
                yield self.recorder.failed(one)
            elif one.kind == "unreadable":
                yield Outcome(one, "skipped", error=PhotoError(one.path, one.reason))

    def _set_out(self, photo: Photo, presence: Presence) -> _Item:
        recorder = self.recorder
        if self.timings is None:  # saves time: a million unchanged photos may come through here
            known = recorder.index.known(photo)
        else:
            with self.timings.measure("index"):
                known = recorder.index.known(photo)
        if known is None:
            try:
                earlier = recorder.earlier_tags(photo)
            except PhotoError as error:
                return recorder.failed(error)
            if earlier is not None:
                return _Pending(photo, None, Sight(None, earlier=earlier))
            return self._submit(photo, None, {})
        presence.see(known.id)
        if recorder.force or not known.is_of(photo):
            return self._submit(photo, known, {})
        if recorder.is_done(photo, known, presence.is_there):
            return recorder.unchanged(photo, known)
        packed = recorder.usable(recorder.index.results(known, self._keys))
        if len(packed) == len(self._keys):
            return _Pending(photo, known, Sight(recorder.index.digest(known), packed))
        return self._submit(photo, known, packed)

    @property
    def _keys(self) -> tuple[str, ...]:
        return tuple(kind.key for kind in self.recorder.types)

    def _submit(self, photo: Photo, known: IndexedPhoto | None, stored: Mapping[str, bytes]) -> _Pending:
        """Submit a photo to the looker. `stored`: results that the index has for it, if it has not changed."""
        wanted = frozenset(self._keys) - stored.keys()
        index = self.recorder.index
        copied: dict[str, bytes] = {}

        def still_wanted(digest: bytes) -> frozenset[str]:
            """Return the keys that the index does not have for this content. It has some if the photo was moved."""
            if not self.recorder.force:
                copied.update(self.recorder.usable(index.results_of(digest, wanted)))
            return wanted - copied.keys()

        job = LookJob(os.fspath(photo), wanted, stored)
        later = self.looker.submit(job, still_wanted)
        digest = index.digest(known) if known is not None and stored else None
        return _Pending(photo, known, later, stored, copied, digest)

    # --- In the thread that takes the outcomes ------------------------------------------------------------------------

    def _in_order(
        self, items: Iterable[_Item], writing: ThreadPoolExecutor, should_stop: Callable[[], bool]
    ) -> Iterator[Outcome]:
        """Wait for photos batch by batch, and yield each batch's outcomes once it is written, one batch behind."""
        window = _Window(self.looker.ahead)
        written: collections.deque[Future[list[Outcome]]] = collections.deque()
        is_first = True

        def finish() -> Iterator[Outcome]:
            nonlocal is_first
            seen = self._seen(window.take())
            if is_first and should_stop():
                return  # the user stopped phototag while the model was loading, so nothing is written yet
            is_first = False
            written.append(writing.submit(self._settle, seen))
            while len(written) > 1:
                yield from self._outcomes(written.popleft())

        for item in items:
            if isinstance(item, Outcome) and not window and not written:
                yield item  # nothing comes before it, which is so for all photos if the library is up to date
                continue
            window.append(item)
            while window.is_full and not should_stop():
                yield from finish()
        while window and not should_stop():
            yield from finish()
        while written:
            yield from self._outcomes(written.popleft())

    def _seen(self, items: Sequence[_Item]) -> list[tuple[Photo, IndexedPhoto | None, Sight | PhotoError] | Outcome]:
        """Wait until the looker is done with all `items`."""
        seen: list[tuple[Photo, IndexedPhoto | None, Sight | PhotoError] | Outcome] = []
        for item in items:
            if isinstance(item, Outcome):
                seen.append(item)
                continue
            try:
                sight: Sight | PhotoError = self._wait(item)
            except PhotoError as error:
                sight = error
            seen.append((item.photo, item.known, sight))
        return seen

    def _wait(self, item: _Pending) -> Sight:
        """Wait until a photo has been looked at. Raises `PhotoError` if it cannot be read."""
        sight = item.wait()
        if sight is None:  # it has changed, but kept its size and time: all analyzers look again
            return self._wait(self._submit(item.photo, item.known, {}))
        return sight

    def _settle(self, seen: Sequence[tuple[Photo, IndexedPhoto | None, Sight | PhotoError] | Outcome]) -> list[Outcome]:
        """Tag the photos of a batch. Runs in the writing thread."""
        with timed(self.timings, "write"):
            return self.recorder.settle(seen)

    def _outcomes(self, written: Future[list[Outcome]]) -> list[Outcome]:
        with timed(self.timings, "wait"):
            return written.result()

    # --- After the walk -----------------------------------------------------------------------------------------------

    def _missing(self, presence: Presence) -> Iterator[Outcome]:
        """Yield a failure for each root that has lost all its photos, so that cron sends mail."""
        index = self.recorder.index
        for root in self.roots:
            if presence.is_empty(root) and next(index.below(root, lambda _: True), None) is not None:
                fault = "no photo is left in it; if its disk or share is away, nothing is lost, else scan it no more"
                yield self.recorder.failed(PhotoError(root, fault))

    def _forget_gone(self, presence: Presence) -> None:
        index = self.recorder.index
        for root in self.roots:
            unseen = index.below(root, lambda number: not presence.has_seen(number))
            gone = (number for number, path in unseen if presence.lost(path))
            while some := list(itertools.islice(gone, _MOST_FORGOTTEN)):
                index.forget(some)
            index.settle_failures(root, presence.has_settled)


class _Window:
    """A queue of items from which batches are taken, once enough photos are in progress.

    `ahead`: the number of photos in progress. A batch is half of them.
    """

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead
        self._batch_size = max(1, ahead // 2)
        # Outcomes wait behind a photo until its batch is full. Many unchanged photos in a row must not pile up.
        self._max_items = max(1000, 2 * ahead)
        self._items: collections.deque[_Item] = collections.deque()
        self._photos = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """Whether to take a batch: enough photos are in progress, or there is nothing to wait for."""
        return self._photos >= self._ahead or len(self) >= self._max_items or (self._photos == 0 and bool(self))

    def append(self, item: _Item) -> None:
        self._items.append(item)
        self._photos += not isinstance(item, Outcome)

    def take(self) -> list[_Item]:
        """Remove and return the first items, including at most one batch of photos."""
        taken: list[_Item] = []
        photos = 0
        while self._items and photos + (not isinstance(self._items[0], Outcome)) <= self._batch_size:
            photos += not isinstance(self._items[0], Outcome)
            taken.append(self._items.popleft())
        self._photos -= photos
        return taken
