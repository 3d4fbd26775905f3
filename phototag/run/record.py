"""Choose, write and record the tags of a photo after it was looked at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from phototag.analysis.analyzer import Analyzer, ResultType, unpacked
from phototag.core import BOXES, Box, Photo, Prediction, Tag
from phototag.errors import PhotoError
from phototag.index import Index, IndexedPhoto, Record
from phototag.metadata.files import folders_synced_once
from phototag.metadata.keywords import key
from phototag.metadata.writer import EarlierTags, Writer, Written
from phototag.run.outcome import Outcome, Status
from phototag.vocabulary.choose import Chooser

# The number of predictions stored with the tags, to show what the tags are based on.
TOP_PREDICTIONS = 5


def recipe_digest(analyzers: Sequence[Analyzer], chooser: Chooser, write: str) -> str:
    """Return the digest of everything that determines a photo's tags and where they are written.

    A photo with another recipe is tagged again. `write` is the writer's name. With one analyzer this is the digest of
    phototag 0.1.0, so that its indexes stay valid.
    """
    texts = [text for analyzer in analyzers for text in analyzer.recipe]
    return hashlib.sha256("\0".join((*texts, chooser.digest, write)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Sight:
    """The knowledge about a photo from which its tags are chosen.

    digest: the `content_digest` of the file, or None if it was not read.
    packed: its results by key. new: the keys that the index does not have.
    earlier: the tags that an earlier run left in its files. Then the other fields are empty.
    """

    digest: bytes | None
    packed: Mapping[str, bytes] = field(default_factory=dict)
    new: Collection[str] = ()
    earlier: EarlierTags | None = None


@dataclass
class _Batch:
    """The additions to the index for a batch of photos."""

    records: list[Record] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    touched: list[tuple[IndexedPhoto, Photo]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.records or self.failures or self.touched)


def _is_there(folder: bytes, name: bytes) -> bool:
    return os.path.exists(os.path.join(folder, name))


@dataclass(frozen=True)
class Recorder:
    """Chooses, writes and records the tags of photos.

    types: the results that are stored for each photo.
    recipe: the `recipe_digest`.
    dry_run: do not write or record anything.
    force: also tag photos that are up to date.
    forget_rejections: also write tags that the user removed.
    details: include the tags in the outcomes of unchanged photos.
    """

    types: Sequence[ResultType[Any]]
    chooser: Chooser
    writer: Writer
    index: Index
    recipe: str
    dry_run: bool = False
    force: bool = False
    forget_rejections: bool = False
    details: bool = True

    # --- Before a photo is looked at ----------------------------------------------------------------------------------

    def is_done(self, photo: Photo, known: IndexedPhoto, is_there: Callable[[bytes, bytes], bool] = _is_there) -> bool:
        """Return whether a photo with known content is up to date. `is_there` takes a folder and a name in it."""
        return (
            known.recipe == self.recipe
            and known.covers(photo.companions)
            and known.is_written(is_there)
            and not (self.forget_rejections and self.index.rejected(known))
        )

    def unchanged(self, photo: Photo, known: IndexedPhoto) -> Outcome:
        """Return the outcome of a photo that an earlier run tagged."""
        if not self.details:
            return Outcome(photo, "unchanged")
        tags, predictions, boxes = self.index.tags(known), self.index.predictions(known), self._boxes(known)
        return Outcome(photo, "unchanged", tags, predictions, known.written, boxes=boxes)

    def _boxes(self, known: IndexedPhoto) -> tuple[Box, ...] | None:
        """Return the boxes that the index has for a photo, or None if it has none or there is no detector."""
        kinds = [kind for kind in self.types if kind.name == BOXES]
        if not kinds:
            return None
        boxes: tuple[Box, ...] | None = unpacked(kinds, self.index.results(known, [kinds[0].key])).get(BOXES)
        return boxes

    def failed(self, error: PhotoError) -> Outcome:
        """Record a photo or a folder that failed, and return its outcome."""
        if not self.dry_run:
            self.index.add((), [(Path(error.path), error.reason)])
        return Outcome(Path(error.path), "failed", error=error)

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return the tags that an earlier run left in the files of a photo that the index does not know."""
        if self.force or self.forget_rejections or photo.companions:
            return None
        return self.writer.earlier_tags(photo)

    def usable(self, packed: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return those packed results that can be unpacked. The others come from a damaged index."""
        names = unpacked(self.types, packed).keys()
        return {kind.key: packed[kind.key] for kind in self.types if kind.name in names}

    # --- After a photo is looked at -----------------------------------------------------------------------------------

    def settle(self, seen: Sequence[tuple[Photo, IndexedPhoto | None, Sight | PhotoError] | Outcome]) -> list[Outcome]:
        """Tag the photos of a batch, record them all at once, and return their outcomes.

        Outcomes in `seen` are already settled and keep their places.
        """
        batch = _Batch()
        with folders_synced_once():  # ends before anything is recorded
            outcomes = [one if isinstance(one, Outcome) else self._settle(*one, batch) for one in seen]
        for one, outcome in zip(seen, outcomes, strict=True):
            if outcome.status == "failed" and outcome is not one:
                batch.failures.append((outcome.path, outcome.error.reason if outcome.error is not None else ""))
        if not (batch.is_empty or self.dry_run):
            self.index.add(batch.records, batch.failures, batch.touched)
        return outcomes

    def _settle(self, photo: Photo, known: IndexedPhoto | None, sight: Sight | PhotoError, batch: _Batch) -> Outcome:
        if isinstance(sight, PhotoError):
            return Outcome(photo, "failed", error=sight)
        if sight.earlier is not None:
            return self._take_over(photo, sight.earlier, batch)
        if sight.digest is not None and not self.dry_run:
            known = known or self.index.adopt(photo, sight.digest)
            is_same = known is not None and not self.force and self.index.digest(known) == sight.digest
            if known is not None and is_same and self.is_done(photo, known):
                batch.touched.append((known, photo))
                return self.unchanged(photo, known)
        return self._tag(photo, known, sight, batch)

    def _take_over(self, photo: Photo, earlier: EarlierTags, batch: _Batch) -> Outcome:
        """Record the tags that an earlier run left, so that the next run need not read the files."""
        batch.records.append(
            Record(
                photo,
                self.recipe,
                earlier.tags,
                earlier.predictions,
                earlier.files,
                rejected=earlier.rejected,
                write=self.writer.name,
                own_tags=tuple(tag.name for tag in earlier.tags),
            )
        )
        return Outcome(photo, "unchanged", earlier.tags, earlier.predictions, earlier.files)

    def _tag(self, photo: Photo, known: IndexedPhoto | None, sight: Sight, batch: _Batch) -> Outcome:
        """Tag a photo, and add its record to `batch`."""
        # Choose from the packed results, whose numbers are rounded, so that the next run chooses the same tags.
        results = {kind.name: kind.unpack(sight.packed[kind.key]) for kind in self.types}
        rejected = () if self.forget_rejections else self._rejected(photo, known, sight.digest)
        predictions = self.chooser.top(results, TOP_PREDICTIONS)
        tags, boxes = _without(self.chooser.choose(results), rejected), results.get(BOXES)
        if self.dry_run:
            return Outcome(photo, "tagged" if tags else "untagged", tags, predictions, boxes=boxes)
        record = Record(
            photo,
            "",
            (),
            predictions,
            (),
            sight.digest,
            seen=sight.digest,
            results={each: sight.packed[each] for each in sight.new},
            names={kind.key: kind.name for kind in self.types},
            rejected=rejected,
        )
        try:
            written, fault = self._write(photo, tags, predictions, known)
        except PhotoError as error:
            batch.records.append(self._with_earlier_tags(record, known))  # so that the next run need not look again
            return Outcome(photo, "failed", tags, predictions, error=error, boxes=boxes)
        tags = _without(tags, written.rejected)
        is_as_seen = (written.photo.size, written.photo.mtime_ns) == (photo.size, photo.mtime_ns)
        batch.records.append(
            replace(
                record,
                photo=written.photo,
                recipe=self.recipe,
                tags=tags,
                written=written.files,
                digest=written.digest or (sight.digest if is_as_seen else None),
                rejected=tuple(dict.fromkeys((*rejected, *written.rejected))),
                write=self.writer.name,
                own_tags=written.own_tags if written.own_tags is not None else tuple(tag.name for tag in tags),
            )
        )
        if fault is not None:
            return Outcome(photo, "failed", tags, predictions, written.files, fault, written.note, boxes)
        status: Status = "tagged" if tags else "untagged"
        return Outcome(photo, status, tags, predictions, written.files, note=written.note, boxes=boxes)

    def _with_earlier_tags(self, record: Record, known: IndexedPhoto | None) -> Record:
        """Return `record` with the earlier tags, which a photo that could not be written still has."""
        if known is None:
            return record
        return replace(
            record,
            tags=self.index.tags(known),
            written=known.written,
            rejected=self.index.rejected(known),
            write=known.write,
            own_tags=self.index.own_tags(known),
        )

    def _rejected(self, photo: Photo, known: IndexedPhoto | None, digest: bytes | None) -> tuple[str, ...]:
        """Return the tags that the user removed from this photo. `known` may be a photo that had its name before."""
        if known is None:
            return ()
        if digest is not None and self.index.digest(known) not in (None, digest):
            of_this = self.index.rejected_with(digest)
            if of_this is not None:
                return of_this
        if known.write in ("", self.writer.name):  # the writer finds the others itself
            return self.index.rejected(known)
        from phototag.metadata.found import removed_by_user  # which imports Pillow

        elsewhere = removed_by_user(photo, known.write, self.index.own_tags(known), self.index)
        return tuple(dict.fromkeys((*self.index.rejected(known), *elsewhere)))

    def _write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], known: IndexedPhoto | None
    ) -> tuple[Written, PhotoError | None]:
        """Write to the photo and its companions. Return what was written, and the error of a companion, if any.

        `Written.photo` has the companions that now have the tags.
        """
        # Names that another writer wrote elsewhere do not show what the user removed from this writer's files.
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
                continue  # it is gone
            except PhotoError as error:
                fault = PhotoError(photo.path, f"{path.name} beside it: {error.reason}")
                continue
            companions.append(path)
            files += other.files
            notes.append(f"{path.name}: {other.note}" if other.note is not None else None)
        now = Photo(written.photo, written.photo.size, written.photo.mtime_ns, tuple(companions))
        note = "; ".join(filter(None, notes)) or None
        return replace(written, files=tuple(files), photo=now, note=note), fault


def _without(tags: Sequence[Tag], names: Collection[str]) -> tuple[Tag, ...]:
    """Return `tags` without those in `names`, ignoring case."""
    unwanted = set(map(key, names))
    return tuple(tag for tag in tags if key(tag.name) not in unwanted) if unwanted else tuple(tags)
