"""Find the metadata blocks in a photo's file, and compute the edits of the file that change them.

The content of a file determines its format, never its name. This module does not look into the blocks: an XMP packet is
just bytes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Protocol

from phototag.metadata import jpeg, png, tiff, webp
from phototag.metadata.blocks import MAX_PACKET, Blocks, Changes, changed
from phototag.metadata.edits import Data, Edits, is_same
from phototag.metadata.keywords import Unwritable


class _Format(Protocol):
    """The interface of a format's module."""

    def read_blocks(self, data: Data) -> Blocks: ...

    def read_exif(self, data: Data) -> Data | None: ...

    def reread_blocks(self, data: Data, before: Blocks) -> Blocks:
        """Return the blocks of `data`, whose other parts are those of a file with the blocks `before`. No `layout`."""
        ...

    def rewrite(self, data: Data, changes: Changes, blocks: Blocks) -> Edits:
        """See `rewrite` below. `blocks` is what `read_blocks` found in `data`."""
        ...

    def foreign(self, data: Data) -> Iterator[Data]:
        """Yield all parts that `rewrite` must not change, such as image data, in an order of the format's own."""
        ...


def check_kind(head: Data) -> None:
    """Raise `Unwritable` if phototag does not write into files that begin with `head`, their first 256 bytes."""
    _format(head)


def read_blocks(data: Data) -> Blocks:
    """Return the blocks in the file `data`. Raises `Unwritable` if phototag must not write into the file."""
    return _blocks(_format(data), data)


def read_exif(data: Data) -> Data | None:
    """Return the EXIF block of the file `data`, for reading only, or None if it has none. For a TIFF, return `data`.

    The block may begin with "Exif" and two zero bytes. A JPEG is only read up to its image data.

    Raises `Unwritable` if the file is malformed, or if phototag does not write into files of its kind.
    """
    return _format(data).read_exif(data)


def rewrite(data: Data, changes: Changes, blocks: Blocks | None = None) -> Edits:
    """Return the edits of the file `data` that make `changes`, as small as the format allows.

    `blocks` is the result of `read_blocks` for `data`, if the caller has it. Unchanged parts are not copied. They move
    only if something is inserted before them.

    Raises `Unwritable` for the same files as `read_blocks`, and if a change does not fit. Raises `BlockUnwritable` if
    only one block must stay unchanged. Raises ValueError if a change does not belong to the blocks: edits of a missing
    block, or a new block although there is one.
    """
    form = _format(data)
    blocks = _blocks(form, data) if blocks is None else blocks
    expected = _expected(blocks, changes)
    if expected.xmp is not None and len(expected.xmp) > MAX_PACKET:
        raise Unwritable("its XMP packet would be larger than 16 MB")
    return form.rewrite(data, changes, blocks)


def verify(before: Data, after: Data, changes: Changes, blocks: Blocks | None = None) -> None:
    """Read the file `after`, and check that its blocks are those of `before` with `changes` and the rest is equal.

    This uses nothing that `rewrite` computed. `blocks` is the result of `read_blocks` for `before`, if the caller has
    it. Raises `Unwritable` if anything differs.
    """
    form = _format(before)
    blocks = _blocks(form, before) if blocks is None else blocks
    if _format(after) is not form or not _is_same_around(form, before, after):
        raise Unwritable("more than its keywords would change")
    if _unsigned(form.reread_blocks(after, blocks)) != _expected(blocks, changes):
        raise Unwritable("its metadata would not read back as written")


def is_same_around(one: Data, other: Data) -> bool:
    """Return whether two files of one format differ only in their blocks. Raises `Unwritable` as `read_blocks` does."""
    form = _format(one)
    return _format(other) is form and _is_same_around(form, one, other)


def _is_same_around(form: _Format, one: Data, other: Data) -> bool:
    pairs = zip_longest(form.foreign(memoryview(one)), form.foreign(memoryview(other)))
    return all(piece is not None and its is not None and is_same(piece, its) for piece, its in pairs)


def _expected(before: Blocks, changes: Changes) -> Blocks:
    exif = changed(before.exif, changes.exif)
    is_free = before.can_create_exif if changes.exif is None else exif is None
    return Blocks(changed(before.xmp, changes.xmp), exif, changed(before.iptc, changes.iptc), is_free)


def _blocks(form: _Format, data: Data) -> Blocks:
    return _unsigned(form.read_blocks(data))


def _unsigned(blocks: Blocks) -> Blocks:
    # C2PA 2.1, 11.4: such a packet refers to a signature outside the file, which covers the bytes of the file.
    if blocks.xmp is not None and b"dcterms:provenance" in blocks.xmp:
        raise Unwritable("it is signed (C2PA)")
    return blocks


def _format(data: Data) -> _Format:

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
    """Return the kind of an ISO base media file (ISO/IEC 14496-12), told by its `ftyp` box."""
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
