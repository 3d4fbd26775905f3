"""A small library, and `phototag status` of its index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.helpers.program import phototag

Scan = Callable[..., Result]
MakePhoto = Callable[..., Path]


@pytest.fixture
def library(make_photo: MakePhoto) -> Path:
    for number in range(6):
        make_photo(f"{number}.jpg", ["red", "lime"][number % 2], size=(32 + number, 24))
    make_photo("broken.jpg").write_bytes(b"broken")
    return make_photo("z.png", "grey", format="PNG").parent


@pytest.fixture
def status(tmp_path: Path) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        result = phototag("status", "--index", tmp_path / "index.sqlite3", *arguments)
        assert result.exit_code == 0
        return json.loads(result.stdout) if "json" in arguments else result.stdout

    return run
