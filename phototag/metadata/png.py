"""PNG files (PNG specification, third edition): the XMP packet in an iTXt chunk (XMP specification part 3, 1.1.5)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from phototag.metadata.blocks import MAX_PACKET, Blocks, Changes, changed, packet_bytes
from phototag.metadata.edits import Data, Edit, Edits, applied, growth, ordered, shifted
from phototag.metadata.keywords import Unwritable

_KEYWORD = b"XML:com.adobe.xmp"
_MAX_CHUNK = 2**31 - 1
# The keyword takes up to 79 bytes and the next fields take 4, but the length of a language is not limited.
_MAX_TEXT_HEADER = 512
_MAX_CHUNKS = 1 << 18  # libpng writes 8 KB each, which makes 2 GB
_ZEROS = re.compile(rb"\0*")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk at `at`: length, type, the data from `start` to `end`, and their CRC."""

    at: int
    type: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Packet:
    """The chunk of the packet. The packet begins at `text` in the file, and is deflated if `is_compressed`."""

    chunk: _Chunk
    text: int
    is_compressed: bool
    xmp: bytes


def read_blocks(data: Data) -> Blocks:
    """See `containers.read_blocks`."""
    packet = _packet(data, _chunks(data))
    return Blocks(packet.xmp if packet else None)


def reread_blocks(data: Data, before: Blocks) -> Blocks:
    """See `containers`."""
    return read_blocks(data)


def read_exif(data: Data) -> Data | None:
    """See `containers.read_exif`. The block has its own chunk (PNG specification, third edition, 11.3.4.5)."""
    return next((data[chunk.start : chunk.end] for chunk in _chunks(data) if chunk.type == b"eXIf"), None)


def rewrite(data: Data, changes: Changes, blocks: Blocks) -> Edits:
    """See `containers.rewrite`. A compressed packet stays compressed."""
    chunks = _chunks(data)
    packet = _packet(data, chunks)
    before = packet.xmp if packet else None
    after = changed(before, changes.xmp)
    if after == before:
        return ()
    if after is None or packet is None:
        if packet is not None:
            at, end = packet.chunk.at, packet.chunk.end + 4
            return (Edit(at, bytes(data[at:end]), b""),)
        # Also before the first frame of an animation, which may be the first image.
        place = next(chunk.at for chunk in chunks if chunk.type in (b"IDAT", b"fcTL"))
        return (Edit(place, b"", _new_chunk(after or b"")),)
    edits = shifted(changes.xmp if isinstance(changes.xmp, tuple) else (), packet.text)
    if packet.is_compressed:
        edits = (Edit(packet.text, bytes(data[packet.text : packet.chunk.end]), zlib.compress(after, 9)),)
    return _with_length_and_crc(data, packet.chunk, edits)


def foreign(data: Data) -> Iterator[Data]:
    """See `containers`: all chunks except the packet's."""
    chunks = _chunks(data)
    packet = _packet(data, chunks)
    for chunk in chunks:
        if packet is None or chunk != packet.chunk:
            yield data[chunk.at : chunk.end + 4]


def _new_chunk(xmp: bytes) -> bytes:
    content = _KEYWORD + b"\0" * 5 + xmp  # not compressed, no language, no translated keyword
    return len(content).to_bytes(4, "big") + b"iTXt" + content + _crc(b"iTXt" + content)


def _with_length_and_crc(data: Data, chunk: _Chunk, edits: Edits) -> Edits:
    content = applied(bytes(data[chunk.start : chunk.end]), shifted(edits, -chunk.start))
    length = Edit(chunk.at, bytes(data[chunk.at : chunk.at + 4]), len(content).to_bytes(4, "big"))
    crc = Edit(chunk.end, bytes(data[chunk.end : chunk.end + 4]), _crc(chunk.type + content))
    return ordered([*((length,) if growth(edits) else ()), *edits, crc])


def _crc(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "big")


def _chunks(data: Data) -> list[_Chunk]:
    """Return the chunks. Raises `Unwritable` if the PNG is truncated, malformed or signed."""
    found: list[_Chunk] = []
    at = 8
    while not found or found[-1].type != b"IEND":
        chunk = _read_chunk(data, at)
        found.append(chunk)
        if len(found) > _MAX_CHUNKS:
            raise Unwritable("it has too many chunks")
        at = chunk.end + 4
    types = {chunk.type for chunk in found}
    if found[0].type != b"IHDR" or b"IDAT" not in types:
        raise Unwritable("its chunks are not those of a PNG")
    if b"caBX" in types:
        raise Unwritable("it is signed (C2PA)")
    if b"dSIG" in types:
        raise Unwritable("it is signed")
    if not _ZEROS.fullmatch(data, at):
        raise Unwritable("unknown data follow its end")
    return found


def _read_chunk(data: Data, at: int) -> _Chunk:
    head = bytes(data[at : at + 8])
    length, kind = int.from_bytes(head[:4], "big"), head[4:]
    if len(head) < 8 or length > _MAX_CHUNK or at + 12 + length > len(data):
        raise Unwritable("it is truncated")
    if not kind.isalpha():
        raise Unwritable("its chunks are malformed")
    return _Chunk(at, kind, at + 8, at + 8 + length)


def _packet(data: Data, chunks: list[_Chunk]) -> _Packet | None:
    found: list[_Chunk] = []
    for chunk in chunks:
        if chunk.type not in (b"iTXt", b"tEXt", b"zTXt"):
            continue
        keyword = bytes(data[chunk.start : min(chunk.start + 80, chunk.end)]).partition(b"\0")[0]
        # ImageMagick stores packets in these chunks; APP1 may be one.
        if keyword.lower() in (b"raw profile type xmp", b"raw profile type app1"):
            raise Unwritable("its XMP packet is a raw profile")
        if keyword == _KEYWORD:
            found.append(chunk)
    if len(found) > 1:
        raise Unwritable("it has several XMP packets")
    return _read_packet(data, found[0]) if found else None


def _read_packet(data: Data, chunk: _Chunk) -> _Packet:
    if chunk.type != b"iTXt":
        raise Unwritable("its XMP packet is in a chunk of another type")
    content = packet_bytes(data, chunk.start, chunk.end)
    if bytes(data[chunk.end : chunk.end + 4]) != _crc(chunk.type + content):
        raise Unwritable("its XMP packet is damaged")
    flags = content[len(_KEYWORD) + 1 : len(_KEYWORD) + 3]
    language_end = content.find(b"\0", len(_KEYWORD) + 3, _MAX_TEXT_HEADER)
    text = content.find(b"\0", language_end + 1, _MAX_TEXT_HEADER) + 1 if language_end >= 0 else 0
    if flags not in (b"\0\0", b"\1\0") or text == 0:
        raise Unwritable("the chunk of its XMP packet is malformed")
    is_compressed = flags[0] == 1
    xmp = _inflated(content[text:]) if is_compressed else content[text:]
    return _Packet(chunk, chunk.start + text, is_compressed, xmp)


def _inflated(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        xmp = inflater.decompress(deflated, MAX_PACKET)
    except zlib.error:
        raise Unwritable("its XMP packet cannot be inflated") from None
    if not inflater.eof or inflater.unused_data:
        raise Unwritable("its XMP packet is truncated or too large")
    return xmp
