"""The writer of tags into XMP sidecars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from phototag.core import Journal, Photo, Prediction, Tag
from phototag.errors import NO_MEMORY, PhotoError
from phototag.metadata import rewrite
from phototag.metadata.files import os_fault
from phototag.metadata.found import earlier_tags_in, keywords_in, memory_of_sidecar
from phototag.metadata.keywords import Unwritable
from phototag.metadata.sidecars import change_sidecar, full_name, xmp_sidecar
from phototag.metadata.stamp import stamp_now
from phototag.metadata.writer import EarlierTags, Written, are_left


@dataclass(frozen=True)
class XmpSidecarWriter:
    """The writer of tags into a photo's existing XMP sidecar, or into a new `photo.jpg.xmp`.

    `journal`, `recipe` and `forget_rejections` are as in `EmbedWriter`.
    """

    model_name: str
    journal: Journal
    recipe: str = ""
    forget_rejections: bool = False

    name = "xmp"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Write `tags` into the sidecar of `photo`, next to its other content. Raises `PhotoError`.

        `previous` are the names that phototag wrote there before. If the user removed one of them, or one that the
        sidecar or the photo records, it is not written again.
        """
        sidecar = full_name(photo.path)
        try:
            sidecar = xmp_sidecar(photo.path)
            if not tags and not os.path.lexists(sidecar):
                return Written((), photo)
            held, source = keywords_in(photo.path)
            # If the photo has changed since, the tags are not for this content, and its digest must not claim that.
            digest = source.digest if source is not None and source.is_as_seen(photo) else None
            rejected: tuple[str, ...] = ()

            def change(packet: bytes | None) -> bytes | None:
                nonlocal rejected
                memory = replace(memory_of_sidecar(packet, previous, self.journal), forget=self.forget_rejections)
                stamp = stamp_now(self.model_name, self.recipe)
                packet, rejected = rewrite.sidecar_with_tags(packet, held, tags, stamp, memory)
                return packet

            change_sidecar(sidecar, photo.path, self.journal, change)
        except Unwritable as refused:
            fault = f"its sidecar {sidecar.name} is left alone ({refused.reason})"
            raise PhotoError(photo.path, fault, "move it away to have a new one") from None
        except OSError as error:
            raise os_fault(photo.path, f"its sidecar {sidecar.name} cannot be written", error) from None
        except MemoryError:
            raise PhotoError(photo.path, NO_MEMORY) from None
        return Written((sidecar,) if are_left(tags, rejected) else (), photo, None, digest, rejected)

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return the tags of an earlier run with the same recipe, or None. None if `photo` has changed since."""
        return earlier_tags_in(photo, self.recipe, lambda: (xmp_sidecar(photo.path),))
