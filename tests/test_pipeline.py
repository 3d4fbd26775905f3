"""The pipeline with decoding and classification that can be followed by hand; the index and the writer are real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.errors import PhotoError
from phototag.hedging import LabelTagger
from phototag.index import Index, open_index
from phototag.metadata.json_sidecar import JsonSidecarWriter
from phototag.opening import open_image
from phototag.photos import Found, PassedOver, Photo, find_photos
from phototag.preprocessing import Preprocessing
from phototag.tagging import Outcome, Pipeline
from phototag.taxonomy import Label

TAGGER = LabelTagger([Label("red"), Label("green"), Label("blue")], max_tags=5)
PREPROCESSING = Preprocessing(8, 8)


def decode(path: Path) -> np.ndarray:
    return PREPROCESSING.crops(open_image(path, 8))


def classify(pixels: np.ndarray) -> np.ndarray:
    means = pixels.mean(axis=(1, 2), dtype=np.float32)
    return means / means.sum(axis=1, keepdims=True)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "index.sqlite3") as opened, opened.run({}):
        yield opened


@pytest.fixture
def pipeline(index: Index) -> Callable[..., Pipeline]:
    def make(**changes: Any) -> Pipeline:
        settings = {
            "decode": decode,
            "load_classifier": lambda: classify,
            "tagger": TAGGER,
            "writer": JsonSidecarWriter("m", "d"),
            "index": index,
            "recipe": "recipe",
            "jobs": 2,
            "batch_size": 4,
        }
        return Pipeline(**{**settings, **changes})

    return make


def run(pipeline: Pipeline, found: Any, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    return list(pipeline.run(found, stop))


def summary(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.path.name, outcome.status) for outcome in outcomes]


@pytest.fixture
def library(make_photo: Callable[..., Path]) -> Path:
    for number in range(30):
        make_photo(f"{number:02}.jpg", ["red", "lime", "blue"][number % 3])
    return make_photo("30.jpg", "grey").parent


def test_outcomes_keep_the_order_of_the_photos(pipeline: Callable[..., Pipeline], library: Path) -> None:
    (library / "07.jpg").write_bytes(b"broken")
    (library / "08.jxl").write_bytes(b"raw")
    outcomes = run(pipeline(), find_photos([library]))
    assert [outcome.path.stem for outcome in outcomes] == sorted(["08", *(f"{number:02}" for number in range(31))])
    statuses = dict(summary(outcomes))
    assert (statuses["07.jpg"], statuses["08.jxl"], statuses["30.jpg"]) == ("failed", "skipped", "untagged")
    assert [outcome.tags[0].name for outcome in outcomes[:3]] == ["red", "green", "blue"]


@pytest.mark.parametrize(("jobs", "batch_size"), [(1, 1), (3, 2), (8, 64)])
def test_jobs_and_batch_size_do_not_change_the_outcomes(
    pipeline: Callable[..., Pipeline], library: Path, jobs: int, batch_size: int
) -> None:
    expected = run(pipeline(dry_run=True), find_photos([library]))
    changed = pipeline(dry_run=True, jobs=jobs, batch_size=batch_size)
    assert run(changed, find_photos([library])) == expected


def test_batches_are_full_but_for_the_last(pipeline: Callable[..., Pipeline], library: Path) -> None:
    sizes: list[int] = []

    def counting(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        return classify(pixels)

    run(pipeline(load_classifier=lambda: counting), find_photos([library]))
    assert sizes == [4] * 7 + [3]


def test_decoding_is_never_far_ahead(pipeline: Callable[..., Pipeline], library: Path) -> None:
    lock, decoded, furthest, yielded = threading.Lock(), 0, 0, 0

    def counting(path: Path) -> np.ndarray:
        nonlocal decoded, furthest
        with lock:
            decoded += 1
            furthest = max(furthest, decoded - yielded)
        return decode(path)

    for _ in pipeline(decode=counting, batch_size=2).run(find_photos([library]), lambda: False):
        yielded += 1
    assert decoded == 31
    assert furthest <= 6


def test_the_classifier_is_loaded_once_and_only_when_needed(pipeline: Callable[..., Pipeline], library: Path) -> None:
    loaded: list[int] = []

    def load() -> Callable[[np.ndarray], np.ndarray]:
        loaded.append(1)
        return classify

    run(pipeline(load_classifier=load), [PassedOver(library / "a.cr2", "unreadable", "RAW")])
    (library / "00.jpg").write_bytes(b"broken")
    run(pipeline(load_classifier=load), find_photos([library / "00.jpg"]))
    assert loaded == []
    run(pipeline(load_classifier=load), find_photos([library]))
    assert loaded == [1]
    run(pipeline(load_classifier=load), find_photos([library / "01.jpg"]))
    assert loaded == [1]


def test_a_second_run_changes_nothing(pipeline: Callable[..., Pipeline], library: Path) -> None:
    first = run(pipeline(), find_photos([library]))
    second = run(pipeline(load_classifier=lambda: pytest.fail("nothing is new")), find_photos([library]))
    assert {outcome.status for outcome in second} == {"unchanged"}
    assert [(o.path, o.tags, o.written) for o in second] == [(o.path, o.tags, o.written) for o in first]


def test_what_is_new_or_changed_is_done(pipeline: Callable[..., Pipeline], library: Path, make_photo: Any) -> None:
    run(pipeline(), find_photos([library]))
    make_photo("02.jpg", "red", size=(50, 50))
    make_photo("99.jpg", "blue")
    (library / "05.jpg.phototag.json").unlink()
    done = [outcome for outcome in run(pipeline(), find_photos([library])) if outcome.status != "unchanged"]
    assert summary(done) == [("02.jpg", "tagged"), ("05.jpg", "tagged"), ("99.jpg", "tagged")]
    assert done[0].tags[0].name == "red"


def test_another_recipe_or_force_does_all_again(pipeline: Callable[..., Pipeline], library: Path) -> None:
    run(pipeline(), find_photos([library]))
    assert {o.status for o in run(pipeline(recipe="other"), find_photos([library]))} == {"tagged", "untagged"}
    forced = run(pipeline(recipe="other", force=True), find_photos([library]))
    assert {outcome.status for outcome in forced} == {"tagged", "untagged"}


def test_a_dry_run_writes_and_remembers_nothing(pipeline: Callable[..., Pipeline], library: Path) -> None:
    before = sorted(library.iterdir())
    outcomes = run(pipeline(dry_run=True), find_photos([library]))
    assert sum(outcome.status == "tagged" for outcome in outcomes) == 30
    assert all(outcome.written == () for outcome in outcomes)
    assert sorted(library.iterdir()) == before
    assert run(pipeline(dry_run=True), find_photos([library])) == outcomes


def test_a_photo_that_vanishes_during_the_run_is_a_failure(pipeline: Callable[..., Pipeline], library: Path) -> None:
    found = list(find_photos([library]))
    (library / "10.jpg").unlink()
    failed = [outcome for outcome in run(pipeline(), found) if outcome.status == "failed"]
    assert summary(failed) == [("10.jpg", "failed")]
    assert "is gone" in (failed[0].error or "")


def test_a_folder_that_vanishes_during_the_run_is_a_failure(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path]
) -> None:
    folder = make_photo("b/1.jpg").parent
    library = make_photo("a.jpg").parent
    found = find_photos([library])
    first = next(found)
    (folder / "1.jpg").unlink()
    folder.rmdir()
    rest = list(found)
    assert [type(one) for one in (first, *rest)] == [Photo, PhotoError]
    assert dict(summary(run(pipeline(), [first, *rest])))["a.jpg"] == "tagged"


def test_a_failed_photo_is_tried_again_next_time(
    pipeline: Callable[..., Pipeline], library: Path, make_photo: Callable[..., Path]
) -> None:
    sidecar = library / "03.jpg.phototag.json"
    sidecar.write_text("mine")
    outcome = run(pipeline(), find_photos([library]))[3]
    assert (outcome.path.name, outcome.status) == ("03.jpg", "failed")
    sidecar.unlink()
    assert run(pipeline(), find_photos([library]))[3].status == "tagged"


def test_a_stop_finishes_the_batch_in_hand_and_the_next_run_goes_on(
    pipeline: Callable[..., Pipeline], library: Path
) -> None:
    outcomes: list[Outcome] = []

    def stop() -> bool:
        return bool(outcomes)

    outcomes.extend(pipeline().run(find_photos([library]), stop))
    assert [outcome.status for outcome in outcomes] == ["tagged"] * 4
    rest = run(pipeline(), find_photos([library]))
    assert [outcome.status for outcome in rest] == ["unchanged"] * 4 + ["tagged"] * 26 + ["untagged"]


def test_done_photos_do_not_wait_long_behind_a_new_one(
    pipeline: Callable[..., Pipeline], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million photos that are done must not pile up in memory behind one that is not."""
    run(pipeline(), find_photos([library / "01.jpg"]))
    new, done = (next(find_photos([library / name])) for name in ("00.jpg", "01.jpg"))
    asked = 0

    def many() -> Iterator[Found]:
        nonlocal asked
        yield new
        while asked < 5000:
            asked += 1
            yield done

    outcomes = pipeline().run(many(), lambda: False)
    assert next(outcomes).path.name == "00.jpg"
    assert asked < 1100
    assert sum(1 for _ in outcomes) == 5000
