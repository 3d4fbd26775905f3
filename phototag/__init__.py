"""phototag writes the tags a person would give a photo into the photo's library.

As a library: `Classifier` runs a model on photos. Importing this package loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phototag._version import __version__

if TYPE_CHECKING:
    from phototag.run.classifier import Classifier

__all__ = ["Classifier", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Classifier` when it is asked for; it brings numpy and Pillow, and TensorFlow once it is made."""
    if name == "Classifier":
        from phototag.run.classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
