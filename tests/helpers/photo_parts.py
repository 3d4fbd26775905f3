"""Photos assembled by hand, for the tests of their containers."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

PACKET = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>bird</rdf:li></rdf:Bag></dc:subject>'
    b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
XMP_SIGNATURE = b"http://ns.adobe.com/xap/1.0/\0"
VIDEO = b"\0\0\0\x10ftypmp42\0\0\0\0" + b"\0\0\0\x20mdat" + bytes(range(24))


MAX_PIXELS = 10_000_000


def image(form: str, mode: str = "RGB", **save: Any) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((12, 10)).convert(mode).save(file, form, **save)
    return file.getvalue()


def frames(data: bytes) -> list[tuple[str, tuple[int, int], bytes]]:
    """Return each frame as Pillow decodes it. Raises ValueError for a mutated photo that claims to be large.

    phototag lifts Pillow's own limit when it opens the first photo in this process.
    """
    with Image.open(io.BytesIO(data)) as opened:
        decoded = []
        for frame in ImageSequence.Iterator(opened):
            if frame.width * frame.height > MAX_PIXELS:
                raise ValueError(f"{frame.size} pixels")
            decoded.append((frame.mode, frame.size, frame.tobytes()))
        return decoded


# --- JPEG ------------------------------------------------------------------------------------------------------------


def app(number: int, payload: bytes) -> bytes:
    return bytes([0xFF, 0xE0 + number]) + (len(payload) + 2).to_bytes(2, "big") + payload


def jpeg(*segments: bytes, trailer: bytes = b"", **save: Any) -> bytes:
    """Return a JPEG with JFIF, then `segments`, then the rest."""
    data = image("JPEG", **save)
    behind_jfif = 4 + int.from_bytes(data[4:6], "big") - 2 + 2
    assert data[2:4] == b"\xff\xe0"
    return data[:behind_jfif] + b"".join(segments) + data[behind_jfif:] + trailer


def xmp_segment(packet: bytes = PACKET) -> bytes:
    return app(1, XMP_SIGNATURE + packet)


def exif_segment(block: bytes) -> bytes:
    return app(1, b"Exif\0\0" + block)


def photoshop_segment(irb: bytes) -> bytes:
    return app(13, b"Photoshop 3.0\0" + irb)


def ifd(order: str, at: int, fields: list[tuple[int, int, int, bytes]], following: int = 0) -> bytes:
    """Return an IFD of (tag, type, count, value) for the offset `at`, followed by the values that do not fit."""
    entries, values = b"", b""
    behind = at + 2 + 12 * len(fields) + 4
    for tag, kind, count, value in fields:
        stored = value.ljust(4, b"\0")
        if len(value) > 4:
            stored = struct.pack(order + "I", behind + len(values))
            values += value + b"\0" * (len(value) % 2)
        entries += struct.pack(order + "HHI", tag, kind, count) + stored
    return struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", following) + values


def exif_block(order: str = "<", xp: bytes | None = None, filling: int = 0) -> bytes:
    """Return IFD0 with Make, Copyright and XPKeywords, an Exif IFD with a MakerNote, and IFD1 with a thumbnail."""
    thumbnail = image("JPEG")
    maker_note = b"MAKER\0" + bytes(range(50)) + b"\0" * filling

    def block(exif_at: int, ifd1_at: int) -> tuple[bytes, bytes, bytes]:
        fields = [
            (0x10F, 2, 6, b"Maker\0"),
            (0x8298, 2, 4, b"Jan\0"),
            (0x8769, 4, 1, struct.pack(order + "I", exif_at)),
        ]
        if xp is not None:
            fields.append((0x9C9E, 1, len(xp), xp))
        fields.append((0xC4A5, 7, 6, b"PrintI"))
        exif_ifd = ifd(order, exif_at, [(0x927C, 7, len(maker_note), maker_note)])
        behind = ifd1_at + 2 + 2 * 12 + 4
        sizes = [
            (0x201, 4, 1, struct.pack(order + "I", behind)),
            (0x202, 4, 1, struct.pack(order + "I", len(thumbnail))),
        ]
        return ifd(order, 8, fields, ifd1_at), exif_ifd, ifd(order, ifd1_at, sizes) + thumbnail

    sizes = [len(part) for part in block(0, 0)]
    parts = block(8 + sizes[0], 8 + sizes[0] + sizes[1])
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return header + b"".join(parts)


def mpf_photo(*before: bytes, behind: tuple[bytes, ...] = (), trailer: bytes = b"", shift: int = 0) -> bytes:
    """Return a JPEG followed by a second image. The address in its MPF segment is off by `shift` bytes."""

    def photo(offset: int) -> bytes:
        entries = struct.pack("<IIIHH", 0x20030000, 999, 0, 0, 0) + struct.pack("<IIIHH", 0, 888, offset, 0, 0)
        fields = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack("<I", 2)), (0xB002, 7, 32, entries)]
        block = b"II*\0\x08\0\0\0" + ifd("<", 8, fields)
        return jpeg(*before, app(2, b"MPF\0" + block), *behind)

    offset = len(photo(1)) - mpf_base(photo(1))
    return photo(offset + shift) + image("JPEG", quality=30) + trailer


def mpf_base(photo: bytes) -> int:
    return photo.index(b"MPF\0") + 4


def second_image(photo: bytes) -> bytes:
    """Return the image that an MPF segment addresses."""
    base = mpf_base(photo)
    values = base + 8 + 2 + 3 * 12 + 4
    return photo[base + int.from_bytes(photo[values + 24 : values + 28], "little") :]


def samsung_trailer(*blocks: tuple[bytes, bytes]) -> bytes:
    """Return blocks of (name, content), and the directory that readers find from the end."""
    stored = [b"\0\0\x01\x0a" + struct.pack("<I", len(name)) + name + content for name, content in blocks]
    directory = b"SEFH" + struct.pack("<II", 107, len(stored))
    back = sum(map(len, stored))
    for block in stored:
        directory += b"\0\0\x01\x0a" + struct.pack("<II", back, len(block))
        back -= len(block)
    return b"".join(stored) + directory + struct.pack("<I", len(directory)) + b"SEFT"


# --- Photoshop's image resources --------------------------------------------------------------------------------------


def dataset(record: int, number: int, value: bytes) -> bytes:
    return bytes([0x1C, record, number]) + len(value).to_bytes(2, "big") + value


def resource(identity: int, content: bytes, name: bytes = b"") -> bytes:
    stored_name = bytes([len(name)]) + name
    stored_name += b"\0" * (len(stored_name) % 2)
    head = b"8BIM" + identity.to_bytes(2, "big") + stored_name + len(content).to_bytes(4, "big")
    return head + content + b"\0" * (len(content) % 2)


# --- PNG and WebP -----------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def xmp_text(packet: bytes = PACKET, *, compressed: bool = False, language: bytes = b"") -> bytes:
    flags = bytes([compressed, 0])
    text = zlib.compress(packet) if compressed else packet
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + flags + language + b"\0\0" + text)


def png(*chunks: bytes, behind: tuple[bytes, ...] = (), **save: Any) -> bytes:
    """Return a PNG with `chunks` after its header, and others `behind` the image data."""
    data = image("PNG", **save)
    return data[:33] + b"".join(chunks) + data[33:-12] + b"".join(behind) + data[-12:]


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def webp(data: bytes, *chunks: bytes) -> bytes:
    """Return a WebP with `chunks` at the end."""
    body = data[8:] + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def dng(picture: Image.Image, preview: bytes | None = None, orientation: int = 1) -> bytes:
    """Return a RAW file: `picture` as a sensor sees it, with one colour per pixel, and a preview in a sub-IFD."""
    rgb = np.asarray(picture.convert("RGB"), np.uint16) * 200
    mosaic = rgb[..., 1].copy()  # RGGB
    mosaic[::2, ::2], mosaic[1::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, 1::2, 2]
    data: bytes = mosaic.astype("<u2").tobytes()

    def short(tag: int, *values: int) -> tuple[int, int, int, bytes]:
        return tag, 3, len(values), struct.pack(f"<{len(values)}H", *values)

    def long(tag: int, value: int) -> tuple[int, int, int, bytes]:
        return tag, 4, 1, struct.pack("<I", value)

    def block(pixels: int, sub: int) -> bytes:
        make = [(271, 2, 5, b"Maker"), (272, 2, 6, b"Camera")]
        size = [long(256, picture.width), long(257, picture.height)]
        strips = [long(273, pixels), short(277, 1), long(278, picture.height), long(279, len(data))]
        matrix = b"".join(struct.pack("<ii", value, 1) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
        neutral = struct.pack("<6I", 1, 1, 1, 1, 1, 1)
        fields = [long(254, 0), *size, short(258, 16), short(259, 1), short(262, 32803), *make, *strips]
        fields += [short(274, orientation), (33421, 3, 2, struct.pack("<2H", 2, 2)), (33422, 1, 4, bytes([0, 1, 1, 2]))]
        fields += [(50706, 1, 4, bytes([1, 4, 0, 0])), (50708, 2, 12, b"Maker Camera"), long(50717, 51000)]
        fields += [(50721, 10, 9, matrix), (50728, 5, 3, neutral), *([long(330, sub)] if preview else [])]
        return ifd("<", 8, sorted(fields))

    behind = 8 + len(block(0, 0))
    inner = b""
    if preview is not None:
        width, height = picture.size  # the size of the RAW picture; the preview's data tells its own
        fields = [long(254, 1), long(256, width), long(257, height), short(258, 8, 8, 8), short(259, 7), short(262, 6)]
        fields += [long(273, behind + len(data)), short(277, 3), long(278, height), long(279, len(preview))]
        inner = preview + b"\0" * (len(preview) % 2)
        at = behind + len(data) + len(inner)
        inner += ifd("<", at, sorted(fields))
        return b"II*\0\x08\0\0\0" + block(behind, at) + data + inner
    return b"II*\0\x08\0\0\0" + block(behind, 0) + data
