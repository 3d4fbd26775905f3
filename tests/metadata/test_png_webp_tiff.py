from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from phototag.metadata.blocks import DROP, Blocks, Change, Changes
from phototag.metadata.containers import read_blocks, rewrite, verify
from phototag.metadata.edits import Edit, Edits, applied, inverse
from phototag.metadata.keywords import Unwritable
from tests.helpers.photo_parts import PACKET, frames, ifd, image, png, png_chunk, webp, webp_chunk, xmp_text

GROWS: Edits = (Edit(60, b"", b"<!-- m -->"),)
STAYS: Edits = (Edit(PACKET.index(b"bird"), b"bird", b"worm"),)
SHRINKS: Edits = (Edit(PACKET.index(b"bird"), b"bird", b"fox"),)


def written(photo: bytes, xmp: Change) -> bytes:
    """`photo` with the change, after all that must hold in any case."""
    edits = rewrite(photo, Changes(xmp))
    after = applied(photo, edits)
    assert edits == rewrite(memoryview(photo), Changes(xmp))
    verify(photo, after, Changes(xmp))
    assert applied(after, inverse(edits)) == photo
    assert frames(after) == frames(photo)
    return after


def small_frames() -> list[Image.Image]:
    return [Image.new("RGBA", (12, 10), colour) for colour in ("red", "#00ff0080", "blue")]


def animation(form: str) -> bytes:
    file = io.BytesIO()
    first, *others = small_frames()
    first.save(file, form, save_all=True, append_images=others, lossless=True)
    return file.getvalue()


# --- PNG --------------------------------------------------------------------------------------------------------------


def chunks(photo: bytes) -> list[tuple[bytes, bytes]]:
    """Type and data of each chunk; every CRC must be right."""
    found, at = [], 8
    while at < len(photo):
        length = int.from_bytes(photo[at : at + 4], "big")
        kind, content = photo[at + 4 : at + 8], photo[at + 8 : at + 8 + length]
        assert png_chunk(kind, content) == photo[at : at + 12 + length]
        found.append((kind, content))
        at += 12 + length
    return found


def test_a_new_packet_comes_before_the_image_data_of_a_png() -> None:
    photo = png(png_chunk(b"tEXt", b"Title\0x"), behind=(png_chunk(b"tEXt", b"Author\0y"),))
    after = written(photo, PACKET)
    assert [kind for kind, _ in chunks(after)] == [b"IHDR", b"tEXt", b"iTXt", b"IDAT", b"tEXt", b"IEND"]
    assert xmp_text() in after
    assert read_blocks(after) == Blocks(PACKET)
    assert written(after, DROP) == photo


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("change", [GROWS, STAYS, SHRINKS])
@pytest.mark.parametrize("language", [b"", b"en"])
@pytest.mark.parametrize("is_behind", [False, True])
def test_a_packet_in_a_png_is_changed_in_place(
    compressed: bool, change: Edits, language: bytes, is_behind: bool
) -> None:
    chunk = xmp_text(compressed=compressed, language=language)
    photo = png(behind=(chunk,)) if is_behind else png(chunk)
    after = written(photo, change)
    (text,) = [content for kind, content in chunks(after) if kind == b"iTXt"]
    head = b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + language + b"\0\0"
    assert text.startswith(head)
    packet = zlib.decompress(text[len(head) :]) if compressed else text[len(head) :]
    assert packet == applied(PACKET, change)
    assert [kind for kind, _ in chunks(after)] == [kind for kind, _ in chunks(photo)]


def test_every_frame_of_an_animated_png_stays() -> None:
    photo = animation("PNG")
    assert b"acTL" in photo
    assert len(frames(written(photo, PACKET))) == 3


def test_zeros_behind_a_png_stay() -> None:
    assert written(png() + bytes(7), PACKET).endswith(b"IEND\xaeB`\x82" + bytes(7))


RAW_PROFILE = b"\0\nxmp\n      4\n61626364\n"
REFUSED_PNGS = {
    "two packets": (png(xmp_text(), behind=(xmp_text(),)), "several XMP"),
    "raw profile": (png(png_chunk(b"tEXt", b"Raw profile type xmp" + RAW_PROFILE)), "raw profile"),
    "compressed raw profile": (
        png(png_chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b"x"))),
        "raw profile",
    ),
    "raw profile of APP1": (png(behind=(png_chunk(b"tEXt", b"Raw profile type APP1" + RAW_PROFILE),)), "raw profile"),
    "packet in tEXt": (png(png_chunk(b"tEXt", b"XML:com.adobe.xmp\0" + PACKET)), "another type"),
    "C2PA": (png(png_chunk(b"caBX", b"jumb")), "signed"),
    "dSIG": (png(png_chunk(b"dSIG", b"x")), "signed"),
    "wrong CRC": (png(xmp_text()[:-1] + b"\0"), "damaged"),
    "bad flags": (png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\2\0\0\0" + PACKET)), "malformed"),
    "unknown method": (png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\1\0\0" + PACKET)), "malformed"),
    "not text": (png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0")), "malformed"),
    "not deflated": (png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + PACKET)), "inflated"),
    "deflated in part": (
        png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(PACKET)[:-1])),
        "truncated",
    ),
    "more than deflated": (
        png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(PACKET) + b"x")),
        "trunc",
    ),
    "a bomb": (png(xmp_text(bytes(20 << 20), compressed=True)), "too large"),
    "17 MB": (png(xmp_text(bytes(17 << 20))), "larger than 16"),
    "cut": (png()[:-1], "truncated"),
    "cut in a head": (png()[:-7], "truncated"),
    "no IEND": (png()[:-12], "truncated"),
    "no IDAT": (png().replace(b"IDAT", b"idAT"), "not those"),
    "very many chunks": pytest.param(png(png_chunk(b"note", b"") * (1 << 18)), "too many", marks=pytest.mark.slow),
    "no IHDR": (png()[:8] + png()[33:], "not those"),
    "a type of no letters": (png(png_chunk(b"a\0bc", b"")), "malformed"),
    "data behind IEND": (png() + b"\0x", "follow"),
}


def test_nothing_changes_in_a_png_that_has_the_packet_already() -> None:
    assert rewrite(png(xmp_text()), Changes(())) == ()


@pytest.mark.parametrize(("photo", "reason"), REFUSED_PNGS.values(), ids=REFUSED_PNGS)
def test_a_png_that_is_malformed_signed_or_unusual_is_refused(photo: bytes, reason: str) -> None:
    with pytest.raises(Unwritable, match=reason):
        read_blocks(photo)


def test_no_packet_of_more_than_16_mb_is_written() -> None:
    with pytest.raises(Unwritable, match="larger than 16"):
        rewrite(png(), Changes(bytes((16 << 20) + 1)))


# --- WebP -------------------------------------------------------------------------------------------------------------

SIMPLE = {
    "lossy": image("WEBP"),
    "lossless": image("WEBP", lossless=True),
    "lossless with alpha": image("WEBP", "RGBA", lossless=True),
}
LOSSY = image("WEBP")
EXTENDED = image("WEBP", icc_profile=bytes(7), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")


@pytest.mark.parametrize("photo", SIMPLE.values(), ids=SIMPLE)
@pytest.mark.parametrize("packet", [PACKET, PACKET + b" "])
def test_a_simple_webp_becomes_an_extended_one(photo: bytes, packet: bytes) -> None:
    assert photo[12:16] in (b"VP8 ", b"VP8L")
    after = written(photo, packet)
    assert after[12:20] == b"VP8X\x0a\0\0\0"
    with Image.open(io.BytesIO(photo)) as before:
        has_alpha, width, height = before.mode == "RGBA", before.width, before.height
    assert after[20:24] == bytes([0x14 if has_alpha else 0x04, 0, 0, 0])
    assert int.from_bytes(after[24:27], "little") == width - 1
    assert int.from_bytes(after[27:30], "little") == height - 1
    assert after[30:] == photo[12:] + webp_chunk(b"XMP ", packet)
    assert int.from_bytes(after[4:8], "little") == len(after) - 8
    assert read_blocks(after) == Blocks(packet)
    assert written(after, DROP)[20] & 0x04 == 0


@pytest.mark.parametrize("photo", [EXTENDED, animation("WEBP")], ids=["still", "animated"])
def test_an_extended_webp_gets_a_flag_and_a_chunk(photo: bytes) -> None:
    size, flag, packet = rewrite(photo, Changes(PACKET))
    assert (size.offset, flag.offset, packet.offset) == (4, 20, len(photo))
    after = written(photo, PACKET)
    assert len(frames(after)) == len(frames(photo))
    assert written(after, DROP) == photo


@pytest.mark.parametrize("change", [GROWS, STAYS, SHRINKS])
@pytest.mark.parametrize("end", [b"", b" "])
@pytest.mark.parametrize("has_flag", [True, False])
def test_a_packet_in_a_webp_is_changed_in_place(change: Edits, end: bytes, has_flag: bool) -> None:
    packet = PACKET + end
    photo = bytearray(webp(EXTENDED, webp_chunk(b"XMP ", packet), webp_chunk(b"note", b"abc")))
    photo[20] |= 0x04 if has_flag else 0
    after = written(bytes(photo), change)
    assert after[20] & 0x04
    assert after.endswith(webp_chunk(b"XMP ", applied(packet, change)) + webp_chunk(b"note", b"abc"))
    assert int.from_bytes(after[4:8], "little") == len(after) - 8


def vp8l(bits: int) -> bytes:
    return b"RIFF\x12\0\0\0WEBPVP8L\5\0\0\0\x2f" + bits.to_bytes(4, "little") + b"\0"


REFUSED_WEBPS = {
    "two packets": (webp(EXTENDED, webp_chunk(b"XMP ", PACKET), webp_chunk(b"XMP ", PACKET)), "several XMP"),
    "odd type": (webp(EXTENDED, webp_chunk(b"XMP\0", PACKET)), "another type"),
    "C2PA": (webp(EXTENDED, webp_chunk(b"C2PA", b"x")), "signed"),
    "packet in a simple file": (webp(LOSSY, webp_chunk(b"XMP ", PACKET)), "does not have"),
    "data behind the end": (LOSSY + b"\0\0", "follow"),
    "cut": (LOSSY[:-2], "truncated"),
    "empty": (b"RIFF\4\0\0\0WEBP", "not those"),
    "another first chunk": (b"RIFF\x0c\0\0\0WEBPnote\0\0\0\0", "not those"),
    "two headers": (webp(EXTENDED, EXTENDED[12:30]), "not those"),
    "no image": (webp(b"RIFF\0\0\0\0WEBP" + EXTENDED[12:30]), "no image"),
    "chunk too long": (webp(EXTENDED, b"note\xff\0\0\0ab"), "malformed"),
    "very many chunks": pytest.param(
        webp(EXTENDED, webp_chunk(b"note", b"") * (1 << 18)), "too many", marks=pytest.mark.slow
    ),
    "chunk cut in its head": (webp(EXTENDED, b"note\0\0"), "malformed"),
    "short header": (webp(b"RIFF\0\0\0\0WEBP", webp_chunk(b"VP8X", bytes(8)), LOSSY[12:]), "malformed"),
}


@pytest.mark.parametrize(("photo", "reason"), REFUSED_WEBPS.values(), ids=REFUSED_WEBPS)
def test_a_webp_that_is_malformed_signed_or_unusual_is_refused(photo: bytes, reason: str) -> None:
    with pytest.raises(Unwritable, match=reason):
        read_blocks(photo)


@pytest.mark.parametrize(
    "photo",
    [
        vp8l(1 << 29),  # a version that there is not
        vp8l(0)[:20] + b"\x2e" + vp8l(0)[21:],
        LOSSY[:20] + b"\1" + LOSSY[21:],  # no key frame
        LOSSY[:23] + b"\0" + LOSSY[24:],
        LOSSY[:26] + b"\0\0" + LOSSY[28:],  # no width
        b"RIFF\x0e\0\0\0WEBPVP8 \1\0\0\0\0\0",
    ],
)
def test_a_simple_webp_whose_size_is_not_known_is_refused(photo: bytes) -> None:
    with pytest.raises(Unwritable, match="image data"):
        rewrite(photo, Changes(PACKET))


# --- TIFF -------------------------------------------------------------------------------------------------------------

Fields = list[tuple[int, int, int, bytes]]


def number(order: str, value: int) -> bytes:
    return struct.pack(order + "I", value)


def tiff(order: str = "<", extra: Fields | None = None, *, following: int = 0, without: int = 0) -> bytes:
    """A TIFF of 2 by 2 grey pixels, which are the last four bytes; values of `extra` come before them."""
    fields: Fields = [
        *(
            (tag, 3, 1, struct.pack(order + "H", value))
            for tag, value in ((256, 2), (257, 2), (258, 8), (259, 1), (262, 1))
        ),
        (273, 4, 1, number(order, 0)),
        (277, 3, 1, struct.pack(order + "H", 1)),
        (278, 4, 1, number(order, 2)),
        (279, 4, 1, number(order, 4)),
    ]
    replaced = {tag for tag, _, _, _ in extra or ()} | {without}
    fields = sorted([*(field for field in fields if field[0] not in replaced), *(extra or ())])
    size = len(ifd(order, 8, fields))
    fields = [
        (t, k, c, number(order, 8 + size)) if t == 273 and v == number(order, 0) else (t, k, c, v)
        for t, k, c, v in fields
    ]
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return header + ifd(order, 8, fields, following) + b"\x10\x20\x30\x40"


def xmp_field(packet: bytes = PACKET, kind: int = 1) -> Fields:
    return [(700, kind, len(packet), packet)]


def tags(photo: bytes) -> list[int]:
    order = "<" if photo[:2] == b"II" else ">"
    at = struct.unpack_from(order + "I", photo, 4)[0]
    assert at % 2 == 0
    count = struct.unpack_from(order + "H", photo, at)[0]
    return [struct.unpack_from(order + "H", photo, at + 2 + 12 * i)[0] for i in range(count)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("end", [b"", b"\0"])
@pytest.mark.parametrize("packet", [PACKET, PACKET + b" "])
@pytest.mark.parametrize("extra", [[], [(33432, 2, 4, b"Jan\0")]])
def test_a_new_packet_goes_to_the_end_of_a_tiff(order: str, end: bytes, packet: bytes, extra: Fields) -> None:
    photo = tiff(order, extra) + end
    pointer, addition = rewrite(photo, Changes(packet))
    assert (pointer.offset, len(pointer.removed)) == (4, 4)
    assert (addition.offset, addition.removed) == (len(photo), b"")
    after = written(photo, packet)
    assert tags(after) == sorted([*tags(photo), 700])
    with Image.open(io.BytesIO(after)) as opened:
        assert opened.tag_v2[700] == packet
        assert opened.tag_v2.get(33432) == ("Jan" if extra else None)
    taken_out = written(after, DROP)
    assert tags(taken_out) == tags(photo)
    assert len(taken_out) == len(after)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 7])
def test_a_packet_in_a_tiff_is_appended_anew_unless_it_keeps_its_length(order: str, kind: int) -> None:
    photo = tiff(order, xmp_field(kind=kind))
    assert written(photo, STAYS) == photo.replace(b"bird", b"worm")
    for change in (GROWS, SHRINKS):
        after = written(photo, change)
        assert PACKET in after
        assert tags(after) == tags(photo)
        assert read_blocks(after) == Blocks(applied(PACKET, change))


def test_every_page_of_a_tiff_stays() -> None:
    photo = image("TIFF", save_all=True, append_images=[Image.new("RGB", (5, 4), (n, 0, 0)) for n in range(5)])
    assert len(frames(photo)) == 6
    assert len(frames(written(photo, PACKET))) == 6


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiffs_are_written_into(compression: str | None) -> None:
    written(image("TIFF", compression=compression), PACKET)


BIG = 0xFFFFFF00


def pages_of_fields(count: int) -> bytes:
    """A chain of IFDs of as many fields as one can have."""
    page = b"\xff\xff" + b"\0\1\1\0\1\0\0\0\0\0\0\0" * 0xFFFF
    step = len(page) + 4
    return b"II*\0\x08\0\0\0" + b"".join(page + number("<", 8 + step * (n + 1)) for n in range(count))


REFUSED_TIFFS = {
    "DNG": (tiff(extra=[(50706, 1, 4, b"\1\4\0\0")]), "RAW"),
    "CR2": (tiff()[:4] + number("<", 16) + b"CR\2\0" + bytes(100), "RAW"),
    "IIQ": (tiff()[:8] + b"IIII" + bytes(100), "RAW"),
    "RAW below a camera's first image": (tiff(extra=[(271, 2, 6, b"NIKON\0"), (330, 4, 1, number("<", 8))]), "RAW"),
    "colour filter array": (tiff(extra=[(262, 3, 1, struct.pack("<H", 32803))]), "RAW"),
    "NEF's compression": (tiff(extra=[(259, 3, 1, struct.pack("<H", 34713))]), "RAW"),
    "C2PA": (tiff(extra=[(52545, 7, 4, b"jumb")]), "signed"),
    "no IFD": (b"II*\0\0\0\0\0", "no IFD"),
    "short": (b"II*\0\x08", "malformed"),
    "IFD outside": (b"II*\0\xff\0\0\0" + bytes(20), "outside"),
    "IFD in the header": (b"II*\0\4\0\0\0" + bytes(20), "outside"),
    "IFD cut": (tiff()[:100], "malformed"),
    "loop": (tiff(following=8), "loop"),
    "overlapping IFDs": (tiff(extra=[(305, 2, 0, b"")], following=8 + 2 + 12 * 9 + 4), "overlap"),
    "next IFD outside": (tiff(following=5000), "outside"),
    "unknown type": (tiff(extra=[(305, 99, 1, b"")]), "unknown type"),
    "two packets": (tiff(extra=xmp_field() + xmp_field()), "twice"),
    "packet of LONGs": (tiff(extra=[(700, 4, 2, bytes(8))]), "unusual type"),
    "short packet": (tiff(extra=[(700, 1, 4, b"<x/>")]), "unusual type"),
    "packet outside": (tiff(extra=[(700, 1, 900, number("<", 8))]), "outside"),
    "17 MB of packet": (tiff(extra=xmp_field(bytes(17 << 20))), "larger than 16"),
    "value outside": (tiff(extra=[(305, 2, 900, number("<", 8))]), "outside"),
    "strip outside": (tiff(extra=[(279, 4, 1, number("<", 5))]), "outside"),
    "strip far outside": (tiff(extra=[(273, 4, 1, number("<", BIG))]), "outside"),
    "no lengths of strips": (tiff(without=279), "do not match"),
    "two lengths of one strip": (tiff(extra=[(279, 4, 2, bytes(8))]), "do not match"),
    "strip by a fraction": (tiff(extra=[(279, 5, 1, bytes(8))]), "unusual type"),
    "no image": (tiff(extra=[(273, 4, 0, b""), (279, 4, 0, b"")]), "no image data"),
    "two compressions": (tiff(extra=[(259, 3, 2, b"\1\0\1\0")]), "several values"),
    "Canon's recipe": (tiff() + b"CANON OPTIONAL DATA\0" + bytes(44), "from its end"),
    "AFCP": (tiff() + b"AXS!\0\0\0\xfb\0\0\0\0", "from its end"),
    "Photo Mechanic": (tiff() + b"\0\0\0\0cbipcbbl", "from its end"),
    "FotoStation": (tiff() + b"\0\1\0\0\0\x0a\xa1\xb2\xc3\xd4", "from its end"),
    "MIE": (tiff() + b"~\0\4\0zmie~\0\0\6\0\0\0\x0a\x10\4", "from its end"),
    "very many strips": (
        tiff(extra=[(tag, 4, (1 << 20) + 1, bytes(4 << 20) + bytes(4)) for tag in (273, 279)]),
        "too many",
    ),
    "very many fields": pytest.param(pages_of_fields(17), "too many", marks=pytest.mark.slow),
    "values in one place": (tiff(extra=[(400 + n, 2, 100, number("<", 8)) for n in range(50)]), "overlap"),
}


@pytest.mark.parametrize(("photo", "reason"), REFUSED_TIFFS.values(), ids=REFUSED_TIFFS)
def test_a_tiff_that_is_raw_malformed_or_unusual_is_refused(photo: bytes, reason: str) -> None:
    with pytest.raises(Unwritable, match=reason):
        read_blocks(photo)


def test_a_packet_of_a_few_bytes_is_refused() -> None:
    with pytest.raises(Unwritable, match="empty"):
        rewrite(tiff(), Changes(b""))
