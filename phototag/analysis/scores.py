"""The stored form of a photo's scores. With these, new words or thresholds do not need the model. Pure."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The first byte tells the format.
_PROBABILITIES, _OTHERS = b"p", b"f"
# Probabilities in steps of 1/65535, finer than any threshold. If the model is sure, they take a few dozen bytes.
_STEPS = 65535
_MAX_CLASSES = 1 << 20  # more than any model has: the largest known label files have 22,000


def pack(scores: NDArray[np.floating[Any]]) -> bytes:
    """Return the scores of one photo, [classes], as bytes: probabilities to the nearest 1/65535, others as float32."""
    if scores.min(initial=0) >= 0 and scores.max(initial=0) <= 1:
        return _PROBABILITIES + zlib.compress(np.rint(scores * _STEPS).astype("<u2").tobytes(), 1)
    return _OTHERS + zlib.compress(scores.astype("<f4").tobytes(), 1)


def unpack(packed: bytes) -> NDArray[np.float32]:
    """Return the scores in `packed`, float32 [classes]. Raises `ValueError` for bytes that `pack` did not make."""
    kind, width = packed[:1], 2 if packed[:1] == _PROBABILITIES else 4
    if kind not in (_PROBABILITIES, _OTHERS):
        raise ValueError("scores of an unknown kind")
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(packed[1:], _MAX_CLASSES * width)
    except zlib.error as error:
        raise ValueError(f"scores that are damaged ({error})") from None
    if not decompressor.eof or len(data) % width:
        raise ValueError("scores that are cut off")
    if kind == _PROBABILITIES:
        scores: NDArray[np.float32] = np.frombuffer(data, "<u2").astype(np.float32) / np.float32(_STEPS)
        return scores
    others = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(others).all():
        raise ValueError("scores that are not numbers")
    return others
