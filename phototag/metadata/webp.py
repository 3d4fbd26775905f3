"""WebP files (RFC 9649): the XMP packet in its own chunk, and the extended header that this chunk requires."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phototag.metadata.blocks import Blocks, Changes, changed, packet_bytes
from phototag.metadata.edits import Data, Edit, Edits, growth, shifted
from phototag.metadata.keywords import Unwritable

# Flags of VP8X (RFC 9649, 2.7).
_XMP_FLAG, _ALPHA_FLAG = 0x04, 0x10
_MAX_CHUNKS = 1 << 18  # each frame of an animation is one
_MAX_RIFF = 2**32 - 10


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk at `at`: type, length, the data from `start` to `end`, and a padding byte if the length is odd."""

    at: int
    type: bytes
    start: int
    end: int

    @property
    def stored_end(self) -> int:
        return self.end + (self.end - self.start) % 2


def read_blocks(data: Data) -> Blocks:
    """See `containers.read_blocks`."""
    packet = _packet(_chunks(data))
    return Blocks(packet_bytes(data, packet.start, packet.end) if packet else None)


def reread_blocks(data: Data, before: Blocks) -> Blocks:
    """See `containers`."""
    return read_blocks(data)


def read_exif(data: Data) -> Data | None:
    """See `containers.read_exif`. The block has its own chunk (RFC 9649, 2.7.1.5)."""
    return next((data[chunk.start : chunk.end] for chunk in _chunks(data) if chunk.type == b"EXIF"), None)


def rewrite(data: Data, changes: Changes, blocks: Blocks) -> Edits:
    """See `containers.rewrite`. A simple file becomes an extended one, and stays one if the packet is removed."""
    chunks = _chunks(data)
    packet = _packet(chunks)
    before = packet_bytes(data, packet.start, packet.end) if packet else None
    after = changed(before, changes.xmp)
    if after == before:
        return ()
    if packet is None:
        edits: Edits = (Edit(len(data), b"", _chunk(b"XMP ", after or b"")),)
    elif after is None:
        edits = (Edit(packet.at, bytes(data[packet.at : packet.stored_end]), b""),)
    else:
        edits = _packet_edits(data, packet, changes.xmp if isinstance(changes.xmp, tuple) else ())
    edits = (*_header_edits(data, chunks[0], has_xmp=after is not None), *edits)
    return (*_length_edits(data, 4, len(data) - 8 + growth(edits)), *edits)


def foreign(data: Data) -> Iterator[Data]:
    """See `containers`: the extended header without the XMP flag, and all chunks except the packet's."""
    chunks = _chunks(data)
    header = _extended_header(data, chunks[0])
    yield bytes([header[0] & ~_XMP_FLAG]) + header[1:]
    for chunk in chunks:
        if chunk.type not in (b"VP8X", b"XMP "):
            yield data[chunk.at : chunk.stored_end]


def _packet_edits(data: Data, packet: _Chunk, edits: Edits) -> Edits:
    length = packet.end - packet.start + growth(edits)
    padding = bytes(data[packet.end : packet.stored_end])
    new_padding = (padding or b"\0") if length % 2 else b""
    ending = (Edit(packet.end, padding, new_padding),) if padding != new_padding else ()
    return (*_length_edits(data, packet.at + 4, length), *shifted(edits, packet.start), *ending)


def _length_edits(data: Data, at: int, length: int) -> Edits:
    if length > _MAX_RIFF:
        raise Unwritable("it would be larger than 4 GB")
    before, after = bytes(data[at : at + 4]), length.to_bytes(4, "little")
    return (Edit(at, before, after),) if before != after else ()


def _header_edits(data: Data, first: _Chunk, *, has_xmp: bool) -> Edits:
    """Set or clear the XMP flag in VP8X, or create that chunk for a simple file."""
    if first.type != b"VP8X":
        header = _extended_header(data, first)
        return (Edit(first.at, b"", _chunk(b"VP8X", bytes([header[0] | _XMP_FLAG]) + header[1:])),)
    before = data[first.start]
    after = before | _XMP_FLAG if has_xmp else before & ~_XMP_FLAG
    return (Edit(first.start, bytes([before]), bytes([after])),) if before != after else ()


def _extended_header(data: Data, first: _Chunk) -> bytes:
    """Return the content of VP8X, or the content it would have. Raises `Unwritable` if the image is malformed."""
    if first.type == b"VP8X":
        return bytes(data[first.start : first.end])
    bitstream = bytes(data[first.start : min(first.start + 10, first.end)])
    if first.type == b"VP8L" and bitstream[:1] == b"\x2f" and len(bitstream) >= 5:
        # RFC 9649, 3.4: 14 bits of width - 1, 14 of height - 1, 1 of alpha, 3 of version.
        bits = int.from_bytes(bitstream[1:5], "little")
        width, height, has_alpha, version = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1, bits >> 29
        if version == 0:
            return _canvas(width, height, _ALPHA_FLAG if has_alpha else 0)
    # RFC 6386, 9.1: a key frame's tag and start code, then width and height, each 14 bits below 2 bits of scale.
    if first.type == b"VP8 " and len(bitstream) == 10 and not bitstream[0] & 1 and bitstream[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(bitstream[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        if width and height:
            return _canvas(width - 1, height - 1, 0)
    raise Unwritable("its image data are malformed")


def _canvas(width: int, height: int, flags: int) -> bytes:
    return bytes([flags, 0, 0, 0]) + width.to_bytes(3, "little") + height.to_bytes(3, "little")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def _chunks(data: Data) -> list[_Chunk]:
    """Return the chunks. Raises `Unwritable` if the WebP is truncated, malformed or signed."""
    if len(data) % 2 or int.from_bytes(data[4:8], "little") + 8 != len(data):
        raise Unwritable("it is truncated, or unknown data follow its end")
    found: list[_Chunk] = []
    at = 12
    while at < len(data):
        head = bytes(data[at : at + 8])
        chunk = _Chunk(at, head[:4], at + 8, at + 8 + int.from_bytes(head[4:], "little"))
        if len(head) < 8 or chunk.stored_end > len(data):
            raise Unwritable("its chunks are malformed")
        found.append(chunk)
        if len(found) > _MAX_CHUNKS:
            raise Unwritable("it has too many chunks")
        at = chunk.stored_end
    _check_types([chunk.type for chunk in found])
    if found[0].type == b"VP8X" and found[0].end - found[0].start != 10:
        raise Unwritable("its header is malformed")
    return found


def _check_types(types: list[bytes]) -> None:
    if not types or types[0] not in (b"VP8 ", b"VP8L", b"VP8X") or types.count(b"VP8X") > 1:
        raise Unwritable("its chunks are not those of a WebP")
    if b"C2PA" in types:
        raise Unwritable("it is signed (C2PA)")
    # Readers of the simple format read one chunk only, and the purpose of further chunks is unknown.
    if types[0] != b"VP8X" and len(types) > 1:
        raise Unwritable("it has chunks that its format does not have")
    if types[0] == b"VP8X" and not {b"VP8 ", b"VP8L", b"ANMF"} & set(types):
        raise Unwritable("it has no image data")


def _packet(chunks: list[_Chunk]) -> _Chunk | None:
    found = [chunk for chunk in chunks if chunk.type[:3] == b"XMP"]
    if len(found) > 1:
        raise Unwritable("it has several XMP packets")
    if found and found[0].type != b"XMP ":
        raise Unwritable("its XMP packet is in a chunk of another type")
    return found[0] if found else None
