"""A pipeline whose stages can be followed by hand, and a library of photos for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phototag.index import Index, open_index
from phototag.metadata.json_sidecar import JsonSidecarWriter
from phototag.run.pipeline import Pipeline, Scorer
from tests.helpers.stages import TAGGER, classify, look


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "index.sqlite3") as opened, opened.run({}):
        yield opened


@pytest.fixture
def pipeline(index: Index) -> Callable[..., Pipeline]:
    def make(**changes: Any) -> Pipeline:
        settings = {
            "look": look,
            "load_scorer": lambda: Scorer(classify),
            "chooser": TAGGER,
            "writer": JsonSidecarWriter("m", "d", index),
            "index": index,
            "recipe": "recipe",
            "model": "model",
            "classes": 3,
            "jobs": 2,
            "batch_size": 4,
        }
        return Pipeline(**{**settings, **changes})

    return make


@pytest.fixture
def library(make_photo: Callable[..., Path]) -> Path:
    for number in range(30):
        make_photo(f"{number:02}.jpg", ["red", "lime", "blue"][number % 3], size=(32, 24 + number))
    return make_photo("30.jpg", "grey").parent
