"""The writer of tags into photos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from phototag.core import Journal, Photo, Prediction, Tag
from phototag.errors import NO_MEMORY, PhotoError
from phototag.metadata import rewrite
from phototag.metadata.files import moment, os_fault
from phototag.metadata.found import earlier_tags_in, has_tags, keywords_in, memory_of_photo, rejected_beside
from phototag.metadata.keywords import FIELDS, Unwritable
from phototag.metadata.sidecars import xmp_sidecar
from phototag.metadata.source import Source
from phototag.metadata.stamp import stamp_now
from phototag.metadata.untag import remove_from_sidecars
from phototag.metadata.writer import EarlierTags, Written, are_left
from phototag.metadata.xmp_sidecar import XmpSidecarWriter


@dataclass(frozen=True)
class EmbedWriter:
    """The writer of tags into photos, or into an XMP sidecar if phototag must not write into the photo.

    `journal` records each change before it is made. `earlier_tags` accepts only tags with the same `recipe`. With
    `forget_rejections`, tags that the user removed are written again. With `touch`, a photo gets the time of writing as
    its modification time.
    """

    model_name: str
    journal: Journal
    recipe: str = ""
    forget_rejections: bool = False
    touch: bool = False

    name = "embed"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Write `tags` into `photo`, next to the user's keywords. Raises `PhotoError`.

        `previous` are the names that phototag wrote into the photo or its XMP sidecar before. If the user removed one
        of them, or one that is recorded there, it is not written again.
        """
        try:
            done = self._embed(photo, tags, previous)
        except Unwritable as refused:
            in_sidecar = XmpSidecarWriter(self.model_name, self.journal, self.recipe, self.forget_rejections)
            done = in_sidecar.write(photo, tags, predictions, previous)
            notes = [f"its tags are in {done.files[0].name}"] if done.files else []
            if has_tags(keywords_in(photo.path)[0]):
                notes.append("those of an earlier run stay in it")
            return replace(done, note=f"{', '.join(notes)}: {refused.reason}" if notes else None)
        except OSError as error:
            raise os_fault(photo.path, "it cannot be written into", error) from None
        except MemoryError:
            raise PhotoError(photo.path, NO_MEMORY) from None
        # There may be a sidecar from a time when phototag could not write into the photo.
        if not done.files and not self.forget_rejections and rejected_beside(photo.path):
            # Only the sidecar records what the user removed, because the photo got no tags that could record it.
            XmpSidecarWriter(self.model_name, self.journal, self.recipe).write(photo, (), ())
        else:
            remove_from_sidecars(photo.path, self.journal, in_run=True)
        return replace(done, photo=_look_again(photo))

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return the tags of an earlier run with the same recipe, or None. None if `photo` has changed since."""
        return earlier_tags_in(photo, self.recipe, lambda: (photo.path, xmp_sidecar(photo.path)))

    def _embed(self, photo: Photo, tags: Sequence[Tag], previous: Sequence[str]) -> Written:
        path = photo.path
        source = Source.read(path)
        # phototag may have written into the photo in this run, by another of its names. Any other change means that the
        # tags are for an earlier picture.
        if not source.is_as_seen(photo) and not source.is_as_left(self.journal):
            raise PhotoError(path, "it was changed while it was looked at", "the next scan looks again")
        stamp = stamp_now(self.model_name, self.recipe)
        memory = replace(memory_of_photo(source, path, previous, self.journal), forget=self.forget_rejections)
        rewriting = rewrite.with_tags(source.data, tags, stamp, memory)
        files = (path,) if are_left(tags, rewriting.rejected) else ()
        if not rewriting.edits:
            return Written(files, photo, None, source.digest, rewriting.rejected, rewriting.own_tags)
        source.check_writable()
        digest = source.replace(
            rewriting.edits,
            lambda content: rewrite.prove(source.data, content, rewriting),
            self.journal,
            # Exactly the recorded time: any later time means a change by another program.
            mtime_ns=moment(stamp.date) if self.touch else source.status.st_mtime_ns,
        )
        left_out = [f"{keyword} in {FIELDS.get(name, 'any list')}" for name, keyword in rewriting.left_out]
        note = f"cannot be written: {', '.join(left_out)}" if left_out else None
        return Written(files, photo, note, digest, rewriting.rejected, rewriting.own_tags)


def _look_again(photo: Photo) -> Photo:
    try:
        status = os.stat(photo.path)
    except OSError as error:
        raise os_fault(photo.path, "it has gone since it was written", error) from None
    return Photo(photo.path, status.st_size, status.st_mtime_ns)
