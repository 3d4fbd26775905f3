"""The pipeline with decoding and classification that can be followed by hand; the index and the writer are real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.core import Photo, SkippedFile, WalkItem
from phototag.errors import ModelError, PhotoError
from phototag.index import Index
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.json_sidecar import JsonSidecarWriter
from phototag.metadata.writer import Written
from phototag.metadata.xmp_sidecar import XmpSidecarWriter
from phototag.photos.digest import content_digest
from phototag.photos.find import find_photos
from phototag.run.outcome import Outcome
from phototag.run.pipeline import Pipeline
from tests.helpers.stages import ToyNetwork, classify, run, summary


def test_outcomes_keep_the_order_of_the_photos(pipeline: Callable[..., Pipeline], library: Path) -> None:
    (library / "07.jpg").write_bytes(b"broken")
    (library / "08-raw.jxl").write_bytes(b"raw")
    outcomes = run(pipeline(), find_photos([library]))
    assert [outcome.path.name for outcome in outcomes] == sorted(
        path.name for path in library.iterdir() if path.suffix != ".json"
    )
    statuses = dict(summary(outcomes))
    assert (statuses["07.jpg"], statuses["08-raw.jxl"], statuses["30.jpg"]) == ("failed", "skipped", "untagged")
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

    run(pipeline(load_network=lambda: ToyNetwork(counting)), find_photos([library]))
    assert sizes == [4] * 7 + [3]


def test_decoding_is_never_far_ahead(pipeline: Callable[..., Pipeline], library: Path) -> None:
    lock, decoded, furthest, yielded = threading.Lock(), 0, 0, 0

    def counting(_: Path) -> None:
        nonlocal decoded, furthest
        with lock:
            decoded += 1
            furthest = max(furthest, decoded - yielded)

    for _ in pipeline(looked=counting, batch_size=2).run(find_photos([library]), lambda: False):
        yielded += 1
    assert decoded == 31
    assert furthest <= 6


def test_the_classifier_is_loaded_once_and_only_when_needed(pipeline: Callable[..., Pipeline], library: Path) -> None:
    loaded: list[int] = []

    def load() -> ToyNetwork:
        loaded.append(1)
        return ToyNetwork(classify)

    run(pipeline(load_network=load), [SkippedFile(library / "a.cr2", "unreadable", "RAW")])
    (library / "00.jpg").write_bytes(b"broken")
    run(pipeline(load_network=load), find_photos([library / "00.jpg"]))
    assert loaded == []
    run(pipeline(load_network=load), find_photos([library]))
    assert loaded == [1]
    run(pipeline(load_network=load), find_photos([library / "01.jpg"]))
    assert loaded == [1]


def test_a_model_that_cannot_be_loaded_is_not_tried_by_each_thread(
    pipeline: Callable[..., Pipeline], library: Path
) -> None:
    tried: list[int] = []

    def load() -> ToyNetwork:
        tried.append(1)
        raise ModelError("it is damaged")

    with pytest.raises(ModelError, match="it is damaged"):
        run(pipeline(load_network=load, jobs=8), find_photos([library]))
    assert tried == [1]


def test_a_second_run_changes_nothing(pipeline: Callable[..., Pipeline], library: Path) -> None:
    first = run(pipeline(), find_photos([library]))
    second = run(pipeline(load_network=lambda: pytest.fail("nothing is new")), find_photos([library]))
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
    assert "is gone" in str(failed[0].error)


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


@pytest.mark.parametrize("write", ["json", "xmp", "embed"])
def test_a_photo_that_changes_between_look_and_write_is_looked_at_again(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path], index: Index, write: str
) -> None:
    path = make_photo("a.jpg", "red")
    writers = {"xmp": XmpSidecarWriter("m", index), "embed": EmbedWriter("m", index)}
    writer = writers.get(write, JsonSidecarWriter("m", "d", index))

    def changing(pixels: np.ndarray) -> np.ndarray:
        make_photo("a.jpg", "lime", size=(40, 30))
        return classify(pixels)

    seen = content_digest(path.read_bytes())
    (first,) = run(pipeline(writer=writer, load_network=lambda: ToyNetwork(changing)), find_photos([path]))
    # Embedding finds it out itself.
    assert (first.status, [tag.name for tag in first.tags]) == ("failed" if write == "embed" else "tagged", ["red"])
    assert not index.paths_of(content_digest(path.read_bytes()))
    assert list(index.results_of(seen, ["model"])) == ["model"]
    (second,) = run(pipeline(writer=writer), find_photos([path]))
    assert (second.status, [tag.name for tag in second.tags]) == ("tagged", ["green"])


def test_a_writer_that_cannot_tell_what_it_left_leaves_no_digest(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path], index: Index
) -> None:
    class Appending(JsonSidecarWriter):
        """Changes the photo, and does not read it."""

        def write(self, photo: Photo, *rest: Any) -> Written:
            with photo.path.open("ab") as file:
                file.write(b"more")
            status = photo.path.stat()
            return replace(super().write(photo, *rest), photo=Photo(photo, status.st_size, status.st_mtime_ns))

    path = make_photo("a.jpg")
    run(pipeline(writer=Appending("m", "d", index)), find_photos([path]))
    photo = next(find_photos([path]))
    assert isinstance(photo, Photo)
    known = index.known(photo)
    assert known is not None
    assert index.digest(known) is None


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

    def should_stop() -> bool:
        return bool(outcomes)

    outcomes.extend(pipeline().run(find_photos([library]), should_stop))
    # One batch is written while the next is classified: both are in hand.
    assert [outcome.status for outcome in outcomes] == ["tagged"] * 8
    rest = run(pipeline(), find_photos([library]))
    assert [outcome.status for outcome in rest] == ["unchanged"] * 8 + ["tagged"] * 22 + ["untagged"]


def test_done_photos_do_not_wait_long_behind_a_new_one(
    pipeline: Callable[..., Pipeline], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million photos that are done must not pile up in memory behind one that is not."""
    run(pipeline(), find_photos([library / "01.jpg"]))
    new, done = (next(find_photos([library / name])) for name in ("00.jpg", "01.jpg"))
    asked = 0

    def many() -> Iterator[WalkItem]:
        nonlocal asked
        yield new
        while asked < 5000:
            asked += 1
            yield done

    outcomes = pipeline().run(many(), lambda: False)
    assert next(outcomes).path.name == "00.jpg"
    assert asked < 1100
    assert sum(1 for _ in outcomes) == 5000
