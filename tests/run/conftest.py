"""A pipeline whose results can be computed by hand, and a library of photos for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phototag.index import Index, open_index
from phototag.run.pipeline import Pipeline
from tests.helpers.stages import make_pipeline


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "index.sqlite3") as opened, opened.run({}):
        yield opened


@pytest.fixture
def pipeline(index: Index) -> Callable[..., Pipeline]:
    def make(**changes: Any) -> Pipeline:
        return make_pipeline(**{"index": index, **changes})

    return make


@pytest.fixture
def library(make_photo: Callable[..., Path]) -> Path:
    for number in range(30):
        make_photo(f"{number:02}.jpg", ["red", "lime", "blue"][number % 3], size=(32, 24 + number))
    return make_photo("30.jpg", "grey").parent
