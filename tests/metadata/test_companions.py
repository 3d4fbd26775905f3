"""Companions of a photo, sidecars whose photo is gone, and what `show` reads of them."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from phototag.errors import PhotoError
from phototag.index import Index, open_index
from phototag.metadata import xmp
from phototag.metadata.found import read_keywords
from phototag.metadata.json_sidecar import read_tags, sidecar_path
from phototag.metadata.keywords import Keywords
from phototag.metadata.sidecars import is_orphan, remove_orphan
from phototag.metadata.untag import untag
from phototag.metadata.writer import Written
from tests.helpers.files import contents
from tests.helpers.program import lines, phototag
from tests.helpers.writing import (
    CAT,
    DOG,
    HUMAN,
    embed,
    file_of,
    found,
    sidecar_of,
    subjects,
    write_again,
    write_sidecar,
)

# Companions: a RAW file beside its JPEG, the film of a Live Photo


@pytest.mark.slow
@pytest.mark.parametrize("way", ["embed", "xmp", "json"])
def test_a_film_has_its_tags_beside_it_and_is_not_read(way: str, make_photo: Callable[..., Path], index: Index) -> None:
    photo = make_photo("IMG_1.HEIC.jpg").rename(make_photo("IMG_1.JPG"))
    film = photo.with_suffix(".MOV")
    film.write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    os.truncate(film, 1 << 28)
    photo.with_suffix(".xmp").write_bytes(HUMAN)
    tracemalloc.start()
    written = write_again(film, index, CAT, way=way)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    beside = sidecar_path(film) if way == "json" else sidecar_of(film)
    assert written == Written((beside,), found(film), written.note)
    assert photo.with_suffix(".xmp").read_bytes() == HUMAN
    untag(film, index)
    assert sorted(contents(photo.parent)) == ["IMG_1.JPG", "IMG_1.MOV", "IMG_1.xmp"]


def test_photo_xmp_is_the_raw_files(make_photo: Callable[..., Path], index: Index) -> None:
    photo = make_photo("IMG_1.JPG")
    raw = photo.with_suffix(".CR2")
    raw.write_bytes(b"II*\0\x10\0\0\0CR\2\0")
    short = photo.with_suffix(".xmp")
    short.write_bytes(HUMAN)
    assert embed(raw, index, CAT) == (short,)
    assert write_sidecar(photo, index, DOG) == (sidecar_of(photo),)
    merged = short.read_bytes()
    assert xmp.read(merged).subject == ("holiday", "cat")
    assert subjects(photo)[1:] == [("IMG_1.JPG.xmp", ("dog",))]
    assert untag(photo, index) == (sidecar_of(photo),)
    assert short.read_bytes() == merged
    assert untag(raw, index) == (short,)
    assert short.read_bytes() == HUMAN
    # Of two RAW files it might be either's; a DNG is written into by Lightroom.
    photo.with_suffix(".dng").touch()
    assert write_sidecar(raw, index, CAT) == (short,)
    untag(raw, index)
    photo.with_suffix(".nef").touch()
    assert write_sidecar(raw, index, CAT) == (sidecar_of(raw),)


# Sidecars whose photo is gone


@pytest.mark.parametrize("way", ["xmp", "json"])
def test_a_sidecar_whose_photo_is_gone_is_an_orphan(way: str, make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    write_again(path, index, CAT, way=way)
    sidecar = file_of(path, way)
    assert not is_orphan(sidecar)
    with pytest.raises(PhotoError, match="left alone"):
        remove_orphan(sidecar)
    moved = path.rename(path.with_name("1.JPG"))
    assert not is_orphan(sidecar)  # its photo, on a disk that knows no case
    moved.unlink()
    path.symlink_to("nowhere")
    assert not is_orphan(sidecar)
    path.unlink()
    assert is_orphan(sidecar)
    sidecar.with_name("1.jpg.json").write_text("{}")  # another program's sidecar, that stays too
    assert is_orphan(sidecar)
    remove_orphan(sidecar)
    assert not sidecar.exists()
    assert not is_orphan(sidecar)


def test_a_sidecar_that_may_be_a_persons_is_no_orphan(tmp_path: Path, make_photo: Callable[..., Path]) -> None:
    photo = make_photo("1.jpg")
    with open_index(tmp_path / "other.sqlite3") as index, index.run({}):
        write_sidecar(photo, index, CAT)
    made = sidecar_of(photo).read_bytes()
    folder = tmp_path / "gone"
    folder.mkdir()

    def judged(name: str, content: bytes) -> bool:
        path = folder / name
        path.write_bytes(content)
        found = is_orphan(path)
        path.unlink()
        return found

    assert judged("a.jpg.xmp", made)
    assert judged("a.xmp", made)
    assert not judged("a.jpg.xmp", HUMAN)
    assert not judged("a.jpg.xmp", made.replace(b"</rdf:Bag>", b"<rdf:li>mine</rdf:li></rdf:Bag>", 1))
    assert not judged("a.jpg.xmp", b"")
    assert not judged("a.jpg.txt", made)
    assert not judged(".xmp", made)
    assert not judged("a.jpg.phototag.json", b"{}")
    assert not judged(".phototag.json", b'{"phototag": "1"}')
    assert judged("a.jpg.phototag.json", b'{"phototag": "1"}')
    (folder / "a.jpg").mkdir()
    assert not judged("a.jpg.xmp", made)
    (folder / "b.cr2").touch()
    assert not judged("b.xmp", made)
    (folder / "c.mov").touch()
    assert not judged("c.xmp", made)
    (folder / "link.jpg.xmp").symlink_to(sidecar_of(photo))
    assert not is_orphan(folder / "link.jpg.xmp")
    os.mkfifo(folder / "pipe.jpg.xmp")
    assert not is_orphan(folder / "pipe.jpg.xmp")


# show


def test_show_tells_a_persons_path_from_phototags(make_photo: Callable[..., Path], index: Index) -> None:
    packet = xmp.create(Keywords(hierarchical=("places|Paris",)))
    path = make_photo("1.jpg", xmp=packet)
    embed(path, index, CAT)
    edited = xmp.create(
        Keywords(
            subject=("Paris", "cat"),
            hierarchical=("places|Paris", "animal|cat", "pets|cat"),
            provenance=read_keywords(path)[0][1].provenance,
        )
    )
    path = make_photo("2.jpg", xmp=edited)
    [shown] = lines(phototag("show", "--format", "json", path))
    by = {one["name"]: one["by"] for one in shown["keywords"]}
    assert by == {
        "Paris": "a person",
        "cat": "phototag",
        "places|Paris": "a person",
        "animal|cat": "phototag",
        "pets|cat": "a person",
    }


def test_a_photo_that_cannot_be_opened_is_not_one_without_keywords(
    make_photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_photo("1.jpg")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PhotoError, match=r"it cannot be read .Permission denied"):
        read_keywords(path)


def test_a_number_beyond_all_numbers_is_a_damaged_sidecar(make_photo: Callable[..., Path]) -> None:
    path = make_photo("1.jpg")
    sidecar_path(path).write_text(json.dumps({"phototag": "1", "tags": [{"name": "cat", "confidence": 10**400}]}))
    with pytest.raises(PhotoError, match="is damaged"):
        read_tags(path)
