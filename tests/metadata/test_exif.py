from __future__ import annotations

import random
import struct
from typing import Any

import piexif
import pytest

from phototag.metadata import exif
from phototag.metadata.edits import applied, growth, inverse
from phototag.metadata.keywords import Unwritable
from tests.helpers.photo_parts import exif_block, ifd

WORDS = ("bird", "Vögel", "日本", "🦜")


def xp(text: str) -> bytes:
    return text.encode("utf-16-le")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [None, "Smith, John\0", "a;b;\0\0", "a ;  b", "", "x\0"])
@pytest.mark.parametrize("filling", [0, 1])
def test_keywords_are_added_and_nothing_in_the_block_moves(order: str, before: str | None, filling: int) -> None:
    block = exif_block(order, None if before is None else xp(before), filling) + b"\0" * filling
    found = exif.read_xp_keywords(block)
    assert found == (None if before is None else tuple(k.strip() for k in before.rstrip("\0").split(";") if k.strip()))
    edits = exif.update_xp_keywords(block, (*(found or ()), *WORDS))
    after = applied(block, edits)
    assert exif.read_xp_keywords(after) == (*(found or ()), *WORDS)
    assert applied(after, inverse(edits)) == block
    # Only the header's pointer is other than before, and all that is new comes behind.
    assert after[:4] + block[4:8] + after[8 : len(block)] == block
    assert int.from_bytes(after[4:8], "little" if order == "<" else "big") % 2 == 0
    old, new = piexif.load(block), piexif.load(after)
    new["0th"].pop(0x9C9E)
    old["0th"].pop(0x9C9E, None)
    assert new == old
    assert len(old["0th"]) == 4
    assert old["Exif"][0x927C].startswith(b"MAKER")
    assert old["thumbnail"].startswith(b"\xff\xd8")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [None, "a;b\0"])
def test_the_fields_stay_in_ascending_order(order: str, before: str | None) -> None:
    block = exif_block(order, None if before is None else xp(before))
    after = applied(block, exif.update_xp_keywords(block, WORDS))
    at, count = struct.unpack_from(order + "I", after, 4)[0], 5
    assert struct.unpack_from(order + "H", after, at)[0] == count
    tags = [struct.unpack_from(order + "H", after, at + 2 + 12 * i)[0] for i in range(count)]
    assert tags == sorted(tags) == [0x10F, 0x8298, 0x8769, 0x9C9E, 0xC4A5]


def test_what_a_person_typed_stays_as_it_was_typed() -> None:
    block = exif_block("<", xp(" a ;b; ;\0"))
    assert exif.read_xp_keywords(block) == ("a", "b")
    after = applied(block, exif.update_xp_keywords(block, ("a", "b", "bird")))
    assert exif.read_xp_keywords(after) == ("a", "b", "bird")
    assert xp(" a ;b; ;bird\0") in after


def test_the_same_keywords_need_no_edit() -> None:
    assert exif.update_xp_keywords(exif_block("<", xp("a; b\0")), ["a", "b"]) == ()
    assert exif.update_xp_keywords(exif_block(), None) == ()


@pytest.mark.parametrize("order", ["<", ">"])
def test_none_takes_the_field_away_in_place(order: str) -> None:
    block = exif_block(order, xp("a;b\0"))
    edits = exif.update_xp_keywords(block, None)
    after = applied(block, edits)
    assert exif.read_xp_keywords(after) is None
    assert growth(edits) == 0
    old, new = piexif.load(block), piexif.load(after)
    del old["0th"][0x9C9E]
    assert new == old


@pytest.mark.parametrize("keywords", [WORDS, ("x",), ("🦜",), ()])
def test_a_new_block_says_the_keywords_alone(keywords: tuple[str, ...]) -> None:
    block = exif.create(keywords)
    assert exif.read_xp_keywords(block) == keywords
    exif.check(block)
    assert exif.is_bare(block)
    loaded: dict[str, Any] = piexif.load(block)
    assert list(loaded["0th"]) == [0x9C9E]
    assert bytes(loaded["0th"][0x9C9E]) == xp(";".join(keywords) + "\0")
    assert exif.is_bare(applied(block, exif.update_xp_keywords(block, ("other", "words"))))
    assert not exif.is_bare(exif_block("<", xp("a\0")))
    with pytest.raises(Unwritable, match="no field but"):
        exif.update_xp_keywords(block, None)


@pytest.mark.parametrize("keyword", ["", "a;b", "a\0b", " a", "a ", "\ud800"])
def test_a_keyword_that_cannot_be_stored_is_refused(keyword: str) -> None:
    with pytest.raises(Unwritable):
        exif.create(["bird", keyword])
    with pytest.raises(Unwritable):
        exif.update_xp_keywords(exif_block(), [keyword])


def block_of(fields: list[tuple[int, int, int, bytes]], following: int = 0) -> bytes:
    return b"II*\0\x08\0\0\0" + ifd("<", 8, fields, following)


def pointer(offset: int) -> bytes:
    return struct.pack("<I", offset)


XP = (0x9C9E, 1, 4, xp("a\0"))
MALFORMED = {
    "empty": b"",
    "no header": b"Exif",
    "BigTIFF": b"II+\0\x08\0\0\0" + bytes(20),
    "IFD0 outside": b"II*\0\xff\xff\0\0" + bytes(20),
    "IFD0 in the header": b"II*\0\x04\0\0\0" + bytes(20),
    "too many fields": b"II*\0\x08\0\0\0\xff\xff" + bytes(20),
    "no next pointer": block_of([XP])[:-4],
    "unknown type": block_of([(0x10F, 99, 1, b"")]),
    "two XPKeywords": block_of([XP, XP]),
    "XPKeywords of ASCII": block_of([(0x9C9E, 2, 4, b"a;b\0")]),
    "XPKeywords outside": block_of([(0x9C9E, 1, 500, pointer(8))]),
    "XPKeywords of half a surrogate pair": block_of([(0x9C9E, 1, 2, b"\x00\xd8")]),
    "XPKeywords of odd length": block_of([(0x9C9E, 1, 3, b"a\0b")]),
    "XPKeywords behind their end": block_of([(0x9C9E, 1, 6, xp("a\0b"))]),
}
NOT_SELF_CONTAINED = {
    "IFD0 follows itself": block_of([XP], following=8),
    "IFD1 outside": block_of([XP], following=5000),
    "Exif IFD outside": block_of([XP, (0x8769, 4, 1, pointer(5000))]),
    "Exif IFD is IFD0": block_of([XP, (0x8769, 4, 1, pointer(8))]),
    "too many sub-IFDs": block_of([XP, (0x14A, 4, 2**28, pointer(8))]),
    "value outside": block_of([XP, (0x10F, 2, 70000, pointer(8))]),
    "thumbnail outside": block_of([XP, (0x201, 4, 1, pointer(8)), (0x202, 4, 1, pointer(5000))]),
    "thumbnail without length": block_of([XP, (0x201, 4, 1, pointer(8))]),
    "strips outside": block_of([XP, (0x111, 4, 1, pointer(5000)), (0x117, 4, 1, pointer(8))]),
    "Exif IFD of text": block_of([XP, (0x8769, 2, 4, b"abc\0")]),
}


@pytest.mark.parametrize("block", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_block_is_refused(block: bytes) -> None:
    with pytest.raises(Unwritable):
        exif.update_xp_keywords(block, WORDS)


@pytest.mark.parametrize("block", NOT_SELF_CONTAINED.values(), ids=NOT_SELF_CONTAINED)
def test_a_block_that_addresses_more_than_itself_is_read_but_not_changed(block: bytes) -> None:
    assert exif.read_xp_keywords(block) == ("a",)
    for keywords in (WORDS, None):
        with pytest.raises(Unwritable):
            exif.update_xp_keywords(block, keywords)


@pytest.mark.slow
def test_an_ifd_with_every_field_there_can_be_has_no_room() -> None:
    fields = [(number, 1, 1, b"x") for number in range(0xFFFF) if number not in (0x9C9E, 0x8769, 0x8825, 0xA005, 0x14A)]
    fields = [field for field in fields if field[0] not in (0x111, 0x117, 0x144, 0x145, 0x201, 0x202)]
    fields += [(0xFFFF, 1, 1, b"x")] * (0xFFFF - len(fields))
    block = block_of(fields)
    with pytest.raises(Unwritable, match="no room"):
        exif.update_xp_keywords(block, WORDS)


@pytest.mark.slow
def test_whatever_the_bytes_only_a_refusal_or_the_keywords_come_out() -> None:
    chance = random.Random(1)
    outcomes = {True: 0, False: 0}
    blocks = [exif_block(order, xp("a;b\0")) for order in "<>"]
    for number in range(4000):
        block = bytearray(blocks[number % 2])
        for _ in range(chance.randint(1, 3)):
            block[chance.randrange(180)] = chance.choice((0, 1, 8, 255, chance.randrange(256)))
        mutated = bytes(block[: chance.choice((len(block), len(block), chance.randrange(len(block))))])
        try:
            found = exif.read_xp_keywords(mutated) or ()
            after = applied(mutated, edits := exif.update_xp_keywords(mutated, (*found, "bird")))
        except Unwritable:
            outcomes[False] += 1
            continue
        assert exif.read_xp_keywords(after) == (*found, "bird")
        assert applied(after, inverse(edits)) == mutated
        outcomes[True] += 1
    assert min(outcomes.values()) > 500
