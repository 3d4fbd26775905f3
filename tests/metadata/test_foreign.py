"""The metadata of photos that phototag does not write into, as Pillow reads it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from phototag.metadata.foreign import embedded_keywords
from tests.helpers.photo_parts import PACKET, exif_segment, ifd, jpeg, xmp_segment
from tests.helpers.program import phototag

WORDS = "Urlaub;日本\0".encode("utf-16-le")


def xp_block(kind: int, count: int, stored: bytes, order: str = "<") -> bytes:
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return header + ifd(order, 8, [(0x9C9E, kind, count, stored)])


@pytest.mark.parametrize("order", ["<", ">"])
def test_xp_keywords_may_be_of_type_short(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.jpg"
    refused = b'<!DOCTYPE a [<!ENTITY b "c">]>' + PACKET
    path.write_bytes(jpeg(exif_segment(xp_block(3, len(WORDS) // 2, WORDS, order)), xmp_segment(refused)))
    assert embedded_keywords(path) == (refused, None, ("Urlaub", "日本"))
    assert "Urlaub" in phototag("show", path).stdout
    assert phototag("untag", path).exit_code == 0


@pytest.mark.parametrize(
    ("kind", "count", "stored"),
    [
        (2, 12, b"Urlaub\0Japan"),
        (4, 2, struct.pack("<II", 1 << 20, 7)),
        (5, 2, struct.pack("<IIII", 1, 3, 1, 0)),
        (8, 2, struct.pack("<hh", -1, 3)),
        (12, 2, struct.pack("<dd", float("nan"), 1e300)),
        (3, 1, b"\xff\xff\0\0"),
    ],
)
def test_xp_keywords_of_other_types_are_none_and_the_rest_is_read(
    tmp_path: Path, kind: int, count: int, stored: bytes
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(exif_segment(xp_block(kind, count, stored)), xmp_segment()))
    assert embedded_keywords(path) == (PACKET, None, None)
