"""The metadata blocks of a photo, and the changes to them. The format modules share these types."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from phototag.metadata.edits import Data, Edits, applied
from phototag.metadata.keywords import Unwritable

# A few kilobytes are usual. A packet in a PNG or TIFF could claim any size.
MAX_PACKET = 16 << 20  # bytes


class BlockUnwritable(Unwritable):
    """phototag must not write into one block of a photo. `rewrite` may succeed without a change of that block."""

    def __init__(self, block: Literal["exif", "iptc"], reason: str) -> None:
        super().__init__(reason)
        self.block = block


class Drop(enum.Enum):
    """The type of `DROP`."""

    DROP = "drop"


# Remove the block. Only blocks that phototag created are removed.
DROP = Drop.DROP
# None leaves the block unchanged. Edits apply to an existing block. Bytes are a new block for a photo that has none.
Change: TypeAlias = "Edits | bytes | Drop | None"


@dataclass(frozen=True, slots=True)
class Blocks:
    """The metadata blocks of a photo, each None if the photo does not have it. Only JPEGs have `exif` and `iptc`.

    `xmp` is the packet, inflated and without the container's wrapping. `exif` begins with the byte order mark (`II`,
    `MM`); it is the first block if there are several. `iptc` is the Photoshop image resources of all segments, joined.
    `can_create_exif` says whether `rewrite` accepts a new EXIF block. `layout` holds the positions of the blocks for
    the format's own module.
    """

    xmp: bytes | None = None
    exif: bytes | None = None
    iptc: bytes | None = None
    can_create_exif: bool = False
    layout: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """The change to each block. There is never a new `iptc`: photos without it do not need it (MWG guidelines, 2.0)."""

    xmp: Change = None
    exif: Change = None
    iptc: Edits | None = None


def changed(block: bytes | None, change: Change) -> bytes | None:
    """Return `block` with `change` applied. Raises ValueError if `change` does not belong to this block."""
    if change is None:
        return block
    if isinstance(change, bytes):
        if block is not None:
            raise ValueError("a new block beside one that exists")
        return change
    if block is None:
        raise ValueError("a change of a block that does not exist")
    return None if isinstance(change, Drop) else applied(block, change)


def packet_bytes(data: Data, start: int, end: int) -> bytes:
    """Return a copy of the packet from `start` to `end`. Raises `Unwritable` if it is too large for a packet."""
    if end - start > MAX_PACKET:
        raise Unwritable("its XMP packet is larger than 16 MB")
    return bytes(data[start:end])
