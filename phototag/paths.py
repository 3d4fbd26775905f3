"""The folders that phototag uses: the user's data directory, and the data that ships with the package."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_directory() -> Path:
    """Return the folder of models and the index: `PHOTOTAG_DATA_DIR`, otherwise the user's data directory."""
    chosen = os.environ.get("PHOTOTAG_DATA_DIR")
    if not chosen:
        return platformdirs.user_data_path("phototag", appauthor=False)
    return Path(os.path.abspath(os.path.expanduser(chosen)))  # cron has no shell to expand the ~


def installed_directory(name: str) -> Path:
    """Return the folder in which the model `name` is or would be installed."""
    return data_directory() / "models" / name


def default_index() -> Path:
    """Return where the index is unless the user names another place."""
    return data_directory() / "index.sqlite3"


def shipped_directory() -> Path:
    """Return the folder of the cards, labels and trees that ship with phototag, in a wheel or a checkout."""
    inside = Path(__file__).parent / "_data"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "models"
