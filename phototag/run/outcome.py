"""The outcomes of a run's photos, their counts, and the time that each stage took."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, get_args

from phototag.core import Box, Prediction, Tag
from phototag.errors import PhotoError

T = TypeVar("T")
Status: TypeAlias = Literal["tagged", "untagged", "unchanged", "skipped", "failed"]
# How a run ended. "failed" means with an error.
RunStatus: TypeAlias = Literal["complete", "interrupted", "out of time", "failed"]
# In order: finding photos, querying the index, loading models, reading and decoding, running models, writing tags into
# files and the index, and the main thread's waiting for the other threads.
Stage: TypeAlias = Literal["walk", "index", "load", "decode", "infer", "write", "wait"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one photo.

    status: `tagged`: it has tags now. `untagged`: the model was not sure enough of any. `unchanged`: an earlier run
        tagged it, and the other fields are from then. `skipped`: phototag cannot read it. `failed`: see `error`.
    predictions: the model's likeliest labels.
    written: the files that hold the tags.
    error: why the photo was skipped or failed.
    note: why the tags are not in the photo, although the user wanted them there.
    boxes: the objects that the detector found, the surest first. None if there is no detector, or it has not looked at
        the photo.
    """

    file: os.PathLike[str]
    status: Status
    tags: tuple[Tag, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    written: tuple[Path, ...] = ()
    error: PhotoError | None = None
    note: str | None = None
    boxes: tuple[Box, ...] | None = None

    @property
    def path(self) -> Path:
        """The photo's path. Each access creates it, because creating a million paths takes seconds."""
        return Path(self.file)


@dataclass
class Report:
    """Counts of a run."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(Status), 0))
    other_files: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count `outcome`."""
        self.counts[outcome.status] += 1

    @property
    def photos(self) -> int:
        """The number of photos."""
        return sum(self.counts.values())

    @property
    def all_well(self) -> bool:
        """Whether no photo failed."""
        return self.counts["failed"] == 0


class Timings:
    """The seconds that each stage of a run took, summed over its threads."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = dict.fromkeys(get_args(Stage), 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the time spent in the `with` block to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            with self._lock:
                self.seconds[stage] += passed

    def of_each(self, stage: Stage, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`, and add the time that it takes to get them to `stage`."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                item = next(iterator, None)
            if item is None:
                return
            yield item


_UNTIMED = contextlib.nullcontext()


def timed(timings: Timings | None, stage: Stage) -> contextlib.AbstractContextManager[None]:
    """Return a context that adds its time to `stage`, or does nothing without timings."""
    return timings.measure(stage) if timings is not None else _UNTIMED
