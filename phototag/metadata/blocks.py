"""The values for the blocks of metadata in a photo and their changes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from phototag.metadata.edits import Data, Edits, applied
from phototag.metadata.keywords import Unwritable

# A packet of a few kilobytes is usual; one in a PNG or a TIFF could claim any size.
MAX_PACKET = 16 << 20  # bytes


class BlockUnwritable(Unwritable):
    """One block must stay as it is; `rewrite` without a change of that block may still succeed."""

    def __init__(self, block: Literal["exif", "iptc"], reason: str) -> None:
        super().__init__(reason)
        self.block = block


class Drop(enum.Enum):
    """The type of `DROP`."""

    DROP = "drop"


# Take the block away. Only for blocks that phototag made itself.
DROP = Drop.DROP
# None leaves the block as it is; edits are of the block that exists; bytes are a new block where there is none.
Change: TypeAlias = "Edits | bytes | Drop | None"


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of metadata in a photo; None where there is none. `exif` and `iptc` are those of JPEGs alone.

    `xmp`: the packet, inflated, without what the container wraps it in. `exif`: from the byte order mark (`II`, `MM`)
    on; the first, where there are several. `iptc`: the Photoshop image resources, all segments' together.
    `can_create_exif`: would `rewrite` take a new EXIF block? `layout`: where it all is, for the format's own module.
    """

    xmp: bytes | None = None
    exif: bytes | None = None
    iptc: bytes | None = None
    can_create_exif: bool = False
    layout: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to become of each block. There is no new `iptc`: who has no IPTC needs none (MWG guidelines, 2.0)."""

    xmp: Change = None
    exif: Change = None
    iptc: Edits | None = None


def changed(block: bytes | None, change: Change) -> bytes | None:
    """Return what `change` makes of `block`. Raises ValueError where it is not a change of that block."""
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
    """Return a copy of the packet from `start` to `end`. Raises `Unwritable` where it is too large to be one."""
    if end - start > MAX_PACKET:
        raise Unwritable("its XMP packet is larger than 16 MB")
    return bytes(data[start:end])
