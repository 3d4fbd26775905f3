"""Helpers for several test modules. Fixtures are in `tests/conftest.py`."""

from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
SHARED = PROJECT.parent / "shared"  # real photos and models, which are not part of the project
