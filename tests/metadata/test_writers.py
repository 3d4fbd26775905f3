from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from phototag.core import Photo, Tag
from phototag.errors import PhotoError
from phototag.index import Index
from phototag.metadata import files, xmp
from phototag.metadata.edits import unpacked
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.keywords import Keywords
from phototag.metadata.untag import untag
from tests.helpers.writing import (
    CAT,
    DOG,
    HUMAN,
    change,
    embed,
    found,
    sidecar_of,
    subjects,
    write_sidecar,
)

# Whose sidecar it is


def test_the_sidecar_of_another_photo_is_never_taken(make_photo: Callable[..., Path], index: Index) -> None:
    scanned, exported = make_photo("scan.tif"), make_photo("scan.tif.jpg")
    write_sidecar(scanned, index, CAT)
    assert write_sidecar(exported, index, DOG) == (sidecar_of(exported),)
    assert subjects(scanned)[1:] == [("scan.tif.xmp", ("cat",))]
    assert subjects(exported)[1:] == [("scan.tif.jpg.xmp", ("dog",))]
    untag(exported, index)
    assert subjects(scanned)[1:] == [("scan.tif.xmp", ("cat",))]


def test_a_folder_of_the_photos_stem_does_not_hide_its_sidecar(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("trip.jpg")
    path.with_suffix("").mkdir()
    path.with_suffix(".xmp").write_bytes(HUMAN)
    assert write_sidecar(path, index, CAT) == (path.with_suffix(".xmp"),)


def test_a_sidecar_that_is_a_link_is_left_alone(make_photo: Callable[..., Path], index: Index) -> None:
    one, other = make_photo("1.jpg"), make_photo("2.jpg")
    write_sidecar(one, index, CAT)
    before = sidecar_of(one).read_bytes()
    sidecar_of(other).symlink_to(sidecar_of(one))
    with pytest.raises(PhotoError, match=r"is left alone .it is a symbolic link"):
        write_sidecar(other, index, DOG)
    assert untag(other, index) == ()
    assert sidecar_of(one).read_bytes() == before


def test_a_sidecar_that_another_program_makes_meanwhile_is_not_replaced(
    make_photo: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_photo("1.jpg")
    noted = index.note_change

    def make_one(changed: Path, digest: bytes, undo: bytes | None) -> None:
        sidecar_of(path).write_bytes(HUMAN)
        noted(changed, digest, undo)

    monkeypatch.setattr(index, "note_change", make_one)
    with pytest.raises(PhotoError, match="made by another program meanwhile"):
        write_sidecar(path, index, CAT)
    assert sidecar_of(path).read_bytes() == HUMAN
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["1.jpg", "1.jpg.xmp"]


def test_a_folder_in_a_sidecars_place_is_no_reason_to_fail(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    before = path.read_bytes()
    sidecar_of(path).mkdir()
    assert embed(path, index, CAT) == (path,)
    assert untag(path, index) == (path,)
    assert path.read_bytes() == before
    with pytest.raises(PhotoError, match="not a regular file"):
        write_sidecar(path, index, CAT)


def test_a_name_without_room_for_a_sidecar(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("n" * 251 + ".jpg")
    before = path.read_bytes()
    with pytest.raises(PhotoError, match="shorten the photo's name"):
        write_sidecar(path, index, CAT)
    assert embed(path, index, CAT) == (path,)
    assert subjects(path) == [(path.name, ("cat",))]
    assert untag(path, index) == (path,)
    assert path.read_bytes() == before


def test_what_is_embedded_goes_from_the_sidecar_that_is_surely_its(
    make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    short = path.with_suffix(".xmp")
    short.write_bytes(HUMAN)
    assert write_sidecar(path, index, CAT) == (short,)
    written = short.read_bytes()
    twin = path.with_suffix(".CR2")
    twin.touch()
    assert embed(path, index, CAT) == (path,)
    assert short.read_bytes() == written
    twin.unlink()
    embed(path, index, DOG)
    assert short.read_bytes() == HUMAN


@pytest.mark.parametrize("tags", [(), (DOG,)])
def test_tags_that_stay_in_a_photo_that_became_read_only_are_named(
    tags: tuple[Tag, ...], make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    embed(path, index, CAT)
    path.chmod(0o444)
    note = EmbedWriter("toy", index).write(found(path), tags, ()).note
    elsewhere = "its tags are in 1.jpg.xmp, " if tags else ""
    assert note == f"{elsewhere}those of an earlier run stay in it: it is read-only"


@pytest.mark.parametrize("name", ["a\nmodel", os.fsdecode(b"model\xff"), "\0"])
def test_a_model_may_be_called_anything(name: str, make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    assert EmbedWriter(name, index).write(found(path), [CAT], ()).files == (path,)


# What changes meanwhile


def test_tags_go_into_no_other_picture_than_they_are_of(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg", "red")
    looked_at = found(path)
    other = make_photo("2.jpg", "blue", (64, 48)).rename(path).read_bytes()
    with pytest.raises(PhotoError, match="changed while it was looked at"):
        EmbedWriter("toy", index).write(looked_at, [CAT], ())
    assert path.read_bytes() == other
    assert not sidecar_of(path).exists()


def test_a_photo_that_was_written_into_by_another_name_has_not_changed(
    make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    link = path.with_name("link.jpg")
    link.symlink_to(path)
    looked_at = Photo(link, path.stat().st_size, path.stat().st_mtime_ns)
    embed(path, index, CAT)
    assert EmbedWriter("toy", index).write(looked_at, [CAT], ()).files == (link,)


def test_too_little_memory_is_the_failure_of_one_photo(
    make_photo: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_photo("1.jpg")
    embed(path, index, CAT)

    def write_file(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(files, "write_file", write_file)
    for fail in (lambda: embed(path, index, DOG), lambda: write_sidecar(path, index, DOG), lambda: untag(path, index)):
        with pytest.raises(PhotoError, match="more memory"):
            fail()


# untag says what it could not do


@pytest.mark.parametrize("dry_run", [False, True])
def test_tags_that_stay_in_a_read_only_sidecar_are_a_failure(
    dry_run: bool, make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    write_sidecar(path, index, CAT)
    sidecar_of(path).chmod(0o444)
    with pytest.raises(PhotoError, match=r"cannot be removed from its sidecar .*read-only"):
        untag(path, index, dry_run=dry_run)
    assert sidecar_of(path).exists()


def test_tags_in_what_became_unwritable_are_a_failure(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    embed(path, index, CAT)
    with path.open("ab") as file:
        file.write(b"a trailer of nobody knows what")
    with pytest.raises(PhotoError, match="its tags cannot be removed"):
        untag(path, index)
    other = make_photo("2.jpg")
    write_sidecar(other, index, CAT)
    packet = sidecar_of(other).read_bytes().replace(b"<x:xmpmeta", b"<!DOCTYPE x><x:xmpmeta")
    sidecar_of(other).write_bytes(packet)
    with pytest.raises(PhotoError, match=r"cannot be removed from its sidecar .*DOCTYPE"):
        untag(other, index)
    assert sidecar_of(other).read_bytes() == packet


def test_a_photo_that_is_too_large_to_be_written_into_holds_no_tags(
    make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    write_sidecar(path, index, CAT)
    os.truncate(path, (1 << 29) + 1)
    assert untag(path, index) == (sidecar_of(path),)


# The journal is a file that anything may have happened to


def test_a_journal_that_would_change_a_picture_is_not_believed(make_photo: Callable[..., Path], index: Index) -> None:
    path, other = make_photo("1.jpg", "red"), make_photo("2.jpg", "blue")
    before = path.read_bytes()
    embed(path, index, CAT)
    change(index, path, other.read_bytes())
    assert untag(path, index) == (path,)
    assert path.read_bytes() == before


def test_a_journal_that_would_lose_a_persons_keyword_is_not_believed(
    make_photo: Callable[..., Path], index: Index
) -> None:
    packet = xmp.create(Keywords(subject=("holiday",)))
    path = make_photo("1.jpg", xmp=packet)
    bare = make_photo("2.jpg").read_bytes()
    change(index, path, bare)
    assert untag(path, index) == ()
    assert subjects(path) == [("1.jpg", ("holiday",))]


@pytest.mark.parametrize("before", [None, HUMAN.replace(b"holiday", b"work").replace(b"subject", b"creator")])
def test_a_journal_that_would_lose_a_persons_sidecar_is_not_believed(
    before: bytes | None, make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    sidecar_of(path).write_bytes(HUMAN)
    change(index, sidecar_of(path), before)
    assert untag(path, index) == ()
    assert sidecar_of(path).read_bytes() == HUMAN


@pytest.mark.parametrize(
    "kept",
    [
        zlib.compress(b"[[-3, 0, 1]]\nx"),
        zlib.compress(b"[[0, -3, 1]]\nx"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b"[[0, 0, 1]]\nx")[:-5],
        zlib.compress(bytes(1 << 27)),
    ],
)
def test_damaged_undo_is_an_error_of_its_own(kept: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        unpacked(kept, b"a photo")
