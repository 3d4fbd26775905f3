from __future__ import annotations

import errno
import json
import os
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from phototag.cli.messages import photo_reason
from phototag.core import Journal, Label, Photo, Prediction, Tag, Undo
from phototag.errors import PhotoError
from phototag.index import Index, open_index
from phototag.metadata import containers, files, rewrite, xmp
from phototag.metadata.edits import applied, packed, replacement, unpacked
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.files import NO_FILE
from phototag.metadata.found import read_keywords, removed_by_user
from phototag.metadata.json_sidecar import JsonSidecarWriter, read_rejected, read_tags, sidecar_path
from phototag.metadata.keywords import Keywords, Unwritable
from phototag.metadata.sidecars import is_orphan, remove_orphan
from phototag.metadata.untag import take_back, untag
from phototag.metadata.writer import EarlierTags, Written
from phototag.metadata.xmp_packet import NAMESPACE
from phototag.metadata.xmp_sidecar import XmpSidecarWriter
from phototag.photos.digest import content_digest
from tests.conftest import lines, phototag

CAT = Tag("cat", 0.9, ("animal", "cat"), None, ())
DOG = Tag("dog", 0.9, ("animal", "dog"), None, ())
HUMAN = xmp.create(Keywords(subject=("holiday",)), sidecar=True)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "journal.sqlite3") as opened, opened.run({}):
        yield opened


def found(path: Path) -> Photo:
    status = path.stat()
    return Photo(path, status.st_size, status.st_mtime_ns)


def embed(path: Path, journal: Journal, *tags: Tag) -> tuple[Path, ...]:
    return EmbedWriter("toy", journal).write(found(path), tags, ()).files


def write_sidecar(path: Path, journal: Journal, *tags: Tag) -> tuple[Path, ...]:
    return XmpSidecarWriter("toy", journal).write(found(path), tags, ()).files


def subjects(path: Path) -> list[tuple[str, tuple[str, ...] | None]]:
    return [(file.name, keywords.subject) for file, keywords in read_keywords(path)]


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name + ".xmp")


def change(index: Index, path: Path, before: bytes | None) -> None:
    """Note in the journal that phototag has made the file at `path` of `before`."""
    now = path.read_bytes()
    undo = packed(replacement(now, before)) if before is not None else None
    index.note_change(path, content_digest(now), undo)


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


# What a person has removed

TOUCAN = Tag("toucan", 0.93, ("animal", "bird", "toucan"), None)
BIRD = Tag("bird", 0.97, ("animal", "bird"), None)
ANIMAL = Tag("animal", 0.99, ("animal",), None)
BIRDS = (TOUCAN, BIRD, ANIMAL)


def write_again(path: Path, journal: Journal, *tags: Tag, way: str = "embed", **options: Any) -> Written:
    previous = options.pop("previous", ())
    if way == "json":
        return JsonSidecarWriter("toy", "0", journal, **options).write(found(path), tags, (), previous)
    writer = EmbedWriter if way == "embed" else XmpSidecarWriter
    return writer("toy", journal, **options).write(found(path), tags, (), previous)


def file_of(path: Path, way: str) -> Path:
    """Where `--write` puts the tags of a photo."""
    return {"embed": path, "xmp": sidecar_of(path), "json": sidecar_path(path)}[way]


def rewritten(path: Path, change: Callable[[Keywords], Keywords]) -> None:
    """Change keywords as another program does: through the packet, whatever phototag thinks of them."""
    data = path.read_bytes()
    is_photo = path.suffix != ".xmp"
    packet = containers.read_blocks(data).xmp if is_photo else data
    assert packet is not None
    edits = xmp.update(packet, change(xmp.read(packet)))
    if is_photo:
        edits = containers.rewrite(data, containers.Changes(edits))
    path.write_bytes(applied(data, edits))


def remove(path: Path, *names: str) -> None:
    """Remove keywords from all lists of the XMP, as a person does in an application."""

    def change(keywords: Keywords) -> Keywords:
        subject = tuple(one for one in keywords.subject or () if one not in names)
        paths = [one.split("|") for one in keywords.hierarchical or () if one.split("|")[-1] not in names]
        hierarchical = tuple("|".join(level for level in path if level not in names) for path in paths)
        return replace(keywords, subject=subject, hierarchical=hierarchical)

    rewritten(path, change)


def keywords_of(file: Path) -> Keywords:
    """The keywords in a photo or an XMP sidecar, and in it alone."""
    data = file.read_bytes()
    return xmp.read(data) if file.suffix == ".xmp" else rewrite.read_keywords(data)


@pytest.mark.parametrize("way", ["embed", "xmp"])
def test_a_removed_tag_is_not_written_again_and_the_file_remembers(
    way: str, make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.png", format="PNG")
    write_again(path, index, *BIRDS, way=way)
    file = file_of(path, way)
    remove(file, "bird")
    edited = file.read_bytes()
    written = write_again(path, index, *BIRDS, way=way)
    assert (written.files, written.rejected) == ((file,), ("bird",))
    assert set(keywords_of(file).subject or ()) == {"toucan", "animal"}
    assert keywords_of(file).hierarchical == ("animal|toucan",)
    assert file.read_bytes() == edited  # nothing to add: nothing written
    # Other tags, and none: it stays out, and stays known without the index.
    assert write_again(path, index, BIRD, CAT, way=way).rejected == ("bird",)
    assert keywords_of(file).subject == ("cat",)
    assert write_again(path, index, BIRD, way=way) == Written((), found(path), None, ANY, ("bird",), ANY)
    assert keywords_of(file).subject is None
    assert write_again(path, index, way=way).rejected == ("bird",)
    assert write_again(path, index, BIRD, way=way, forget_rejections=True).rejected == ()
    assert keywords_of(file).subject == ("bird",)
    assert write_again(path, index, BIRD, way=way).rejected == ()


def test_a_tag_that_only_xpkeywords_still_holds_was_removed(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    write_again(path, index, *BIRDS)
    remove(path, "bird")  # as Lightroom and darktable do, which know nothing of XPKeywords
    assert "bird" in (keywords_of(path).xp or ())
    assert write_again(path, index, *BIRDS).rejected == ("bird",)
    assert keywords_of(path).xp == ("toucan", "animal")
    assert "bird" not in (keywords_of(path).subject or ())
    assert write_again(path, index, *BIRDS).rejected == ("bird",)


def test_untag_forgets_what_was_removed(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    write_sidecar(path, index, CAT, DOG)
    remove(sidecar_of(path), "cat")
    assert write_again(path, index, CAT, way="xmp").rejected == ("cat",)
    assert untag(path, index) == (sidecar_of(path),)
    assert not sidecar_of(path).exists()
    assert write_again(path, index, CAT, way="xmp").rejected == ()


def test_what_a_person_has_put_back_is_the_persons(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    sidecar = sidecar_of(path)
    write_sidecar(path, index, CAT, DOG)
    remove(sidecar, "cat")
    assert write_again(path, index, CAT, way="xmp").rejected == ("cat",)
    rewritten(sidecar, lambda keywords: replace(keywords, subject=("cat",)))
    assert write_again(path, index, CAT, way="xmp").rejected == ()
    assert write_again(path, index, DOG, way="xmp").rejected == ()
    assert set(keywords_of(sidecar).subject or ()) == {"cat", "dog"}
    assert write_again(path, index, way="xmp").files == ()
    assert keywords_of(sidecar).subject == ("cat",)
    remove(sidecar, "cat")
    assert write_again(path, index, CAT, way="xmp").rejected == ("cat",)


def test_a_keyword_that_a_person_has_recased_is_no_rejection(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    write_sidecar(path, index, CAT, DOG)
    rewritten(sidecar_of(path), lambda found: replace(found, subject=("Cat", "dog"), hierarchical=("animal|dog",)))
    assert write_again(path, index, CAT, DOG, way="xmp").rejected == ()
    assert set(keywords_of(sidecar_of(path)).subject or ()) == {"Cat", "dog"}


@pytest.mark.parametrize("way", ["embed", "xmp"])
@pytest.mark.parametrize(
    ("left", "rejected"),
    [(("cat",), ("dog",)), (("Cat", "beach"), ("dog",)), (("beach",), ()), ((), ()), (("cat", "dog"), ())],
)
def test_without_a_note_the_index_knows_what_was_removed(
    way: str, left: tuple[str, ...], rejected: tuple[str, ...], make_photo: Callable[..., Path], index: Index
) -> None:
    packet = xmp.create(Keywords(subject=left), sidecar=way == "xmp")
    path = make_photo("1.jpg", **({"xmp": packet} if way == "embed" else {}))
    if way == "xmp":
        sidecar_of(path).write_bytes(packet)
    written = write_again(path, index, CAT, DOG, way=way, previous=("cat", "dog"))
    assert written.rejected == rejected
    assert ("dog" in (keywords_of(file_of(path, way)).subject or ())) is not bool(rejected)
    # From now on the file itself knows.
    if rejected:
        assert write_again(path, index, CAT, DOG, BIRD, way=way, previous=("cat", "dog")).rejected == rejected
        assert write_again(path, index, CAT, DOG, way=way).rejected == rejected


def test_what_a_killed_run_took_out_was_removed_by_nobody(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg", xmp=xmp.create(Keywords(subject=("cat",))))
    embed(path, index, CAT, DOG)
    embed(path, index)  # and the process died before the index knew
    assert write_again(path, index, CAT, DOG, previous=("cat", "dog")).rejected == ()
    path = make_photo("2.jpg")
    write_again(path, index, CAT, DOG, way="json")
    write_again(path, index, CAT, way="json")
    assert write_again(path, index, CAT, DOG, way="json", previous=("cat", "dog")).rejected == ()


def test_what_was_removed_from_a_sidecar_stays_out_of_the_photo_and_the_reverse(
    make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    write_sidecar(path, index, CAT, DOG)
    remove(sidecar_of(path), "cat")
    assert write_again(path, index, CAT, DOG).rejected == ("cat",)
    assert keywords_of(path).subject == ("dog",)
    assert not sidecar_of(path).exists()
    path.chmod(0o444)
    written = write_again(path, index, CAT, DOG, BIRD)
    assert (written.files, written.rejected) == ((sidecar_of(path),), ("cat",))
    assert "cat" not in (keywords_of(sidecar_of(path)).subject or ())


def test_a_sidecar_stays_where_it_alone_remembers(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    before = path.read_bytes()
    write_sidecar(path, index, CAT, DOG)
    remove(sidecar_of(path), "cat")
    for _ in range(2):
        assert write_again(path, index, CAT).rejected == ("cat",)
        assert path.read_bytes() == before
        assert keywords_of(sidecar_of(path)).subject is None
    assert write_again(path, index, CAT, DOG).rejected == ("cat",)
    assert not sidecar_of(path).exists()
    assert keywords_of(path).subject == ("dog",)
    assert write_again(path, index, CAT, DOG, forget_rejections=True).rejected == ()
    assert keywords_of(path).subject == ("dog", "cat")


def test_a_photo_that_was_emptied_is_not_taken_for_one_of_phototags(
    make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    write_again(path, index, CAT, way="json")
    write_again(path, index, way="json")  # the journal knows of a file that is nothing now
    looked_at = found(path)
    path.write_bytes(b"")
    with pytest.raises(PhotoError, match="changed while it was looked at"):
        EmbedWriter("toy", index).write(looked_at, [CAT], ())
    assert untag(path, index) == ()


def test_a_tag_removed_from_a_json_sidecar_is_not_written_again(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    write_again(path, index, CAT, DOG, way="json")
    sidecar = sidecar_path(path)
    content = json.loads(sidecar.read_text())
    content["tags"] = [tag for tag in content["tags"] if tag["name"] != "cat"]
    sidecar.write_text(json.dumps(content))
    assert write_again(path, index, CAT, DOG, way="json", previous=("cat", "dog")).rejected == ("cat",)
    assert [name for name, _ in read_tags(path)] == ["dog"]
    # Without the index too, and with no tag left.
    assert write_again(path, index, CAT, way="json") == Written((), found(path), rejected=("cat",))
    assert (read_tags(path), read_rejected(path)) == ((), ("cat",))
    [shown] = lines(phototag("show", "--format", "json", path))
    assert (shown["keywords"], shown["removed"]) == ([], ["cat"])
    assert write_again(path, index, CAT, way="json", forget_rejections=True).files == (sidecar,)
    assert read_rejected(path) == ()
    sidecar.unlink()
    assert write_again(path, index, CAT, way="json", previous=("cat", "dog")).rejected == ()


def test_a_removed_tag_of_another_case_is_the_same(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    write_sidecar(path, index, CAT, DOG)
    remove(sidecar_of(path), "cat")
    assert write_again(path, index, replace(CAT, name="CAT"), way="xmp").files == ()


@pytest.mark.parametrize("is_noted", [True, False])
@pytest.mark.parametrize("way", ["embed", "read-only", "xmp", "json"])
def test_what_was_removed_is_told_before_another_writer_takes_over(
    way: str, is_noted: bool, make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    if way == "read-only":
        path.chmod(0o444)
    write = "embed" if way == "read-only" else way
    write_again(path, index, CAT, DOG, way=write)
    assert removed_by_user(found(path), write, ("cat", "dog"), index) == ()
    file = {"embed": path, "json": sidecar_path(path)}.get(way, sidecar_of(path))
    if way == "json":
        content = json.loads(file.read_text())
        content["tags"] = [tag for tag in content["tags"] if tag["name"] != "cat"]
        file.write_text(json.dumps(content))
    else:
        remove(file, "cat")
        if not is_noted:  # a program has dropped what it does not know
            rewritten(file, lambda keywords: replace(keywords, provenance=None))
    if way == "embed" and not is_noted:
        path.write_bytes(make_photo("2.jpg", xmp=xmp.create(Keywords(subject=("dog",)))).read_bytes())
    before = contents(path.parent)
    assert removed_by_user(found(path), write, ("cat", "dog"), index) == ("cat",)
    assert removed_by_user(found(path), write, (), index) == (("cat",) if is_noted and way != "json" else ())
    for other in {"embed", "xmp", "json", "none", ""} - {write, "embed", "xmp"}:
        assert removed_by_user(found(path), other, ("cat", "dog"), index) == ()
    assert contents(path.parent) == before
    # The writer itself finds the same.
    assert write_again(path, index, CAT, DOG, way=write, previous=("cat", "dog")).rejected == ("cat",)


@pytest.mark.parametrize("way", ["embed", "xmp", "json"])
@pytest.mark.parametrize("content", [b"", b"<x", b"\xff\xd8\xff", b"no photo", None])
def test_nothing_was_removed_from_what_cannot_be_read(
    way: str, content: bytes | None, make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    photo, file = found(path), file_of(path, way)
    assert removed_by_user(photo, way, ("cat", "dog"), index) == ()
    file.unlink(missing_ok=True)
    assert removed_by_user(photo, way, ("cat", "dog"), index) == ()
    if content is None:
        os.mkfifo(file)
    else:
        file.write_bytes(content)
    assert removed_by_user(photo, way, ("cat", "dog"), index) == ()


def test_show_names_what_was_removed(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    write_sidecar(path, index, CAT, DOG)
    remove(sidecar_of(path), "cat")
    [shown] = lines(phototag("show", "--format", "json", path))
    assert shown["removed"] == ["cat"]
    assert not any(one["name"] == "cat" for one in shown["keywords"])
    assert "cat                          removed by a person, not written again" in phototag("show", path).stdout


# What an earlier run left


@pytest.mark.parametrize("way", ["embed", "xmp", "json"])
def test_what_stands_tells_an_index_that_was_lost(way: str, make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    predictions = (Prediction(Label("toucan", "n01843383"), 0.93),)
    tags = (replace(TOUCAN, synset="n01843383", synonyms=("Tukan",)), BIRD, ANIMAL)

    def writer(recipe: str) -> Any:
        if way == "json":
            return JsonSidecarWriter("toy", "0", index, recipe)
        return (EmbedWriter if way == "embed" else XmpSidecarWriter)("toy", index, recipe)

    assert writer("one").earlier_tags(found(path)) is None
    writer("one").write(found(path), tags, predictions)
    standing = writer("one").earlier_tags(found(path))
    plain = tuple(replace(tag, synset=None, synonyms=()) for tag in tags)
    assert standing == (
        EarlierTags(tags, predictions, (sidecar_path(path),))
        if way == "json"
        else EarlierTags(plain, (), (file_of(path, way),))
    )
    assert writer("two").earlier_tags(found(path)) is None
    assert writer("").earlier_tags(found(path)) is None
    # The recipe alone is no reason to write into a photo or what programs read.
    before = file_of(path, way).read_bytes()
    writer("two").write(found(path), tags, predictions)
    assert (file_of(path, way).read_bytes() == before) is (way != "json")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert writer("one").earlier_tags(found(path)) is None
    assert writer("two").earlier_tags(found(path)) is None


def test_a_photo_that_phototag_touched_has_not_changed_since(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    before = path.stat().st_mtime_ns
    writer = EmbedWriter("toy", index, "one", touch=True)
    writer.write(found(path), [CAT], ())
    assert path.stat().st_mtime_ns > before
    assert writer.earlier_tags(found(path)) is not None


def test_what_was_removed_does_not_stand(make_photo: Callable[..., Path], index: Index) -> None:
    path = make_photo("1.jpg")
    writer = XmpSidecarWriter("toy", index, "one")
    writer.write(found(path), [CAT, DOG], ())
    remove(sidecar_of(path), "cat")
    left = EarlierTags((replace(DOG, synonyms=()),), (), (sidecar_of(path),), ("cat",))
    assert writer.earlier_tags(found(path)) == left
    # Also where the photo could not be written into.
    path.chmod(0o444)
    assert EmbedWriter("toy", index, "one").earlier_tags(found(path)) == writer.earlier_tags(found(path))


@pytest.mark.parametrize(
    "change",
    [
        {"date": "yesterday"},
        {"date": "2999-01-01T00:00:00"},
        {"date": 5},
        {"tags": {"name": "cat"}},
        {"tags": ["cat"]},
        {"tags": [{"name": "\ud800", "confidence": 1, "path": [], "synset": None, "synonyms": []}]},
        {"tags": [{"name": "cat", "confidence": float("nan"), "path": [], "synset": None, "synonyms": []}]},
        {"tags": [{"name": "cat", "confidence": 10**400, "path": [], "synset": None, "synonyms": []}]},
        {"tags": [{"name": "cat", "confidence": 0.5, "path": 7, "synset": None, "synonyms": []}]},
        {"predictions": None},
    ],
)
def test_a_malformed_sidecar_tells_nothing(
    change: dict[str, Any], make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    writer = JsonSidecarWriter("toy", "0", index, "one")
    writer.write(found(path), [CAT], ())
    content = json.loads(sidecar_path(path).read_text())
    assert writer.earlier_tags(found(path)) is not None
    sidecar_path(path).write_text(json.dumps({**content, **change}))
    assert writer.earlier_tags(found(path)) is None


@pytest.mark.parametrize("way", ["embed", "xmp", "json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"<x", b"\xff\xd8\xff", NAMESPACE.encode(), None])
def test_what_stands_is_asked_of_odd_files_without_a_fault(
    way: str, content: bytes | None, make_photo: Callable[..., Path], index: Index
) -> None:
    path = make_photo("1.jpg")
    photo, file = found(path), file_of(path, way)
    file.unlink(missing_ok=True)
    if content is None:
        os.mkfifo(file)
    else:
        file.write_bytes(content)
    writers = {"embed": EmbedWriter("toy", index, "one"), "xmp": XmpSidecarWriter("toy", index, "one")}
    writer = writers.get(way, JsonSidecarWriter("toy", "0", index, "one"))
    assert writer.earlier_tags(photo) is None


# One change taken back


@dataclass
class Notes:
    """A journal of which each entry can be looked at."""

    index: Index
    entries: list[tuple[Path, bytes, bytes | None]] = field(default_factory=list)

    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        self.entries.append((path, digest, undo))
        self.index.note_change(path, digest, undo)

    def undo_of(self, digest: bytes, before: int | None = None) -> Undo | None:
        return self.index.undo_of(digest, before)


@pytest.fixture
def notes(index: Index) -> Notes:
    return Notes(index)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("way", ["embed", "xmp", "json"])
def test_changes_are_taken_back_one_by_one(way: str, make_photo: Callable[..., Path], notes: Notes) -> None:
    path = make_photo("1.jpg")
    states, mtime = [contents(path.parent)], path.stat().st_mtime_ns
    for tags in ((CAT,), (CAT, DOG), (BIRD,), (), (CAT,)):
        write_again(path, notes, *tags, way=way)
        states.append(contents(path.parent))
    assert len(notes.entries) == 5
    for entry in reversed(notes.entries):
        now = states.pop()
        assert contents(path.parent) == now
        assert take_back(*entry, dry_run=True)
        assert contents(path.parent) == now
        assert take_back(*entry)
        assert contents(path.parent) == states[-1]
        assert take_back(*entry) is False  # as of a run that was killed before it made the change
    assert path.stat().st_mtime_ns == mtime


def test_a_sidecar_that_embedding_removed_comes_back(make_photo: Callable[..., Path], notes: Notes) -> None:
    path = make_photo("1.jpg")
    for before in (None, HUMAN):
        if before is not None:
            sidecar_of(path).write_bytes(before)
        write_again(path, notes, CAT, way="xmp")
        written = sidecar_of(path).read_bytes()
        write_again(path, notes, DOG)
        assert sidecar_of(path).exists() is (before is not None)
        assert take_back(*notes.entries[-1])
        assert sidecar_of(path).read_bytes() == written
        assert take_back(*notes.entries[-2])
        assert take_back(*notes.entries[-3])
        assert (sidecar_of(path).read_bytes() if sidecar_of(path).exists() else None) == before


@pytest.mark.parametrize("way", ["embed", "xmp", "json"])
def test_what_has_changed_since_is_not_taken_back(way: str, make_photo: Callable[..., Path], notes: Notes) -> None:
    path = make_photo("1.jpg")
    write_again(path, notes, CAT, way=way)
    write_again(path, notes, CAT, DOG, way=way)
    file = file_of(path, way)
    change = {"embed": lambda: rewritten(file, lambda one: replace(one, subject=("cat", "mine")))}
    change["xmp"] = change["embed"]
    change["json"] = lambda: file.write_bytes(file.read_bytes().replace(b"0.9", b"0.8"))
    change[way]()
    edited = file.read_bytes()
    for entry in notes.entries:
        with pytest.raises(PhotoError, match="changed since"):
            take_back(*entry)
    assert file.read_bytes() == edited
    file.unlink()
    with pytest.raises(PhotoError, match="it is gone"):
        take_back(*notes.entries[1])


def test_a_removed_sidecar_does_not_come_back_over_another(make_photo: Callable[..., Path], notes: Notes) -> None:
    path = make_photo("1.jpg")
    write_again(path, notes, CAT, way="json")
    write_again(path, notes, way="json")
    assert notes.entries[-1][:2] == (sidecar_path(path), NO_FILE)
    sidecar_path(path).write_text("{}")
    with pytest.raises(PhotoError, match="another file has its place"):
        take_back(*notes.entries[-1])
    assert sidecar_path(path).read_text() == "{}"


def test_a_folder_that_is_gone_is_no_change_that_was_never_made(make_photo: Callable[..., Path], notes: Notes) -> None:
    path = make_photo("1.jpg")
    write_again(path, notes, CAT, way="xmp")
    path.parent.rename(path.parent.with_name("moved"))
    with pytest.raises(PhotoError, match="it is gone"):
        take_back(*notes.entries[0])


@pytest.mark.parametrize(
    "spoil", [lambda path: path.chmod(0o444), lambda path: os.link(path, path.with_name("other name"))]
)
def test_what_must_not_be_written_is_not_taken_back(
    spoil: Callable[[Path], None], make_photo: Callable[..., Path], notes: Notes
) -> None:
    path = make_photo("1.jpg")
    embed(path, notes, CAT)
    written = path.read_bytes()
    spoil(path)
    for dry_run in (True, False):
        with pytest.raises(PhotoError, match=r"read-only|hard links"):
            take_back(*notes.entries[0], dry_run=dry_run)
    assert path.read_bytes() == written


def test_a_damaged_journal_takes_nothing_back(make_photo: Callable[..., Path], index: Index) -> None:
    path, other = make_photo("1.jpg", "red"), make_photo("2.jpg", "blue")
    embed(path, index, CAT)
    write_sidecar(path, index, DOG)
    files = {
        path: [None, packed(replacement(path.read_bytes(), other.read_bytes())), b"nothing", packed(())],
        sidecar_of(path): [packed(replacement(sidecar_of(path).read_bytes(), b"<x/>")), b""],
    }
    sidecar_path(other).write_text("{}")
    files[sidecar_path(other)] = [None, packed(replacement(b"{}", b"[]"))]
    before = contents(path.parent)
    for file, undos in files.items():
        for undo in undos[: 3 if file == path else None]:
            with pytest.raises(PhotoError, match="the journal does not fit it"):
                take_back(file, content_digest(file.read_bytes()), undo)
    for name in ("3.jpg", "3.jpg.xmp", "3.jpg.phototag.json"):
        for undo in (None, b"", packed(replacement(b"", b"no sidecar"))):
            with pytest.raises(PhotoError, match="cannot be taken back"):
                take_back(path.with_name(name), NO_FILE, undo)
    assert contents(path.parent) == before


# Companions: a RAW file beside its JPEG, the film of a Live Photo


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


def test_a_remedy_names_a_command_as_the_front_end_spells_it(index: Index, tmp_path: Path) -> None:
    with pytest.raises(PhotoError) as failure:
        take_back(tmp_path / "{index}.jpg", b"digest", b"undo")
    gone = "what phototag did to it cannot be taken back: it is gone"
    assert photo_reason(failure.value) == f"{gone}; if it was moved, use phototag untag on the photo where it is now"
    assert failure.value.reason_text(lambda name: f"<{name}>").endswith(
        "use <command:untag> on the photo where it is now"
    )
    assert str(failure.value).startswith(f"{tmp_path}/{{index}}.jpg: {gone}; ")


def test_why_a_photo_cannot_be_written_into_comes_with_a_remedy() -> None:
    assert str(Unwritable("it is read-only")) == "it is read-only"
    assert str(Unwritable("it has gone", "use {command:untag}")) == "it has gone; use phototag untag"
    assert str(Unwritable("a keyword is {index}")) == "a keyword is {index}"
