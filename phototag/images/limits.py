"""The limits on the size of photos, and the lock that large ones share."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import BinaryIO, TypeAlias

from phototag.errors import PhotoError

# The path of a photo, or another name for error messages.
Name: TypeAlias = "str | os.PathLike[str]"

# Larger photos are refused. 268 megapixels are more than any camera takes in one shot (200), and about 1 GB decoded.
MAX_PIXELS = 2**28
# Larger images (50 megapixels) are decoded one at a time, because each takes hundreds of megabytes.
LARGE_PIXELS = 50 * 10**6
_LARGE_IMAGES = threading.RLock()
MAX_SCANS = 500  # of a progressive JPEG
MAX_RAW = 1 << 29  # bytes; RAW files of 150 megapixels have half as many
# Bytes. The digest of a larger file is computed from a stream. Larger RAW files are decoded one at a time.
MAX_IN_MEMORY = 1 << 26


def one_at_a_time(is_large: bool) -> contextlib.AbstractContextManager[object]:
    """Return a context that only one thread can enter at a time if `is_large`. A thread may nest it."""
    return _LARGE_IMAGES if is_large else contextlib.nullcontext()


def check_size(name: Name, width: int, height: int) -> None:
    """Raise `PhotoError` if a photo has more than `MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        raise PhotoError(
            name, f"it claims {width} x {height} pixels, over the limit of {MAX_PIXELS // 10**6} megapixels"
        )


def check_scans(file: BinaryIO, name: Name) -> None:
    """Raise `PhotoError` if a progressive JPEG has more than `MAX_SCANS` scans.

    Each scan takes as long as the whole picture, and encoders write about ten. The limit is what libjpeg-turbo
    recommends against such bombs (its report LJT-01-005).
    """
    at = file.tell()
    file.seek(0)
    scans, tail = 0, b""
    while chunk := file.read(1 << 20):
        # The marker SOS, start of scan. Within the data of a scan, a stuffed zero follows every 0xFF.
        scans += (tail + chunk).count(b"\xff\xda")
        tail = chunk[-1:]
    file.seek(at)
    if scans > MAX_SCANS:
        raise PhotoError(name, f"it has {scans} progressive scans, over the limit of {MAX_SCANS}")
