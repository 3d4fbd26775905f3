"""What goes to a looker and comes back, and how it spends its time."""

from __future__ import annotations

import copy
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.core import Photo, SkippedFile
from phototag.errors import ModelError
from phototag.index import Index
from phototag.metadata.json_sidecar import JsonSidecarWriter
from phototag.metadata.writer import Written
from phototag.photos.find import find_photos
from phototag.run.looker import LocalLooker, look_at
from phototag.run.outcome import Outcome, Timings
from phototag.run.pipeline import Pipeline
from tests.helpers.stages import ColourAnalyzer, ToyNetwork, classify, make_pipeline, run
from tests.run.test_analyzers import Brightness

MakePipeline = Callable[..., Pipeline]


@pytest.mark.parametrize(
    "value",
    [
        Photo("/p/a.jpg", 1, 2, (Path("/p/a.cr2"),)),
        SkippedFile("/p/a.txt", "other", "no photo"),
        Outcome(Photo("/p/a.jpg", 1, 2), "tagged"),
    ],
)
def test_photos_and_outcomes_can_be_pickled_and_copied(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value


def rewrite_in_place(photo: Path, content: bytes) -> None:
    """Give `photo` other content of the same size, and the modification time that it had."""
    status = photo.stat()
    assert len(content) <= status.st_size
    photo.write_bytes(content.ljust(status.st_size, b"\0"))
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_new_analyzer_and_a_photo_that_changed_unnoticed(
    pipeline: MakePipeline, make_photo: Callable[..., Path], index: Index
) -> None:
    photo, other = make_photo("a.bmp", "red", format="BMP"), make_photo("b.bmp", "lime", format="BMP")
    run(pipeline(), [next(find_photos([photo]))])
    rewrite_in_place(photo, other.read_bytes())
    for status in ("tagged", "unchanged"):
        both = pipeline(analyzers=[Brightness(side=8)], recipe="both")
        (outcome,) = run(both, [next(find_photos([photo]))])
        assert (outcome.status, outcome.error, [tag.name for tag in outcome.tags]) == (status, None, ["green"])
    known = index.known(Photo(photo, 0, 0))
    assert known is not None
    assert index.results(known, ["model"]) == index.results_of(index.digest(known) or b"", ["model"])


def test_a_new_analyzer_and_a_photo_whose_digest_is_not_known(
    pipeline: MakePipeline, make_photo: Callable[..., Path], index: Index
) -> None:
    class Appending(JsonSidecarWriter):
        """Changes the photo, and does not read it."""

        def write(self, photo: Photo, *rest: Any) -> Written:
            with photo.path.open("ab") as file:
                file.write(b"more")
            status = photo.path.stat()
            done = super().write(photo, *rest)
            return Written(done.files, Photo(photo, status.st_size, status.st_mtime_ns))

    photo = make_photo("a.jpg")
    run(pipeline(writer=Appending("m", "d", index)), find_photos([photo]))
    (outcome,) = run(pipeline(analyzers=[Brightness(side=8)], recipe="both"), find_photos([photo]))
    assert (outcome.status, outcome.error) == ("tagged", None)


def test_the_time_of_the_model_is_not_time_with_nothing_to_do(index: Index, library: Path) -> None:
    def slow(pixels: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return classify(pixels)

    timings = Timings()
    looker = LocalLooker([ColourAnalyzer(lambda: ToyNetwork(slow))], 2, 4, timings)
    recorder = make_pipeline(index, dry_run=True).recorder
    assert len(run(Pipeline(looker, recorder, (), timings), find_photos([library]))) == 31
    assert timings.seconds["infer"] >= 8 * 0.05
    assert timings.seconds["wait"] < 0.5 * timings.seconds["infer"]


def test_a_model_that_cannot_be_loaded_holds_no_photos(make_photo: Callable[..., Path]) -> None:
    def fail() -> ToyNetwork:
        raise ModelError("it is damaged")

    analyzer, lengths = ColourAnalyzer(fail), []
    for _ in range(3):
        with pytest.raises(ModelError) as caught:
            look_at(make_photo("a.jpg"), [analyzer])
        lengths.append(len(caught.traceback))
    assert lengths[2] == lengths[1]
