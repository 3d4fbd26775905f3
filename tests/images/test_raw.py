"""Camera RAW files, through the preview in them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from phototag.core import Photo, SkippedFile
from phototag.errors import PhotoError
from phototag.photos.find import find_photos
from phototag.photos.kinds import reads_raw
from tests.helpers.photo_parts import dng
from tests.helpers.pictures import CORNERS, STORED, assert_corners, corners, open_image
from tests.helpers.program import lines

SENSOR = (400, 300)


@pytest.fixture(autouse=True)
def rawpy_is_there() -> None:
    pytest.importorskip("rawpy")


def preview(image: Image.Image, orientation: int | None = None) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def assert_same_corners(image: Image.Image) -> None:
    """As `assert_corners`, of a picture whose colours are those of a sensor."""
    width, height = image.size
    for place, colour in CORNERS.items():
        x = width * 3 // 4 if "right" in place else width // 4
        y = height * 3 // 4 if "bottom" in place else height // 4
        expected = np.asarray(Image.new("RGB", (1, 1), colour))[0, 0] > 127
        assert ((np.asarray(image)[y, x] > 127) == expected).all(), place


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("said", [True, False])
def test_a_preview_comes_out_upright(tmp_path: Path, orientation: int, said: bool) -> None:
    upright = corners(*(SENSOR if orientation < 5 else SENSOR[::-1]))
    stored = STORED[orientation](upright)
    assert stored.size == SENSOR
    jpeg = preview(stored, orientation if said else None)
    image = open_image(write(tmp_path / "a.dng", dng(stored, jpeg, orientation)), 200)
    assert image.size == upright.size
    assert_corners(image)


@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize(
    ("is_upright", "said"), [(True, "nothing"), (True, "upright"), (True, "turned"), (False, "upright")]
)
def test_a_preview_is_upright_whatever_it_says_of_itself(
    tmp_path: Path, orientation: int, is_upright: bool, said: str
) -> None:
    upright = corners(*SENSOR[::-1])
    stored = STORED[orientation](upright)
    own = {"nothing": None, "upright": 1, "turned": orientation}[said]
    jpeg = preview(upright if is_upright else stored, own)
    image = open_image(write(tmp_path / "a.dng", dng(stored, jpeg, orientation)), 200)
    assert image.size == upright.size
    assert_corners(image)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("jpeg", [None, preview(corners(80, 60)), b"\xff\xd8 no JPEG"])
def test_a_raw_without_a_good_preview_is_developed(tmp_path: Path, orientation: int, jpeg: bytes | None) -> None:
    upright = corners(*(SENSOR if orientation < 5 else SENSOR[::-1]))
    data = dng(STORED[orientation](upright), jpeg, orientation)
    image = open_image(write(tmp_path / "a.dng", data), 100)
    assert image.mode == "RGB"
    assert image.size == (upright.width // 2, upright.height // 2)
    assert_same_corners(image)


def test_a_large_preview_is_decoded_small(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dng", dng(corners(*SENSOR), preview(corners(1600, 1200))))
    assert open_image(path, 224).size == (400, 300)


def test_a_raw_alone_is_a_photo_and_gets_tags(scan: Callable[..., Result], tmp_path: Path) -> None:
    path = write(tmp_path / "a.DNG", dng(corners(*SENSOR), preview(Image.new("RGB", SENSOR, "red"))))
    (line,) = lines(scan(path, "--format", "json"))
    assert (line["status"], [tag["name"] for tag in line["tags"]]) == ("tagged", ["red"])
    assert line["written"] == [f"{path}.phototag.json"]


@pytest.fixture
def without_rawpy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    reads_raw.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rawpy", None)  # as if it were not installed
        yield
    reads_raw.cache_clear()


def test_without_rawpy_a_raw_is_passed_over_and_the_remedy_named(tmp_path: Path, without_rawpy: None) -> None:
    path = write(tmp_path / "a.dng", dng(corners(*SENSOR)))
    (found,) = find_photos([tmp_path])
    assert isinstance(found, SkippedFile)
    assert found.kind == "unreadable"
    assert found.reason.endswith("pip install 'phototag[raw]'")
    with pytest.raises(PhotoError, match=r"pip install 'phototag\[raw\]'"):
        open_image(path, 100)


def test_finding_a_raw_does_not_import_rawpy(tmp_path: Path) -> None:
    write(tmp_path / "a.dng", b"not looked at")
    script = (
        "import sys, pathlib, phototag.photos.find as photos\n"
        "print(*photos.find_photos([pathlib.Path(sys.argv[1])]))\n"
        "print({'rawpy', 'PIL', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    found, imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert found.startswith("Photo(")
    assert imported == "set()"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"II*\0", "damaged"),
        (b"no RAW at all" * 1000, "it is not a RAW file, or of a camera that LibRaw does not know"),
        (dng(corners(*SENSOR))[:2000], "damaged"),
        (dng(corners(*SENSOR), preview(corners(800, 600))[:-2000]), "the file is truncated"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(PhotoError) as caught:
        open_image(write(tmp_path / "a.dng", data), 100)
    assert reason in caught.value.reason


def test_a_raw_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    data = bytearray(dng(corners(*SENSOR)))
    for side, tag in ((SENSOR[0], 256), (SENSOR[1], 257)):
        field = tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0"
        at = data.index(field + side.to_bytes(4, "little")) + len(field)
        data[at : at + 4] = (40000).to_bytes(4, "little")
    with pytest.raises(PhotoError):
        open_image(write(tmp_path / "a.dng", bytes(data)), 100)


def test_a_previews_claim_is_checked_like_any_photos(tmp_path: Path) -> None:
    jpeg = bytearray(preview(corners(64, 48)))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(PhotoError, match="claims 65500 x 65500 pixels"):
        open_image(write(tmp_path / "a.dng", dng(corners(*SENSOR), bytes(jpeg))), 100)


def test_mutated_raws_never_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(2026)
    small = corners(48, 32)
    original = dng(small, preview(small, 6), 6)
    opened = failed = 0
    for _ in range(200):
        data = bytearray(original)
        for position in rng.integers(0, 500, rng.integers(1, 6)):
            data[position] = rng.integers(0, 256)
        try:
            assert open_image(write(tmp_path / "mutant.dng", bytes(data)), 16).mode == "RGB"
            opened += 1
        except PhotoError:
            failed += 1
    assert opened
    assert failed


def test_threads_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    paths = []
    for number in range(24):
        colour = Image.new("RGB", SENSOR, (number * 10, 255 - number * 10, 128))
        jpeg = preview(colour) if number % 2 else None
        paths.append(write(tmp_path / f"{number}.dng", dng(colour, jpeg)))
    alone = [np.asarray(open_image(path, 100)) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: np.asarray(open_image(path, 100)), paths * 4))
    assert all((one == two).all() for one, two in zip(alone * 4, together, strict=True))


@pytest.mark.needs_exiftool
def test_a_real_raw_looks_as_its_preview_does(shared: Path, tmp_path: Path) -> None:
    path = shared / "photos/formats/canon_eos_6d.dng"
    command: list[str | Path] = ["exiftool", "-b", "-SubIFD1:PreviewImage", path]
    expected = Image.open(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))
    shown = open_image(path, 600)
    assert shown.size == expected.size == (1024, 683)
    assert np.abs(np.asarray(shown, int) - np.asarray(expected.convert("RGB"), int)).mean() < 1
    developed = open_image(path, 700)
    assert developed.size == (1224, 816)
    assert likeness(developed, expected) > 0.9
    for orientation, turn in ((6, Image.Transpose.ROTATE_270), (8, Image.Transpose.ROTATE_90)):
        turned = tmp_path / f"{orientation}.dng"
        subprocess.run(["exiftool", "-q", f"-Orientation#={orientation}", "-o", turned, path], check=True)
        for shortest_side in (600, 700):
            assert likeness(open_image(turned, shortest_side), expected.transpose(turn)) > 0.9


def likeness(one: Image.Image, two: Image.Image) -> Any:
    """The correlation of two pictures' brightness; 0 where one is turned."""
    assert abs(one.width / one.height - two.width / two.height) < 0.01
    first, second = (np.asarray(image.convert("L").resize((32, 32)), float).ravel() for image in (one, two))
    return np.corrcoef(first, second)[0, 1]


def test_a_real_raw_is_found_and_one_that_is_cut_to_its_metadata_fails(shared: Path) -> None:
    (photo,) = find_photos([shared / "photos/formats/CanonRaw.cr2"])
    assert isinstance(photo, Photo)
    with pytest.raises(PhotoError, match="LibRaw"):
        open_image(photo.path, 100)
