"""Changes of phototag that are taken back one by one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from phototag.cli.messages import photo_reason
from phototag.errors import PhotoError
from phototag.index import Index
from phototag.metadata.edits import packed, replacement
from phototag.metadata.files import NO_FILE
from phototag.metadata.json_sidecar import sidecar_path
from phototag.metadata.keywords import Unwritable
from phototag.metadata.untag import take_back, untag
from phototag.photos.digest import content_digest
from tests.helpers.files import contents
from tests.helpers.photo_parts import PACKET, jpeg, xmp_segment
from tests.helpers.writing import (
    BIRD,
    CAT,
    DOG,
    HUMAN,
    Notes,
    embed,
    file_of,
    rewritten,
    sidecar_of,
    write_again,
    write_sidecar,
)


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


def test_photos_that_became_the_same_become_what_each_was(tmp_path: Path, notes: Notes) -> None:
    before = {tmp_path / f"{size}.jpg": jpeg(xmp_segment(padded(size))) for size in (40, 300)}
    for path, data in before.items():
        path.write_bytes(data)
        write_again(path, notes, CAT)
        write_again(path, notes)  # another model finds nothing
    now = [path.read_bytes() for path in before]
    assert now[0] == now[1]
    for path, data in before.items():
        assert untag(path, notes) == (path,)
        assert path.read_bytes() == data
    moved = tmp_path / "moved.jpg"
    moved.write_bytes(now[0])
    assert untag(moved, notes) == (moved,)
    assert moved.read_bytes() in before.values()


def padded(size: int) -> bytes:
    """Return a packet with so many spaces at its end."""
    return PACKET.replace(b"<?xpacket end", b" " * size + b"<?xpacket end")


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
    change: dict[str, Callable[[], object]] = {
        "embed": lambda: rewritten(file, lambda one: replace(one, subject=("cat", "mine")))
    }
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
    files: dict[Path, list[bytes | None]] = {
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
