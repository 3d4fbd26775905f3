"""Photos and journals that are damaged on purpose."""

from __future__ import annotations

import io
import random
import sqlite3
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from phototag.index import Index
from phototag.metadata import edits, rewrite
from phototag.metadata.edits import Edit, applied, inverse, packed, unpacked
from phototag.metadata.keywords import Unwritable
from phototag.metadata.untag import untag
from tests.helpers.faults import STAMP, TAGS, embed, photo_at
from tests.helpers.photo_parts import (
    PACKET,
    dataset,
    exif_block,
    exif_segment,
    image,
    jpeg,
    mpf_photo,
    photoshop_segment,
    png,
    png_chunk,
    resource,
    xmp_segment,
    xmp_text,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals, pipes and modes as POSIX has them")


def seeds() -> dict[str, bytes]:
    """Whole photos of each format, with all the blocks that they can hold."""
    iptc = resource(0x404, dataset(2, 25, b"bird") + dataset(2, 120, b"a caption"))
    tiff = io.BytesIO()
    with Image.open(io.BytesIO(image("TIFF"))) as page:
        page.save(tiff, "TIFF", save_all=True, append_images=[page], tiffinfo={700: PACKET, 315: "somebody"})
    return {
        "JPEG": jpeg(exif_segment(exif_block()), xmp_segment(), photoshop_segment(iptc)),
        "JPEG with MPF": mpf_photo(exif_segment(exif_block(">", "a;b".encode("utf-16-le")))),
        "PNG": png(xmp_text(compressed=True), png_chunk(b"eXIf", exif_block())),
        "WebP": image("WEBP", xmp=PACKET, exif=exif_block()),
        "WebP without": image("WEBP"),
        "TIFF": tiff.getvalue(),
    }


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some bytes of `data` changed: bits, whole numbers, pieces that go, come twice or trade places."""
    content = bytearray(data)
    # Where the lengths and offsets are: the image data in between is not read.
    interesting = [at for at in range(len(content)) if at < 1500 or at > len(content) - 200]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, length = chance.choice(interesting) % max(len(content), 1), chance.choice((1, 2, 4, 12, 60))
        kind = chance.randrange(6)
        if kind == 0:
            content[at : at + 1] = bytes([content[at] ^ 1 << chance.randrange(8)]) if content else b""
        elif kind == 1:
            content[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"<", b"\x80")) * length
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length]
        elif kind == 4:
            other = chance.choice(interesting) % max(len(content), 1)
            content[at : at + length] = content[other : other + length]
        else:
            del content[at if at > 40 else 40 :]
    return bytes(content)


@pytest.mark.parametrize("kind", seeds())
def test_a_hostile_photo_is_refused_or_its_change_proven(kind: str) -> None:
    seed, chance = seeds()[kind], random.Random(kind)
    written = refused = 0
    for _ in range(MUTATIONS):
        data = mutated(seed, chance)
        try:
            rewriting = rewrite.with_tags(data, TAGS, STAMP)
            after = applied(data, rewriting.edits)
            rewrite.prove(data, after, rewriting)
        except Unwritable:
            refused += 1
            continue
        written += 1
        assert applied(after, unpacked(packed(inverse(rewriting.edits)), after)) == data
        # What is kept stands there in its order, and what was added says so.
        assert {"red", "Ö", "日本"} <= set(rewrite.read_keywords(after).subject or ())
        # And by what the photo itself says, the tags go again.
        left = rewrite.read_keywords(applied(after, rewrite.without_tags(after).edits))
        assert left == rewrite.read_keywords(data)
    assert min(written, refused) > MUTATIONS // 20


MUTATIONS = 400


def bomb(length: int) -> bytes:
    return zlib.compress(b"[[0, 0, %d]]\n" % length + bytes(length))


DAMAGED = {
    "nothing": b"",
    "noise": random.Random(1).randbytes(300),
    "no JSON": zlib.compress(b"\xff\xfe\n"),
    "deep": zlib.compress(b"[" * 500_000 + b"\n"),
    "many": zlib.compress(b"[" + b"[0,0,0]," * 3_000_000 + b"[0,0,0]]\n"),
    "a bomb": bomb(1 << 29),
    "cut short": packed((Edit(0, b"", b"abc"),))[:-3],
    "negative": zlib.compress(b"[[-5, 3, 2]]\nab"),
    "negative length": zlib.compress(b"[[9, -4, 0]]\n"),
    "beyond the end": zlib.compress(b"[[5, 99999999, 0]]\n"),
    "overlapping": zlib.compress(b"[[5, 4, 0], [6, 1, 0]]\n"),
    "backwards": zlib.compress(b"[[5, 1, 0], [0, 1, 0]]\n"),
    "too little": zlib.compress(b"[[0, 0, 5]]\nabc"),
    "too much": zlib.compress(b"[[0, 0, 2]]\nabc"),
    "no numbers": zlib.compress(b'[["a", "b", "c"]]\n'),
    "no list": zlib.compress(b"5\n"),
    "floats": zlib.compress(b"[[0.0, 1.0, 0.0]]\n"),
    "not a number": zlib.compress(b"[[NaN, 0, 0]]\n"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_journal_is_no_crash_and_the_photo_itself_tells(
    index: Index, make_photo: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    photo = make_photo("a.jpg")
    before = photo.read_bytes()
    embed(index, photo_at(photo))
    with closing(sqlite3.connect(tmp_path / "index.sqlite3")) as connection, connection:
        assert connection.execute("UPDATE journal SET undo = ?", (DAMAGED[kind],)).rowcount == 1
    assert untag(photo, index) == (photo,)
    assert photo.read_bytes() == before


@pytest.mark.parametrize("undo", ["text", 5, 1.5, None])
def test_a_journal_of_another_kind_of_value_is_no_crash(
    index: Index, make_photo: Callable[..., Path], tmp_path: Path, undo: object
) -> None:
    photo = make_photo("a.jpg")
    before = photo.read_bytes()
    embed(index, photo_at(photo))
    with closing(sqlite3.connect(tmp_path / "index.sqlite3")) as connection, connection:
        connection.execute("UPDATE journal SET undo = ?", (undo,))
    assert untag(photo, index) == (photo,)
    assert photo.read_bytes() == before


@pytest.mark.parametrize("kind", ["a bomb", "many", "deep"])
def test_a_damaged_journal_costs_no_memory(kind: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"larger|recursion"):
            unpacked(DAMAGED[kind], b"0123456789")
        assert tracemalloc.get_traced_memory()[1] < 3 * edits.MAX_UNPACKED
    finally:
        tracemalloc.stop()
