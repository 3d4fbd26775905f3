from __future__ import annotations

import io
from typing import Literal

import pytest
from PIL import Image

from phototag.metadata import exif, iptc
from phototag.metadata.blocks import DROP, BlockUnwritable, Change, Changes
from phototag.metadata.containers import read_blocks, rewrite, verify
from phototag.metadata.edits import Edit, Edits, applied, inverse
from phototag.metadata.keywords import Unwritable
from tests.helpers.photo_parts import (
    PACKET,
    VIDEO,
    XMP_SIGNATURE,
    app,
    dataset,
    exif_block,
    exif_segment,
    image,
    jpeg,
    mpf_photo,
    photoshop_segment,
    resource,
    samsung_trailer,
    second_image,
    xmp_segment,
)

EXTENSION = app(1, b"http://ns.adobe.com/xmp/extension/\0" + b"G" * 32 + bytes(8) + b"<x/>")
IRB = resource(0x0404, dataset(2, 25, b"a"))
# Says that it has a thumbnail, which would be far behind it.
OUTSIDE = b"II*\0\x08\0\0\0\x02\0" + b"\x01\x02\4\0\1\0\0\0\x00\x20\0\0" + b"\x02\x02\4\0\1\0\0\0\x10\0\0\0" + bytes(4)
GROWS: Edits = (Edit(60, b"", b"<!-- more -->"),)
STAYS: Edits = (Edit(PACKET.index(b"bird"), b"bird", b"worm"),)


def written(photo: bytes, xmp: Change = None, exif: Change = None, iptc: Edits | None = None) -> bytes:
    """`photo` with the changes, after all that must hold in any case."""
    changes = Changes(xmp, exif, iptc)
    edits = rewrite(photo, changes)
    after = applied(photo, edits)
    assert edits == rewrite(memoryview(photo), changes)
    verify(photo, after, changes)
    assert applied(after, inverse(edits)) == photo
    assert pixels(after) == pixels(photo)
    return after


def pixels(photo: bytes) -> bytes:
    with Image.open(io.BytesIO(photo)) as opened:
        return bytes(opened.tobytes())


def segments(photo: bytes) -> list[bytes]:
    """The segments before the first scan, with their markers, without fill bytes."""
    found: list[bytes] = []
    at = 2
    while True:
        while photo[at + 1] == 0xFF:
            at += 1
        end = at + 2 + int.from_bytes(photo[at + 2 : at + 4], "big")
        if photo[at + 1] == 0xDA:
            return found
        found.append(photo[at:end])
        at = end


def kinds(photo: bytes) -> list[bytes]:
    """What the APPn segments begin with."""
    return [segment[4:8] for segment in segments(photo) if 0xE0 <= segment[1] <= 0xEF]


# --- Where things go --------------------------------------------------------------------------------------------------


def test_new_blocks_come_behind_jfif_and_before_mpf() -> None:
    icc = app(2, b"ICC_PROFILE\0\1\1" + bytes(50))
    after = written(jpeg(icc), PACKET, exif.create(["bird"]))
    assert kinds(after) == [b"JFIF", b"Exif", b"http", b"ICC_"]
    after = written(jpeg(icc, exif_segment(exif_block())), PACKET)
    assert kinds(after) == [b"JFIF", b"ICC_", b"Exif", b"http"]
    after = written(mpf_photo(exif_segment(exif_block())), PACKET)
    assert kinds(after) == [b"JFIF", b"Exif", b"http", b"MPF\0"]
    after = written(mpf_photo(behind=(exif_segment(exif_block()),)), PACKET)
    assert kinds(after) == [b"JFIF", b"http", b"MPF\0", b"Exif"]
    without_jfif = b"\xff\xd8" + jpeg()[20:]
    after = written(without_jfif, PACKET, exif.create(["bird"]))
    assert kinds(after) == [b"Exif", b"http"]
    assert read_blocks(after).xmp == PACKET


def test_a_new_packet_is_one_insertion() -> None:
    (edit,) = rewrite(jpeg(), Changes(PACKET))
    assert edit == Edit(20, b"", xmp_segment())
    length, packet = rewrite(jpeg(xmp_segment()), Changes(GROWS))
    assert (length.offset, len(length.removed)) == (22, 2)
    assert packet == Edit(20 + 4 + len(XMP_SIGNATURE) + 60, b"", b"<!-- more -->")


def test_the_three_blocks_change_together_and_the_rest_stays() -> None:
    comment = b"\xff\xfe\0\x06note"
    photo = jpeg(
        exif_segment(exif_block()),
        b"\xff\xff",
        xmp_segment(),
        EXTENSION,
        photoshop_segment(IRB),
        comment,
        progressive=True,
    )
    blocks = read_blocks(photo)
    assert (blocks.xmp, blocks.exif, blocks.iptc) == (PACKET, exif_block(), IRB)
    assert not blocks.can_create_exif
    xp_edits = exif.update_xp_keywords(exif_block(), ["bird"])
    iptc_edits, _ = iptc.update_keywords(IRB, ["a", "bird"])
    after = written(photo, GROWS, xp_edits, iptc_edits)
    blocks = read_blocks(after)
    assert blocks.xmp == applied(PACKET, GROWS)
    assert exif.read_xp_keywords(blocks.exif or b"") == ("bird",)
    assert iptc.read_keywords(blocks.iptc or b"") == ("a", "bird")
    assert kinds(after) == kinds(photo)
    assert EXTENSION in segments(after)
    assert comment in segments(after)


def test_a_block_that_phototag_made_can_go() -> None:
    photo = jpeg(app(2, b"ICC_PROFILE\0\1\1"))
    after = written(photo, PACKET, exif.create(["bird"]))
    assert written(after, DROP, DROP) == photo
    assert read_blocks(photo).can_create_exif


def test_changes_of_blocks_that_are_not_there_are_a_mistake_of_the_caller() -> None:
    for changes in (Changes(xmp=GROWS), Changes(exif=GROWS), Changes(iptc=GROWS), Changes(xmp=DROP)):
        with pytest.raises(ValueError, match="does not exist"):
            rewrite(jpeg(), changes)
    with pytest.raises(ValueError, match="beside one"):
        rewrite(jpeg(xmp_segment()), Changes(PACKET))
    with pytest.raises(ValueError, match="not those that the edit removes"):
        rewrite(jpeg(xmp_segment()), Changes((Edit(5, b"?!", b""),)))


# --- What does not fit ------------------------------------------------------------------------------------------------


def test_a_packet_has_65502_bytes_at_most() -> None:
    assert read_blocks(written(jpeg(), PACKET.ljust(65502))).xmp == PACKET.ljust(65502)
    with pytest.raises(Unwritable, match="not fit"):
        rewrite(jpeg(), Changes(PACKET.ljust(65503)))
    photo = jpeg(xmp_segment(PACKET.ljust(65502 - 13)))
    written(photo, GROWS)
    with pytest.raises(Unwritable, match="not fit"):
        rewrite(photo, Changes((Edit(60, b"", b"<!-- more! -->"),)))
    with pytest.raises(Unwritable, match="not fit"):
        rewrite(photo, Changes((Edit(60, b"", b" " * 100_000),)))


def test_a_full_exif_or_iptc_block_is_skipped_and_the_packet_written() -> None:
    block = exif_block()
    full = exif_block(filling=65533 - 6 - len(block) - 20)
    irb = resource(0x0404, dataset(2, 120, bytes(30000)) * 2) + resource(0x040C, bytes(5400))
    photo = jpeg(exif_segment(full), photoshop_segment(irb))
    xp_edits = exif.update_xp_keywords(full, ["bird"])
    with pytest.raises(BlockUnwritable, match="not fit") as refused:
        rewrite(photo, Changes(PACKET, xp_edits))
    assert refused.value.block == "exif"
    iptc_edits, _ = iptc.update_keywords(irb, [f"{number:060}" for number in range(10)])
    with pytest.raises(BlockUnwritable, match="not fit") as refused:
        rewrite(photo, Changes(PACKET, None, iptc_edits))
    assert refused.value.block == "iptc"
    with pytest.raises(BlockUnwritable):
        rewrite(jpeg(), Changes(PACKET, exif.create(["x" * 40_000])))
    written(photo, PACKET)


def test_an_exif_block_fills_its_segment_to_the_last_byte() -> None:
    block = exif_block().ljust(65533 - 6 - 4, b"\0")
    photo = jpeg(exif_segment(block))
    assert len(read_blocks(written(photo, exif=(Edit(len(block), b"", b"four"),))).exif or b"") == 65527
    with pytest.raises(BlockUnwritable, match="not fit"):
        rewrite(photo, Changes(exif=(Edit(len(block), b"", b"fiver"),)))
    new = exif_block().ljust(65527, b"\0")
    assert read_blocks(written(jpeg(), exif=new)).exif == new
    with pytest.raises(BlockUnwritable, match="not fit"):
        rewrite(jpeg(), Changes(exif=new + b"\0"))


def test_of_several_segments_the_first_exif_and_all_photoshop_are_read_and_none_changed() -> None:
    more = resource(0x0404, dataset(2, 25, b"b"))
    first, second = exif_block("<", b"a\0\0\0"), exif_block(">", b"b\0\0\0")
    photo = jpeg(exif_segment(first), exif_segment(second), photoshop_segment(IRB), photoshop_segment(more))
    blocks = read_blocks(photo)
    assert blocks.exif == first
    assert iptc.read_keywords(blocks.iptc or b"") == ("a", "b")
    assert not blocks.can_create_exif
    for changes in (Changes(PACKET, exif.update_xp_keywords(first, ["x"])), Changes(PACKET, DROP)):
        with pytest.raises(BlockUnwritable, match="several") as refused:
            rewrite(photo, changes)
        assert refused.value.block == "exif"
    with pytest.raises(BlockUnwritable, match="several") as refused:
        rewrite(photo, Changes(PACKET, iptc=(Edit(0, b"", IRB),)))
    assert refused.value.block == "iptc"
    assert kinds(written(photo, PACKET)) == [b"JFIF", b"Exif", b"Exif", b"http", b"Phot", b"Phot"]


@pytest.mark.parametrize("block", [OUTSIDE, b"II*\0", b"broken", b""])
def test_what_an_exif_block_addresses_outside_itself_stays_where_it_is(block: bytes) -> None:
    after = written(jpeg(exif_segment(block)), PACKET)
    assert kinds(after) == [b"JFIF", b"http", b"Exif"]
    with pytest.raises(BlockUnwritable, match="addressed"):
        rewrite(jpeg(exif_segment(block)), Changes(exif=(Edit(len(block), b"", b"more"),)))
    photo = jpeg(exif_segment(block), xmp_segment())
    with pytest.raises(Unwritable, match="addressed"):
        rewrite(photo, Changes(GROWS))
    with pytest.raises(Unwritable, match="addressed"):
        rewrite(photo, Changes(DROP))
    written(photo, STAYS)
    written(jpeg(xmp_segment(), exif_segment(block)), GROWS)


# --- What is refused --------------------------------------------------------------------------------------------------

IMAGE = jpeg()
REFUSED = {
    "two packets": (jpeg(xmp_segment(), xmp_segment()), "several XMP"),
    "odd header": (jpeg(app(1, b"http://ns.adobe.com/xap/1.0" + PACKET)), "unusual header"),
    "Flickr's header": (jpeg(app(1, b"XMP\0://ns.adobe.com/xap/1.0/\0" + PACKET)), "unusual header"),
    "no header": (jpeg(app(1, PACKET)), "unusual header"),
    "C2PA": (jpeg(app(11, b"JP\0\1\0\0\0\1\0\0\0\x20jumb" + bytes(24))), "signed"),
    "C2PA in pieces": (jpeg(app(11, b"JP\0\1\0\0\0\2....c2pa")), "signed"),
    "C2PA elsewhere": (jpeg(xmp_segment(PACKET.replace(b"<dc:s", b'<x dcterms:provenance=""/><dc:s'))), "signed"),
    "cut in the data": (IMAGE[:-2], "truncated"),
    "cut in a segment": (IMAGE[:50], "truncated"),
    "cut behind SOI": (IMAGE[:2], "truncated"),
    "no marker": (IMAGE[:20] + b"?" + IMAGE[20:], "malformed"),
    "length of one": (jpeg(b"\xff\xe5\0\1"), "malformed"),
    "second SOI": (jpeg(b"\xff\xd8\0\2"), "malformed"),
    "EOI before the image": (jpeg(b"\xff\xd9\0\2"), "malformed"),
    "no frame": (IMAGE.replace(b"\xff\xc0", b"\xff\xe5"), "malformed"),
    "very many segments": (jpeg(b"\xff\xfe\0\2" * 10_001), "too many"),
    "marker in the data": (IMAGE[:-2] + b"\xff\xe1\0\4ab\xff\xd9", "malformed"),
}


@pytest.mark.parametrize(("photo", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_malformed_signed_or_unusual_is_refused(photo: bytes, reason: str) -> None:
    with pytest.raises(Unwritable, match=reason):
        read_blocks(photo)


def test_other_boxes_in_app11_are_no_signature() -> None:
    written(jpeg(app(11, b"JP\0\1\0\0\0\1\0\0\0\x20RESI" + bytes(24))), PACKET)


# --- What follows the image -------------------------------------------------------------------------------------------

CANON_MARK, FIVE = b"CANON OPTIONAL DATA\0", b"\0\0\0\5"
CANON = CANON_MARK + b"\0\1\0\0" + FIVE + b"12345" + CANON_MARK + FIVE + bytes(40)
CONTAINER = xmp_segment(PACKET.replace(b"<dc:s", b'<x xmlns:c="http://ns.google.com/photos/1.0/container/"/><dc:s'))
SAMSUNG = samsung_trailer((b"Image_UTC_Data", b"1234567890"), (b"MotionPhoto_Data", VIDEO))
KEPT = {
    "zeros": jpeg(trailer=bytes(100)),
    "video": jpeg(trailer=VIDEO),
    "video of 64 bits": jpeg(trailer=VIDEO + b"\0\0\0\1mdat" + (20).to_bytes(8, "big") + b"data"),
    "video to the end": jpeg(trailer=VIDEO + b"\0\0\0\0mdatdata"),
    "Samsung": jpeg(trailer=SAMSUNG),
    "video and Samsung": jpeg(trailer=bytes(8) + VIDEO + samsung_trailer((b"Image_UTC_Data", b"1234567890"))),
    "Canon": jpeg(trailer=CANON),
    "Photo Mechanic": jpeg(trailer=dataset(2, 221, b"1234") + b"\0\0\0\x09cbipcbbl"),
    "FotoStation": jpeg(trailer=b"abc\0\1\0\0\0\x0d\xa1\xb2\xc3\xd4" + b"\0\2\0\0\0\x0a\xa1\xb2\xc3\xd4"),
    "Canon and Photo Mechanic": jpeg(trailer=CANON + dataset(2, 221, b"1234") + b"\0\0\0\x09cbipcbbl"),
    "MPF": mpf_photo(),
    "MPF and video": mpf_photo(trailer=bytes(3) + VIDEO),
    "MPF and Samsung": mpf_photo(trailer=SAMSUNG),
    "Google": jpeg(CONTAINER, trailer=image("JPEG") + bytes(5) + image("JPEG", quality=20) + VIDEO),
}


@pytest.mark.parametrize("photo", KEPT.values(), ids=KEPT)
def test_trailers_that_move_with_the_image_are_kept(photo: bytes) -> None:
    change = GROWS if read_blocks(photo).xmp else PACKET
    after = written(photo, change)
    end_of_image = IMAGE[-12:]
    assert after[after.index(end_of_image) :] == photo[photo.index(end_of_image) :]


def test_mpf_addresses_the_same_image_afterwards() -> None:
    photo = mpf_photo(exif_segment(exif_block()))
    after = written(photo, PACKET, exif.update_xp_keywords(exif_block(), ["bird"]))
    assert second_image(after) == second_image(photo) == image("JPEG", quality=30)
    after = written(mpf_photo(xmp_segment()), GROWS, exif.create(["bird"]))
    assert second_image(after) == image("JPEG", quality=30)


def test_between_mpf_and_what_it_addresses_nothing_grows() -> None:
    photo = mpf_photo(behind=(xmp_segment(), photoshop_segment(IRB), exif_segment(exif_block())))
    for change in (GROWS, DROP):
        with pytest.raises(Unwritable, match="addressed"):
            rewrite(photo, Changes(change))
    with pytest.raises(BlockUnwritable, match="addressed") as refused:
        rewrite(photo, Changes(exif=exif.update_xp_keywords(exif_block(), ["bird"])))
    assert refused.value.block == "exif"
    iptc_edits, _ = iptc.update_keywords(IRB, ["a", "bird"])
    with pytest.raises(BlockUnwritable, match="addressed") as refused:
        rewrite(photo, Changes(iptc=iptc_edits))
    assert refused.value.block == "iptc"
    assert second_image(written(photo, STAYS)) == second_image(photo)


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_preview_that_a_maker_note_addresses_too_stays_where_it_is(order: Literal["little", "big"]) -> None:
    block = exif_block().replace(b"MAKER\0\0\1\2\3", b"MAKER\0HERE")
    photo = mpf_photo(exif_segment(block))
    preview, base = len(photo) - len(image("JPEG", quality=30)), photo.index(block)
    assert kinds(written(photo, PACKET)) == [b"JFIF", b"Exif", b"http", b"MPF\0"]
    relative = block.replace(b"HERE", (preview - base).to_bytes(4, order))
    assert kinds(written(photo.replace(block, relative), PACKET)) == [b"JFIF", b"http", b"Exif", b"MPF\0"]
    with pytest.raises(BlockUnwritable, match="addressed"):
        rewrite(photo.replace(block, relative), Changes(PACKET, exif.update_xp_keywords(relative, ["bird"])))
    absolute = block.replace(b"HERE", preview.to_bytes(4, order))
    with pytest.raises(Unwritable, match="offset in the file"):
        read_blocks(photo.replace(block, absolute))


def test_an_image_that_mpf_says_is_behind_the_end_was_lost_before() -> None:
    photo = mpf_photo()
    written(photo[: -len(image("JPEG", quality=30))], PACKET)


AFCP = b"AXS!\0\1\0\2\0\0\0\0IPTC" + bytes(20) + b"AXS!\0\0\0\xfb\0\0\0\0"
UNKNOWN = {
    "a byte": jpeg(trailer=b"\x14"),
    "zeros and a byte": jpeg(trailer=bytes(9) + b"\x14"),
    "AFCP": jpeg(trailer=AFCP),
    "AFCP before Photo Mechanic's": jpeg(trailer=AFCP + dataset(2, 221, b"1234") + b"\0\0\0\x09cbipcbbl"),
    "Samsung's sound": jpeg(
        trailer=samsung_trailer((b"SoundShot_000", b"x")) + b"QDIO" + bytes(20) + b"\x14\0\0\0QDIOBS"
    ),
    "Samsung's video by its offset": jpeg(trailer=samsung_trailer((b"MotionPhoto_Data", b"mpv2" + bytes(8)))),
    "Samsung's directory outside": jpeg(trailer=b"SEFH\0\0\0\0\1\0\0\0\xff\xff\0\0SEFT"),
    "Samsung's directory without blocks": jpeg(trailer=SAMSUNG[-60:]),
    "Samsung's directory of more blocks": jpeg(trailer=SAMSUNG.replace(b"\2\0\0\0\0\0\1\x0a", b"\3\0\0\0\0\0\1\x0a")),
    "Samsung's directory of another name": jpeg(trailer=SAMSUNG.replace(b"SEFH", b"SEFG")),
    "Samsung's block of another length": jpeg(trailer=SAMSUNG.replace(b"\x24\0\0\0SEFT", b"\x25\0\0\0SEFT")),
    "Canon cut": jpeg(trailer=CANON[1:]),
    "Photo Mechanic cut": jpeg(trailer=b"\0\xff\0\x0acbipcbbl"),
    "FotoStation cut": jpeg(trailer=b"abc\0\1\0\xff\0\x0d\xa1\xb2\xc3\xd4"),
    "image that nothing addresses": jpeg(trailer=image("JPEG")),
    "image that MPF does not address": mpf_photo(trailer=image("JPEG")),
    "MPF off by one": mpf_photo(shift=1),
    "MPF into the image": mpf_photo(shift=-50),
    "MPF cut": jpeg(app(2, b"MPF\0II*\0")),
    "MPF without images": jpeg(app(2, b"MPF\0II*\0\x08\0\0\0\0\0\0\0\0\0")),
    "second image cut": mpf_photo()[:-2],
    "video cut": jpeg(trailer=VIDEO[:-1]),
    "video of impossible length": jpeg(trailer=VIDEO + b"\0\0\0\5mdat"),
    "data behind a video": jpeg(trailer=VIDEO + b"\x14"),
}


@pytest.mark.parametrize("photo", UNKNOWN.values(), ids=UNKNOWN)
def test_other_trailers_are_refused(photo: bytes) -> None:
    with pytest.raises(Unwritable):
        read_blocks(photo)


def test_the_end_of_an_image_is_found_behind_segments_of_all_sizes_and_fill() -> None:
    whole = jpeg()
    for segments in (b"\xff\xfe\0\2" * 300, b"\xff\xff\xff\xfe\0\4\xff\xd9", b"\xff\xd0\xff\0\xff\xd7" * 100_000):
        read_blocks(whole[:-2] + segments + whole[-2:])
    for segments in (b"\xff\xfe\0\2" * 100_000, b"\xff\xfe\0\2" * 36_000):
        with pytest.raises(Unwritable, match="too many segments"):
            read_blocks(whole[:-2] + segments + whole[-2:])


def test_a_change_that_moves_what_is_addressed_by_its_place_is_seen() -> None:
    photo = mpf_photo()
    blocks = read_blocks(photo)
    changes = Changes(PACKET)
    verify(photo, applied(photo, rewrite(photo, changes, blocks)), changes, blocks)
    at = photo.index(b"MPF\0") + int.from_bytes(photo[photo.index(b"MPF\0") - 2 : photo.index(b"MPF\0")], "big") - 2
    with pytest.raises(Unwritable):
        verify(photo, photo[:at] + xmp_segment(PACKET) + photo[at:], changes, blocks)
