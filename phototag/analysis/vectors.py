"""The stored forms of a photo's words and of its likeness vector. Pure."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# Probabilities in steps of 1/65535, finer than any threshold.
_STEPS = 65535
_LEVELS = 127  # of a signed byte, without the one that has no negative
_SCALE = struct.Struct("<f")


def pack_words(words: NDArray[np.float32]) -> bytes:
    """Return the probabilities of the words, [W], each 0 to 1, to the nearest 1/65535: two bytes for each."""
    return np.rint(words.astype(np.float64) * _STEPS).astype("<u2").tobytes()


def unpack_words(packed: bytes, count: int) -> NDArray[np.float32]:
    """Return the probabilities of `count` words, float32 [count]. Raises `ValueError` for bytes of another length."""
    if len(packed) != 2 * count:
        raise ValueError("another number of words")
    words: NDArray[np.float32] = np.frombuffer(packed, "<u2").astype(np.float32) / np.float32(_STEPS)
    return words


def pack_look(look: NDArray[np.float32]) -> bytes:
    """Return the likeness vector, [D], as bytes: a scale, and for each number a signed byte that it multiplies."""
    scale = np.float32(np.abs(look).max(initial=0) / _LEVELS)
    levels = np.rint(look / scale).clip(-_LEVELS, _LEVELS) if scale > 0 else np.zeros(len(look))
    return _SCALE.pack(scale) + levels.astype(np.int8).tobytes()


def unpack_look(packed: bytes, size: int) -> NDArray[np.float32]:
    """Return the likeness vector, float32 [size]. Raises `ValueError` for bytes that `pack_look` did not make."""
    if len(packed) != _SCALE.size + size:
        raise ValueError("a likeness vector of another size")
    (scale,) = _SCALE.unpack_from(packed)
    levels = np.frombuffer(packed, np.int8, offset=_SCALE.size)
    if not 0 <= scale < np.inf or levels.min(initial=0) < -_LEVELS:
        raise ValueError("a likeness vector that is damaged")
    look: NDArray[np.float32] = levels * np.float32(scale)
    return look
