"""The digest that identifies the content of a file."""

from __future__ import annotations

from typing import BinaryIO

import xxhash

_CHUNK = 1 << 20  # bytes


def content_digest(data: bytes) -> bytes:
    """Return the digest of a file that consists of `data`: XXH3 of 128 bits, 16 bytes.

    Two different files in a library do not have the same digest by chance, however large the library is.

    The digest is not cryptographic. If an attacker builds two photos with one digest, one gets the tags and the removed
    tags of the other. Nothing else depends on it: `untag` proves by the content what it puts back into a photo.

    XXH3 takes a small part of the time of SHA-256. For a camera's photos, SHA-256 would take more time than everything
    else except decoding and the model.
    """
    return xxhash.xxh3_128_digest(data)


def stream_digest(file: BinaryIO) -> bytes:
    """Return the `content_digest` of the rest of `file`, without holding it in memory. Raises `OSError`."""
    state = xxhash.xxh3_128()
    while chunk := file.read(_CHUNK):
        state.update(chunk)
    return state.digest()
