"""The pipeline with decoding and classification that can be followed by hand; the index and the writer are real."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.core import Label, Photo, SkippedFile, WalkItem
from phototag.errors import ModelError, OutOfMemory, PhotoError
from phototag.images.decode import read_picture
from phototag.images.preprocess import Preprocessing
from phototag.index import Index, open_index
from phototag.metadata.files import Written
from phototag.metadata.json_sidecar import JsonSidecarWriter, sidecar_path
from phototag.metadata.writers import EmbedWriter, XmpSidecarWriter
from phototag.photos.digest import content_digest
from phototag.photos.find import find_photos
from phototag.run.pipeline import Outcome, Pipeline, Scorer
from phototag.vocabulary.choose import Chooser, LabelRule

LABELS = (Label("red"), Label("green"), Label("blue"))
TAGGER = Chooser((LabelRule(LABELS, max_tags=5),), max_tags=5)
PREPROCESSING = Preprocessing(8, 8)


Looked = tuple[bytes, "np.ndarray | None"]


def look(path: Path, is_known: Callable[[bytes], bool]) -> Looked:
    picture = read_picture(path, PREPROCESSING.shortest_side)
    return picture.digest, None if is_known(picture.digest) else picture.view(PREPROCESSING)


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


def run(pipeline: Pipeline, found: Any, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    return list(pipeline.run(found, stop))


def summary(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.path.name, outcome.status) for outcome in outcomes]


@pytest.fixture
def library(make_photo: Callable[..., Path]) -> Path:
    for number in range(30):
        make_photo(f"{number:02}.jpg", ["red", "lime", "blue"][number % 3], size=(32, 24 + number))
    return make_photo("30.jpg", "grey").parent


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

    run(pipeline(load_scorer=lambda: Scorer(counting)), find_photos([library]))
    assert sizes == [4] * 7 + [3]


def test_decoding_is_never_far_ahead(pipeline: Callable[..., Pipeline], library: Path) -> None:
    lock, decoded, furthest, yielded = threading.Lock(), 0, 0, 0

    def counting(path: Path, is_known: Callable[[bytes], bool]) -> Looked:
        nonlocal decoded, furthest
        with lock:
            decoded += 1
            furthest = max(furthest, decoded - yielded)
        return look(path, is_known)

    for _ in pipeline(look=counting, batch_size=2).run(find_photos([library]), lambda: False):
        yielded += 1
    assert decoded == 31
    assert furthest <= 6


def test_the_classifier_is_loaded_once_and_only_when_needed(pipeline: Callable[..., Pipeline], library: Path) -> None:
    loaded: list[int] = []

    def load() -> Scorer:
        loaded.append(1)
        return Scorer(classify)

    run(pipeline(load_scorer=load), [SkippedFile(library / "a.cr2", "unreadable", "RAW")])
    (library / "00.jpg").write_bytes(b"broken")
    run(pipeline(load_scorer=load), find_photos([library / "00.jpg"]))
    assert loaded == []
    run(pipeline(load_scorer=load), find_photos([library]))
    assert loaded == [1]
    run(pipeline(load_scorer=load), find_photos([library / "01.jpg"]))
    assert loaded == [1]


def test_a_model_that_cannot_be_loaded_is_not_tried_by_each_thread(
    pipeline: Callable[..., Pipeline], library: Path
) -> None:
    tried: list[int] = []

    def load() -> Scorer:
        tried.append(1)
        raise ModelError("it is damaged")

    with pytest.raises(ModelError, match="it is damaged"):
        run(pipeline(load_scorer=load, jobs=8), find_photos([library]))
    assert tried == [1]


def test_a_second_run_changes_nothing(pipeline: Callable[..., Pipeline], library: Path) -> None:
    first = run(pipeline(), find_photos([library]))
    second = run(pipeline(load_scorer=lambda: pytest.fail("nothing is new")), find_photos([library]))
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
    (first,) = run(pipeline(writer=writer, load_scorer=lambda: Scorer(changing)), find_photos([path]))
    # Embedding finds it out itself.
    assert (first.status, [tag.name for tag in first.tags]) == ("failed" if write == "embed" else "tagged", ["red"])
    assert not index.paths_of(content_digest(path.read_bytes()))
    assert index.scores_of(seen, "model") is not None
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
    known = index.known(next(find_photos([path])))
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

    def stop() -> bool:
        return bool(outcomes)

    outcomes.extend(pipeline().run(find_photos([library]), stop))
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


# --- Between runs -----------------------------------------------------------------------------------------------------


def no_model() -> Scorer:
    pytest.fail("the model has no business here")


def names(index: Index, library: Path) -> set[str]:
    """The photos that the index knows at and below `library`."""
    return {path.name for _, path in index.below(library, lambda _: True)}


def test_a_new_threshold_or_writer_is_applied_without_the_model(
    pipeline: Callable[..., Pipeline], library: Path
) -> None:
    run(pipeline(), find_photos([library]))
    looked: list[Path] = []

    def seen(path: Path, is_known: Callable[[bytes], bool]) -> Looked:
        looked.append(path)
        return look(path, is_known)

    lenient = Chooser((LabelRule(LABELS, threshold=0.2, max_tags=5),), max_tags=5)
    changed = pipeline(chooser=lenient, recipe="lenient", load_scorer=no_model, look=seen)
    grey = run(changed, find_photos([library]))[-1]
    assert ({tag.name for tag in grey.tags}, grey.path.name) == ({"red", "green", "blue"}, "30.jpg")
    assert (library / "30.jpg.phototag.json").exists()
    assert run(pipeline(load_scorer=no_model, look=seen), find_photos([library]))[-1].status == "untagged"
    assert not (library / "30.jpg.phototag.json").exists()
    assert looked == []


def test_what_is_judged_again_is_judged_as_before(pipeline: Callable[..., Pipeline], library: Path) -> None:
    first = run(pipeline(), find_photos([library]))
    again = run(pipeline(recipe="other"), find_photos([library]))
    assert [(o.status, o.tags, o.predictions) for o in again] == [(o.status, o.tags, o.predictions) for o in first]


def test_another_model_looks_again(pipeline: Callable[..., Pipeline], library: Path) -> None:
    run(pipeline(), find_photos([library]))
    with pytest.raises(pytest.fail.Exception):
        run(pipeline(recipe="other", model="another", load_scorer=no_model), find_photos([library]))


def test_a_touched_photo_is_not_classified_again(pipeline: Callable[..., Pipeline], library: Path) -> None:
    run(pipeline(), find_photos([library]))
    os.utime(library / "03.jpg", (1, 1))
    for _ in range(2):
        outcomes = run(pipeline(load_scorer=no_model), find_photos([library]))
        assert {outcome.status for outcome in outcomes} == {"unchanged"}
    os.utime(library / "03.jpg", (2, 2))
    other = run(pipeline(load_scorer=no_model, recipe="other"), find_photos([library]))
    assert other[3].tags[0].name == "red"


def test_a_copy_is_not_classified_again(pipeline: Callable[..., Pipeline], library: Path) -> None:
    run(pipeline(), find_photos([library]))
    (library / "99.jpg").write_bytes((library / "01.jpg").read_bytes())
    outcomes = run(pipeline(load_scorer=no_model), find_photos([library]))
    assert (outcomes[-1].path.name, outcomes[-1].tags[0].name) == ("99.jpg", "green")


def test_a_moved_photo_keeps_its_record_and_a_deleted_one_is_forgotten(
    pipeline: Callable[..., Pipeline], library: Path, index: Index
) -> None:
    run(pipeline(roots=[library]), find_photos([library]))
    (library / "below").mkdir()
    for name in ("04.jpg", "04.jpg.phototag.json"):
        (library / name).rename(library / "below" / name)
    (library / "05.jpg").rename(library / "below" / "5.jpg")
    (library / "06.jpg").unlink()
    outcomes = run(pipeline(roots=[library], load_scorer=no_model), find_photos([library]))
    # With its sidecar nothing is to be done; without it, it is written anew.
    assert dict(summary([o for o in outcomes if o.path.parent.name == "below"])) == {
        "04.jpg": "unchanged",
        "5.jpg": "tagged",
    }
    assert index.count()["photos"] == 30
    assert names(index, library) == {path.name for path in library.rglob("*.jpg")}


@pytest.mark.parametrize("what_is_left", [[], ["NOT_MOUNTED"]])
def test_nothing_is_forgotten_where_a_disk_is_not_there(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path], index: Index, what_is_left: list[str]
) -> None:
    library = make_photo("a.jpg").parent
    disk = make_photo("disk/2020/b.jpg", "lime").parent.parent
    gone = make_photo("gone/2020/c.jpg", "blue").parent.parent
    run(pipeline(roots=[library]), find_photos([library]))
    shutil.rmtree(disk)
    shutil.rmtree(gone)
    disk.mkdir()
    for name in what_is_left:
        (disk / name).touch()
    outcomes = run(pipeline(roots=[library]), find_photos([library]))
    assert summary(outcomes) == [("a.jpg", "unchanged")]
    assert names(index, library) == {"a.jpg", "b.jpg"}
    # Nor where the root itself is such a folder.
    shutil.rmtree(library)
    library.mkdir()
    assert summary(run(pipeline(roots=[library]), find_photos([library]))) == [("photos", "failed")]
    assert names(index, library) == {"a.jpg", "b.jpg"}


def test_a_photo_whose_sidecar_cannot_be_written_is_not_classified_every_night(
    pipeline: Callable[..., Pipeline], library: Path
) -> None:
    sidecar = library / "03.jpg.phototag.json"
    sidecar.write_text("mine")
    assert run(pipeline(), find_photos([library]))[3].status == "failed"
    assert run(pipeline(load_scorer=no_model), find_photos([library]))[3].status == "failed"
    sidecar.unlink()
    assert run(pipeline(load_scorer=no_model), find_photos([library]))[3].status == "tagged"


def test_a_run_that_is_stopped_settles_nothing_that_it_has_not_come_to(
    pipeline: Callable[..., Pipeline], library: Path, tmp_path: Path
) -> None:
    with open_index(tmp_path / "other.sqlite3") as index:
        settings = {"index": index, "writer": JsonSidecarWriter("m", "d", index), "roots": [library]}
        (library / "29.jpg").write_bytes(b"broken")
        with index.run({}):
            run(pipeline(**settings), find_photos([library]))
        with index.run({}):
            run(pipeline(**settings), find_photos([library]), lambda: True)
        assert [failure.path.name for failure in index.failures()] == ["29.jpg"]


def test_nor_is_one_that_has_changed(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("a.jpg")
    sidecar = path.with_name("a.jpg.phototag.json")
    run(pipeline(), find_photos([path]))
    make_photo("a.jpg", "lime")
    written = sidecar.read_text()
    sidecar.write_text("mine")
    assert summary(run(pipeline(), find_photos([path]))) == [("a.jpg", "failed")]
    (failed,) = run(pipeline(load_scorer=no_model), find_photos([path]))
    assert failed.status == "failed"
    known = index.known(next(find_photos([path])))
    assert known is not None
    assert ([tag.name for tag in index.tags(known)], known.written) == (["red"], (sidecar,))
    sidecar.write_text(written)
    (outcome,) = run(pipeline(load_scorer=no_model), find_photos([path]))
    assert (outcome.status, [tag.name for tag in outcome.tags]) == ("tagged", ["green"])


def test_the_index_knows_what_failed_and_why_until_it_does_not_any_more(
    pipeline: Callable[..., Pipeline], library: Path, index: Index, make_photo: Callable[..., Path]
) -> None:
    for name in ("07.jpg", "08.jpg", "09.jpg"):
        (library / name).write_bytes(b"broken")
    run(pipeline(roots=[library]), find_photos([library]))
    assert [one.path.name for one in index.failures()] == ["07.jpg", "08.jpg", "09.jpg"]
    assert "not a photo" in index.failures()[0].reason
    make_photo("07.jpg")
    (library / "08.jpg").unlink()
    with index.run({}):
        run(pipeline(roots=[library]), find_photos([library]))
    assert [one.path.name for one in index.failures()] == ["09.jpg"]


def test_photos_of_one_shot_are_classified_once_and_all_get_the_tags(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path]
) -> None:
    path = make_photo("IMG_1.jpg")
    raw = path.with_name("IMG_1.CR2")
    raw.write_bytes(b"raw")
    status = path.stat()
    photo = Photo(path, status.st_size, status.st_mtime_ns, (raw,))
    (outcome,) = run(pipeline(), [photo])
    assert [file.name for file in outcome.written] == ["IMG_1.jpg.phototag.json", "IMG_1.CR2.phototag.json"]
    assert summary(run(pipeline(load_scorer=no_model), [photo])) == [("IMG_1.jpg", "unchanged")]
    # Named alone, it is still done; and one that comes later gets the tags without the model.
    assert summary(run(pipeline(load_scorer=no_model), [Photo(path, photo.size, photo.mtime_ns)])) == [
        ("IMG_1.jpg", "unchanged")
    ]
    other = path.with_name("IMG_1.mov")
    other.write_bytes(b"video")
    (outcome,) = run(pipeline(load_scorer=no_model), [Photo(path, photo.size, photo.mtime_ns, (raw, other))])
    assert outcome.written[-1].name == "IMG_1.mov.phototag.json"


def test_a_companion_that_cannot_be_written_is_a_failure_and_tried_again(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path]
) -> None:
    path = make_photo("IMG_1.jpg")
    raw, theirs = path.with_name("IMG_1.CR2"), path.with_name("IMG_1.CR2.phototag.json")
    raw.write_bytes(b"raw")
    theirs.write_text("mine")
    photo = Photo(path, path.stat().st_size, path.stat().st_mtime_ns, (raw,))
    (outcome,) = run(pipeline(), [photo])
    assert outcome.status == "failed"
    assert "IMG_1.CR2 beside it: " in (outcome.error or "")
    theirs.unlink()
    assert summary(run(pipeline(load_scorer=no_model), [photo])) == [("IMG_1.jpg", "tagged")]


def test_engines_that_take_one_photo_at_a_time_give_the_same(pipeline: Callable[..., Pipeline], library: Path) -> None:
    threads: set[str] = set()

    def one(pixels: np.ndarray) -> np.ndarray:
        assert len(pixels) == 1
        threads.add(threading.current_thread().name.split("_")[0])
        return classify(pixels)

    expected = run(pipeline(dry_run=True), find_photos([library]))
    found = run(pipeline(dry_run=True, load_scorer=lambda: Scorer(one, by_photo=True)), find_photos([library]))
    assert found == expected
    assert threads == {"look"}


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_no_photo_is_dropped(
    pipeline: Callable[..., Pipeline], library: Path
) -> None:
    sizes: list[int] = []

    def small(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise OutOfMemory("too much")
        return classify(pixels)

    expected = run(pipeline(dry_run=True, batch_size=8), find_photos([library]))
    assert (
        run(pipeline(dry_run=True, batch_size=8, load_scorer=lambda: Scorer(small)), find_photos([library])) == expected
    )
    assert max(sizes) == 8

    def alone(pixels: np.ndarray) -> np.ndarray:
        if threading.current_thread().name.startswith("look") or len(pixels) > 2:
            raise OutOfMemory("too much")
        return classify(pixels)

    by_photo = pipeline(dry_run=True, batch_size=8, load_scorer=lambda: Scorer(alone, by_photo=True))
    assert run(by_photo, find_photos([library])) == expected

    def never(pixels: np.ndarray) -> np.ndarray:
        raise OutOfMemory("too much")

    for is_by_photo in (False, True):
        with pytest.raises(OutOfMemory):
            run(pipeline(load_scorer=partial(Scorer, never, is_by_photo)), find_photos([library]))


def test_what_a_person_removed_goes_with_the_picture_and_not_with_its_name(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path], index: Index
) -> None:
    one, other = make_photo("1.jpg", (200, 180, 10)), make_photo("2.jpg", (180, 200, 10))
    two = Chooser((LabelRule(LABELS, threshold=0.3, max_tags=2),), max_tags=2)

    def tags() -> list[set[str]]:
        return [{tag.name for tag in outcome.tags} for outcome in run(pipeline(chooser=two), find_photos([one.parent]))]

    assert tags() == [{"red", "green"}] * 2
    sidecar = sidecar_path(one)
    content = json.loads(sidecar.read_text())
    content["tags"] = [tag for tag in content["tags"] if tag["name"] != "red"]
    sidecar.write_text(json.dumps(content))
    make_older(one)
    assert tags() == [{"green"}, {"red", "green"}]
    for path in (one, other):
        sidecar_path(path).unlink()
    here = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(here)
    assert tags() == [{"red", "green"}, {"green"}]


def make_older(path: Path) -> None:
    """Let a photo be looked at again, and its sidecar with it."""
    path.write_bytes(path.read_bytes() + b"more")


def test_a_sidecar_that_is_gone_is_noticed_in_every_folder(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path]
) -> None:
    """Folders in folders, more of them than are remembered at a time, each with photos before and after them."""
    folder = "."
    for number in range(20):
        for name in ("a", "c"):
            make_photo(f"{folder}/{name}.jpg", size=(32 + number, 24 + (name == "a")))
        folder += "/b"
    library = make_photo("z.jpg", "blue").parent
    run(pipeline(), find_photos([library]))
    assert {o.status for o in run(pipeline(), find_photos([library]))} == {"unchanged"}
    gone = sorted(library.rglob("c.jpg.phototag.json"))[::3]
    for sidecar in gone:
        sidecar.unlink()
    done = [o.path for o in run(pipeline(), find_photos([library])) if o.status == "tagged"]
    assert sorted(map(sidecar_path, done)) == gone
