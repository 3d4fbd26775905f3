"""Edits of bytes, as values."""

from __future__ import annotations

import zlib

import pytest

from phototag.metadata.edits import Edit, applied, inverse, leads_to, ordered, packed, replacement, unpacked

BEFORE = b"one two three"
EDITS = (Edit(0, b"one", b"1"), Edit(8, b"", b"and "))
AFTER = b"1 two and three"


def test_edits_make_the_result_and_their_inverse_takes_it_back() -> None:
    assert applied(BEFORE, EDITS) == AFTER
    assert applied(AFTER, inverse(EDITS)) == BEFORE
    with pytest.raises(ValueError, match="at 0"):
        applied(AFTER, EDITS)


def test_edits_are_ordered_and_must_not_overlap() -> None:
    assert ordered(reversed(EDITS)) == EDITS
    with pytest.raises(ValueError, match="overlap at 2"):
        ordered((Edit(0, b"one", b""), Edit(2, b"e", b"")))


def test_only_the_result_of_the_edits_is_what_they_lead_to() -> None:
    assert leads_to(EDITS, BEFORE, AFTER)
    assert leads_to((), BEFORE, BEFORE)
    for other in (
        BEFORE,
        AFTER + b"!",
        AFTER[:-1],
        b"2" + AFTER[1:],
        AFTER.replace(b"and", b"or "),
        b"1 TWO and three",
    ):
        assert not leads_to(EDITS, BEFORE, other)
    assert not leads_to((Edit(0, b"two", b"2"),), BEFORE, b"2 two three")


def test_a_replacement_leaves_out_what_both_have() -> None:
    assert replacement(BEFORE, b"one 2 three") == (Edit(4, b"two", b"2"),)
    assert replacement(BEFORE, BEFORE) == ()
    assert applied(b"aaa", replacement(b"aaa", b"aaaa")) == b"aaaa"


def test_edits_that_are_kept_come_back_only_for_what_they_were_made_of() -> None:
    assert unpacked(packed(EDITS), BEFORE) == EDITS
    with pytest.raises(ValueError, match="no edit fits at 8"):
        unpacked(packed(EDITS), BEFORE[:5])
    with pytest.raises(ValueError, match="it holds more than its edits"):
        unpacked(zlib.compress(b"[]\nmore"), BEFORE)
