"""What can go wrong while tags are written into photos: a killed process, a full disk, hostile files. No photo is lost.

After each fault every photo is whole: what it was, or what it was to become.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from phototag.errors import PhotoError
from phototag.images.decode import read_picture
from phototag.index import Index
from phototag.metadata import rewrite, xmp
from phototag.metadata.edits import applied
from phototag.metadata.untag import untag
from phototag.metadata.writer import Written
from phototag.metadata.xmp_sidecar import XmpSidecarWriter
from phototag.photos.digest import content_digest
from phototag.photos.find import find_photos
from tests.helpers.faults import TAGS, embed, names_in, photo_at, unfinished
from tests.helpers.files import contents
from tests.helpers.program import lines, phototag, powerless
from tests.helpers.stages import PREPROCESSING

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals, pipes and modes as POSIX has them")


# --- A full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few hundred kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("needs mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a file system can be mounted by root alone: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill_but_for(folder: Path, room: int) -> None:
    status = os.statvfs(folder)
    (folder / "filling").write_bytes(bytes(status.f_bavail * status.f_frsize - room))


@pytest.mark.parametrize("write", ["embed", "xmp"])
def test_a_full_disk_leaves_each_photo_old_or_new(scan: Callable[..., Result], small_disk: Path, write: str) -> None:
    for number in range(20):
        # Just under the size of a page, so that each needs one more.
        Image.new("RGB", (8 + number, 8), "red").save(small_disk / f"{number:02}.jpg", comment=b"." * 3200)
    fill_but_for(small_disk, 40 << 10)
    before = contents(small_disk)
    result = scan(small_disk, "--write", write, "--format", "json")
    after = contents(small_disk)
    assert unfinished(small_disk) == []
    outcomes = lines(result)
    failed = {Path(one["path"]).name for one in outcomes if one["status"] == "failed"}
    assert (result.exit_code, len(outcomes)) == (1, 20)
    assert 0 < len(failed) < 20
    what = "it cannot be written into" if write == "embed" else r"its sidecar {}.xmp cannot be written"
    for name in failed:
        hint = "(No space left on device); check the folder's permissions and the room on the disk"
        assert f"{name}: {what.format(name)} {hint}\n" in result.stderr
    for name, content in before.items():
        is_done = write == "embed" and name not in failed and name != "filling"
        assert (after[name] != content) == is_done, name
        assert applied(after[name], rewrite.without_tags(after[name]).edits) == content if is_done else True
    sidecars = after.keys() - before.keys()
    assert sidecars == (set() if write == "embed" else {f"{name}.xmp" for name in before.keys() - failed - {"filling"}})
    assert all(xmp.read(after[name]).subject == ("red",) for name in sidecars)
    # With room again, the rest is done, and all of it is taken back.
    (small_disk / "filling").unlink()
    assert scan(small_disk, "--write", write).exit_code == 0
    index_path = small_disk.parent / "index.sqlite3"
    assert phototag("untag", "--index", index_path, small_disk).exit_code == 0
    assert contents(small_disk) == {name: content for name, content in before.items() if name != "filling"}


# --- Files that must not be written, or are no longer what they were --------------------------------------------------


def test_a_read_only_photo_has_a_sidecar_and_a_read_only_folder_nothing(
    toy_model: Path, make_photo: Callable[..., Path], tmp_path: Path
) -> None:
    read_only, in_folder, both = make_photo("a.jpg"), make_photo("folder/b.jpg"), make_photo("folder/c.jpg")
    read_only.chmod(0o444)
    both.chmod(0o444)
    before = {photo: state(photo) for photo in (read_only, in_folder, both)}
    arguments = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", "--write", "embed", read_only.parent]
    command = powerless(sys.executable, "-m", "phototag", *arguments)
    in_folder.parent.chmod(0o555)
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    finally:
        in_folder.parent.chmod(0o755)
    assert (result.returncode, result.stdout) == (1, f"{read_only}: red\n")
    assert f"{read_only}: its tags are in a.jpg.xmp: it is read-only\n" in result.stderr
    hint = "(Permission denied); check the folder's permissions and the room on the disk"
    assert f"phototag: {in_folder}: it cannot be written into {hint}\n" in result.stderr
    assert f"phototag: {both}: its sidecar c.jpg.xmp cannot be written {hint}\n" in result.stderr
    sidecar = read_only.with_name("a.jpg.xmp")
    assert (names_in(sidecar), sidecar.stat().st_mode & 0o777) == (("red",), 0o644)
    assert {path for path in read_only.parent.rglob("*") if path.is_file()} == {*before, sidecar}
    assert {photo: state(photo) for photo in before} == before


def test_a_photo_of_several_names_has_a_sidecar_instead(index: Index, make_photo: Callable[..., Path]) -> None:
    photo = make_photo("a.jpg")
    other = photo.with_name("b.jpg")
    other.hardlink_to(photo)
    before = photo.read_bytes()
    written = embed(index, photo_at(photo))
    assert written.note == "its tags are in a.jpg.xmp: it has several names (hard links)"
    assert names_in(photo.with_name("a.jpg.xmp")) == ("red", "Ö", "日本")
    assert (photo.samefile(other), other.read_bytes()) == (True, before)
    assert untag(photo, index) == (photo.with_name("a.jpg.xmp"),)
    assert contents(photo.parent) == {"a.jpg": before, "b.jpg": before}


def while_it_is_written(monkeypatch: pytest.MonkeyPatch, fault: Callable[[], object]) -> None:
    """Let `fault` happen between the reading of a photo and its replacement."""
    real = Index.note_change

    def note_change(self: Index, *given: Any) -> None:
        monkeypatch.setattr(Index, "note_change", real)
        real(self, *given)
        fault()

    monkeypatch.setattr(Index, "note_change", note_change)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"an edit")


def exchange(path: Path) -> None:
    """Put another file of the same size and time in the place of `path`."""
    new = path.with_name("new")
    new.write_bytes(bytes(path.stat().st_size - 7) + b"an edit")
    shutil.copystat(path, new)
    new.replace(path)


def overwrite(path: Path) -> None:
    """Change bytes of `path` in their place, and put its time back."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-7, os.SEEK_END)
        file.write(b"an edit")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("edit", [append, exchange, overwrite])
def test_an_edit_that_somebody_makes_meanwhile_is_kept(
    index: Index, make_photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], None]
) -> None:
    photo = make_photo("a.jpg")
    while_it_is_written(monkeypatch, lambda: edit(photo))
    written = embed(index, photo_at(photo))
    assert written.note == "its tags are in a.jpg.xmp: it was changed by another program meanwhile"
    assert photo.read_bytes().endswith(b"an edit")
    assert unfinished(photo.parent) == []
    edited = photo.read_bytes()
    assert untag(photo, index) == (photo.with_name("a.jpg.xmp"),)
    assert contents(photo.parent) == {"a.jpg": edited}


def test_an_edit_of_a_sidecar_that_somebody_makes_meanwhile_is_kept(
    index: Index, make_photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("a.jpg")
    sidecar = photo.with_name("a.jpg.xmp")
    sidecar.write_bytes(SIDECAR)
    while_it_is_written(monkeypatch, lambda: append(sidecar))
    with pytest.raises(PhotoError, match=r"a\.jpg\.xmp is left alone \(it was changed by another program meanwhile\)"):
        XmpSidecarWriter("toy", index).write(photo_at(photo), TAGS, ())
    assert sidecar.read_bytes() == SIDECAR + b"an edit"
    assert unfinished(photo.parent) == []


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
@pytest.mark.parametrize("fault", [Path.unlink, make_a_pipe], ids=["gone", "pipe"])
def test_a_photo_that_goes_is_not_made_again(
    index: Index,
    make_photo: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    fault: Callable[[Path], object],
) -> None:
    path = make_photo("a.jpg")
    photo = photo_at(path)
    if moment == "before":
        fault(path)
    else:
        while_it_is_written(monkeypatch, lambda: fault(path))
    with pytest.raises(PhotoError):
        embed(index, photo)
    assert not path.is_file()
    assert [one for one in path.parent.iterdir() if one != path] == []


def test_a_photo_that_becomes_a_pipe_before_it_is_decoded_fails(index: Index, make_photo: Callable[..., Path]) -> None:
    (found,) = find_photos([make_photo("a.jpg")])
    path = Path(found.path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PhotoError):
        read_picture(path, PREPROCESSING.shortest_side).view(PREPROCESSING)


# --- Sidecars that are not phototag's to write ------------------------------------------------------------------------

SIDECAR = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:d="urn:develop" d:exposure="1"/></rdf:RDF></x:xmpmeta>\n'
)
ODD_SIDECARS: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "dangling": lambda path: path.symlink_to("nowhere"),
    "large": lambda path: path.write_bytes(SIDECAR + b" " * (10 << 20)),
    "utf-16": lambda path: path.write_bytes(SIDECAR.decode().encode("utf-16")),
    "malformed": lambda path: path.write_bytes(b"<settings><exposure>1</settings>"),
    "doctype": lambda path: path.write_bytes(b'<!DOCTYPE x [<!ENTITY a "b">]>' + SIDECAR),
    "empty": Path.touch,
}


def state(path: Path) -> tuple[int, int, int, bytes | str | None]:
    status = path.lstat()
    content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return status.st_mode, status.st_ino, status.st_mtime_ns, content


@pytest.mark.parametrize("kind", ODD_SIDECARS)
def test_an_odd_sidecar_is_left_alone_and_told_in_one_sentence(
    scan: Callable[..., Result], make_photo: Callable[..., Path], kind: str
) -> None:
    photo = make_photo("a.jpg")
    data, sidecar = photo.read_bytes(), photo.with_name("a.jpg.xmp")
    ODD_SIDECARS[kind](sidecar)
    before = state(sidecar)
    result = scan(photo, "--write", "xmp")
    (told,) = [line for line in result.stderr.splitlines() if line.startswith("phototag: ")]
    assert told.startswith(f"phototag: {photo}: its sidecar a.jpg.xmp ")
    assert (result.exit_code, state(sidecar), photo.read_bytes()) == (1, before, data)
    assert sorted(photo.parent.iterdir()) == [photo, sidecar]


@pytest.mark.parametrize("kind", ODD_SIDECARS)
def test_an_odd_sidecar_does_not_keep_tags_out_of_the_photo(
    index: Index, make_photo: Callable[..., Path], kind: str
) -> None:
    photo = make_photo("a.jpg")
    data, sidecar = photo.read_bytes(), photo.with_name("a.jpg.xmp")
    ODD_SIDECARS[kind](sidecar)
    before = state(sidecar)
    written = embed(index, photo_at(photo))
    digest = content_digest(photo.read_bytes())
    assert written == Written((photo,), photo_at(photo), digest=digest, own_tags=("red", "Ö", "日本"))
    assert rewrite.read_keywords(photo.read_bytes()).subject == ("red", "Ö", "日本")
    assert untag(photo, index) == (photo,)
    assert (state(sidecar), photo.read_bytes()) == (before, data)


def test_an_odd_sidecar_costs_no_open_file(index: Index, make_photo: Callable[..., Path]) -> None:
    photo = make_photo("a.jpg")
    photo.with_name("a.jpg.xmp").mkdir()
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc to count what is open")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        with pytest.raises(PhotoError):
            XmpSidecarWriter("toy", index).write(photo_at(photo), TAGS, ())
    assert len(list(descriptors.iterdir())) == before
