from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from phototag.core import Label, Photo, Prediction, Tag
from phototag.errors import PhotoError
from phototag.index import Index, open_index
from phototag.metadata.json_sidecar import JsonSidecarWriter

TAGS = (Tag("Tukan 日本", 0.93, ("animal", "Tukan 日本"), "n01843383"), Tag("animal", 0.98, ("animal",), None))
PREDICTIONS = (Prediction(Label("toucan", "n01843383"), 0.93),)


Write = Callable[..., tuple[Path, ...]]


def found(path: Path) -> Photo:
    status = path.stat()
    return Photo(path, status.st_size, status.st_mtime_ns)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "journal.sqlite3") as opened, opened.run({}):
        yield opened


@pytest.fixture
def write(index: Index) -> Write:
    """Writes a sidecar, and returns the files that now hold the tags."""

    def run(path: Path, tags: Sequence[Tag] = TAGS) -> tuple[Path, ...]:
        written = JsonSidecarWriter("toy", "0123", index).write(found(path), tags, PREDICTIONS)
        assert (written.photo.path, written.note, written.rejected) == (path, None, ())
        return written.files

    return run


@pytest.fixture
def photo(make_photo: Callable[..., Path]) -> Path:
    return make_photo("IMG_1.jpg")


def test_a_sidecar_holds_tags_predictions_and_where_they_come_from(photo: Path, write: Write) -> None:
    before = photo.read_bytes(), photo.stat()
    (sidecar,) = write(photo)
    assert sidecar == photo.parent / "IMG_1.jpg.phototag.json"
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    assert content["tags"][0] == {
        "name": "Tukan 日本",
        "confidence": 0.93,
        "path": ["animal", "Tukan 日本"],
        "synset": "n01843383",
        "synonyms": [],
    }
    assert content["predictions"] == [{"name": "toucan", "synset": "n01843383", "score": 0.93}]
    assert content["model"] == {"name": "toy", "digest": "0123"}
    assert content["phototag"]
    assert content["date"].endswith("+00:00")
    assert (photo.read_bytes(), photo.stat()) == before
    assert sorted(path.name for path in photo.parent.iterdir()) == ["IMG_1.jpg", "IMG_1.jpg.phototag.json"]


def test_what_says_the_same_already_is_left_alone(photo: Path, write: Write) -> None:
    (sidecar,) = write(photo)
    os.utime(sidecar, ns=(1, 1))
    write(photo)
    assert sidecar.stat().st_mtime_ns == 1
    write(photo, TAGS[:1])
    assert sidecar.stat().st_mtime_ns != 1


def test_without_tags_there_is_no_sidecar(photo: Path, write: Write) -> None:
    assert write(photo, ()) == ()
    write(photo)
    assert write(photo, ()) == ()
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize("content", [b"{}", b"[1]", b"not JSON", b"\xff\xfe", b"[" * 100_000, b'{"tags": ["a"]}'])
@pytest.mark.parametrize("tags", [TAGS, ()])
def test_another_programs_file_is_neither_replaced_nor_removed(
    photo: Path, write: Write, content: bytes, tags: tuple[Tag, ...]
) -> None:
    sidecar = photo.with_name("IMG_1.jpg.phototag.json")
    sidecar.write_bytes(content)
    with pytest.raises(PhotoError, match="was not written by phototag"):
        write(photo, tags)
    assert sidecar.read_bytes() == content


def test_a_pipe_in_its_place_is_not_opened(photo: Path, write: Write) -> None:
    os.mkfifo(photo.with_name("IMG_1.jpg.phototag.json"))
    with pytest.raises(PhotoError, match="not a regular file"):
        write(photo)


def test_a_sidecar_is_as_public_as_its_photo(photo: Path, write: Write) -> None:
    photo.chmod(0o640)
    (sidecar,) = write(photo)
    assert sidecar.stat().st_mode & 0o777 == 0o640


def test_a_name_that_leaves_no_room_for_the_suffix_is_a_failure(make_photo: Callable[..., Path], write: Write) -> None:
    photo = make_photo("x" * 251 + ".jpg")
    with pytest.raises(PhotoError, match="cannot be written"):
        write(photo)
    assert list(photo.parent.iterdir()) == [photo]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The limit of a file's size stands in for a full disk: the write fails in the middle."""
    (tmp_path / "a.jpg").write_bytes(b"photo")
    script = (
        "import resource, signal, sys, pathlib\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from phototag.metadata.json_sidecar import *\n"
        "from phototag.core import Photo\n"
        "from phototag.core import Tag\n"
        "JsonSidecarWriter('m', 'd', None)"
        ".write(Photo(pathlib.Path(sys.argv[1]), 0, 0), [Tag('red', 1.0, ('red',), None)], [])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.jpg")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "PhotoError" in result.stderr
    assert "cannot be written (File too large)" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
