"""What can go wrong while tags are written into photos: a killed process, a full disk, hostile files. No photo is lost.

After each fault every photo is whole: what it was, or what it was to become.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from phototag.core import Photo, Tag
from phototag.errors import PhotoError
from phototag.index import Index, open_index
from phototag.metadata import edits, rewrite, writers, xmp
from phototag.metadata.edits import Edit, applied, inverse, packed, unpacked
from phototag.metadata.files import Written
from phototag.metadata.keywords import Unwritable
from phototag.metadata.rewrite import Stamp
from phototag.metadata.writers import EmbedWriter, XmpSidecarWriter, untag
from phototag.photos.digest import content_digest
from phototag.photos.find import find_photos
from phototag.photos.kinds import UNFINISHED_PREFIX
from phototag.run.pipeline import Pipeline, Scorer

from .conftest import lines, phototag, powerless
from .photo_parts import (
    PACKET,
    dataset,
    exif_block,
    exif_segment,
    image,
    jpeg,
    mpf_photo,
    photoshop_segment,
    png,
    png_chunk,
    resource,
    xmp_segment,
    xmp_text,
)
from .test_pipeline import TAGGER, classify, look

TAGS = tuple(Tag(name, 0.9, (name,), None) for name in ("red", "Ö", "日本"))
STAMP = Stamp("toy", "1", "2026-11-20T00:00:00+00:00")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals, pipes and modes as POSIX has them")


def photo_at(path: Path) -> Photo:
    status = path.stat()
    return Photo(path, status.st_size, status.st_mtime_ns)


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(UNFINISHED_PREFIX)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "index.sqlite3") as opened, opened.run({}):
        yield opened


# --- A killed process ------------------------------------------------------------------------------------------------

PHOTOS = 200
KILLS = 50


def embed_library(library: Path, index_path: Path, begin: Callable[[], object] = lambda: None) -> None:
    """What `phototag scan --write embed` does, with a date that can be foretold, and without TensorFlow.

    `begin` is called when the first photo is about to be written.
    """

    def load_scorer() -> Scorer:
        begin()
        return Scorer(classify)

    writers._stamp = lambda model_name: STAMP
    with open_index(index_path) as index, index.run({}):
        pipeline = Pipeline(
            look=look,
            load_scorer=load_scorer,
            chooser=TAGGER,
            writer=EmbedWriter("toy", index),
            index=index,
            recipe="recipe",
            model="model",
            classes=3,
            jobs=1,
            batch_size=3,
        )
        for _ in pipeline.run(find_photos([library]), lambda: False):
            pass


def embed_library_until_killed(library: Path, index_path: Path, ready: Any) -> None:
    embed_library(library, index_path, lambda: ready.send_bytes(b""))


def embed_library_until(library: Path, index_path: Path, function: str, calls: int) -> None:
    """Embed, and die at a call of `function`, before it does anything."""
    owner: Any = Index if function == "note_change" else os
    real, left = getattr(owner, function), calls

    def deadly(*given: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **options)

    setattr(owner, function, deadly)
    embed_library(library, index_path)


@pytest.fixture(scope="module")
def processes() -> Any:
    """Makes processes by forking one that has loaded all that is needed, and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture
def library(make_photo: Callable[..., Path]) -> Path:
    for number in range(PHOTOS):
        # Of each size there is one, so that no two photos have one content.
        make_photo(f"{number:03}.jpg", ["red", "lime", "blue"][number % 3], size=(8 + number, 8))
    return make_photo("000.jpg").parent


@pytest.fixture
def expected(library: Path, tmp_path: Path) -> dict[str, bytes]:
    """What each photo of the library is to become."""
    copy, index_path = tmp_path / "copy", tmp_path / "copy.sqlite3"
    shutil.copytree(library, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "_stamp", lambda model_name: STAMP)
        embed_library(copy, index_path)
    return contents(copy)


def check_old_or_new(library: Path, before: dict[str, bytes], expected: dict[str, bytes]) -> int:
    """Check that each photo is whole, and return how many have their tags."""
    now = {name: data for name, data in contents(library).items() if not name.startswith(UNFINISHED_PREFIX)}
    assert now.keys() == before.keys()
    assert [name for name, data in now.items() if data not in (before[name], expected[name])] == []
    return sum(data == expected[name] for name, data in now.items())


def check_all_is_well_in_the_end(scan: Callable[..., Result], library: Path, index_path: Path) -> None:
    """A whole run after the dead ones, then one with nothing to do."""
    result = scan(library, "--write", "embed")
    assert (result.exit_code, unfinished(library)) == (0, []), result.stderr
    with closing(sqlite3.connect(index_path)) as connection:
        known = {
            os.fsdecode(path): facts for path, *facts in connection.execute("SELECT path, size, mtime_ns FROM photos")
        }
    assert known == {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in library.iterdir()}
    again = scan(library, "--write", "embed", "--format", "json")
    assert {one["status"] for one in lines(again)} == {"unchanged"}


def test_a_run_that_is_killed_at_any_moment_harms_no_photo(
    scan: Callable[..., Result], library: Path, expected: dict[str, bytes], tmp_path: Path, processes: Any
) -> None:
    before, index_path, moments = contents(library), tmp_path / "index.sqlite3", random.Random(9)
    times = {name: (library / name).stat().st_mtime_ns for name in before}
    tagged = [0]
    for _ in range(KILLS):
        if tagged[-1] == PHOTOS:  # a fast disk: once more from the beginning
            for name, data in before.items():
                (library / name).write_bytes(data)
                os.utime(library / name, ns=(times[name], times[name]))
            tagged.append(0)
        ready, theirs = processes.Pipe(duplex=False)
        process = processes.Process(target=embed_library_until_killed, args=(library, index_path, theirs))
        process.start()
        theirs.close()
        ready.recv_bytes()
        time.sleep(moments.uniform(0, 0.06))
        process.kill()
        process.join()
        now = check_old_or_new(library, before, expected)
        assert now >= tagged[-1]
        tagged.append(now)
    assert len(set(tagged)) > 5, "the kills came before any work, or after all of it"
    check_all_is_well_in_the_end(scan, library, index_path)
    assert {name: (library / name).stat().st_mtime_ns for name in before} == times
    assert phototag("untag", "--index", index_path, library).exit_code == 0
    assert contents(library) == before


@pytest.mark.parametrize(
    ("function", "calls"),
    # Of each photo's file, and then of the folder once for all of them.
    [(one, 1) for one in ("chmod", "note_change", "utime", "replace")] + [("fsync", number) for number in range(4)],
)
def test_a_run_that_is_killed_at_each_step_harms_no_photo(
    scan: Callable[..., Result],
    make_photo: Callable[..., Path],
    tmp_path: Path,
    processes: Any,
    function: str,
    calls: int,
) -> None:
    library, index_path = make_photo("a.jpg").parent, tmp_path / "index.sqlite3"
    make_photo("b.jpg", "lime")
    make_photo("c.jpg", "blue")
    before = contents(library)
    process = processes.Process(target=embed_library_until, args=(library, index_path, function, calls))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    changed = sorted(name for name, data in before.items() if (library / name).read_bytes() != data)
    assert changed == ["a.jpg", "b.jpg", "c.jpg"][:calls]
    # Before the photo is in its place there is another file, and from then on there is none.
    assert len(unfinished(library)) == ((function, calls) != ("fsync", 3))
    check_all_is_well_in_the_end(scan, library, index_path)
    assert phototag("untag", "--index", index_path, library).exit_code == 0
    assert contents(library) == before


def test_what_a_living_run_is_writing_is_not_removed(
    scan: Callable[..., Result], make_photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("a.jpg")
    real = os.fsync
    seen = []

    def while_another_run_begins(descriptor: int) -> None:
        if temporary := unfinished(photo.parent):
            assert phototag("untag", "--index", photo.parent.parent / "other.sqlite3", photo.parent).exit_code == 0
            seen.append(unfinished(photo.parent) == temporary)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", while_another_run_begins)
    assert scan(photo, "--write", "embed").exit_code == 0
    assert seen == [True]


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


def embed(index: Index, photo: Photo) -> Written:
    return EmbedWriter("toy", index).write(photo, TAGS, ())


def names_in(path: Path) -> tuple[str, ...] | None:
    return xmp.read(path.read_bytes()).subject


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


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
@pytest.mark.parametrize("fault", [Path.unlink, lambda path: (path.unlink(), os.mkfifo(path))], ids=["gone", "pipe"])
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
    found = list(find_photos([make_photo("a.jpg")]))
    path = found[0].path
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PhotoError):
        look(path, lambda _: False)


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


# --- Hostile photos and journals --------------------------------------------------------------------------------------


def seeds() -> dict[str, bytes]:
    """Whole photos of each format, with all the blocks that they can hold."""
    iptc = resource(0x404, dataset(2, 25, b"bird") + dataset(2, 120, b"a caption"))
    tiff = io.BytesIO()
    with Image.open(io.BytesIO(image("TIFF"))) as page:
        page.save(tiff, "TIFF", save_all=True, append_images=[page], tiffinfo={700: PACKET, 315: "somebody"})
    return {
        "JPEG": jpeg(exif_segment(exif_block()), xmp_segment(), photoshop_segment(iptc)),
        "JPEG with MPF": mpf_photo(exif_segment(exif_block(">", "a;b".encode("utf-16-le")))),
        "PNG": png(xmp_text(compressed=True), png_chunk(b"eXIf", exif_block())),
        "WebP": image("WEBP", xmp=PACKET, exif=exif_block()),
        "WebP without": image("WEBP"),
        "TIFF": tiff.getvalue(),
    }


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some bytes of `data` changed: bits, whole numbers, pieces that go, come twice or trade places."""
    content = bytearray(data)
    # Where the lengths and offsets are: the image data in between is not read.
    interesting = [at for at in range(len(content)) if at < 1500 or at > len(content) - 200]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, length = chance.choice(interesting) % max(len(content), 1), chance.choice((1, 2, 4, 12, 60))
        kind = chance.randrange(6)
        if kind == 0:
            content[at : at + 1] = bytes([content[at] ^ 1 << chance.randrange(8)]) if content else b""
        elif kind == 1:
            content[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"<", b"\x80")) * length
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length]
        elif kind == 4:
            other = chance.choice(interesting) % max(len(content), 1)
            content[at : at + length] = content[other : other + length]
        else:
            del content[at if at > 40 else 40 :]
    return bytes(content)


@pytest.mark.parametrize("kind", seeds())
def test_a_hostile_photo_is_refused_or_its_change_proven(kind: str) -> None:
    seed, chance = seeds()[kind], random.Random(kind)
    written = refused = 0
    for _ in range(MUTATIONS):
        data = mutated(seed, chance)
        try:
            rewriting = rewrite.with_tags(data, TAGS, STAMP)
            after = applied(data, rewriting.edits)
            rewrite.prove(data, after, rewriting)
        except Unwritable:
            refused += 1
            continue
        written += 1
        assert applied(after, unpacked(packed(inverse(rewriting.edits)), after)) == data
        # What is kept stands there in its order, and what was added says so.
        assert {"red", "Ö", "日本"} <= set(rewrite.read_keywords(after).subject or ())
        # And by what the photo itself says, the tags go again.
        left = rewrite.read_keywords(applied(after, rewrite.without_tags(after).edits))
        assert left == rewrite.read_keywords(data)
    assert min(written, refused) > MUTATIONS // 20


MUTATIONS = 400


def bomb(length: int) -> bytes:
    return zlib.compress(b"[[0, 0, %d]]\n" % length + bytes(length))


DAMAGED = {
    "nothing": b"",
    "noise": random.Random(1).randbytes(300),
    "no JSON": zlib.compress(b"\xff\xfe\n"),
    "deep": zlib.compress(b"[" * 500_000 + b"\n"),
    "many": zlib.compress(b"[" + b"[0,0,0]," * 3_000_000 + b"[0,0,0]]\n"),
    "a bomb": bomb(1 << 29),
    "cut short": packed((Edit(0, b"", b"abc"),))[:-3],
    "negative": zlib.compress(b"[[-5, 3, 2]]\nab"),
    "negative length": zlib.compress(b"[[9, -4, 0]]\n"),
    "beyond the end": zlib.compress(b"[[5, 99999999, 0]]\n"),
    "overlapping": zlib.compress(b"[[5, 4, 0], [6, 1, 0]]\n"),
    "backwards": zlib.compress(b"[[5, 1, 0], [0, 1, 0]]\n"),
    "too little": zlib.compress(b"[[0, 0, 5]]\nabc"),
    "too much": zlib.compress(b"[[0, 0, 2]]\nabc"),
    "no numbers": zlib.compress(b'[["a", "b", "c"]]\n'),
    "no list": zlib.compress(b"5\n"),
    "floats": zlib.compress(b"[[0.0, 1.0, 0.0]]\n"),
    "not a number": zlib.compress(b"[[NaN, 0, 0]]\n"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_journal_is_no_crash_and_the_photo_itself_tells(
    index: Index, make_photo: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    photo = make_photo("a.jpg")
    before = photo.read_bytes()
    embed(index, photo_at(photo))
    with closing(sqlite3.connect(tmp_path / "index.sqlite3")) as connection, connection:
        assert connection.execute("UPDATE journal SET undo = ?", (DAMAGED[kind],)).rowcount == 1
    assert untag(photo, index) == (photo,)
    assert photo.read_bytes() == before


@pytest.mark.parametrize("undo", ["text", 5, 1.5, None])
def test_a_journal_of_another_kind_of_value_is_no_crash(
    index: Index, make_photo: Callable[..., Path], tmp_path: Path, undo: object
) -> None:
    photo = make_photo("a.jpg")
    before = photo.read_bytes()
    embed(index, photo_at(photo))
    with closing(sqlite3.connect(tmp_path / "index.sqlite3")) as connection, connection:
        connection.execute("UPDATE journal SET undo = ?", (undo,))
    assert untag(photo, index) == (photo,)
    assert photo.read_bytes() == before


@pytest.mark.parametrize("kind", ["a bomb", "many", "deep"])
def test_a_damaged_journal_costs_no_memory(kind: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"larger|recursion"):
            unpacked(DAMAGED[kind], b"0123456789")
        assert tracemalloc.get_traced_memory()[1] < 3 * edits.MAX_UNPACKED
    finally:
        tracemalloc.stop()
