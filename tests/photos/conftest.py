"""Libraries made of empty photos."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.finding import JPEG


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes files below `tmp_path/library`. A name that ends in a slash is a folder."""

    def make(*names: str | bytes, content: bytes = JPEG) -> Path:
        root = tmp_path / "library"
        root.mkdir(exist_ok=True)
        for name in map(os.fsdecode, names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if name.endswith("/") else path.write_bytes(content)
        return root

    return make
