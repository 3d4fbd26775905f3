"""Tags that the user removed, and what an earlier run left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from phototag.core import Label, Prediction
from phototag.errors import PhotoError
from phototag.index import Index
from phototag.metadata import xmp, xmp_packet
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.found import removed_by_user
from phototag.metadata.json_sidecar import JsonSidecarWriter, read_rejected, read_tags, sidecar_path
from phototag.metadata.keywords import Keywords
from phototag.metadata.untag import untag
from phototag.metadata.writer import EarlierTags, Written
from phototag.metadata.xmp_sidecar import XmpSidecarWriter
from tests.helpers.files import contents
from tests.helpers.program import lines, phototag
from tests.helpers.writing import (
    ANIMAL,
    BIRD,
    BIRDS,
    CAT,
    DOG,
    TOUCAN,
    embed,
    file_of,
    found,
    keywords_of,
    remove,
    rewritten,
    sidecar_of,
    write_again,
    write_sidecar,
)


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
@pytest.mark.parametrize("content", [b"", b"{}", b"<x", b"\xff\xd8\xff", xmp_packet.NAMESPACE.encode(), None])
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
    writers: dict[str, Any] = {"embed": EmbedWriter("toy", index, "one"), "xmp": XmpSidecarWriter("toy", index, "one")}
    writer = writers.get(way, JsonSidecarWriter("toy", "0", index, "one"))
    assert writer.earlier_tags(photo) is None
