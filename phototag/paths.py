"""Where phototag keeps its files: the user's data directory, and the data that ships with the package."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_directory() -> Path:
    """Return where models and the index are kept: `PHOTOTAG_DATA_DIR`, else the user's data directory."""
    chosen = os.environ.get("PHOTOTAG_DATA_DIR")
    if not chosen:
        return platformdirs.user_data_path("phototag", appauthor=False)
    return Path(os.path.abspath(os.path.expanduser(chosen)))  # cron has no shell that would replace the ~


def installed_directory(name: str) -> Path:
    """Return where the model `name` is installed, or would be."""
    return data_directory() / "models" / name


def shipped_directory() -> Path:
    """Return where the cards, labels and trees that come with phototag are: in the wheel or in a checkout."""
    inside = Path(__file__).parent / "_data"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "models"
