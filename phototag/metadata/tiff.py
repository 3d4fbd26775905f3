"""TIFF files, and the structure that they share with EXIF blocks (TIFF 6.0, section 2).

Nothing in a TIFF moves, because any part may address any other by its offset. A new value and a new copy of the first
IFD are appended. Only the header's pointer to the IFD changes; the old IFD stays as dead bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from phototag.metadata.blocks import Blocks, Changes, changed, packet_bytes
from phototag.metadata.edits import Data, Edit, Edits, replacement, shifted
from phototag.metadata.keywords import Unwritable

ByteOrder: TypeAlias = Literal["little", "big"]

BYTE, SHORT, LONG, UNDEFINED, IFD = 1, 3, 4, 7, 13
# The size of one value of each type in bytes: TIFF 6.0, and TIFF Technical Note 1 for type 13.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

XMP = 700
_COMPRESSION, _PHOTOMETRIC, _MAKE, _SUB_IFDS = 259, 262, 271, 330
# The tags of offsets and of lengths for strips, tiles and an embedded JPEG.
_DATA = ((273, 279), (324, 325), (513, 514))
# The values in ordinary TIFFs. Every TIFF-based RAW format has its own value in one of the two sets. None, CCITT (2 to
# 4), LZW, JPEG, Deflate (8, 32946), PackBits, JPEG 2000, LZMA, Zstandard, WebP.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34712, 34925, 50000, 50001})
# WhiteIsZero, BlackIsZero, RGB, palette, mask, CMYK, YCbCr, and L*a*b* in three encodings.
_PHOTOMETRICS = frozenset({0, 1, 2, 3, 4, 5, 6, 8, 9, 10})
# DNGVersion, DNGPrivateData (which Sony uses too), LeafData, and CFARepeatPatternDim and CFAPattern of TIFF/EP.
_RAW_TAGS = frozenset({50706, 50740, 34310, 33421, 33422})
_C2PA = 52545
# Trailers that readers find from the end of the file, so nothing may follow them: Canon's recipes, AFCP, Photo
# Mechanic, FotoStation, Samsung, MIE.
_FOOTER = re.compile(
    rb"CANON OPTIONAL DATA\0|AXS[!*].{8}\Z|(?:cbipcbbl|\xa1\xb2\xc3\xd4|SEFT|QDIOBS)\Z|zmie~", re.DOTALL
)
_MAX_SIZE = 2**32 - 1
_MAX_FIELDS = 1 << 20  # 20 for each of 50,000 pages
_MAX_INTEGERS = 1 << 20  # strips of an image; most images have at most a few thousand


@dataclass(frozen=True, slots=True)
class Field:
    """An entry of an IFD: `count` values of `type`, at `start` and `size` bytes long."""

    at: int
    tag: int
    type: int
    count: int
    start: int
    size: int

    @property
    def end(self) -> int:
        """The end of the values."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Directory:
    """An IFD from `at` to `end`. `next` is the offset of the next IFD in the chain, or 0."""

    at: int
    fields: tuple[Field, ...]
    next: int

    @property
    def end(self) -> int:
        """The end of the offset of the next IFD."""
        return self.at + 2 + 12 * len(self.fields) + 4

    def find(self, tag: int) -> Field | None:
        """Return the field with `tag`, or None. Raises `Unwritable` if there are two."""
        found = [field for field in self.fields if field.tag == tag]
        if len(found) > 1:
            raise Unwritable(f"it has tag {tag} twice")
        return found[0] if found else None


# --- The structure shared with EXIF ----------------------------------------------------------------------------------


def read_header(data: Data) -> tuple[ByteOrder, int]:
    """Return the byte order and the offset of the first IFD. Raises `Unwritable` if `data` is not a classic TIFF."""
    head = bytes(data[:8])
    if len(head) < 8 or head[:4] not in (b"II*\0", b"MM\0*"):
        raise Unwritable("its TIFF header is malformed")
    order: ByteOrder = "little" if head[:2] == b"II" else "big"
    return order, int.from_bytes(head[4:], order)


def read_directory(data: Data, order: ByteOrder, at: int) -> Directory:
    """Return the IFD at `at`. Raises `Unwritable` if it reaches past the end of `data`. Values may do so."""
    if at < 8 or at + 2 > len(data):
        raise Unwritable("one of its IFDs is outside of the data")
    count = int.from_bytes(data[at : at + 2], order)
    end = at + 2 + 12 * count
    if end + 4 > len(data):
        raise Unwritable("one of its IFDs is malformed")
    fields = tuple(read_field(data, order, entry) for entry in range(at + 2, end, 12))
    return Directory(at, fields, int.from_bytes(data[end : end + 4], order))


def read_field(data: Data, order: ByteOrder, at: int) -> Field:
    """Return the entry of an IFD at `at`, which lies inside `data`. Raises `Unwritable` if its type is unknown."""
    entry = bytes(data[at : at + 12])
    tag, kind = (int.from_bytes(entry[i : i + 2], order) for i in (0, 2))
    count, value = (int.from_bytes(entry[i : i + 4], order) for i in (4, 8))
    if kind not in _SIZES:
        raise Unwritable("one of its IFDs has a field of an unknown type")
    size = count * _SIZES[kind]
    return Field(at, tag, kind, count, at + 8 if size <= 4 else value, size)


def check_inside(data: Data, start: int, size: int) -> None:
    """Raise `Unwritable` if the range is not inside `data`."""
    if start + size > len(data):
        raise Unwritable("one of its IFDs addresses data outside of it")


def integers(data: Data, order: ByteOrder, field: Field) -> list[int]:
    """Return the values of a field. Raises `Unwritable` if they are not integers or not inside `data`."""
    if field.type not in (SHORT, LONG, IFD):
        raise Unwritable(f"its tag {field.tag} has an unusual type")
    if field.count > _MAX_INTEGERS:
        raise Unwritable(f"its tag {field.tag} has too many values")
    check_inside(data, field.start, field.size)
    step, value = _SIZES[field.type], bytes(data[field.start : field.end])
    return [int.from_bytes(value[i : i + step], order) for i in range(0, len(value), step)]


def data_ranges(data: Data, order: ByteOrder, directory: Directory) -> Iterator[tuple[int, int]]:
    """Yield the start and size of the strips, tiles or thumbnail that an IFD addresses.

    Raises `Unwritable` if one is not inside `data`, or if the offsets and lengths do not match.
    """
    for offsets_tag, sizes_tag in _DATA:
        offsets, sizes = directory.find(offsets_tag), directory.find(sizes_tag)
        if offsets is None and sizes is None:
            continue
        if offsets is None or sizes is None or offsets.count != sizes.count:
            raise Unwritable("the offsets and lengths of its image data do not match")
        pairs = zip(integers(data, order, offsets), integers(data, order, sizes), strict=True)
        for start, size in pairs:
            check_inside(data, start, size)
            yield start, size


def with_field(data: Data, order: ByteOrder, first: Directory, tag: int, value: bytes) -> Edits:
    """Return the edits that set the field `tag`, of type BYTE, in the first IFD of `data`.

    All additions go to the end, at even offsets (TIFF 6.0, section 2). Raises `Unwritable` if the format cannot count
    the bytes of the result or the fields of the IFD.
    """
    # At most: the value, 12 bytes for its field, and padding.
    if len(data) + len(value) + (first.end - first.at) + 16 > _MAX_SIZE:
        raise Unwritable("it would be larger than 4 GB")
    addition = b"\0" * (len(data) % 2)
    stored = value.ljust(4, b"\0")
    if len(value) > 4:
        stored = (len(data) + len(addition)).to_bytes(4, order)
        addition += value + b"\0" * (len(value) % 2)
    entry = tag.to_bytes(2, order) + BYTE.to_bytes(2, order) + len(value).to_bytes(4, order) + stored
    others = [field for field in first.fields if field.tag != tag]
    before = next((i for i, field in enumerate(others) if field.tag > tag), len(others))
    entries = [bytes(data[field.at : field.at + 12]) for field in others]
    entries.insert(before, entry)
    at = len(data) + len(addition)
    directory = _serialised(entries, bytes(data[first.end - 4 : first.end]), order)
    return Edit(4, bytes(data[4:8]), at.to_bytes(4, order)), Edit(len(data), b"", addition + directory)


def without_field(data: Data, order: ByteOrder, first: Directory, tag: int) -> Edits:
    """Return the edits that remove the field `tag` from the first IFD, in place. Its value stays as dead bytes.

    Raises `Unwritable` if the IFD has only this field, because the result would not be a valid TIFF.
    """
    entries = [bytes(data[field.at : field.at + 12]) for field in first.fields if field.tag != tag]
    if not entries:
        raise Unwritable(f"its IFD has no field but {tag}")
    before = bytes(data[first.at : first.end])
    after = _serialised(entries, before[-4:], order).ljust(len(before), b"\0")
    return shifted(replacement(before, after), first.at)


def _serialised(entries: list[bytes], next_pointer: bytes, order: ByteOrder) -> bytes:
    if len(entries) > 0xFFFF:
        raise Unwritable("its IFD has no room for another field")
    return len(entries).to_bytes(2, order) + b"".join(entries) + next_pointer


# --- TIFF files ------------------------------------------------------------------------------------------------------


def read_blocks(data: Data) -> Blocks:
    """See `containers.read_blocks`. Also raises `Unwritable` for TIFF-based RAW files (DNG, CR2, NEF, ...)."""
    pages = _pages(data)
    field = _packet(data, pages[0])
    return Blocks(packet_bytes(data, field.start, field.end) if field else None)


def reread_blocks(data: Data, before: Blocks) -> Blocks:
    """See `containers`."""
    return read_blocks(data)


def read_exif(data: Data) -> Data | None:
    """See `containers.read_exif`. The first IFD of a TIFF has the fields of an EXIF block."""
    return data


def rewrite(data: Data, changes: Changes, blocks: Blocks) -> Edits:
    """See `containers.rewrite`. A packet that grows is appended as a whole, and the old one stays as dead bytes."""
    first = _pages(data)[0]
    order, _ = read_header(data)
    field = _packet(data, first)
    before = packet_bytes(data, field.start, field.end) if field else None
    after = changed(before, changes.xmp)
    if after == before:
        return ()
    if after is None:
        return without_field(data, order, first, XMP)
    if len(after) <= 4:
        raise Unwritable("its XMP packet would be empty")
    if field and isinstance(changes.xmp, tuple) and len(after) == field.size:
        return shifted(changes.xmp, field.start)
    return with_field(data, order, first, XMP, after)


def foreign(data: Data) -> Iterator[Data]:
    """See `containers`: every field except the packet, and the image data of every page."""
    order, _ = read_header(data)
    for number, page in enumerate(_pages(data)):
        for field in page.fields:
            if number > 0 or field.tag != XMP:
                yield data[field.at : field.at + 8]
                yield data[field.start : field.end]
        for start, size in data_ranges(data, order, page):
            yield data[start : start + size]


def _pages(data: Data) -> list[Directory]:
    """Return the chain of IFDs. Raises `Unwritable` if it loops or is malformed, and for RAW and signed files."""
    order, at = read_header(data)
    if len(data) > _MAX_SIZE:
        raise Unwritable("it is larger than 4 GB")
    # CR2 and IIQ have their own marks there.
    if bytes(data[8:10]) == b"CR" or bytes(data[8:12]) in (b"IIII", b"MMMM"):
        raise Unwritable("RAW files are not written into")
    if _FOOTER.search(bytes(data[max(len(data) - 64, 0) :])):
        raise Unwritable("data that are found from its end follow its image")
    pages: list[Directory] = []
    seen: set[int] = set()
    fields = 0
    while at:
        if at in seen:
            raise Unwritable("its IFDs loop")
        seen.add(at)
        pages.append(read_directory(data, order, at))
        fields += len(pages[-1].fields)
        if fields > _MAX_FIELDS or len(pages) > _MAX_FIELDS:
            raise Unwritable("its IFDs have too many fields")
        at = pages[-1].next
    if not pages:
        raise Unwritable("it has no IFD")
    _check_apart(pages)
    _check_kind(data, order, pages)
    _check_data(data, order, pages)
    return pages


def _check_apart(pages: list[Directory]) -> None:
    for one, following in pairwise(sorted(pages, key=lambda page: page.at)):
        if one.end > following.at:
            raise Unwritable("its IFDs overlap")


def _check_kind(data: Data, order: ByteOrder, pages: list[Directory]) -> None:
    tags = {field.tag for page in pages for field in page.fields}
    if _C2PA in tags:
        raise Unwritable("it is signed (C2PA)")
    # If a camera stores several sub-images of the first image, one of them is RAW.
    if tags & _RAW_TAGS or tags >= {_MAKE, _SUB_IFDS}:
        raise Unwritable("RAW files are not written into")
    for page in pages:
        if not (
            _values(data, order, page.find(_COMPRESSION)) <= _COMPRESSIONS
            and _values(data, order, page.find(_PHOTOMETRIC)) <= _PHOTOMETRICS
        ):
            raise Unwritable("RAW files are not written into")


def _values(data: Data, order: ByteOrder, field: Field | None) -> set[int]:
    if field is None:
        return set()
    if field.count != 1:
        raise Unwritable(f"its tag {field.tag} has several values")
    return set(integers(data, order, field))


def _check_data(data: Data, order: ByteOrder, pages: list[Directory]) -> None:
    # Without this check, pages that share a list of offsets could make a small file slow.
    fields = (field for page in pages for field in page.fields)
    if sum(_sizes_of_values(data, fields)) > len(data):
        raise Unwritable("the values of its IFDs overlap")
    for page in pages:
        is_image = False
        for _ in data_ranges(data, order, page):
            is_image = True
        if not is_image:
            raise Unwritable("one of its pages has no image data")


def _sizes_of_values(data: Data, fields: Iterable[Field]) -> Iterator[int]:
    for field in fields:
        check_inside(data, field.start, field.size)
        yield field.size


def _packet(data: Data, first: Directory) -> Field | None:
    field = first.find(XMP)
    if field is not None:
        if field.type not in (BYTE, UNDEFINED) or field.size <= 4:
            raise Unwritable("its XMP packet has an unusual type")
        check_inside(data, field.start, field.size)
    return field
