"""The scores of a photo as bytes, and back."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from phototag.analysis.scores import _MAX_CLASSES, pack, unpack


def test_probabilities_come_back_to_the_nearest_step() -> None:
    scores = np.array([0.0, 0.25, 1.0, 0.123456], np.float32)
    packed = pack(scores)
    assert packed[:1] == b"p"
    np.testing.assert_allclose(unpack(packed), scores, rtol=0, atol=0.5 / 65535 + 1e-7)
    assert unpack(pack(np.array([], np.float32))).shape == (0,)


@pytest.mark.parametrize("scores", [[-3.5, 0.0, 1e20], [1.0, 1.5]])
def test_other_scores_come_back_as_they_are(scores: list[float]) -> None:
    packed = pack(np.array(scores, np.float32))
    assert packed[:1] == b"f"
    np.testing.assert_array_equal(unpack(packed), np.array(scores, np.float32))


WHOLE = pack(np.array([0.5, 0.25], np.float32))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "unknown kind"),
        (b"x" + WHOLE[1:], "unknown kind"),
        (b"pnothing", "damaged"),
        (WHOLE[:-1], "cut off"),
        (b"p" + zlib.compress(b"123"), "cut off"),
        (b"f" + zlib.compress(b"12"), "cut off"),
        (b"p" + zlib.compress(bytes(2 * _MAX_CLASSES + 2)), "cut off"),
        (b"f" + zlib.compress(np.array([np.nan], "<f4").tobytes()), "not numbers"),
        (b"f" + zlib.compress(np.array([np.inf], "<f4").tobytes()), "not numbers"),
    ],
)
def test_bytes_from_elsewhere_are_an_error(packed: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack(packed)
