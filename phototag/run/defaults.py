"""The defaults of settings. Imports nothing of phototag, because the help of every command needs them."""

from __future__ import annotations

import os

MODEL = "efficientnet-lite0"
MAX_TAGS = 12
BATCH_SIZE = 16  # photos
SETTLE = 2.0  # seconds
# A copy of images.preprocess.MOST_CROPS, which is slow to import. A test compares them.
MOST_CROPS = 2
# The most memory that a worker thread needs: a decoded photo of 50 megapixels, a copy of it, and an interpreter.
_MEMORY_A_THREAD = 400 << 20  # bytes


def worker_threads() -> int:
    """Return the default number of worker threads: one per core, fewer if memory is short."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # the cores that this process may use
        cores = len(os.sched_getaffinity(0))
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, where phototag rarely runs on a small computer
        return cores
    return max(1, min(cores, memory // _MEMORY_A_THREAD))
