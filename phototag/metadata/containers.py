"""The blocks of metadata inside a photo's file: where they are, and the edits of the file that change them.

Which format a file has is told by its content, never by its name. What a block says is for other modules: an XMP packet
is bytes here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal, Protocol, TypeAlias

from phototag.metadata.edits import Data, Edits, applied, is_same
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


class _Format(Protocol):
    """What a format's module does for this one."""

    def read_blocks(self, data: Data) -> Blocks: ...

    def reread_blocks(self, data: Data, before: Blocks) -> Blocks:
        """As `read_blocks`, of what is the file that has the blocks `before` but for its blocks. Without `layout`."""
        ...

    def rewrite(self, data: Data, changes: Changes, blocks: Blocks) -> Edits:
        """`blocks`: those that `read_blocks` found in `data`."""
        ...

    def foreign(self, data: Data) -> Iterator[Data]:
        """Yield, in an order of the format's own, all that `rewrite` must not change: image data, other metadata."""
        ...


def check_kind(head: Data) -> None:
    """Raise `Unwritable` where a file that begins with `head`, 256 bytes of it, is of a kind not written into."""
    _format(head)


def read_blocks(data: Data) -> Blocks:
    """Return the blocks in the file `data`. Raises `Unwritable` for every file that must not be written into."""
    return _blocks(_format(data), data)


def rewrite(data: Data, changes: Changes, blocks: Blocks | None = None) -> Edits:
    """Return the edits of the file `data` that make `changes`, as small as the format allows.

    `blocks`: what `read_blocks` has returned of `data`, where that is known.

    What stays is neither copied nor moved but for insertions before it. Raises `Unwritable` where `read_blocks` does
    and where a change does not fit, `BlockUnwritable` where it is only that block which must stay as it is, and
    ValueError for changes that do not belong to these blocks: edits of a block that is not there, or a new one beside
    one that is.
    """
    form = _format(data)
    blocks = _blocks(form, data) if blocks is None else blocks
    expected = _expected(blocks, changes)
    if expected.xmp is not None and len(expected.xmp) > MAX_PACKET:
        raise Unwritable("its XMP packet would be larger than 16 MB")
    return form.rewrite(data, changes, blocks)


def verify(before: Data, after: Data, changes: Changes, blocks: Blocks | None = None) -> None:
    """Read the file `after` anew: its blocks must be those of `before` with `changes`, and all else the same.

    This trusts nothing that `rewrite` computed. `blocks`: what `read_blocks` has returned of `before`, where that is
    known. Raises `Unwritable` where anything is off.
    """
    form = _format(before)
    blocks = _blocks(form, before) if blocks is None else blocks
    if _format(after) is not form or not _is_same_around(form, before, after):
        raise Unwritable("more than its keywords would change")
    if _unsigned(form.reread_blocks(after, blocks)) != _expected(blocks, changes):
        raise Unwritable("its metadata would not read back as written")


def is_same_around(one: Data, other: Data) -> bool:
    """Are two files of one format and the same but for their blocks? Raises `Unwritable` as `read_blocks` does."""
    form = _format(one)
    return _format(other) is form and _is_same_around(form, one, other)


def _is_same_around(form: _Format, one: Data, other: Data) -> bool:
    pairs = zip_longest(form.foreign(memoryview(one)), form.foreign(memoryview(other)))
    return all(piece is not None and its is not None and is_same(piece, its) for piece, its in pairs)


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


def _expected(before: Blocks, changes: Changes) -> Blocks:
    exif = changed(before.exif, changes.exif)
    is_free = before.can_create_exif if changes.exif is None else exif is None
    return Blocks(changed(before.xmp, changes.xmp), exif, changed(before.iptc, changes.iptc), is_free)


def _blocks(form: _Format, data: Data) -> Blocks:
    return _unsigned(form.read_blocks(data))


def _unsigned(blocks: Blocks) -> Blocks:
    # C2PA 2.1, 11.4: the packet says where a signature is that is not in the file, yet covers its bytes.
    if blocks.xmp is not None and b"dcterms:provenance" in blocks.xmp:
        raise Unwritable("it is signed (C2PA)")
    return blocks


def _format(data: Data) -> _Format:
    # Here and not above: they build on the types of this module.
    from phototag.metadata import jpeg, png, tiff, webp

    head = bytes(data[:16])
    if head.startswith(b"\xff\xd8"):
        return jpeg
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return png
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return webp
    if head.startswith((b"II*\0", b"MM\0*")):
        return tiff
    raise Unwritable(f"{_name(head, data)} are not written into")


def _name(head: bytes, data: Data) -> str:
    if head[4:8] == b"ftyp":
        return _name_by_brand(head[8:12], bytes(data[16 : min(int.from_bytes(head[:4], "big"), 256)]))
    for start, name in _OTHERS:
        if head.startswith(start):
            return name
    return "files of its kind"


def _name_by_brand(major: bytes, compatible: bytes) -> str:
    """Name the kind of an ISO base media file (ISO/IEC 14496-12) by its `ftyp` box."""
    if major == b"crx ":
        return "RAW files"
    if major in (b"avif", b"avis") or b"avif" in compatible:
        return "AVIF files"
    if major[:3] in (b"hei", b"hev", b"mif", b"msf"):
        return "HEIC files"
    return "files of its kind"


_OTHERS = (
    (b"II+\0", "BigTIFF files"),
    (b"MM\0+", "BigTIFF files"),
    (b"\xff\x0a", "JPEG XL files"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL files"),
    (b"GIF8", "GIF files"),
    (b"BM", "BMP files"),
    (b"IIU\0", "RAW files"),  # Panasonic RW2
    (b"IIR", "RAW files"),  # Olympus ORF
    (b"MMO", "RAW files"),
    (b"II\x1a\0", "RAW files"),  # Canon CRW
    (b"FUJIFILM", "RAW files"),
    (b"FOVb", "RAW files"),
    (b"\0MRM", "RAW files"),
)
