"""JPEG files (ITU-T T.81, annex B): XMP, EXIF and Photoshop segments, and the data that must not move.

An MPF segment addresses later images relative to itself (CIPA DC-007). An EXIF block may address data outside itself,
relative to its own header. So segments may only grow before both. Trailers stay as they are if readers find them from
the end of the file. A photo is refused if a trailer is unknown or uses offsets from the start of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from phototag.metadata import exif, tiff
from phototag.metadata.blocks import Blocks, BlockUnwritable, Change, Changes, Drop
from phototag.metadata.edits import Data, Edit, Edits, growth, ordered, shifted
from phototag.metadata.keywords import Unwritable

# The first bytes of a segment's payload: XMP specification part 3, 1.1.3; Exif 2.3, 4.7.2; Photoshop.
_XMP, _EXIF, _PHOTOSHOP, _MPF = b"http://ns.adobe.com/xap/1.0/\0", b"Exif\0\0", b"Photoshop 3.0\0", b"MPF\0"
MAX_PACKET = 65502  # bytes, XMP specification part 3, 1.1.3
_MAX_PAYLOAD = 65533
_MAX_IMAGES = 256  # of one MPF segment or container; a panorama has a few dozen
_MAX_SEGMENTS = 10_000  # before the image; 16 MB of extended XMP take 256

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP11, _APP13, _APP15, _COM = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEF, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# DHT, DAC, DQT, DNL, DRI, DHP, EXP.
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF})
_BEFORE_SCAN = _FRAMES | _TABLES | frozenset(range(_APP0, _APP15 + 1)) | {_COM}
_BETWEEN_SCANS = _TABLES | {_COM, _SOS}
# The entropy-coded data is searched in parts of this many bytes, so that temporary arrays stay in the processor's
# cache.
_SEARCHED = 1 << 17
_SEARCHED_FIRST = 1 << 8  # a smaller first part, because another segment may follow soon
_FILL = re.compile(rb"\xff+")
_ZEROS = re.compile(rb"\0*")


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment from its marker at `at` to `end`. The payload follows the length."""

    marker: int
    at: int
    end: int

    @property
    def payload(self) -> int:
        return self.at + 4


@dataclass(frozen=True, slots=True)
class _Jpeg:
    """The segments before the first scan, the start of that scan, and the end of the image."""

    segments: tuple[_Segment, ...]
    scan: int
    end: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The positions of the blocks. Nothing at `limit` or later may change its length."""

    jpeg: _Jpeg
    xmp: _Segment | None
    exif: tuple[_Segment, ...]
    photoshop: tuple[_Segment, ...]
    limit: int

    @property
    def start(self) -> int:
        """The end of SOI and the JFIF segments, which come first (JFIF 1.02)."""
        at = 2
        for segment in self.jpeg.segments:
            if segment.marker != _APP0:
                break
            at = segment.end
        return at


def read_blocks(data: Data) -> Blocks:
    """See `containers.read_blocks`."""
    layout = _layout(data)
    return _blocks(data, layout.xmp, layout.exif, layout.photoshop, layout)


def reread_blocks(data: Data, before: Blocks) -> Blocks:
    """See `containers`. This skips the slow search for the end of the image, which is known not to have changed.

    If the photo has data that other parts address, this rereads everything after the image too.
    """
    layout = before.layout
    assert isinstance(layout, _Layout)
    segments, scan = _read_segments(data, 0)
    is_all = len(data) - scan.at == layout.jpeg.end - layout.jpeg.scan
    if not is_all or layout.limit < layout.jpeg.scan:
        return read_blocks(data)
    by_kind = _by_kind(data, segments)
    return _blocks(data, _packet(by_kind), by_kind[_EXIF], by_kind[_PHOTOSHOP])


def _blocks(
    data: Data,
    xmp: _Segment | None,
    exif: Sequence[_Segment],
    photoshop: Sequence[_Segment],
    layout: _Layout | None = None,
) -> Blocks:
    return Blocks(
        _content(data, xmp, _XMP) if xmp else None,
        _content(data, exif[0], _EXIF) if exif else None,
        b"".join(_content(data, segment, _PHOTOSHOP) for segment in photoshop) if photoshop else None,
        can_create_exif=not exif,
        layout=layout,
    )


def read_exif(data: Data) -> Data | None:
    """See `containers.read_exif`. Returns the first block if there are several."""
    segments, _ = _read_segments(data, 0)
    for segment in segments:
        if segment.marker == _APP1 and data[segment.payload : segment.payload + 5] == b"Exif\0":
            return data[segment.payload : segment.end]
    return None


def rewrite(data: Data, changes: Changes, blocks: Blocks) -> Edits:
    """See `containers.rewrite`. A new EXIF block follows JFIF. A new packet follows both if it may."""
    layout = blocks.layout
    assert isinstance(layout, _Layout)
    # EXIF first: if both are new, they go to the same place.
    edits = [*_exif_edits(data, layout, changes.exif), *_xmp_edits(data, layout, changes.xmp)]
    return ordered([*edits, *_block_edits(data, layout, layout.photoshop, _PHOTOSHOP, "iptc", changes.iptc)])


def foreign(data: Data) -> Iterator[Data]:
    """See `containers`: all segments other than the three blocks, and everything from the first scan on."""
    segments, scan = _read_segments(data, 0)  # not `_layout`, which searches the whole image for its end
    for segment in segments:
        if _kind(data, segment) not in (_XMP, _EXIF, _PHOTOSHOP):
            yield data[segment.at : segment.end]
    yield data[scan.at :]


# --- Changes ---------------------------------------------------------------------------------------------------------


def _xmp_edits(data: Data, layout: _Layout, change: Change) -> Edits:
    if isinstance(change, bytes):
        if len(change) > MAX_PACKET:
            raise Unwritable("its XMP packet would not fit into a segment")
        behind = max((segment.end for segment in layout.exif), default=layout.start)
        place = max(behind, layout.start)
        return (Edit(place if place <= layout.limit else layout.start, b"", _segment(_APP1, _XMP + change)),)
    if change is None or layout.xmp is None:
        return ()
    edits = _segment_edits(data, layout.xmp, len(_XMP), change)
    if growth(edits) and layout.xmp.at >= layout.limit:
        raise Unwritable("its XMP packet is among data that are addressed by their offsets")
    if not isinstance(change, Drop) and _payload_size(layout.xmp) + growth(edits) > len(_XMP) + MAX_PACKET:
        raise Unwritable("its XMP packet would not fit into a segment")
    return edits


def _exif_edits(data: Data, layout: _Layout, change: Change) -> Edits:
    if isinstance(change, bytes):
        if len(_EXIF) + len(change) > _MAX_PAYLOAD:
            raise BlockUnwritable("exif", "its EXIF block would not fit into a segment")
        return (Edit(layout.start, b"", _segment(_APP1, _EXIF + change)),)
    return _block_edits(data, layout, layout.exif, _EXIF, "exif", change)


def _block_edits(
    data: Data,
    layout: _Layout,
    segments: tuple[_Segment, ...],
    signature: bytes,
    block: Literal["exif", "iptc"],
    change: Edits | Drop | None,
) -> Edits:
    if not change:
        return ()
    name = block.upper()
    if len(segments) != 1:
        raise BlockUnwritable(block, f"it has several {name} segments")
    edits = _segment_edits(data, segments[0], len(signature), change)
    if growth(edits) and segments[0].at >= layout.limit:
        raise BlockUnwritable(block, f"its {name} block is among data that are addressed by their offsets")
    if not isinstance(change, Drop) and _payload_size(segments[0]) + growth(edits) > _MAX_PAYLOAD:
        raise BlockUnwritable(block, f"its {name} block would not fit into a segment")
    return edits


def _segment_edits(data: Data, segment: _Segment, signature_size: int, change: Edits | Drop) -> Edits:
    if isinstance(change, Drop):
        return (Edit(segment.at, bytes(data[segment.at : segment.end]), b""),)
    edits = shifted(change, segment.payload + signature_size)
    length = segment.end - segment.at - 2 + growth(edits)
    # The callers refuse a length that does not fit: they check the same growth.
    stored = min(length, 0xFFFF).to_bytes(2, "big")
    before = bytes(data[segment.at + 2 : segment.at + 4])
    return edits if stored == before else (Edit(segment.at + 2, before, stored), *edits)


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def _payload_size(segment: _Segment) -> int:
    return segment.end - segment.payload


# --- Segments --------------------------------------------------------------------------------------------------------


def _layout(data: Data) -> _Layout:
    jpeg = _read_jpeg(data, 0)
    by_kind = _by_kind(data, jpeg.segments)
    xmp = _packet(by_kind)
    packet = _content(data, xmp, _XMP) if xmp else b""
    images = _images_in_trailer(data, jpeg.end, by_kind[_MPF], packet)
    fixed = [*by_kind[_MPF], *(segment for segment in by_kind[_EXIF] if not _is_self_contained(data, segment, images))]
    limit = min((segment.at for segment in fixed), default=jpeg.scan)
    return _Layout(jpeg, xmp, tuple(by_kind[_EXIF]), tuple(by_kind[_PHOTOSHOP]), limit)


def _by_kind(data: Data, segments: Iterable[_Segment]) -> dict[bytes, list[_Segment]]:
    by_kind: dict[bytes, list[_Segment]] = {_XMP: [], _EXIF: [], _PHOTOSHOP: [], _MPF: []}
    for segment in segments:
        kind = _kind(data, segment)
        if kind is not None:
            by_kind[kind].append(segment)
    return by_kind


def _packet(by_kind: dict[bytes, list[_Segment]]) -> _Segment | None:
    if len(by_kind[_XMP]) > 1:
        raise Unwritable("it has several XMP packets")
    return by_kind[_XMP][0] if by_kind[_XMP] else None


def _kind(data: Data, segment: _Segment) -> bytes | None:
    """Return the segment's kind if it is one of the four. Raises `Unwritable` for signatures and odd XMP packets."""
    head = bytes(data[segment.payload : min(segment.payload + 32, segment.end)])
    if segment.marker == _APP11 and head.startswith(b"JP"):
        payload = bytes(data[segment.payload : segment.end])
        if b"jumb" in payload or b"c2pa" in payload:
            raise Unwritable("it is signed (C2PA)")
    if segment.marker == _APP1:
        if head.startswith(b"Exif\0"):
            return _EXIF
        if head.startswith(_XMP):
            return _XMP
        # Flickr's header is "XMP\0://ns.adobe.com/xap/1.0/\0". exiftool reads such a packet, but not next to a regular
        # one.
        if any(sign in head for sign in (b"ns.adobe.com/xap/", b"<?xpacket", b"<x:xmpmeta")):
            raise Unwritable("its XMP packet has an unusual header")
    if segment.marker == _APP2 and head.startswith(_MPF):
        return _MPF
    if segment.marker == _APP13 and head.startswith(_PHOTOSHOP):
        return _PHOTOSHOP
    return None


def _content(data: Data, segment: _Segment, signature: bytes) -> bytes:
    return bytes(data[min(segment.payload + len(signature), segment.end) : segment.end])


def _is_self_contained(data: Data, segment: _Segment, images: list[int]) -> bool:
    """Return whether the EXIF block addresses only itself, and none of the later `images`.

    A malformed block may address anything. The addresses in a MakerNote are recognized by their values, because other
    values are unlikely to be equal. Raises `Unwritable` for an offset from the start of the file.
    """
    block = _content(data, segment, _EXIF)
    if any(_holds(block, image) for image in images):
        raise Unwritable("its EXIF block addresses a preview by its offset in the file")
    try:
        exif.check(block)
    except Unwritable:
        return False
    return not any(_holds(block, image - (segment.end - len(block))) for image in images)


def _holds(block: bytes, offset: int) -> bool:
    return 0 < offset < 2**32 and (offset.to_bytes(4, "little") in block or offset.to_bytes(4, "big") in block)


def _read_jpeg(data: Data, at: int) -> _Jpeg:
    """Return the JPEG that begins at `at`. Raises `Unwritable` if it is truncated or malformed."""
    segments, scan = _read_segments(data, at)
    return _Jpeg(tuple(segments), scan.at, _end_of_image(data, scan.end))


def _read_segments(data: Data, at: int) -> tuple[list[_Segment], _Segment]:
    """Return the segments before the first scan of the JPEG at `at`, and the scan's segment. Raises `Unwritable`."""
    if bytes(data[at : at + 2]) != bytes([0xFF, _SOI]):
        raise Unwritable("its segments are malformed")
    at += 2
    segments: list[_Segment] = []
    while True:
        segment = _read_segment(data, at)
        if segment.marker == _SOS:
            break
        if segment.marker not in _BEFORE_SCAN:
            raise Unwritable("its segments are malformed")
        segments.append(segment)
        if len(segments) > _MAX_SEGMENTS:
            raise Unwritable("it has too many segments")
        at = segment.end
    if not any(segment.marker in _FRAMES for segment in segments):
        raise Unwritable("its segments are malformed")
    return segments, segment


def _read_segment(data: Data, at: int) -> _Segment:
    """Return the segment at `at`, after any fill bytes (T.81, B.1.1.2)."""
    fill = _FILL.match(data, at)
    if fill is None:
        raise Unwritable("its segments are malformed" if at < len(data) else "it is truncated")
    at = fill.end() - 1
    head = bytes(data[at : at + 4])
    end = at + 2 + int.from_bytes(head[2:], "big")
    if len(head) == 4 and end < at + 4:
        raise Unwritable("its segments are malformed")
    if len(head) < 4 or end > len(data):
        raise Unwritable("it is truncated")
    return _Segment(head[1], at, end)


def _end_of_image(data: Data, at: int) -> int:
    """Return the end of the image (after EOI) whose first entropy-coded data begin at `at`."""
    for _ in range(_MAX_SEGMENTS):
        at = _next_marker(data, at)
        marker = data[at + 1]
        if marker == _EOI:
            return at + 2
        if marker not in _BETWEEN_SCANS:
            raise Unwritable("its image data are malformed")
        at = _read_segment(data, at).end
    raise Unwritable("it has too many segments")


def _next_marker(data: Data, at: int) -> int:
    """Return the position of the marker that ends the entropy-coded data at `at`. Raises `Unwritable`.

    Stuffed bytes, fill bytes and restart markers do not end the data. NumPy is five times as fast as a regular
    expression. That would stop at each of the tens of thousands of stuffed bytes in a photo.
    """
    content, size = np.frombuffer(data, np.uint8), _SEARCHED_FIRST
    while at < len(content) - 1:
        part = content[at : at + size + 1]
        is_mark = part[:-1] == 0xFF
        is_mark &= part[1:] != 0
        if is_mark.any():
            (marks,) = is_mark.nonzero()
            behind = part[marks + 1]
            markers = marks[(behind != 0xFF) & (behind & 0xF8 != 0xD0)]
            if markers.size:
                return at + int(markers[0])
        at, size = at + size, min(2 * size, _SEARCHED)
    raise Unwritable("it is truncated")


# --- What follows the image ------------------------------------------------------------------------------------------


def _images_in_trailer(data: Data, at: int, mpf: list[_Segment], packet: bytes) -> list[int]:
    """Return the offsets of further images after the image that ends at `at`.

    Raises `Unwritable` if unknown data follow, or data that depend on their offset in the file.
    """
    images: list[int] = []
    end = _start_of_footers(data, at)
    addressed = {target for segment in mpf for target in _mpf_targets(data, segment)}
    # Google's containers list the lengths of the following items, in order.
    is_container = b"http://ns.google.com/photos/1.0/container/" in packet
    while at < end:
        if bytes(data[at : at + 3]) == b"\xff\xd8\xff" and (at in addressed or is_container):
            images.append(at)
            at = _read_jpeg(data, at).end
        elif bytes(data[at + 4 : at + 8]) == b"ftyp":
            at = _end_of_video(data, at, end)
        else:
            at = _end_of_zeros(data, at, end)
    # An address beyond the end of the file was already invalid.
    is_lost = all(target >= len(data) for target in addressed.difference(images))
    if at > end or not is_lost or len(images) > _MAX_IMAGES:
        raise Unwritable("unknown data follow its image")
    return images


def _mpf_targets(data: Data, segment: _Segment) -> Iterator[int]:
    """Yield the file offsets of the images that an MPF segment addresses (CIPA DC-007, 5.2.3)."""
    base = segment.payload + len(_MPF)
    block = bytes(data[base : segment.end])
    order, first = tiff.read_header(block)
    field = tiff.read_directory(block, order, first).find(0xB002)
    if field is None or field.size % 16:
        raise Unwritable("its MPF segment is malformed")
    tiff.check_inside(block, field.start, field.size)
    for entry in range(field.start, field.end, 16):
        offset = int.from_bytes(block[entry + 8 : entry + 12], order)
        if offset:  # 0 means the first image
            yield base + offset


def _end_of_zeros(data: Data, at: int, end: int) -> int:
    zeros = _ZEROS.match(data, at, end)
    if zeros is None or zeros.end() == at:
        raise Unwritable("unknown data follow its image")
    # The last three zeros may belong to the length of a video's first box.
    starts = range(max(at, zeros.end() - 3), zeros.end())
    return next((start for start in starts if bytes(data[start + 4 : start + 8]) == b"ftyp"), zeros.end())


def _end_of_video(data: Data, at: int, end: int) -> int:
    """Return the end of an MP4's boxes (ISO/IEC 14496-12, 4.2): `end`, or the first bytes that are not a box."""
    while at < end:
        head = bytes(data[at : at + 16])
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if not (kind.isascii() and kind.isalnum()):
            return at
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        elif size == 0:
            return end
        if size < 8 or at + size > end:
            raise Unwritable("unknown data follow its image")
        at += size
    return at


def _start_of_footers(data: Data, start: int) -> int:
    """Return the start of the trailers that readers find from the end of the file and that address only themselves."""
    end = len(data)
    while True:
        size = 0
        for footer in (_samsung, _canon, _photo_mechanic, _foto_station):
            size = size or footer(data, start, end)
        if size == 0:
            return end
        if end - size < start:
            raise Unwritable("unknown data follow its image")
        end -= size


def _samsung(data: Data, start: int, end: int) -> int:
    """Return the size of Samsung's trailer that ends at `end`, or 0.

    It holds blocks and a directory, whose offsets count back from the directory.
    """
    tail = bytes(data[max(end - 8, start) : end])
    if tail[4:] != b"SEFT":
        return 0
    size = int.from_bytes(tail[:4], "little")
    at = end - 8 - size
    if at < start:
        raise Unwritable("its Samsung trailer is malformed")
    directory = bytes(data[at : end - 8])
    count = int.from_bytes(directory[8:12], "little")
    if directory[:4] != b"SEFH" or size < 12 + 12 * count:
        raise Unwritable("its Samsung trailer is malformed")
    first = at
    for entry in range(12, 12 + 12 * count, 12):
        back, length = (int.from_bytes(directory[i : i + 4], "little") for i in (entry + 4, entry + 8))
        if length > back or at - back < start:
            raise Unwritable("its Samsung trailer is malformed")
        _check_samsung_block(bytes(data[at - back : min(at - back + 64, at - back + length)]))
        first = min(first, at - back)
    return end - first


def _check_samsung_block(head: bytes) -> None:
    # Some blocks hold the file offset of the video instead of the video.
    name, separator, content = head[8:].partition(b"MotionPhoto_Data")
    if separator and not name and content[4:8] != b"ftyp":
        raise Unwritable("its Samsung trailer addresses data by their offsets")


def _canon(data: Data, start: int, end: int) -> int:
    """Return the size of the recipe data of Canon's Digital Photo Professional that end at `end`, or 0."""
    mark = b"CANON OPTIONAL DATA\0"
    footer = bytes(data[max(end - 64, start) : end])
    if len(footer) < 64 or not footer.startswith(mark):
        return 0
    size = int.from_bytes(footer[20:24], "big") + 28 + 64
    at = end - size
    return size if at >= start and bytes(data[at : at + len(mark)]) == mark else 0


def _photo_mechanic(data: Data, start: int, end: int) -> int:
    """Return the size of Photo Mechanic's trailer that ends at `end`, or 0: datasets, their length, and a mark."""
    footer = bytes(data[max(end - 12, start) : end])
    return int.from_bytes(footer[:4], "big") + 12 if footer[4:] == b"cbipcbbl" else 0


def _foto_station(data: Data, start: int, end: int) -> int:
    """Return the size of a FotoStation record that ends at `end`, or 0: data, a tag, the total length, and a mark."""
    footer = bytes(data[max(end - 10, start) : end])
    size = int.from_bytes(footer[2:6], "big")
    return size if footer[6:] == b"\xa1\xb2\xc3\xd4" and size >= 10 else 0
