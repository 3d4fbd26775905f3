from __future__ import annotations

import contextlib
import hashlib
import io
import json
import mmap
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from phototag.metadata import exif, iptc
from phototag.metadata.blocks import Blocks, BlockUnwritable, Change, Changes
from phototag.metadata.containers import read_blocks, rewrite, verify
from phototag.metadata.edits import Edit, Edits, applied, inverse
from phototag.metadata.keywords import Unwritable
from tests.helpers.photo_parts import (
    PACKET,
    app,
    dataset,
    exif_block,
    exif_segment,
    frames,
    image,
    jpeg,
    mpf_photo,
    photoshop_segment,
    png,
    png_chunk,
    resource,
    webp,
    webp_chunk,
    xmp_segment,
    xmp_text,
)

WORDS = ("bird", "日本")
JPEGS = (".jpg", ".jpeg")


def changes_of(blocks: Blocks) -> Changes:
    """Two keywords into every block that takes them; the packet only grows, since what it says is not known here."""
    xmp: Change = PACKET
    if blocks.xmp is not None:
        at = blocks.xmp.rfind(b"</rdf:RDF>")
        xmp = (Edit(at, b"", b"<!-- two words -->"),) if at >= 0 else None  # one is UTF-16
    return Changes(xmp, _exif_change(blocks), _iptc_change(blocks))


def _exif_change(blocks: Blocks) -> Change:
    if blocks.exif is None:
        return exif.create(WORDS) if blocks.can_create_exif else None
    try:
        return exif.update_xp_keywords(blocks.exif, (*(exif.read_xp_keywords(blocks.exif) or ()), *WORDS))
    except Unwritable:
        return None


def _iptc_change(blocks: Blocks) -> Edits | None:
    try:
        found = None if blocks.iptc is None else iptc.read_keywords(blocks.iptc)
        if blocks.iptc is None or found is None:
            return None
        return iptc.update_keywords(blocks.iptc, (*found, *WORDS))[0]
    except Unwritable:
        return None


def written(photo: bytes) -> bytes:
    """`photo` with all that it takes, verified. Raises `Unwritable` where it takes nothing."""
    data = memoryview(photo)
    changes = changes_of(read_blocks(data))
    while True:
        try:
            edits = rewrite(data, changes)
            break
        except BlockUnwritable as error:
            is_exif = error.block == "exif"
            changes = Changes(changes.xmp, None if is_exif else changes.exif, changes.iptc if is_exif else None)
    after = applied(data, edits)
    verify(data, after, changes)
    assert applied(after, inverse(edits)) == photo
    return after


# --- By content -------------------------------------------------------------------------------------------------------


def brand(major: bytes, *compatible: bytes) -> bytes:
    box = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (len(box) + 4).to_bytes(4, "big") + box + b"\0\0\0\x08avif"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (image("GIF"), "GIF files"),
        (image("BMP"), "BMP files"),
        (brand(b"heic", b"mif1"), "HEIC files"),
        (brand(b"mif1", b"heic"), "HEIC files"),
        (brand(b"mif1", b"avif"), "AVIF files"),
        (brand(b"avis"), "AVIF files"),
        (brand(b"crx ", b"isom"), "RAW files"),
        (brand(b"mp42", b"isom"), "files of its kind"),
        (b"\xff\x0a" + bytes(20), "JPEG XL files"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL files"),
        (b"II+\0\x08\0\0\0" + bytes(20), "BigTIFF files"),
        (b"MM\0+\0\x08\0\0" + bytes(20), "BigTIFF files"),
        (b"IIRO\x08\0\0\0", "RAW files"),
        (b"RIFF\x04\0\0\0WAVE", "files of its kind"),
        (b"hello", "files of its kind"),
        (b"", "files of its kind"),
    ],
)
def test_other_formats_are_named_and_refused(data: bytes, name: str) -> None:
    for photo in (data, memoryview(data)):
        with pytest.raises(Unwritable, match=f"^{name} are not written into$"):
            read_blocks(photo)


def test_a_big_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    start = image("JPEG")
    path.write_bytes(start[:-2] + b"\x55" * (64 << 20) + start[-2:])
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        tracemalloc.start()
        try:
            with memoryview(mapped) as data:
                changes = changes_of(read_blocks(data))
                edits = rewrite(data, changes)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 1 << 20
    assert [edit.removed for edit in edits] == [b"", b""]


# --- The net ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photo", [jpeg(app(5, b"abc")), png(), image("WEBP"), image("TIFF")])
def test_verify_sees_a_packet_that_is_not_as_written_and_any_other_change(photo: bytes) -> None:
    changes = Changes(PACKET)
    edits = rewrite(photo, changes)
    verify(photo, applied(photo, edits), changes)
    for other in (Changes(), Changes(PACKET + b" ")):
        with pytest.raises(Unwritable, match="read back"):
            verify(photo, applied(photo, edits), other)
    with pytest.raises(Unwritable, match="read back"):
        verify(photo, applied(photo, rewrite(photo, Changes(PACKET + b" "))), changes)
    at = photo.rindex(photo[len(photo) // 2 : len(photo) // 2 + 4])
    after = bytearray(applied(photo, edits))
    at = bytes(after).rindex(photo[at : at + 4])
    after[at] ^= 1
    with pytest.raises(Unwritable):
        verify(photo, bytes(after), changes)


def test_verify_sees_what_is_gone_moved_or_of_another_format() -> None:
    one, two = app(5, b"one"), app(6, b"two")
    photo = jpeg(one, two)
    for after in (jpeg(one), jpeg(two, one), jpeg(one, two, two), jpeg(one, two, trailer=b"\0"), png()):
        with pytest.raises(Unwritable, match="more than"):
            verify(photo, after, Changes())
    with pytest.raises(Unwritable, match="read back"):
        verify(photo, applied(photo, rewrite(photo, Changes(PACKET))), Changes())


# --- Real photos ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real_photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """Copies of the real photos before and after writing, and why the others were refused."""
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    refused: dict[str, str] = {}
    for path in sorted((shared / "photos").rglob("*")):
        name = str(path.relative_to(shared / "photos"))
        if not path.is_file() or path.suffix in (".json", ".tsv"):
            continue
        try:
            result = written(path.read_bytes())
        except Unwritable as error:
            refused[name] = str(error)
            continue
        for directory, content in ((before, path.read_bytes()), (after, result)):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
    return before, after, refused


def photos_below(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())


def test_nearly_every_real_jpeg_is_written_into(real_photos: tuple[Path, Path, dict[str, str]]) -> None:
    _, after, refused = real_photos
    count = sum(path.suffix.lower() in JPEGS for path in photos_below(after))
    assert count > 700
    assert sum(name.lower().endswith(JPEGS) for name in refused) <= 0.05 * count
    # Every PNG, WebP and TIFF, none of the others.
    others = {".avif", ".cr2", ".dng", ".gif", ".heic", ".heif", ".jxl"}
    assert {Path(name).suffix.lower() for name in refused} == {".jpg", *others}
    assert refused["camera/exiftool/AFCP.jpg"] == "unknown data follow its image"


@pytest.mark.slow
@pytest.mark.needs_exiftool
def test_the_judge_finds_no_damage(shared: Path, real_photos: tuple[Path, Path, dict[str, str]]) -> None:
    before, after, _ = real_photos
    judge = subprocess.run(
        [sys.executable, os.fspath(shared / "checks" / "photo_damage.py"), before, after],
        capture_output=True,
        text=True,
    )
    assert judge.returncode == 0, judge.stdout + judge.stderr
    summary = json.loads(judge.stdout.splitlines()[-1])
    assert summary["damaged"] == 0
    assert summary["compared"] == summary["rewritten"] == sum(1 for _ in photos_below(after)) > 700


@pytest.mark.needs_exiftool
def test_exiftool_reads_the_keywords(real_photos: tuple[Path, Path, dict[str, str]]) -> None:
    _, after, _ = real_photos
    command = ["exiftool", "-config", "", "-json", "-G1", "-XPKeywords", "-IPTC:Keywords", "-XMP-dc:Subject"]
    run = subprocess.run([*command, *map(str, (after / "formats", after / "camera" / "exiftool"))], capture_output=True)
    tags = {Path(photo["SourceFile"]).name: photo for photo in json.loads(run.stdout)}
    assert tags["Canon.jpg"]["IFD0:XPKeywords"] == "bird;日本"
    assert tags["Canon.jpg"]["XMP-dc:Subject"] == "bird"
    assert tags["IPTC.jpg"]["IPTC:Keywords"][-2:] == list(WORDS)
    assert tags["density_plot.png"]["XMP-dc:Subject"] == "bird"
    assert tags["denali.webp"]["SourceFile"]


# --- Mutations --------------------------------------------------------------------------------------------------------

DATASETS = dataset(2, 0, b"\0\4") + dataset(2, 25, b"a") + dataset(2, 120, b"text")
IRB = resource(0x0404, DATASETS) + resource(0x0425, hashlib.md5(DATASETS).digest())
BLOCK = exif_block("<", b"a\0;\0b\0\0\0")
SAMPLES = {
    "JPEG": mpf_photo(exif_segment(BLOCK), xmp_segment(), photoshop_segment(IRB), app(11, b"JP\0\1"), trailer=bytes(4)),
    "plain JPEG": jpeg(),
    "PNG": png(xmp_text(compressed=True), png_chunk(b"tEXt", b"Title\0x")),
    "plain PNG": png(),
    "WebP": webp(image("WEBP", exif=b"Exif\0\0" + BLOCK[:40]), webp_chunk(b"XMP ", PACKET)),
    "plain WebP": image("WEBP", lossless=True),
    "TIFF": image("TIFF", save_all=True, append_images=[Image.new("L", (3, 3))], tiffinfo={700: PACKET}),
    "plain TIFF": image("TIFF", "L"),
}


def mutated(photo: bytes, chance: random.Random) -> bytes:
    data = bytearray(photo)
    for _ in range(chance.choice((1, 1, 2, 4))):
        # Headers lie at the start and, in some formats, at the end.
        at = chance.randrange(min(len(data), chance.choice((32, 64, 256, len(data)))))
        at = chance.choice((at, at, at, len(data) - 1 - at))
        size = chance.choice((1, 1, 2, 4, 30))
        kind = chance.randrange(6)
        if kind < 2:
            data[at] = chance.choice((0, 1, 0xFF, data[at] ^ 1 << chance.randrange(8), chance.randrange(256)))
        elif kind == 2:
            data[at : at + size] = chance.choice((b"\0", b"\xff")) * size
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = data[at : at + size]
        else:
            other = chance.randrange(len(data))
            data[at : at + size] = data[other : other + size]
        if not data:
            break
    return bytes(data[: chance.randrange(len(data) + 1)]) if chance.random() < 0.05 else bytes(data)


def decoded(photo: bytes) -> object:
    try:
        return frames(photo)
    except (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    except Exception as error:  # Pillow is not what is tested here
        return type(error)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_whatever_the_bytes_only_a_refusal_or_a_sound_photo_comes_out(name: str) -> None:
    chance = random.Random(name)
    count = 0
    for _ in range(1500):
        photo = mutated(SAMPLES[name], chance)
        try:
            after = written(photo)
        except Unwritable:
            continue
        count += 1
        before = decoded(photo)
        assert before is None or isinstance(before, type) or decoded(after) == before
    assert 30 < count < 1500


@pytest.mark.parametrize("name", SAMPLES)
def test_a_photo_that_is_cut_is_refused(name: str) -> None:
    photo = SAMPLES[name]
    # Nothing says that padding is missing, or an image of which only the MPF segment is left.
    whole = {"JPEG": {-4, -3, -2, -1, -4 - len(image("JPEG", quality=30))}, "TIFF": {-1}}.get(name, set())
    accepted = set()
    for size in range(len(photo)):
        with contextlib.suppress(Unwritable):
            written(photo[:size])
            accepted.add(size - len(photo))
    assert accepted == whole


def test_random_bytes_behind_a_good_start_are_refused_or_written_well() -> None:
    chance = random.Random(5)
    starts = (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"RIFF\x58\0\0\0WEBPVP8X",
        b"II*\0\x08\0\0\0\1\0",
        b"MM\0*\0\0\0\x08",
    )
    for number in range(3000):
        start = starts[number % len(starts)]
        with pytest.raises(Unwritable):
            written((start + chance.randbytes(96 - len(start)))[: chance.randint(len(start), 96)])


def test_pillow_reads_what_was_written() -> None:
    for name, photo in SAMPLES.items():
        after = written(photo)
        with Image.open(io.BytesIO(after)) as opened:
            opened.load()
            packet = opened.info.get("xmp") or getattr(opened, "tag_v2", {}).get(700)
            assert packet is not None, name
            assert b"bird" in (packet.encode() if isinstance(packet, str) else packet)
