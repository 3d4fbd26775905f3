"""The session as a program uses it, without the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import phototag
from phototag.core import EngineChosen, ModelBuilding, ModelConverting
from phototag.errors import ConfigError, ModelError, PhotoError
from phototag.index import open_index
from phototag.run import session as session_module
from phototag.run.defaults import MOST_CROPS
from phototag.run.events import FileSkipped, ModelLoading
from phototag.run.outcome import Timings
from phototag.run.session import Session
from phototag.run.settings import Settings
from phototag.run.watch import watch
from tests.helpers import PROJECT
from tests.helpers.toys import export_toy

MakePhoto = Callable[..., Path]


@pytest.fixture
def settings(toy_model: Path, tmp_path: Path) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        return Settings(**{"model": str(toy_model), "index": tmp_path / "index.sqlite3", **changes})

    return make


def test_the_public_names_are_there_and_no_others() -> None:
    assert phototag.__all__ == ["Classifier", "Session", "Settings", "__version__", "scan"]
    for name in phototag.__all__:
        assert getattr(phototag, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Tagger'"):
        _ = phototag.Tagger


def test_bytes_and_a_file_get_the_same_tags(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    with Session(settings()) as session:
        of_file, of_bytes = session.tag(photo), session.tag(photo.read_bytes())
    assert of_file == of_bytes
    assert [tag.name for tag in of_file.tags] == ["red"]
    assert of_file.predictions[0].label.name == "red"
    assert list(photo.parent.iterdir()) == [photo]
    assert not settings().index.exists()  # type: ignore[union-attr]


def test_an_image_that_cannot_be_read_is_an_error(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with Session(settings()) as session:
        with pytest.raises(PhotoError, match="photo: the file is empty"):
            session.tag(b"")
        with pytest.raises(PhotoError, match=r"no\.jpg: it is gone"):
            session.tag(tmp_path / "no.jpg")


def test_a_scan_tells_its_outcomes_counts_and_run(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    library = make_photo("a.jpg").parent
    make_photo("b.jpg", "blue")
    (library / "notes.txt").write_text("text")
    events: list[object] = []
    with Session(settings(), events.append) as session:
        first = session.scan([library])
        assert [(one.path.name, one.status) for one in first] == [("a.jpg", "tagged"), ("b.jpg", "tagged")]
        assert (first.status, first.report.counts["tagged"], first.report.other_files) == ("complete", 2, 1)
        assert first.run is not None
        second = session.scan([library])
        assert [one.tags[0].name for one in second] == ["red", "blue"]
        assert second.report.counts["unchanged"] == 2
    skipped = [event.file.path.name for event in events if isinstance(event, FileSkipped)]
    assert skipped == ["notes.txt", "notes.txt"]
    assert [event for event in events if isinstance(event, ModelLoading)] == [ModelLoading("toy")]
    assert json.loads((library / "a.jpg.phototag.json").read_text())["tags"][0]["name"] == "red"


def test_a_scan_in_one_call(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    given = settings()
    outcomes = phototag.scan([make_photo("a.jpg").parent], model=given.model, index=given.index, write="none")
    assert [(one.status, one.tags[0].name) for one in outcomes] == [("tagged", "red")]


def test_paths_may_be_text_and_a_pattern_may_be_alone(
    settings: Callable[..., Settings], make_photo: MakePhoto, tmp_path: Path
) -> None:
    library = make_photo("a.jpg").parent
    make_photo("b.png", format="PNG")
    given = settings(model=Path(settings().model), index=str(tmp_path / "text.sqlite3"), exclude="*.png")
    with Session(given) as session:
        assert [outcome.path.name for outcome in session.scan([library])] == ["a.jpg"]
    assert given == settings(index=tmp_path / "text.sqlite3", exclude=("*.png",))


def test_watching_in_a_dry_run_makes_no_index(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    seen: list[str] = []
    with Session(settings(dry_run=True)) as session:
        for run in watch(session, [make_photo("a.jpg").parent], lambda: bool(seen), initial_scan=True):
            seen.extend(outcome.status for outcome in run)
    assert seen == ["tagged"]
    assert not (settings().index or Path()).exists()


def test_what_was_scanned_is_untagged(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    photo = make_photo("a.jpg")
    before = photo.read_bytes()
    with Session(settings(write="embed")) as session:
        run = session.scan([photo])
        assert [one.written for one in run] == [(photo,)]
        assert photo.read_bytes() != before
        assert run.run is not None
        assert [one.files for one in session.untag_run(run.run.id)] == [(photo,)]
        assert photo.read_bytes() == before
        for number in (99, 1 << 63):
            with pytest.raises(ConfigError, match=f"no run {number}; phototag status tells"):
                list(session.untag_run(number))


def test_a_scan_can_be_stopped(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    for number in range(20):
        make_photo(f"{number:02}.jpg")
    seen: list[object] = []
    with Session(settings(batch_size=1, jobs=1)) as session:
        run = session.scan([make_photo("20.jpg").parent], lambda: len(seen) >= 3)
        seen.extend([one for one in run if seen.append(one) is None])  # type: ignore[func-returns-value]
    assert run.status == "interrupted"
    assert 3 <= run.report.photos < 21


def test_the_runtime_includes_the_opening_of_the_index(
    settings: Callable[..., Settings], make_photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.3)  # an old index is migrated
        return open_index(*arguments, **options)

    monkeypatch.setattr(session_module, "open_index", slow)
    with Session(settings(max_runtime=0.2)) as session:
        run = session.scan([make_photo("a.jpg")])
        assert (list(run), run.status) == ([], "out of time")


def test_the_words_of_a_tree_are_explained(default_model: object) -> None:
    with Session(Settings(write="none")) as session:
        image = (PROJECT / "tests").parent  # a folder is not an image
        with pytest.raises(PhotoError):
            session.explain(image)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 0.0}, "0.0 is out of range; give threshold= a value above 0 and at most 1"),
        ({"threshold": float("nan")}, "give threshold= a value above 0"),
        ({"max_tags": 0}, "give max_tags= a value of at least 1"),
        ({"crops": 3}, "give crops= a value from 1 to 2"),
        ({"jobs": 0}, "give jobs= a value from 1 to 256"),
        ({"threshold": 0.5, "logit_threshold": 1.0}, "give threshold= or logit_threshold=, not both"),
        ({"top": 5, "max_tags": 5}, "give top= or max_tags=, not both"),
        ({"raw_labels": True, "language": "de"}, "leave out raw_labels=, top= and logit_threshold=, or taxonomy="),
    ],
)
def test_wrong_settings_are_refused_with_the_remedy(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Session(Settings(**wrong))
    assert message in str(caught.value)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Session(Settings(model="no such model", index=tmp_path / "i.sqlite3")) as session:
        with pytest.raises(ModelError, match=r"no such model.*\(see: phototag models list\)"):
            list(session.scan([tmp_path]))
        with pytest.raises(ModelError):
            session.tag(b"")
    assert list(tmp_path.iterdir()) == []


def test_the_most_crops_are_the_same_everywhere() -> None:
    from phototag.images.preprocess import MOST_CROPS as REAL_MOST_CROPS

    assert MOST_CROPS == REAL_MOST_CROPS


def test_settings_import_nothing_heavy() -> None:
    script = "import phototag, sys; phototag.Settings(); print({'numpy', 'PIL', 'click', 'sqlite3'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_the_library_imports_no_command_line(toy_model: Path, make_photo: MakePhoto) -> None:
    script = (
        "import phototag, sys, pathlib\n"
        "with phototag.Session(phototag.Settings(model=sys.argv[1])) as session:\n"
        "    print(session.tag(pathlib.Path(sys.argv[2]).read_bytes()).tags[0].name)\n"
        "print({'click', 'tqdm', 'phototag.cli', 'tensorflow'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", script, str(toy_model), str(make_photo("a.jpg"))]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "red\nset()\n"


def test_a_conversion_is_an_event(tmp_path: Path, make_photo: MakePhoto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path / "data"))
    directory = export_toy(tmp_path / "model")
    events: list[object] = []
    with Session(Settings(model=str(directory)), events.append) as session:
        session.tag(make_photo("a.jpg"))
    assert events == [ModelLoading("toy"), ModelConverting("toy")]
    assert not [event for event in events if isinstance(event, ModelBuilding | EngineChosen)]


def test_threads_share_one_model(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    data = make_photo("a.jpg").read_bytes()
    events: list[object] = []
    with Session(settings(), events.append) as session, ThreadPoolExecutor(8) as pool:
        taggings = list(pool.map(session.tag, [data] * 40))
    assert {tagging.tags[0].name for tagging in taggings} == {"red"}
    assert events == [ModelLoading("toy")]


def test_the_time_that_the_model_took_to_load_is_told(settings: Callable[..., Settings], make_photo: MakePhoto) -> None:
    timings = Timings()
    with Session(settings()) as session:
        assert len(list(session.scan([make_photo("a.jpg")], timings=timings))) == 1
    assert all(timings.seconds[stage] > 0 for stage in ("walk", "index", "load", "decode", "infer", "write"))
