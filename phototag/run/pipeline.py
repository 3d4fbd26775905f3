"""The pipeline: photos in, an outcome for each out, in order, with bounded memory.

Worker threads look at photos a few batches ahead, one thread writes behind, and the thread that takes the outcomes asks
the index and feeds them. What decodes, classifies and writes is handed in, so nothing here knows Pillow, TensorFlow,
SQL or Click.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from phototag.analysis.scores import pack, unpack
from phototag.core import Photo, Prediction, Tag, WalkItem
from phototag.errors import OutOfMemory, PhotoError
from phototag.index import Index, IndexedPhoto, Record
from phototag.metadata.files import EarlierTags, Written, folders_synced_once
from phototag.metadata.keywords import key
from phototag.models.find import Model
from phototag.vocabulary.choose import Chooser, Scores

T = TypeVar("T")
# Finding photos; asking the index; loading the model; reading and decoding; the model; tags into files and the index;
# and how long the thread that takes the outcomes had nothing to do.
Stage = Literal["walk", "index", "load", "decode", "infer", "write", "wait"]
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

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make the files of `photo` say `tags` and nothing else of phototag's; those that a person removed stay away.

        `previous`: names of the tags that they said after the last run. Raises `PhotoError`.
        """

    def standing(self, photo: Photo) -> EarlierTags | None:
        """Return what an earlier run by the same recipe left that the index may not know; None if nothing."""


@dataclass(frozen=True)
class NullWriter:
    """Writes nothing: for people who want the tags on stdout alone."""

    name = "none"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Write nothing."""
        return Written((), photo)

    def standing(self, photo: Photo) -> EarlierTags | None:
        """Nothing ever stands."""
        return None


@dataclass(frozen=True)
class Scorer:
    """What classifies: takes pixels of many crops, one after the other, and gives a row of scores for each.

    `by_photo`: it may be called by several threads at once, and is as fast for one photo as for many.
    """

    classify: Classify
    by_photo: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo.

    `tagged`: it has tags now. `untagged`: nothing was sure enough. `unchanged`: it was done by an earlier run, and
    the rest is from then. `skipped`: a photo that phototag cannot read. `failed`: `error` says why. `predictions` are
    the model's likeliest labels, `written` the files that hold the tags; `note` says why it is not the photo, where
    that was wanted.
    """

    file: os.PathLike[str]
    status: Status
    tags: tuple[Tag, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    written: tuple[Path, ...] = ()
    error: str | None = None
    note: str | None = None

    @property
    def path(self) -> Path:
        """The photo's path, made anew each time: a million of them take seconds."""
        return Path(self.file)


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


class Timings:
    """Where the time of a run went: seconds by stage, summed over the threads that worked in it."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = dict.fromkeys(get_args(Stage), 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the time that passes inside to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            with self._lock:
                self.seconds[stage] += passed

    def of_each(self, stage: Stage, items: Iterable[T]) -> Iterator[T]:
        """Hand `items` on; what it takes to get them is of `stage`."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                item = next(iterator, None)
            if item is None:
                return
            yield item


@dataclass(frozen=True, slots=True)
class _Sight:
    """What was found out about a photo: its scores, or the pixels that have yet to be classified.

    `digest` is the `content_digest` of it, None where nobody has read it. `is_new`: the scores are not in the index.
    `standing`: what stands in its files already, and then nothing else was looked at.
    """

    digest: bytes | None = None
    scores: Scores | None = None
    pixels: Pixels | None = None
    is_new: bool = True
    standing: EarlierTags | None = None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A photo on its way, and what the index knew of it when it set out."""

    photo: Photo
    known: IndexedPhoto | None
    sight: Future[_Sight]


# A photo on its way, or an outcome that waits for its turn; and then with what was seen of it, or why nothing was.
_Item: TypeAlias = _Pending | Outcome
_Seen: TypeAlias = tuple[_Pending, "_Sight | PhotoError"] | Outcome


def recipe_digest(model: Model, crops: int, chooser: Chooser, write: str) -> str:
    """Identify all that decides about a photo's tags and where they go; where it differs, the photo is done again.

    `write` is the writer's name.
    """
    return hashlib.sha256("\0".join((model.digest, str(crops), chooser.digest, write)).encode()).hexdigest()[:32]


def scores_digest(model: Model, crops: int, kind: str) -> str:
    """Identify all that decides about a photo's scores; where it is the same, the model need not run again.

    `kind`: which of the model's scores they are, probabilities or logits.
    """
    return hashlib.sha256("\0".join((model.digest, str(crops), kind)).encode()).hexdigest()[:32]


def _is_there(folder: bytes, name: bytes) -> bool:
    return os.path.exists(os.path.join(folder, name))


@dataclass(frozen=True)
class Pipeline:
    """How photos become outcomes.

    `look` reads a photo and gives its digest and its pixels, uint8 [crops, height, width, 3], the same shape for all,
    or None if its second argument says that a file of that digest is known; it runs in `jobs` threads. `load_scorer` is
    called once, when the first photo needs it, so that a run with nothing to do loads no model; the scores of a photo's
    crops are averaged. `classes`: how many scores there are. `recipe` and `model` are `recipe_digest`'s and
    `scores_digest`'s.
    `roots`: the folders that are walked, absolute; what is gone from them is forgotten.
    `dry_run`: nothing is written or recorded. `force`: what is done is done again. `forget_rejections`: tags that
    people removed are written again. `details`: outcomes of unchanged photos tell their tags. `timings`: to be filled.
    """

    look: Callable[[Path, Callable[[bytes], bool]], tuple[bytes, Pixels | None]]
    load_scorer: Callable[[], Scorer]
    chooser: Chooser
    writer: Writer
    index: Index
    recipe: str
    model: str
    classes: int
    jobs: int
    batch_size: int
    roots: Sequence[Path] = ()
    dry_run: bool = False
    force: bool = False
    forget_rejections: bool = False
    details: bool = True
    timings: Timings | None = None

    def run(self, found: Iterable[WalkItem], stop: Callable[[], bool]) -> Generator[Outcome, None, None]:
        """Yield the outcome of each photo in `found`, in that order. What is yielded is written and recorded by then.

        Once `stop` says so, what is in hand is finished and nothing else begun.

        Raises `ModelError` where the model fails, `IndexUnusable` where the index does.
        """
        scorer, walk = _Lazy(self._load), _Walk()
        with (
            ThreadPoolExecutor(self.jobs, thread_name_prefix="look") as pool,
            ThreadPoolExecutor(1, thread_name_prefix="write") as writing,
        ):
            try:
                if self.timings is not None:
                    found = self.timings.of_each("walk", found)
                items = self._items(walk.note(found), pool, scorer, walk, stop)
                yield from self._in_order(items, scorer, writing, stop)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        if not stop():
            yield from self._missing(walk)
            if not self.dry_run:
                self._forget_gone(walk)

    def is_done(self, one: WalkItem) -> bool:
        """Is it a photo that an earlier run has seen to, as it is?"""
        if not isinstance(one, Photo):
            return False
        known = self.index.known(one)
        return known is not None and known.is_of(one) and self._is_done(one, known)

    def _load(self) -> Scorer:
        with self._timed("load"):
            return self.load_scorer()

    def _in_order(
        self, items: Iterable[_Item], scorer: _Lazy, writing: ThreadPoolExecutor, stop: Callable[[], bool]
    ) -> Iterator[Outcome]:
        """Classify batch after batch, and yield the outcomes of each when it is written: one behind."""
        window = _Window(self.batch_size)
        written: collections.deque[Future[Sequence[Outcome]]] = collections.deque()

        def finish() -> Iterator[Outcome]:
            is_first = not scorer.is_loaded
            seen = self._classified(window.take(), scorer)
            if is_first and stop():
                return  # asked for while the model was loaded: nothing is in hand yet
            written.append(writing.submit(self._write_all, seen))
            while len(written) > 1:
                yield from self._outcomes(written.popleft())

        for item in items:
            if isinstance(item, Outcome) and not window and not written:
                yield item  # nothing to wait for: so it is for all photos of a library that is done
                continue
            window.append(item)
            while window.is_full and not stop():
                yield from finish()
        while window and not stop():
            yield from finish()
        while written:
            yield from self._outcomes(written.popleft())

    def _outcomes(self, written: Future[Sequence[Outcome]]) -> Sequence[Outcome]:
        with self._timed("wait"):
            return written.result()

    def _timed(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        return self.timings.measure(stage) if self.timings is not None else _UNTIMED

    def _items(
        self,
        found: Iterable[WalkItem],
        pool: ThreadPoolExecutor,
        scorer: _Lazy,
        walk: _Walk,
        stop: Callable[[], bool],
    ) -> Iterator[_Item]:
        """Settle what can be settled without looking at photos, and send the rest to be looked at."""
        for one in found:
            if stop():
                return
            if isinstance(one, Photo):
                yield self._set_out(one, pool, scorer, walk)
            elif isinstance(one, PhotoError):
                yield self._failed(Path(one.path), one.reason)
            elif one.kind == "unreadable":
                yield Outcome(one, "skipped", error=one.reason)

    def _set_out(self, photo: Photo, pool: ThreadPoolExecutor, scorer: _Lazy, walk: _Walk) -> _Item:
        if self.timings is None:  # the one thing that is done for each of a million photos that are done
            known = self.index.known(photo)
        else:
            with self.timings.measure("index"):
                known = self.index.known(photo)
        if known is not None:
            walk.see(known.id)
        if known is not None and known.is_of(photo) and not self.force:
            if self._is_done(photo, known, walk.is_there):
                return self._unchanged(photo, known)
            scores = self._remembered(self.index.scores(known, self.model))
            if scores is not None:
                at_once: Future[_Sight] = Future()
                at_once.set_result(_Sight(self.index.digest(known), scores, is_new=False))
                return _Pending(photo, known, at_once)
        return _Pending(photo, known, pool.submit(self._look, photo, known, scorer))

    def _is_done(self, photo: Photo, known: IndexedPhoto, is_there: Callable[[bytes, bytes], bool] = _is_there) -> bool:
        """Is there nothing to do for a photo whose content is known?"""
        return (
            known.recipe == self.recipe
            and known.covers(photo.companions)
            and known.is_written(is_there)
            and not (self.forget_rejections and self.index.rejected(known))
        )

    def _unchanged(self, photo: Photo, known: IndexedPhoto) -> Outcome:
        if not self.details:
            return Outcome(photo, "unchanged")
        return Outcome(photo, "unchanged", self.index.tags(known), self.index.predictions(known), known.written)

    def _failed(self, path: Path, reason: str) -> Outcome:
        if not self.dry_run:
            self.index.add((), [(path, reason)])
        return Outcome(path, "failed", error=reason)

    def _remembered(self, packed: bytes | None) -> Scores | None:
        try:
            scores = unpack(packed) if packed is not None else None
        except ValueError:  # a damaged index; the model will tell again
            return None
        return scores if scores is not None and len(scores) == self.classes else None

    # --- In the worker threads ----------------------------------------------------------------------------------------

    def _look(self, photo: Photo, known: IndexedPhoto | None, scorer: _Lazy) -> _Sight:
        """Look at a photo, unless its content is known. Raises `PhotoError`."""
        if known is None and not (self.force or self.forget_rejections or photo.companions):
            standing = self.writer.standing(photo)
            if standing is not None:
                return _Sight(standing=standing)
        scores: Scores | None = None

        def is_known(digest: bytes) -> bool:
            nonlocal scores
            scores = None if self.force else self._remembered(self.index.scores_of(digest, self.model))
            return scores is not None

        with self._timed("decode"):
            digest, pixels = self.look(photo.path, is_known)
        if scores is not None or pixels is None:
            return _Sight(digest, scores)
        loaded = scorer.get()
        if loaded.by_photo:
            # What is too much beside the other threads is left to the one that classifies batches, part by part.
            with contextlib.suppress(OutOfMemory), self._timed("infer"):
                return _Sight(digest, loaded.classify(pixels).mean(axis=0))
        return _Sight(digest, pixels=pixels)

    # --- In the thread that takes the outcomes ------------------------------------------------------------------------

    def _classified(self, items: Sequence[_Item], scorer: _Lazy) -> Sequence[_Seen]:
        """Wait for the sights of all `items`, and classify together those that have yet to be."""
        seen: list[_Seen] = []
        for item in items:
            if isinstance(item, Outcome):
                seen.append(item)
                continue
            try:
                with self._timed("wait"):
                    seen.append((item, item.sight.result()))
            except PhotoError as error:
                seen.append((item, error))
        sights = [one[1] for one in seen if not isinstance(one, Outcome)]
        pixels = [sight.pixels for sight in sights if isinstance(sight, _Sight) and sight.pixels is not None]
        if not pixels:
            return seen
        with self._timed("infer"):
            scores = _classify(scorer.get().classify, np.concatenate(pixels))
        rows = iter(scores.reshape(len(pixels), -1, scores.shape[-1]).mean(axis=1))
        return [one if isinstance(one, Outcome) else (one[0], _with_scores(one[1], rows)) for one in seen]

    def _forget_gone(self, walk: _Walk) -> None:
        for root in self.roots:
            unseen = self.index.below(root, lambda number: not walk.has_seen(number))
            gone = (number for number, path in unseen if walk.lost(path))
            while some := list(itertools.islice(gone, _MOST_FORGOTTEN)):
                self.index.forget(some)
            self.index.settle_failures(root, walk.has_settled)

    def _missing(self, walk: _Walk) -> Iterator[Outcome]:
        """The roots that hold no photo any more: who deletes all of a library does not scan it every night."""
        for root in self.roots:
            if walk.is_empty(root) and next(self.index.below(root, lambda _: True), None) is not None:
                fault = "no photo is left in it; if its disk or share is away, nothing is lost, else scan it no more"
                yield self._failed(root, fault)

    # --- In the writing thread ----------------------------------------------------------------------------------------

    def _write_all(self, seen: Sequence[_Seen]) -> Sequence[Outcome]:
        """Tag, write and record the photos of a batch; return the outcomes of all."""
        with self._timed("write"):
            return self._written(seen)

    def _written(self, seen: Sequence[_Seen]) -> Sequence[Outcome]:
        records: list[Record] = []
        touched: list[tuple[IndexedPhoto, Photo]] = []
        with folders_synced_once():  # before anything is recorded
            outcomes = [one if isinstance(one, Outcome) else self._settle(*one, records, touched) for one in seen]
        failures = [
            (outcome.path, outcome.error or "")
            for one, outcome in zip(seen, outcomes, strict=True)
            if outcome.status == "failed" and outcome is not one
        ]
        if (records or failures or touched) and not self.dry_run:
            self.index.add(records, failures, touched)
        return outcomes

    def _settle(
        self,
        pending: _Pending,
        sight: _Sight | PhotoError,
        records: list[Record],
        touched: list[tuple[IndexedPhoto, Photo]],
    ) -> Outcome:
        photo, known = pending.photo, pending.known
        if isinstance(sight, PhotoError):
            return Outcome(photo, "failed", error=sight.reason)
        if sight.standing is not None:
            stands = sight.standing
            stood = Record(
                photo,
                self.recipe,
                stands.tags,
                stands.predictions,
                stands.files,
                rejected=stands.rejected,
                write=self.writer.name,
                own_tags=tuple(tag.name for tag in stands.tags),
            )
            records.append(stood)
            return Outcome(photo, "unchanged", stands.tags, stands.predictions, stands.files)
        if sight.digest is not None and not self.dry_run:
            known = known or self.index.adopt(photo, sight.digest)
            is_same = known is not None and not self.force and self.index.digest(known) == sight.digest
            if known is not None and is_same and self._is_done(photo, known):
                touched.append((known, photo))
                return self._unchanged(photo, known)
        return self._tag(photo, known, sight, records)

    def _tag(self, photo: Photo, known: IndexedPhoto | None, sight: _Sight, records: list[Record]) -> Outcome:
        """Tag a photo; add what is to be remembered of it, as it is afterwards, to `records`."""
        assert sight.scores is not None
        packed = pack(sight.scores)
        scores = unpack(packed)  # what is judged is what is remembered, so that it is judged alike next time
        rejected = () if self.forget_rejections else self._rejected(photo, known, sight.digest)
        results = {"objects": scores}
        tags, predictions = self.chooser.choose(results), self.chooser.top(results, TOP_PREDICTIONS)
        tags = _without(tags, rejected)
        new_scores = packed if sight.is_new else None
        if self.dry_run:
            return Outcome(photo, "tagged" if tags else "untagged", tags, predictions)
        try:
            written, fault = self._write(photo, tags, predictions, known)
        except PhotoError as error:
            record = Record(photo, "", (), predictions, (), sight.digest, self.model, new_scores, rejected)
            if known is not None:  # what stands in its files is what stood there before
                record = replace(
                    record,
                    tags=self.index.tags(known),
                    written=known.written,
                    rejected=self.index.rejected(known),
                    write=known.write,
                    own_tags=self.index.own_tags(known),
                )
            records.append(record)  # the next run need not look at it again
            return Outcome(photo, "failed", tags, predictions, error=error.reason)
        tags = _without(tags, written.rejected)
        is_as_seen = (written.photo.size, written.photo.mtime_ns) == (photo.size, photo.mtime_ns)
        digest = written.digest or (sight.digest if is_as_seen else None)
        rejected = tuple(dict.fromkeys((*rejected, *written.rejected)))
        noted = written.own_tags if written.own_tags is not None else tuple(tag.name for tag in tags)
        records.append(
            Record(
                written.photo,
                self.recipe,
                tags,
                predictions,
                written.files,
                digest=digest,
                model=self.model,
                scores=new_scores,
                rejected=rejected,
                write=self.writer.name,
                own_tags=noted,
            )
        )
        if fault is not None:
            return Outcome(photo, "failed", tags, predictions, written.files, fault, written.note)
        status: Status = "tagged" if tags else "untagged"
        return Outcome(photo, status, tags, predictions, written.files, note=written.note)

    def _rejected(self, photo: Photo, known: IndexedPhoto | None, digest: bytes | None) -> tuple[str, ...]:
        """The tags that a person has removed from the photo that is there now: another may have taken its name."""
        if known is None:
            return ()
        if digest is not None and self.index.digest(known) not in (None, digest):
            of_this = self.index.rejected_with(digest)
            if of_this is not None:
                return of_this
        if known.write in ("", self.writer.name):  # whose own `write` sees it
            return self.index.rejected(known)
        from phototag.metadata.writers import removed_by_people  # which needs Pillow

        elsewhere = removed_by_people(photo, known.write, self.index.own_tags(known), self.index)
        return tuple(dict.fromkeys((*self.index.rejected(known), *elsewhere)))

    def _write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], known: IndexedPhoto | None
    ) -> tuple[Written, str | None]:
        """Write to the photo and its companions; return what came of it, and what went wrong with a companion.

        `Written.photo` has the companions that have the tags now.
        """
        # Another writer's names would say nothing of what is missing where this one writes.
        is_same_place = known is not None and known.write == self.writer.name
        previous = self.index.own_tags(known) if known is not None and is_same_place else ()
        written = self.writer.write(photo, tags, predictions, previous)
        if not photo.companions:
            return written, None
        tags = _without(tags, written.rejected)
        companions, files, notes = [], list(written.files), [written.note]
        fault = None
        for path in photo.companions:
            try:
                status = os.stat(path)
                other = self.writer.write(Photo(path, status.st_size, status.st_mtime_ns), tags, predictions, previous)
            except OSError:
                continue  # it has gone meanwhile
            except PhotoError as error:
                fault = f"{path.name} beside it: {error.reason}"
                continue
            companions.append(path)
            files += other.files
            notes.append(f"{path.name}: {other.note}" if other.note is not None else None)
        now = Photo(written.photo, written.photo.size, written.photo.mtime_ns, tuple(companions))
        note = "; ".join(filter(None, notes)) or None
        return replace(written, files=tuple(files), photo=now, note=note), fault


def _classify(classify: Classify, pixels: Pixels) -> NDArray[np.float32]:
    """Classify, in halves where the whole does not fit into memory. Raises `ModelError`."""
    try:
        return classify(pixels)
    except OutOfMemory:
        if len(pixels) == 1:
            raise
    middle = len(pixels) // 2
    return np.concatenate([_classify(classify, part) for part in (pixels[:middle], pixels[middle:])])


_UNTIMED = contextlib.nullcontext()


def _with_scores(sight: _Sight | PhotoError, rows: Iterator[Scores]) -> _Sight | PhotoError:
    if isinstance(sight, PhotoError) or sight.pixels is None:
        return sight
    return replace(sight, scores=next(rows), pixels=None)


def _without(tags: Sequence[Tag], names: Collection[str]) -> tuple[Tag, ...]:
    """`tags` but for those of `names`, whatever their case."""
    unwanted = set(map(key, names))
    return tuple(tag for tag in tags if key(tag.name) not in unwanted) if unwanted else tuple(tags)


# So many at a time: what one change forgets is held in the memory, and on the disk a second time.
_MOST_FORGOTTEN = 10_000
# Above that many places that a walk could not see, a disk has gone, and nothing is forgotten.
_MOST_UNSEEN = 10_000
_PAGE = 4096  # bytes


# A folder and those above it; photos of one may come in turn with those of the folders in it.
_FOLDERS_LISTED = 16


class _Walk:
    """What a walk saw: what tells a photo that was removed from one whose disk is not there."""

    def __init__(self) -> None:
        # A bit for each photo's number: a set of a million numbers would take 60 MB. In pages, as a damaged index may
        # have any number.
        self._seen: collections.defaultdict[int, bytearray] = collections.defaultdict(lambda: bytearray(_PAGE))
        self._with_photos: set[str] = set()
        self._names: dict[bytes, frozenset[bytes]] = {}
        self._unseen: set[str] = set()  # files and folders that were there, and then could not be seen
        self._living: set[str] | None = None

    def note(self, found: Iterable[WalkItem]) -> Iterator[WalkItem]:
        """Hand `found` on, and remember the folders of the photos, and where nothing could be seen."""
        last = None
        for one in found:
            if isinstance(one, Photo):
                folder = os.fspath(one).rpartition(os.sep)[0] or os.sep
                if folder != last:
                    self._with_photos.add(folder)
                    last = folder
            elif isinstance(one, PhotoError) and len(self._unseen) <= _MOST_UNSEEN:
                self._unseen.add(one.path)
            yield one

    def is_there(self, folder: bytes, name: bytes) -> bool:
        """Is there a file of that name in the folder of the photo at hand? Once asked, by one look for all of them."""
        names = self._names.pop(folder, None)
        if names is None:
            try:
                names = frozenset(os.listdir(folder))
            except OSError:  # of which the walk tells
                names = frozenset()
            if len(self._names) >= _FOLDERS_LISTED:
                del self._names[next(iter(self._names))]
        self._names[folder] = names  # the last one asked for is the last to go
        return name in names

    def see(self, number: int) -> None:
        """Note that the photo of that number in the index was met."""
        page, at = divmod(number >> 3, _PAGE)
        self._seen[page][at] |= 1 << (number & 7)

    def has_seen(self, number: int) -> bool:
        """Was it?"""
        page, at = divmod(number >> 3, _PAGE)
        return page in self._seen and bool(self._seen[page][at] & 1 << (number & 7))

    def lost(self, path: Path) -> bool:
        """Has the photo at `path` gone for good?

        Not where that cannot be known, as where it, or a folder above it, was there and not to be seen; and not where
        the nearest folder that is still there holds no photo at all: then it is what is left of a mount, or a disk that
        is not plugged in.
        """
        if self._is_hidden(path):
            return False
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return self._is_alive(os.path.dirname(path))
        except OSError:
            pass
        return False

    def has_settled(self, path: Path) -> bool:
        """Was what failed at `path` in an earlier run met again, or is it gone for good?"""
        return not self._is_hidden(path) and (os.path.lexists(path) or self.lost(path))

    def is_empty(self, root: Path) -> bool:
        """Is `root` a folder that could be seen, and in which there is no photo?"""
        return os.path.isdir(root) and not self._is_hidden(root) and str(root) not in self._folders_above_photos()

    def _is_hidden(self, path: Path) -> bool:
        if len(self._unseen) > _MOST_UNSEEN:
            return True
        return bool(self._unseen) and not self._unseen.isdisjoint(map(str, (path, *path.parents)))

    def _folders_above_photos(self) -> set[str]:
        if self._living is None:
            self._living = set()
            for each in self._with_photos:
                while each not in self._living:
                    self._living.add(each)
                    each = os.path.dirname(each)
        return self._living

    def _is_alive(self, folder: str) -> bool:
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        return folder in self._folders_above_photos()


class _Lazy:
    """A scorer that is loaded when it is first needed, by whichever thread needs it; once, also where that fails."""

    def __init__(self, load: Callable[[], Scorer]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._scorer: Scorer | None = None
        self._error: BaseException | None = None

    @property
    def is_loaded(self) -> bool:
        return self._scorer is not None

    def get(self) -> Scorer:
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._scorer is None:
                try:
                    self._scorer = self._load()
                except BaseException as error:
                    self._error = error
                    raise
            return self._scorer


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
