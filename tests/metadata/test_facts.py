"""When, where and with which camera a photo was taken, as its EXIF block says."""

from __future__ import annotations

import datetime
import io
import json
import random
import shutil
import struct
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import piexif
import pillow_heif
import pytest
from PIL import Image

from phototag.metadata.facts import Facts, read_facts
from tests.helpers.photo_parts import exif_block, exif_segment, ifd, image, jpeg, png, png_chunk, webp
from tests.helpers.program import lines, phototag

MUNICH = {
    piexif.GPSIFD.GPSLatitudeRef: b"N",
    piexif.GPSIFD.GPSLatitude: ((48, 1), (8, 1), (1392, 100)),
    piexif.GPSIFD.GPSLongitudeRef: b"E",
    piexif.GPSIFD.GPSLongitude: ((11, 1), (34, 1), (3216, 100)),
}
TIMES = {piexif.ExifIFD.DateTimeOriginal: b"2019:06:01 12:03:04", piexif.ExifIFD.OffsetTimeOriginal: b"+02:00"}
LENS = {piexif.ExifIFD.LensModel: b"iPhone 12 back camera 4.2mm f/1.6"}
PHONE = {piexif.ImageIFD.Make: b"Apple", piexif.ImageIFD.Model: b"iPhone 12"}
TAKEN = datetime.datetime(2019, 6, 1, 12, 3, 4)
ZONE = datetime.timezone(datetime.timedelta(hours=2))
FACTS = Facts(TAKEN, ZONE, 48.1372, 11.5756, "Apple iPhone 12", "iPhone 12 back camera 4.2mm f/1.6")
EMPTY = Facts()


def block(
    first: dict[int, Any] | None = None, exif: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> bytes:
    """An EXIF block, from its byte order mark on."""
    dumped: bytes = piexif.dump({"0th": first or {}, "Exif": exif or {}, "GPS": gps or {}})
    return dumped.removeprefix(b"Exif\0\0")


def facts_in(exif: bytes) -> Facts | None:
    return read_facts(jpeg(exif_segment(exif)))


def rounded(facts: Facts | None) -> Facts:
    assert facts is not None and facts.latitude is not None and facts.longitude is not None
    place = round(facts.latitude, 6), round(facts.longitude, 6)
    return Facts(facts.taken, facts.zone, *place, facts.camera, facts.lens)


FULL = block(PHONE, {**TIMES, **LENS}, MUNICH)


def tiff_photo(exif: bytes = FULL) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(image("TIFF"))) as opened:
        opened.save(file, "TIFF", exif=exif)
    return file.getvalue()


def heic_photo(exif: bytes = FULL) -> bytes:
    pillow_heif.register_heif_opener()
    return image("HEIF", exif=b"Exif\0\0" + exif)


PHOTOS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: jpeg(exif_segment(FULL)),
    "JPEG with something behind it": lambda: jpeg(exif_segment(FULL), trailer=b"unknown"),
    "signed JPEG": lambda: jpeg(exif_segment(FULL)).replace(b"\xff\xdb", b"\xff\xeb\0\x0eJPjumbc2pa\0\0\xff\xdb", 1),
    "PNG": lambda: png(png_chunk(b"eXIf", FULL)),
    "PNG with the block at its end": lambda: png(behind=(png_chunk(b"eXIf", FULL),)),
    "WebP": lambda: webp(image("WEBP", exif=b"Exif\0\0" + FULL)),
    "WebP with a bare block": lambda: webp(image("WEBP", exif=FULL)),
    "TIFF": tiff_photo,
    "HEIC": heic_photo,
}


@pytest.mark.parametrize("kind", PHOTOS)
def test_the_facts_of_every_kind_of_photo(kind: str, tmp_path: Path) -> None:
    data = PHOTOS[kind]()
    assert rounded(read_facts(data)) == FACTS
    path = tmp_path / "photo"
    path.write_bytes(data)
    assert rounded(read_facts(path)) == FACTS
    assert path.read_bytes() == data


def test_a_photo_without_facts(tmp_path: Path) -> None:
    assert read_facts(jpeg()) is None
    assert read_facts(image("GIF")) is None
    assert read_facts(png()) is None
    assert read_facts(webp(image("WEBP"))) is None
    assert read_facts(image("TIFF")) == EMPTY
    assert facts_in(block()) == EMPTY
    assert read_facts(b"") is None
    assert read_facts(tmp_path / "none.jpg") is None
    assert read_facts(tmp_path) is None


def test_big_endian_blocks_are_read() -> None:
    fields = [(0x10F, 2, 6, b"Maker\0"), (0x110, 2, 4, b"One\0")]
    assert facts_in(b"MM\0*\0\0\0\x08" + ifd(">", 8, fields)) == Facts(camera="Maker One")


def test_a_text_without_the_nul_at_its_end_is_read_whole() -> None:
    fields = [(0x10F, 2, 5, b"Maker"), (0x110, 2, 3, b"One")]
    assert facts_in(b"II*\0\x08\0\0\0" + ifd("<", 8, fields)) == Facts(camera="Maker One")


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 80D", "Canon EOS 80D"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("NIKON CORPORATION", "NIKON D70", "NIKON D70"),
        ("EASTMAN KODAK COMPANY", "KODAK DC210 ZOOM (V05.00)", "KODAK DC210 ZOOM (V05.00)"),
        ("SONY", "Sony DSC-F828", "Sony DSC-F828"),
        ("Canon", "Canonet", "Canon Canonet"),
        ("  FUJIFILM  ", "X100 \n\x07 F", "FUJIFILM X100 F"),
        ("Maker", "", "Maker"),
        ("", "One", "One"),
        ("", "  ", None),
        ("Jürgen", "Ⅱ", "Jürgen Ⅱ"),
        ("x" * 300, "", "x" * 200),
    ],
)
def test_the_camera_is_make_and_model_without_repetition(make: str, model: str, camera: str | None) -> None:
    first = {piexif.ImageIFD.Make: make.encode(), piexif.ImageIFD.Model: model.encode()}
    assert facts_in(block(first)) == Facts(camera=camera)


def test_text_that_is_not_utf_8_is_read_as_latin_1() -> None:
    assert facts_in(block({piexif.ImageIFD.Make: b"J\xfcrgen"})) == Facts(camera="Jürgen")


@pytest.mark.parametrize(
    ("original", "digitized", "taken"),
    [
        (b"2019:06:01 12:03:04", b"2020:01:01 00:00:00", TAKEN),
        (b"2019-06-01T12:03:04", None, TAKEN),
        (b"0000:00:00 00:00:00", b"2019:06:01 12:03:04", TAKEN),
        (b"    :  :     :  :  ", b"2019:06:01 12:03:04", TAKEN),
        (None, b"2019:06:01 12:03:04", TAKEN),
        (b"2019:02:30 12:03:04", None, None),
        (b"2019:06:01 24:00:00", None, None),
        (b"2019:06:01", None, None),
        (b"\xd9\xa2\xd9\xa0", None, None),
        (b"", None, None),
    ],
)
def test_the_time_is_that_of_the_photo_or_else_of_its_digitization(
    original: bytes | None, digitized: bytes | None, taken: datetime.datetime | None
) -> None:
    tags = {piexif.ExifIFD.DateTimeOriginal: original, piexif.ExifIFD.DateTimeDigitized: digitized}
    exif = {tag: value for tag, value in tags.items() if value is not None}
    # The time of the last change is not the time of the photo.
    assert facts_in(block({piexif.ImageIFD.DateTime: b"2021:01:01 00:00:00"}, exif)) == Facts(taken)


@pytest.mark.parametrize(
    ("offset", "zone"),
    [
        (b"+02:00", ZONE),
        (b"-03:30", datetime.timezone(-datetime.timedelta(hours=3, minutes=30))),
        (b"+00:00", datetime.timezone.utc),
        (b"Z", datetime.timezone.utc),
        (b"+14:00", datetime.timezone(datetime.timedelta(hours=14))),
        (b"+15:00", None),
        (b"-99:99", None),
        (b"   :  ", None),
        (b"CEST", None),
    ],
)
def test_the_zone_is_that_of_the_time(offset: bytes, zone: datetime.timezone | None) -> None:
    times = {**TIMES, piexif.ExifIFD.OffsetTimeOriginal: offset, piexif.ExifIFD.OffsetTimeDigitized: b"+05:00"}
    assert facts_in(block(exif=times)) == Facts(TAKEN, zone)
    del times[piexif.ExifIFD.DateTimeOriginal]
    times[piexif.ExifIFD.DateTimeDigitized] = b"2019:06:01 12:03:04"
    assert facts_in(block(exif=times)) == Facts(TAKEN, datetime.timezone(datetime.timedelta(hours=5)))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({}, (48.1372, 11.5756)),
        ({piexif.GPSIFD.GPSLatitudeRef: b"S", piexif.GPSIFD.GPSLongitudeRef: b"W"}, (-48.1372, -11.5756)),
        ({piexif.GPSIFD.GPSLatitudeRef: b"south"}, (-48.1372, 11.5756)),
        ({piexif.GPSIFD.GPSLatitude: ((90, 1), (0, 1), (0, 1))}, (90, 11.5756)),
        ({piexif.GPSIFD.GPSLatitude: ((481372, 10000),)}, (48.1372, 11.5756)),
        ({piexif.GPSIFD.GPSLatitude: ((0, 1), (0, 1), (0, 1))}, (0, 11.5756)),
        ({piexif.GPSIFD.GPSLatitude: ((90, 1), (0, 1), (1, 1))}, None),
        ({piexif.GPSIFD.GPSLongitude: ((180, 1), (1, 1), (0, 1))}, None),
        ({piexif.GPSIFD.GPSLatitude: ((48, 1), (8, 1), (0, 0))}, None),
        ({piexif.GPSIFD.GPSLatitude: ((0, 0), (0, 0), (0, 0))}, None),
        ({piexif.GPSIFD.GPSLatitude: ((48, 1), (8, 1), (1, 1), (1, 1))}, None),
        ({piexif.GPSIFD.GPSLatitudeRef: b"X"}, None),
        ({piexif.GPSIFD.GPSLatitudeRef: b""}, None),
        ({piexif.GPSIFD.GPSLatitude: None}, None),
        ({piexif.GPSIFD.GPSLongitudeRef: None}, None),
        # What cameras write that have no fix.
        (dict.fromkeys((piexif.GPSIFD.GPSLatitude, piexif.GPSIFD.GPSLongitude), ((0, 1), (0, 1), (0, 1))), None),
    ],
)
def test_a_place_is_whole_and_on_earth_or_unknown(change: dict[int, Any], place: tuple[float, float] | None) -> None:
    gps = {tag: value for tag, value in {**MUNICH, **change}.items() if value is not None}
    facts = facts_in(block(gps=gps))
    if place is None:
        assert facts == EMPTY
    else:
        assert (rounded(facts).latitude, rounded(facts).longitude) == place


def test_fields_of_other_types_are_left_out() -> None:
    fields = [(0x10F, 4, 1, b"\1\0\0\0"), (0x110, 2, 4, b"One\0"), (0x8769, 2, 4, b"abcd"), (0x9C9E, 99, 1, b"\0")]
    assert facts_in(b"II*\0\x08\0\0\0" + ifd("<", 8, fields)) == Facts(camera="One")


# --- Hostile blocks ---------------------------------------------------------------------------------------------------


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(changed))
        changed[at] = chance.choice([0, 1, 2, 4, 5, 0x7F, 0xFF, chance.randrange(256)])
    return bytes(changed[: chance.choice([len(changed), chance.randrange(len(changed))])])


@pytest.mark.parametrize("order", "<>")
def test_a_hostile_block_gives_facts_or_nothing(order: str) -> None:
    chance = random.Random(4)
    originals = [FULL, exif_block(order)]
    found = [facts_in(mutated(chance.choice(originals), chance)) for _ in range(400)]
    assert {type(one) for one in found} == {Facts, type(None)}
    for facts in filter(None, found):
        assert (facts.latitude is None) == (facts.longitude is None)
        assert facts.latitude is None or abs(facts.latitude) <= 90
        assert facts.longitude is None or abs(facts.longitude) <= 180


@pytest.mark.parametrize("kind", PHOTOS)
def test_a_hostile_photo_gives_facts_or_nothing(kind: str) -> None:
    chance, data = random.Random(5), PHOTOS[kind]()
    for _ in range(60):
        facts = read_facts(mutated(data, chance))
        assert facts is None or isinstance(facts, Facts)


@pytest.mark.parametrize("kind", range(13))
def test_a_count_that_is_a_lie_costs_no_memory(kind: int) -> None:
    """piexif alone makes a format of as many letters as a field claims to have values."""
    field = struct.pack("<HHII", 0x10F, kind, 0xFFFFFFFF, 8)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 60) + 60 * field + bytes(4)
    photo = jpeg(exif_segment(exif))
    tracemalloc.start()
    try:
        assert read_facts(photo) == EMPTY
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_directories_that_lead_to_each_other_end() -> None:
    pointers = [(0x8769, 4, 1, struct.pack("<I", 8)), (0x8825, 4, 1, struct.pack("<I", 8))]
    assert facts_in(b"II*\0\x08\0\0\0" + ifd("<", 8, [(0x10F, 2, 4, b"One\0"), *pointers], 8)) == Facts(camera="One")
    for at in (0, 7, 0xFFFF, 0xFFFFFFFF):
        exif = b"II*\0" + struct.pack("<I", at) + ifd("<", 8, pointers)
        assert facts_in(exif) == EMPTY


# --- Real photos ------------------------------------------------------------------------------------------------------


def test_the_facts_of_camera_photos_are_those_that_exiftool_reads(shared: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("needs exiftool")
    command = ["exiftool", "-config", "", "-json", "-n", "-r", "-ext", "*", "-G1"]
    tags = ["-EXIF:all", "-Composite:GPSLatitude", "-Composite:GPSLongitude"]
    run = subprocess.run([*command, *tags, str(shared / "photos/camera")], capture_output=True, check=True)
    listed: list[dict[str, Any]] = json.loads(run.stdout)
    assert len(listed) > 100
    counts = dict.fromkeys(("taken", "place", "camera", "zone", "lens"), 0)
    for said in listed:
        facts = read_facts(Path(said["SourceFile"])) or EMPTY
        names = [said.get(f"IFD0:{name}") for name in ("Make", "Model")]
        assert (facts.camera is None) == (not any(names)), said["SourceFile"]
        for words in filter(None, names):
            assert facts.camera is not None and set(str(words).split()) & set(facts.camera.split())
        assert names[1] is None or " ".join(str(names[1]).split()) in str(facts.camera)
        assert facts.taken == exiftool_time(said), said["SourceFile"]
        zone = said.get("ExifIFD:OffsetTimeOriginal")
        assert zone == (facts.zone and f"{datetime.datetime(2000, 1, 1, tzinfo=facts.zone):%z}"[:3] + ":00")
        place = [said.get(f"Composite:GPS{name}") for name in ("Latitude", "Longitude")]
        is_known = all(isinstance(one, int | float) for one in place)  # exiftool prints an empty text for 0/0
        assert [facts.latitude, facts.longitude] == (pytest.approx(place) if is_known else [None, None])
        assert facts.lens == said.get("ExifIFD:LensModel")
        counts["taken"] += facts.taken is not None
        counts["place"] += facts.latitude is not None
        for name in ("camera", "zone", "lens"):
            counts[name] += getattr(facts, name) is not None
    assert counts["taken"] > 80 and counts["camera"] > 80 and counts["place"] > 3, counts
    assert counts["zone"] > 0 and counts["lens"] > 0


def exiftool_time(said: dict[str, Any]) -> datetime.datetime | None:
    for name in ("DateTimeOriginal", "CreateDate"):
        try:
            return datetime.datetime.strptime(str(said.get(f"ExifIFD:{name}"))[:19], "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
    return None


# --- `phototag show` --------------------------------------------------------------------------------------------------


def test_show_prints_the_facts(make_photo: Callable[..., Path]) -> None:
    path = make_photo("a.jpg")
    assert phototag("show", path).stdout == f"{path}\n  no keywords\n"
    nothing = dict.fromkeys(("taken", "zone", "latitude", "longitude", "camera", "lens"))
    assert lines(phototag("show", "--format", "json", path))[0]["facts"] == nothing
    path.write_bytes(jpeg(exif_segment(FULL)))
    assert phototag("show", path).stdout.splitlines() == [
        str(path),
        "  no keywords",
        "  taken 2019-06-01 12:03:04 +02:00",
        "  place 48.1372, 11.5756",
        "  camera Apple iPhone 12",
        "  lens iPhone 12 back camera 4.2mm f/1.6",
    ]
    assert lines(phototag("show", "--format", "json", path))[0]["facts"] == {
        "taken": "2019-06-01T12:03:04",
        "zone": "+02:00",
        "latitude": 48.1372,
        "longitude": 11.5756,
        "camera": "Apple iPhone 12",
        "lens": "iPhone 12 back camera 4.2mm f/1.6",
    }
    path.write_bytes(jpeg(exif_segment(block(exif={piexif.ExifIFD.DateTimeOriginal: b"2019:06:01 12:03:04"}))))
    assert phototag("show", path).stdout.splitlines()[2:] == ["  taken 2019-06-01 12:03:04"]
