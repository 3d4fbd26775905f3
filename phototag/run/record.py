"""What happens to one photo after it was looked at: its tags are chosen, written and recorded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from phototag.analysis.analyzer import Analyzer, ResultType
from phototag.core import Photo, Prediction, Tag
from phototag.errors import PhotoError
from phototag.index import Index, IndexedPhoto, Record
from phototag.metadata.files import folders_synced_once
from phototag.metadata.keywords import key
from phototag.metadata.writer import EarlierTags, Writer, Written
from phototag.run.outcome import Outcome, Status
from phototag.vocabulary.choose import Chooser

# Stored with the tags, to show where they come from.
TOP_PREDICTIONS = 5


def recipe_digest(analyzers: Sequence[Analyzer], chooser: Chooser, write: str) -> str:
    """Return the digest of everything that decides about a photo's tags and where they go.

    A photo with another recipe is tagged again. `write` is the writer's name. With one analyzer this is the digest of
    phototag 0.1.0, so that its indexes stay valid.
    """
    texts = [text for analyzer in analyzers for text in analyzer.recipe]
    return hashlib.sha256("\0".join((*texts, chooser.digest, write)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known about a photo before its tags are chosen.

    digest: the `content_digest` of the file, or None if it was not read.
    packed: its results by key. new: those keys that the index does not have.
    earlier: what an earlier run left in its files; then the rest is empty.
    """

    digest: bytes | None
    packed: Mapping[str, bytes] = field(default_factory=dict)
    new: Collection[str] = ()
    earlier: EarlierTags | None = None


@dataclass
class _Batch:
    """What a batch of photos adds to the index."""

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
    recipe: `recipe_digest`.
    dry_run: nothing is written or recorded.
    force: photos are tagged again that are up to date.
    forget_rejections: tags are written again that the user removed.
    details: outcomes of unchanged photos tell their tags.
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
        """Return whether a photo with known content needs nothing. `is_there` takes a folder and a name in it."""
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
        return Outcome(photo, "unchanged", self.index.tags(known), self.index.predictions(known), known.written)

    def failed(self, error: PhotoError) -> Outcome:
        """Record a photo or a folder that failed, and return its outcome."""
        if not self.dry_run:
            self.index.add((), [(Path(error.path), error.reason)])
        return Outcome(Path(error.path), "failed", error=error)

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return what an earlier run left in the files of a photo that the index does not know."""
        if self.force or self.forget_rejections or photo.companions:
            return None
        return self.writer.earlier_tags(photo)

    def usable(self, packed: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return those packed results that can be unpacked. The others are of a damaged index, and found out again."""
        usable: dict[str, bytes] = {}
        for kind in self.types:
            if kind.key in packed:
                try:
                    kind.unpack(packed[kind.key])
                except ValueError:
                    continue
                usable[kind.key] = packed[kind.key]
        return usable

    # --- Afterwards ---------------------------------------------------------------------------------------------------

    def settle(self, seen: Sequence[tuple[Photo, IndexedPhoto | None, Sight | PhotoError] | Outcome]) -> list[Outcome]:
        """Tag the photos of a batch, record them all at once, and return their outcomes.

        Outcomes in `seen` are settled already and stay in their places.
        """
        batch = _Batch()
        with folders_synced_once():  # before anything is recorded
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
        """Record what an earlier run left, so that the next run need not ask the files."""
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
        """Tag a photo, and add what the index should remember to `batch`."""
        # Tags are chosen from what is stored, so that the next run chooses the same.
        results = {kind.name: kind.unpack(sight.packed[kind.key]) for kind in self.types}
        rejected = () if self.forget_rejections else self._rejected(photo, known, sight.digest)
        predictions = self.chooser.top(results, TOP_PREDICTIONS)
        tags = _without(self.chooser.choose(results), rejected)
        if self.dry_run:
            return Outcome(photo, "tagged" if tags else "untagged", tags, predictions)
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
            batch.records.append(self._with_earlier_tags(record, known))  # the next run need not look again
            return Outcome(photo, "failed", tags, predictions, error=error)
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
            return Outcome(photo, "failed", tags, predictions, written.files, fault, written.note)
        status: Status = "tagged" if tags else "untagged"
        return Outcome(photo, status, tags, predictions, written.files, note=written.note)

    def _with_earlier_tags(self, record: Record, known: IndexedPhoto | None) -> Record:
        """Return `record` of a photo that could not be written: its files still say what they said before."""
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
        """Return the tags that the user removed from this photo. Another photo may have taken its name."""
        if known is None:
            return ()
        if digest is not None and self.index.digest(known) not in (None, digest):
            of_this = self.index.rejected_with(digest)
            if of_this is not None:
                return of_this
        if known.write in ("", self.writer.name):  # the writer finds out itself
            return self.index.rejected(known)
        from phototag.metadata.found import removed_by_user  # which imports Pillow

        elsewhere = removed_by_user(photo, known.write, self.index.own_tags(known), self.index)
        return tuple(dict.fromkeys((*self.index.rejected(known), *elsewhere)))

    def _write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], known: IndexedPhoto | None
    ) -> tuple[Written, PhotoError | None]:
        """Write to the photo and its companions; return what was written, and what went wrong with a companion.

        `Written.photo` has the companions that have the tags now.
        """
        # The names that another writer wrote say nothing about what is missing where this one writes.
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
    """Return `tags` without those of `names`, whatever their case."""
    unwanted = set(map(key, names))
    return tuple(tag for tag in tags if key(tag.name) not in unwanted) if unwanted else tuple(tags)
