"""The pipeline: photos in, an outcome for each out, in order, with bounded memory.

Decoder threads work a few batches ahead of the model; everything else happens in the thread that takes the outcomes.
What decodes, classifies and writes is handed in, so nothing here knows Pillow, TensorFlow, SQL or Click.
"""

from __future__ import annotations

import collections
import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from phototag.errors import PhotoError
from phototag.hedging import Scores, Tagger
from phototag.index import Index, Record
from phototag.metadata.files import Written
from phototag.models import Model
from phototag.photos import Found, PassedOver, Photo
from phototag.taxonomy import Prediction, Tag

Status = Literal["tagged", "untagged", "unchanged", "skipped", "failed"]
Pixels: TypeAlias = NDArray[np.uint8]
Classify: TypeAlias = Callable[[Pixels], NDArray[np.float32]]

# Kept with the tags, for anyone who wonders where they come from.
TOP_PREDICTIONS = 5


class Writer(Protocol):
    """Puts tags where the user wants them."""

    @property
    def name(self) -> str:
        """What `--write` calls it."""

    def write(self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction]) -> Written:
        """Make the files of `photo` say `tags` and nothing else of phototag's. Raises `PhotoError`."""


@dataclass(frozen=True)
class NullWriter:
    """Writes nothing: for people who want the tags on stdout alone."""

    name = "none"

    def write(self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction]) -> Written:
        """Write nothing."""
        return Written((), photo)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo.

    `tagged`: it has tags now. `untagged`: nothing was sure enough. `unchanged`: it was done by an earlier run, and
    the rest is from then. `skipped`: a photo that phototag cannot read. `failed`: `error` says why. `predictions` are
    the model's likeliest labels, `written` the files that hold the tags; `note` says why it is not the photo, where
    that was wanted.
    """

    path: Path
    status: Status
    tags: tuple[Tag, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    written: tuple[Path, ...] = ()
    error: str | None = None
    note: str | None = None


@dataclass
class Report:
    """Counts of a run."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(Status), 0))
    other_files: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count `outcome`."""
        self.counts[outcome.status] += 1

    @property
    def photos(self) -> int:
        """How many photos there were."""
        return sum(self.counts.values())

    @property
    def all_well(self) -> bool:
        """Did no photo fail?"""
        return self.counts["failed"] == 0


# A photo whose pixels are on their way, or an outcome that waits for its turn.
_Item: TypeAlias = tuple[Photo, "Future[Pixels]"] | Outcome


def recipe_digest(model: Model, crops: int, tagger: Tagger, writer: Writer) -> str:
    """Identify all that decides about a photo's tags and where they go; where it differs, the photo is done again."""
    return hashlib.sha256("\0".join((model.digest, str(crops), tagger.digest, writer.name)).encode()).hexdigest()


@dataclass(frozen=True)
class Pipeline:
    """How photos become outcomes.

    `decode` gives a photo's pixels, uint8 [crops, height, width, 3], the same shape for all; it runs in `jobs` threads.
    What classifies takes such pixels of many, one after the other, and gives a row of scores for each crop; the scores
    of a photo's crops are averaged.
    `load_classifier` is called once, when the first photo needs it, so that a run with nothing to do loads no model.
    `recipe` is `recipe_digest`'s. `dry_run`: nothing is written or recorded. `force`: what is done is done again.
    """

    decode: Callable[[Path], Pixels]
    load_classifier: Callable[[], Classify]
    tagger: Tagger
    writer: Writer
    index: Index
    recipe: str
    jobs: int
    batch_size: int
    dry_run: bool = False
    force: bool = False

    def run(self, found: Iterable[Found], stop: Callable[[], bool]) -> Generator[Outcome, None, None]:
        """Yield the outcome of each photo in `found`, in that order. What is yielded is written and recorded by then.

        Once `stop` says so, the batch in hand is finished and nothing else begun.

        Raises `ModelError` where the model fails, `IndexUnusable` where the index does.
        """
        window, classifier = _Window(self.batch_size), _Lazy(self.load_classifier)
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="decode") as pool:
            try:
                for item in self._items(found, pool, stop):
                    if isinstance(item, Outcome) and not window:
                        yield item  # nothing to wait for: so it is for all photos of a library that is done
                        continue
                    window.append(item)
                    while window.is_full and not stop():
                        yield from self._finish(window.take(), classifier, stop)
                    if stop():
                        return
                while window and not stop():
                    yield from self._finish(window.take(), classifier, stop)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _items(self, found: Iterable[Found], pool: ThreadPoolExecutor, stop: Callable[[], bool]) -> Iterator[_Item]:
        """Settle what can be settled without looking at pixels, and send the rest to be decoded."""
        for one in found:
            if stop():
                return
            if isinstance(one, PhotoError):
                yield Outcome(Path(one.path), "failed", error=one.reason)
            elif isinstance(one, PassedOver):
                if one.kind == "unreadable":
                    yield Outcome(one.path, "skipped", error=one.reason)
            elif (record := self._done(one)) is not None:
                yield Outcome(one.path, "unchanged", record.tags, record.predictions, record.written)
            else:
                yield one, pool.submit(self.decode, one.path)

    def _done(self, photo: Photo) -> Record | None:
        """The record of a photo that needs nothing: unchanged, by the same recipe, its sidecar still there."""
        record = None if self.force else self.index.current(photo, self.recipe)
        return record if record is not None and all(os.path.exists(path) for path in record.written) else None

    def _finish(self, items: Sequence[_Item], classifier: _Lazy, stop: Callable[[], bool]) -> Sequence[Outcome]:
        """Classify, write and record the photos among `items`; return the outcomes of all.

        Nothing where a stop was asked for while the model was loaded: then the batch is not begun.
        """
        waiting = [item for item in items if not isinstance(item, Outcome)]
        decoded: dict[Photo, Pixels] = {}
        settled: dict[Path, Outcome] = {}
        done: list[Record] = []
        for photo, pixels in waiting:
            try:
                decoded[photo] = pixels.result()
            except PhotoError as error:
                settled[photo.path] = Outcome(photo.path, "failed", error=error.reason)
        if decoded:
            if classifier.load() and stop():
                return ()
            scores = classifier.classify(np.concatenate(list(decoded.values())))
            of_photos = scores.reshape(len(decoded), -1, scores.shape[-1]).mean(axis=1)
            for photo, row in zip(decoded, of_photos, strict=True):
                settled[photo.path] = self._write(photo, row, done)
        if done and not self.dry_run:
            self.index.add(done)
        return [item if isinstance(item, Outcome) else settled[item[0].path] for item in items]

    def _write(self, photo: Photo, scores: Scores, done: list[Record]) -> Outcome:
        """Tag a photo; add what is to be remembered of it, as it is afterwards, to `done`."""
        tags, predictions = self.tagger.choose(scores), self.tagger.top(scores, TOP_PREDICTIONS)
        try:
            written = Written((), photo) if self.dry_run else self.writer.write(photo, tags, predictions)
        except PhotoError as error:
            return Outcome(photo.path, "failed", tags, predictions, error=error.reason)
        done.append(Record(written.photo, self.recipe, tags, predictions, written.files))
        status: Status = "tagged" if tags else "untagged"
        return Outcome(photo.path, status, tags, predictions, written.files, note=written.note)


class _Lazy:
    """A classifier that is loaded when it is first needed."""

    def __init__(self, load: Callable[[], Classify]) -> None:
        self._load = load
        self._classify: Classify | None = None

    def load(self) -> bool:
        """Load it, unless it is, and say whether that was necessary."""
        if self._classify is not None:
            return False
        self._classify = self._load()
        return True

    def classify(self, pixels: Pixels) -> NDArray[np.float32]:
        self.load()
        assert self._classify is not None
        return self._classify(pixels)


class _Window:
    """Items in order, of which batches are taken; knows when there is enough to decode ahead."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        # Outcomes wait behind a photo for its batch to fill; a long run of photos that are done must not pile up.
        self._max_items = max(1000, 4 * batch_size)
        self._items: collections.deque[_Item] = collections.deque()
        self._photos = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """Is there a batch and another one to decode meanwhile, or nothing that `take` would have to wait for?"""
        return (
            self._photos >= 2 * self._batch_size or len(self) >= self._max_items or (self._photos == 0 and bool(self))
        )

    def append(self, item: _Item) -> None:
        self._items.append(item)
        self._photos += not isinstance(item, Outcome)

    def take(self) -> list[_Item]:
        """Remove and return the first items, with at most a batch of photos among them."""
        taken: list[_Item] = []
        photos = 0
        while self._items and photos + (not isinstance(self._items[0], Outcome)) <= self._batch_size:
            photos += not isinstance(self._items[0], Outcome)
            taken.append(self._items.popleft())
        self._photos -= photos
        return taken
