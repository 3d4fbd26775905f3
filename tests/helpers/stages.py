"""A pipeline whose results can be computed by hand. The index and the writers are real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototag.analysis.analyzer import Analyzer, ResultType, result_types
from phototag.analysis.objects import Once, in_parts
from phototag.analysis.scores import pack, unpack
from phototag.core import Label, Results
from phototag.images.decode import Picture
from phototag.images.preprocess import Preprocessing
from phototag.index import Index
from phototag.metadata.json_sidecar import JsonSidecarWriter
from phototag.run.looker import Later, LocalLooker, LookJob, StillWanted
from phototag.run.outcome import Outcome
from phototag.run.pipeline import Pipeline
from phototag.run.record import Recorder
from phototag.run.session import never
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.evidence import words_of_labels
from phototag.vocabulary.label_rule import LabelRule

LABELS = [Label("red"), Label("green"), Label("blue")]
PREPROCESSING = Preprocessing(8, 8)


def label_chooser(**options: Any) -> Chooser:
    """Return the chooser of red, green and blue."""
    return Chooser(LabelRule(LABELS, max_tags=5, **options), words_of_labels(LABELS), 5)


CHOOSER = label_chooser()


def classify(pixels: np.ndarray) -> np.ndarray:
    means = pixels.mean(axis=(1, 2), dtype=np.float32)
    return np.asarray(means / means.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class ToyNetwork:
    """A network whose scores can be computed by hand."""

    classify: Callable[[np.ndarray], np.ndarray] = classify
    by_photo: bool = False


class ColourAnalyzer:
    """An analyzer whose scores are the shares of the colour channels."""

    after: tuple[str, ...] = ()
    recipe = ("colours",)
    shortest_side = PREPROCESSING.shortest_side

    def __init__(self, load: Callable[[], ToyNetwork], key: str = "model") -> None:
        self.results = (ResultType("objects", key, pack, unpack),)
        self._load = Once(load).get

    @property
    def by_photo(self) -> bool:
        return self._load().by_photo

    def prepare(self, picture: Picture) -> np.ndarray:
        return picture.view(PREPROCESSING)

    def analyse(self, prepared: Sequence[np.ndarray], earlier: Sequence[Results]) -> Sequence[Results]:
        network = self._load()
        scores = np.concatenate(in_parts(network.classify, np.concatenate(prepared)))
        return [{"objects": row} for row in scores]


class NotingLooker(LocalLooker):
    """A looker that calls `looked` with each submitted photo."""

    looked: Callable[[Path], object] = staticmethod(lambda _: None)

    def submit(self, job: LookJob, still_wanted: StillWanted | None = None) -> Later:
        self.looked(Path(job.path))
        return super().submit(job, still_wanted)


def make_pipeline(
    index: Index,
    *,
    load_network: Callable[[], ToyNetwork] = ToyNetwork,
    model: str = "model",
    analyzers: Sequence[Analyzer] = (),
    looked: Callable[[Path], object] = lambda _: None,
    jobs: int = 2,
    batch_size: int = 4,
    roots: Sequence[Path] = (),
    **recorder: Any,
) -> Pipeline:
    """Return a pipeline with the colour analyzer, followed by `analyzers`."""
    running = (ColourAnalyzer(load_network, model), *analyzers)
    looker = NotingLooker(running, jobs, batch_size)
    looker.looked = looked
    settings: dict[str, Any] = {
        "types": result_types(running),
        "chooser": CHOOSER,
        "writer": JsonSidecarWriter("m", "d", index),
        "index": index,
        "recipe": "recipe",
    }
    return Pipeline(looker, Recorder(**{**settings, **recorder}), roots)


def run(pipeline: Pipeline, found: Any, should_stop: Callable[[], bool] = never) -> list[Outcome]:
    return list(pipeline.run(found, should_stop))


def summary(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.path.name, outcome.status) for outcome in outcomes]
