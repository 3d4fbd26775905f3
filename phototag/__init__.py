"""phototag tags photos with the everyday words that a person would use, and never damages a photo.

In Python, a `Session` tags libraries and single images, `scan` tags a library in one call, and a `Classifier` runs a
model on photos. Importing this package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from phototag._version import __version__

if TYPE_CHECKING:
    from phototag.run.classifier import Classifier
    from phototag.run.session import Session, scan
    from phototag.run.settings import Settings

__all__ = ["Classifier", "Session", "Settings", "__version__", "scan"]

# Imported when they are first used: they bring NumPy and Pillow.
_LAZY = {
    "Classifier": "phototag.run.classifier",
    "Session": "phototag.run.session",
    "Settings": "phototag.run.settings",
    "scan": "phototag.run.session",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
