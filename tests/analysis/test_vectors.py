from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phototag.analysis.vectors import pack_look, pack_words, unpack_look, unpack_words


@given(st.lists(st.floats(0, 1, width=32), max_size=60))
def test_words_keep_their_probabilities_in_two_bytes_each(values: list[float]) -> None:
    words = np.array(values, np.float32)
    packed = pack_words(words)
    assert len(packed) == 2 * len(words)
    stored = unpack_words(packed, len(words))
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, words, atol=0.51 / 65535)
    assert pack_words(stored) == packed


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=60))
def test_a_likeness_vector_keeps_its_numbers_in_a_byte_each(values: list[float]) -> None:
    look = np.array(values, np.float32)
    packed = pack_look(look)
    assert len(packed) == len(look) + 4
    stored = unpack_look(packed, len(look))
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, look, atol=float(np.abs(look).max(initial=0)) / 253 + 1e-40)


@pytest.mark.parametrize("packed", [b"", bytes(7), bytes(9)])
def test_foreign_words_are_an_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="another number of words"):
        unpack_words(packed, 4)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        bytes(7),
        bytes(9),
        *(struct.pack("<f", scale) + bytes(4) for scale in (-1.0, float("nan"), float("inf"))),
        bytes(7) + b"\x80",
    ],
)
def test_a_foreign_likeness_vector_is_an_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="a likeness vector"):
        unpack_look(packed, 4)
