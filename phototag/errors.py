"""Every error a user can cause, each with a message of one sentence that names the thing and the remedy.

This module imports nothing of phototag's. Which exit code belongs to which error is the command line's business.
"""

from __future__ import annotations

import os


class PhototagError(Exception):
    """An error whose message is ready to be read by a user."""


class ConfigError(PhototagError):
    """An option, a pattern or a path that the user gave cannot be used."""


class ModelError(PhototagError):
    """The model cannot be used: missing, damaged, without the facts that are needed, or failing when it runs."""


class NotASavedModel(ModelError):
    """The path holds no SavedModel."""


class OutOfMemory(ModelError):
    """The model needs more memory for a batch than there is."""


class SignatureMismatch(ModelError):
    """The model takes or gives something else than its card says."""


class LabelMismatch(ModelError):
    """The labels do not belong to the model's output."""


class IndexUnusable(PhototagError):
    """The index of the library cannot be used: unreadable, damaged, full disk, or written by a newer phototag."""


class IndexBusy(PhototagError):
    """Another run holds the index."""


class OutputError(PhototagError):
    """Results or messages cannot be printed where the user sent them."""


class PhotoError(PhototagError):
    """One photo (or folder of photos) that cannot be handled; never the end of a run.

    `path` is the photo, `reason` the rest of the sentence: "the file is truncated".
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


def no_photo(path: str | os.PathLike[str]) -> PhotoError:
    """Return the error for a `path` that should be a photo and is no file."""
    folder = os.path.isdir(path)
    return PhotoError(path, "it is a folder; name photos" if folder else "there is no such photo; check the path")
