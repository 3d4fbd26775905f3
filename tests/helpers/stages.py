"""Stages of a pipeline that can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from phototag.core import Label
from phototag.images.decode import Looked, look_at
from phototag.images.preprocess import Preprocessing
from phototag.run.pipeline import Outcome, Pipeline
from phototag.vocabulary.choose import LabelChooser

TAGGER = LabelChooser([Label("red"), Label("green"), Label("blue")], max_tags=5)
PREPROCESSING = Preprocessing(8, 8)


def look(path: Path, is_known: Callable[[bytes], bool]) -> Looked:
    return look_at(path, PREPROCESSING, 1, is_known)


def classify(pixels: np.ndarray) -> np.ndarray:
    means = pixels.mean(axis=(1, 2), dtype=np.float32)
    return np.asarray(means / means.sum(axis=1, keepdims=True))


def run(pipeline: Pipeline, found: Any, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    return list(pipeline.run(found, stop))


def summary(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.path.name, outcome.status) for outcome in outcomes]
