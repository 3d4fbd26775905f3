from __future__ import annotations

import hashlib
import random

import pytest

from phototag.metadata import iptc
from phototag.metadata.edits import applied, growth, inverse
from phototag.metadata.keywords import Unwritable
from tests.helpers.photo_parts import dataset, resource

UTF_8 = dataset(1, 90, b"\x1b%G")
VERSION = dataset(2, 0, b"\0\x04")
CAPTION = dataset(2, 120, b"A caption")


def keyword(text: str) -> bytes:
    return dataset(2, 25, text.encode())


def resources(*datasets: bytes, digest: bytes | None = None) -> bytes:
    """The IPTC block between two other resources, and its digest behind them."""
    irb = resource(0x03ED, b"resolution", b"nam") + resource(0x0404, b"".join(datasets)) + resource(0x040C, b"thumb")
    return irb if digest is None else irb + resource(0x0425, digest)


def block(irb: bytes) -> bytes:
    at = irb.index(b"8BIM\x04\x04") + 8
    return irb[at + 4 : at + 4 + int.from_bytes(irb[at : at + 4], "big")]


def update(irb: bytes, *keywords: str) -> tuple[bytes, tuple[str, ...]]:
    """The resources afterwards, and what was left out; the other resources must be as before."""
    edits, left_out = iptc.update_keywords(irb, keywords)
    after = applied(irb, edits)
    assert applied(after, inverse(edits)) == irb
    assert resource(0x03ED, b"resolution", b"nam") in after
    assert resource(0x040C, b"thumb") in after
    assert iptc.read_keywords(after) is not None
    return after, left_out


def test_keywords_come_behind_the_last_one() -> None:
    irb = resources(
        VERSION, keyword("a"), CAPTION, keyword("Smith, John"), dataset(2, 5, b"title"), dataset(7, 10, b"x")
    )
    assert iptc.read_keywords(irb) == ("a", "Smith, John")
    after, left_out = update(irb, "a", "Smith, John", "bird", "fox")
    assert left_out == ()
    expected = (VERSION, keyword("a"), CAPTION, keyword("Smith, John"), keyword("bird"), keyword("fox"))
    assert block(after) == b"".join((*expected, dataset(2, 5, b"title"), dataset(7, 10, b"x")))


def test_the_first_keyword_comes_at_the_end_of_record_two() -> None:
    after, _ = update(resources(VERSION, CAPTION, dataset(7, 10, b"x"), b"\0\0"), "bird")
    assert block(after) == VERSION + CAPTION + keyword("bird") + dataset(7, 10, b"x") + b"\0\0"
    after, _ = update(resources(), "bird")
    assert block(after) == keyword("bird")


@pytest.mark.parametrize("caption", [b"A", b"AB"])
@pytest.mark.parametrize("word", ["fox", "bird"])
@pytest.mark.parametrize("ends_unpadded", [True, False])
def test_padding_follows_the_length(caption: bytes, word: str, ends_unpadded: bool) -> None:
    irb = (
        resource(0x040C, b"thumb")
        + resource(0x03ED, b"resolution", b"nam")
        + resource(0x0404, dataset(2, 120, caption))
    )
    if ends_unpadded and len(caption) % 2 == 0:
        irb = irb[:-1]
    after, _ = update(irb, word)
    assert iptc.read_keywords(after) == (word,)
    assert len(after) % 2 == 0


def test_the_marker_of_utf_8_is_added_where_all_text_is_ascii() -> None:
    envelope = dataset(1, 0, b"\0\x04"), dataset(1, 100, b"unique")
    after, left_out = update(resources(*envelope, VERSION, keyword("a")), "a", "日本")
    assert left_out == ()
    assert block(after) == envelope[0] + UTF_8 + envelope[1] + VERSION + keyword("a") + keyword("日本")
    after, _ = update(resources(keyword("a"), dataset(1, 0, b"\0\x04")), "a", "Ö")
    assert block(after).startswith(UTF_8)
    after, _ = update(after, "a", "Ö", "日本")
    assert block(after).count(UTF_8) == 1
    after, _ = update(resources(keyword("a")), "a", "b")
    assert UTF_8 not in after


@pytest.mark.parametrize("existing", [(), (keyword("a"),), (dataset(7, 10, b"x"),)])
def test_the_marker_comes_before_keywords_that_come_or_go_at_its_place(existing: tuple[bytes, ...]) -> None:
    after, left_out = update(resources(*existing), "日本")
    assert left_out == ()
    assert block(after).startswith(UTF_8 + keyword("日本"))
    assert iptc.read_keywords(after) == ("日本",)


@pytest.mark.parametrize(
    "existing",
    [
        (dataset(2, 120, "Köln".encode("latin-1")),),
        (dataset(2, 120, "Köln".encode()),),  # perhaps, but nothing says so
        (dataset(1, 90, b"\x1b.A"), CAPTION),
    ],
)
def test_text_in_another_character_set_takes_ascii_alone(existing: tuple[bytes, ...]) -> None:
    irb = resources(*existing, keyword("a"))
    after, left_out = update(irb, "a", "日本", "bird")
    assert left_out == ("日本",)
    assert block(after) == b"".join(existing) + keyword("a") + keyword("bird")


def test_what_is_binary_is_no_text() -> None:
    after, left_out = update(resources(dataset(2, 202, b"\xff\xd8preview"), keyword("a")), "a", "Ö")
    assert left_out == ()
    assert iptc.read_keywords(after) == ("a", "Ö")


def test_text_without_a_character_set_is_read_as_what_it_can_be() -> None:
    values = "Köln".encode(), "Köln".encode("latin-1"), "“x”".encode("cp1252"), b"\x81"
    irb = resources(*(dataset(2, 25, value) for value in values))
    assert iptc.read_keywords(irb) == ("Köln", "Köln", "“x”", "\x81")


def test_a_long_keyword_is_left_out_and_never_cut() -> None:
    irb = resources(UTF_8, keyword("a"))
    after, left_out = update(irb, "a", "é" * 32, "é" * 33, "x" * 64, "x" * 65, "", "\ud800")
    assert left_out == ("é" * 33, "x" * 65, "", "\ud800")
    assert iptc.read_keywords(after) == ("a", "é" * 32, "x" * 64)


def test_keywords_that_are_not_wanted_go_and_others_stay_where_they_are() -> None:
    irb = resources(keyword("a"), keyword("bird"), CAPTION, keyword("b"), keyword("a"))
    after, _ = update(irb, "b", "a", "a")
    assert block(after) == keyword("a") + CAPTION + keyword("b") + keyword("a")
    after, _ = update(irb, "fox")
    assert block(after) == CAPTION + keyword("fox")
    after, _ = update(irb)
    assert block(after) == CAPTION


def test_an_empty_keyword_is_none_and_stays() -> None:
    irb = resources(keyword(""), keyword("a"))
    assert iptc.read_keywords(irb) == ("a",)
    after, _ = update(irb, "bird")
    assert block(after) == keyword("") + keyword("bird")


def test_the_same_keywords_need_no_edit() -> None:
    irb = resources(keyword("a"), keyword("b"))
    assert iptc.update_keywords(irb, ["b", "a"]) == ((), ())


def test_the_digest_is_refreshed_where_it_was_current_alone() -> None:
    datasets = VERSION + keyword("a")
    after, _ = update(resources(datasets, digest=hashlib.md5(datasets).digest()), "a", "bird")
    assert after.endswith(resource(0x0425, hashlib.md5(block(after)).digest()))
    stale = hashlib.md5(b"other").digest()
    after, _ = update(resources(datasets, digest=stale), "a", "bird")
    assert after.endswith(resource(0x0425, stale))


def test_no_iptc_is_none_and_never_made() -> None:
    irb = resource(0x03ED, b"resolution")
    assert iptc.read_keywords(irb) is None
    assert iptc.read_keywords(b"") is None
    with pytest.raises(Unwritable):
        iptc.update_keywords(irb, ["a"])


def test_two_blocks_are_read_but_not_changed() -> None:
    irb = resource(0x0404, keyword("a")) + resource(0x0404, keyword("b"))
    assert iptc.read_keywords(irb) == ("a", "b")
    with pytest.raises(Unwritable, match="several"):
        iptc.update_keywords(irb, ["a", "b", "c"])


MALFORMED = {
    "no resource": b"8BXX" + bytes(20),
    "resource cut in its head": b"8BIM\x04",
    "resource cut in its name": b"8BIM\x04\x04\xff\0\0\0",
    "resource cut": resources(keyword("a"))[:-3],
    "resource too long": b"8BIM\x04\x04\0\0\xff\xff\xff\xff",
    "dataset cut in its head": resources(b"\x1c\x02\x19\x00"),
    "dataset cut": resources(keyword("abc")[:-1]),
    "no dataset": resources(keyword("a"), b"\x1d\x02\x19\0\0"),
    "bytes behind the padding": resources(keyword("a"), b"\0\0\x1c"),
    "extended dataset": resources(b"\x1c\x02\x19\x80\x04\0\0\0\x01a"),
    "two character sets": resources(UTF_8, dataset(1, 90, b"\x1b.A"), keyword("a")),
}


@pytest.mark.parametrize("irb", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_block_is_refused(irb: bytes) -> None:
    with pytest.raises(Unwritable):
        iptc.read_keywords(irb)
    with pytest.raises(Unwritable):
        iptc.update_keywords(irb, ["a"])


def test_whatever_the_bytes_only_a_refusal_or_the_keywords_come_out() -> None:
    chance = random.Random(2)
    datasets = VERSION + keyword("a") + CAPTION + keyword("Ö")
    irb = resources(datasets, digest=hashlib.md5(datasets).digest())
    written = 0
    for _ in range(4000):
        mutated = bytearray(irb)
        for _ in range(chance.randint(1, 3)):
            mutated[chance.randrange(len(mutated))] = chance.choice((0, 1, 0x1C, 255, chance.randrange(256)))
        before = bytes(mutated[: chance.choice((len(mutated), len(mutated), chance.randrange(len(mutated))))])
        try:
            found = iptc.read_keywords(before) or ()
            edits, left_out = iptc.update_keywords(before, (*found, "bird"))
        except Unwritable:
            continue
        after = applied(before, edits)
        assert left_out == ()
        assert iptc.read_keywords(after) is not None
        assert sorted(iptc.read_keywords(after) or ()) == sorted((*found, "bird"))
        assert applied(after, inverse(edits)) == before
        assert growth(edits) in (8, 9, 10)
        written += 1
    assert written > 500
