"""A journal for the tests of the writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from phototag.index import Index, open_index
from tests.helpers.writing import (
    Notes,
)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "journal.sqlite3") as opened, opened.run({}):
        yield opened


@pytest.fixture
def notes(index: Index) -> Notes:
    return Notes(index)
