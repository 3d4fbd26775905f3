"""What a run makes of what earlier runs left."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from phototag.core import Photo
from phototag.errors import OutOfMemory
from phototag.index import Index, open_index
from phototag.metadata.json_sidecar import JsonSidecarWriter, sidecar_path
from phototag.photos.find import find_photos
from phototag.run.pipeline import Pipeline
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.evidence import words_of_labels
from phototag.vocabulary.label_rule import LabelRule
from tests.helpers.stages import LABELS, ToyNetwork, classify, label_chooser, run, summary


def no_model() -> ToyNetwork:
    pytest.fail("the model has no business here")


def names(index: Index, library: Path) -> set[str]:
    """The photos that the index knows at and below `library`."""
    return {path.name for _, path in index.below(library, lambda _: True)}


def test_a_new_threshold_or_writer_is_applied_without_the_model(
    pipeline: Callable[..., Pipeline], library: Path
) -> None:
    run(pipeline(), find_photos([library]))
    looked: list[Path] = []

    lenient = label_chooser(threshold=0.2)
    changed = pipeline(chooser=lenient, recipe="lenient", load_network=no_model, looked=looked.append)
    grey = run(changed, find_photos([library]))[-1]
    assert ({tag.name for tag in grey.tags}, grey.path.name) == ({"red", "green", "blue"}, "30.jpg")
    assert (library / "30.jpg.phototag.json").exists()
    assert run(pipeline(load_network=no_model, looked=looked.append), find_photos([library]))[-1].status == "untagged"
    assert not (library / "30.jpg.phototag.json").exists()
    assert looked == []


def test_what_is_judged_again_is_judged_as_before(pipeline: Callable[..., Pipeline], library: Path) -> None:
    first = run(pipeline(), find_photos([library]))
    again = run(pipeline(recipe="other"), find_photos([library]))
    assert [(o.status, o.tags, o.predictions) for o in again] == [(o.status, o.tags, o.predictions) for o in first]


def test_another_model_looks_again(pipeline: Callable[..., Pipeline], library: Path) -> None:
    run(pipeline(), find_photos([library]))
    with pytest.raises(pytest.fail.Exception):
        run(pipeline(recipe="other", model="another", load_network=no_model), find_photos([library]))


def test_a_touched_photo_is_not_classified_again(pipeline: Callable[..., Pipeline], library: Path) -> None:
    run(pipeline(), find_photos([library]))
    os.utime(library / "03.jpg", (1, 1))
    for _ in range(2):
        outcomes = run(pipeline(load_network=no_model), find_photos([library]))
        assert {outcome.status for outcome in outcomes} == {"unchanged"}
    os.utime(library / "03.jpg", (2, 2))
    other = run(pipeline(load_network=no_model, recipe="other"), find_photos([library]))
    assert other[3].tags[0].name == "red"


def test_a_copy_is_not_classified_again(pipeline: Callable[..., Pipeline], library: Path) -> None:
    run(pipeline(), find_photos([library]))
    (library / "99.jpg").write_bytes((library / "01.jpg").read_bytes())
    outcomes = run(pipeline(load_network=no_model), find_photos([library]))
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
    outcomes = run(pipeline(roots=[library], load_network=no_model), find_photos([library]))
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
    assert run(pipeline(load_network=no_model), find_photos([library]))[3].status == "failed"
    sidecar.unlink()
    assert run(pipeline(load_network=no_model), find_photos([library]))[3].status == "tagged"


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
    (failed,) = run(pipeline(load_network=no_model), find_photos([path]))
    assert failed.status == "failed"
    photo = next(find_photos([path]))
    assert isinstance(photo, Photo)
    known = index.known(photo)
    assert known is not None
    assert ([tag.name for tag in index.tags(known)], known.written) == (["red"], (sidecar,))
    sidecar.write_text(written)
    (outcome,) = run(pipeline(load_network=no_model), find_photos([path]))
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
    assert summary(run(pipeline(load_network=no_model), [photo])) == [("IMG_1.jpg", "unchanged")]
    # Named alone, it is still done; and one that comes later gets the tags without the model.
    assert summary(run(pipeline(load_network=no_model), [Photo(path, photo.size, photo.mtime_ns)])) == [
        ("IMG_1.jpg", "unchanged")
    ]
    other = path.with_name("IMG_1.mov")
    other.write_bytes(b"video")
    (outcome,) = run(pipeline(load_network=no_model), [Photo(path, photo.size, photo.mtime_ns, (raw, other))])
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
    assert "IMG_1.CR2 beside it: " in str(outcome.error)
    theirs.unlink()
    assert summary(run(pipeline(load_network=no_model), [photo])) == [("IMG_1.jpg", "tagged")]


def test_engines_that_take_one_photo_at_a_time_give_the_same(pipeline: Callable[..., Pipeline], library: Path) -> None:
    threads: set[str] = set()

    def one(pixels: np.ndarray) -> np.ndarray:
        assert len(pixels) == 1
        threads.add(threading.current_thread().name.split("_")[0])
        return classify(pixels)

    expected = run(pipeline(dry_run=True), find_photos([library]))
    found = run(pipeline(dry_run=True, load_network=lambda: ToyNetwork(one, by_photo=True)), find_photos([library]))
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
        run(pipeline(dry_run=True, batch_size=8, load_network=lambda: ToyNetwork(small)), find_photos([library]))
        == expected
    )
    assert max(sizes) == 8

    def alone(pixels: np.ndarray) -> np.ndarray:
        if threading.current_thread().name.startswith("look") or len(pixels) > 2:
            raise OutOfMemory("too much")
        return classify(pixels)

    by_photo = pipeline(dry_run=True, batch_size=8, load_network=lambda: ToyNetwork(alone, by_photo=True))
    assert run(by_photo, find_photos([library])) == expected

    def never(pixels: np.ndarray) -> np.ndarray:
        raise OutOfMemory("too much")

    for is_by_photo in (False, True):
        with pytest.raises(OutOfMemory):
            run(pipeline(load_network=partial(ToyNetwork, never, is_by_photo)), find_photos([library]))


def test_what_a_person_removed_goes_with_the_picture_and_not_with_its_name(
    pipeline: Callable[..., Pipeline], make_photo: Callable[..., Path], index: Index
) -> None:
    one, other = make_photo("1.jpg", (200, 180, 10)), make_photo("2.jpg", (180, 200, 10))
    two = Chooser(LabelRule(LABELS, threshold=0.3, max_tags=2), words_of_labels(LABELS), 2)

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
