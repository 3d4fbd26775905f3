from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from PIL import Image

from phototag.errors import PhotoError
from phototag.images import decode
from phototag.images.decode import prepare_photo, read_picture
from phototag.images.limits import MAX_IN_MEMORY, MAX_PIXELS
from phototag.images.preprocess import Preprocessing
from phototag.photos.digest import content_digest
from tests.helpers.photo_parts import dng, mpf_base, mpf_photo
from tests.helpers.pictures import STORED, assert_corners, corners, open_image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo"
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    STORED[orientation](corners()).save(path, kind, exif=exif, **options)
    image = open_image(path, 16)
    assert (image.width > image.height) == (96 > 64)
    assert_corners(image)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(tmp_path: Path, orientation: int) -> None:
    exif = piexif.dump({"0th": {piexif.ImageIFD.Orientation: orientation}})
    corners().save(tmp_path / "a.jpg", exif=exif)
    assert_corners(open_image(tmp_path / "a.jpg", 16))


def test_malformed_exif_does_not_matter(tmp_path: Path) -> None:
    corners().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert_corners(open_image(tmp_path / "a.jpg", 16))


def test_a_large_jpeg_is_decoded_small_but_not_too_small(tmp_path: Path) -> None:
    corners(1600, 1200).save(tmp_path / "a.jpg")
    image = open_image(tmp_path / "a.jpg", 224)
    assert image.size == (400, 300)
    assert_corners(image)
    assert open_image(tmp_path / "a.jpg", 5000).size == (1600, 1200)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LAB"])
def test_colour_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "LAB": "tif"}.get(mode, "png")
    image = (
        Image.new("RGB", (20, 20), "white").convert(mode)
        if mode != "LAB"
        else Image.new("LAB", (20, 20), (255, 128, 128))
    )
    opened = open_image(save(tmp_path / f"a.{suffix}", image), 8)
    assert opened.mode == "RGB"
    assert np.asarray(opened).min() > 240


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA-like", "RGB with a key", "L with a key"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "RGBA":
        save(path, Image.new("RGBA", (8, 8), (200, 0, 0, 0)))
    elif mode == "LA":
        save(path, Image.new("LA", (8, 8), (10, 0)))
    elif mode == "PA-like":
        save(path, Image.new("P", (8, 8), 0), transparency=0)
    elif mode == "RGB with a key":
        save(path, Image.new("RGB", (8, 8), (9, 9, 9)), transparency=(9, 9, 9))
    else:
        save(path, Image.new("L", (8, 8), 9), transparency=9)
    assert (np.asarray(open_image(path, 8)) == 255).all()


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    opened = open_image(save(tmp_path / "a.png", Image.new("RGBA", (8, 8), (0, 0, 0, 128))), 8)
    assert np.allclose(np.asarray(opened), 127, atol=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    opened = np.asarray(open_image(save(tmp_path / f"a.{suffix}", Image.fromarray(ramp)), 8))
    assert opened.shape == (16, 16, 3)
    assert np.abs(opened[..., 0].ravel().astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("samples", "white"),
    [(np.array([[0, 0.5], [1, 0.25]], np.float32), 1), (np.array([[0, 128], [255, 64]], np.float32), 255)],
)
def test_floating_point_grey_is_scaled(tmp_path: Path, samples: Any, white: float) -> None:
    opened = np.asarray(open_image(save(tmp_path / "a.tif", Image.fromarray(samples)), 1))
    assert np.abs(opened[..., 0] - samples / white * 255).max() <= 1


def test_16_bit_colour(tmp_path: Path) -> None:
    """Pillow does not write 16-bit colour, so the PNG is made by hand."""
    rows = b"".join(b"\0" + struct.pack(">3H", 65535, 0, 32768) * 4 for _ in range(4))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert (np.asarray(open_image(path, 2)) == (255, 0, 128)).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    path = tmp_path / "animation"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=100)
    pixel: Any = open_image(path, 8).getpixel((4, 4))
    assert np.allclose(pixel, (255, 0, 0), atol=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "HEIF"])
def test_a_truncated_file_is_a_failure(tmp_path: Path, kind: str) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    rng = np.random.default_rng(1)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, kind)
    path = tmp_path / "cut"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(PhotoError) as caught:
        open_image(path, 8)
    assert caught.value.path == str(path)
    assert "truncated" in caught.value.reason or "damaged" in caught.value.reason


def test_a_jpeg_decoded_small_is_checked_to_its_end(tmp_path: Path) -> None:
    corners(1600, 1200).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(PhotoError, match="truncated"):
        open_image(tmp_path / "a.jpg", 100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"just text", "not a photo of a kind that phototag reads"),
        (b"<!DOCTYPE html><p>404", "not a photo, whatever its name says (HTML)"),
        (b"\0\0\0\x18ftypqt  moov", "not a photo, whatever its name says (video)"),
        (b"\xff\x0a jxl", "JPEG XL"),
        (b"\xff\xd8\xff\xe0 broken", "the file is truncated"),
        (b"\x89PNG\r\n\x1a\n broken, and for long enough", "begins like a PNG file, but its header cannot be read"),
    ],
)
def test_what_is_no_photo_says_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PhotoError) as caught:
        open_image(tmp_path / "a.jpg", 8)
    assert reason in caught.value.reason


def test_postscript_is_never_interpreted(tmp_path: Path) -> None:
    """Pillow would hand it to Ghostscript."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(PhotoError, match="not a photo of a kind"):
        open_image(tmp_path / "a.jpg", 8)


def bomb(kind: str) -> bytes:
    """A few bytes that claim a picture of gigapixels."""
    side = 65500
    if kind == "PNG":
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + zlib.compress(b"") + bytes(8)
    if kind == "BMP":
        return b"BM" + struct.pack("<IHHIIiiHHIIIIII", 54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    if kind == "GIF":
        return (
            b"GIF89a"
            + struct.pack("<HHBBB", side, side, 0, 0, 0)
            + b","
            + struct.pack("<HHHHB", 0, 0, side, side, 0)
            + b"\x08\x01\0\0;"
        )
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG"])
def test_a_decompression_bomb_is_refused_by_its_claim(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bomb").write_bytes(bomb(kind))
    with pytest.raises(PhotoError, match=r"claims 65500 x 65500 pixels, over the limit of 268 megapixels"):
        open_image(tmp_path / "bomb", 224)


def test_the_limit_lets_200_megapixels_through() -> None:
    assert MAX_PIXELS >= 16320 * 12240


def test_a_photo_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="is gone"):
        open_image(tmp_path / "a.jpg", 8)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no devices among its files")
def test_a_device_is_not_read_to_its_end() -> None:
    for path in (Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(PhotoError, match="it is not a regular file"):
            read_picture(path, 8)


def test_mutated_photos_never_raise_anything_else(tmp_path: Path) -> None:
    """A hundred mutations of each kind, mostly of the header, where the decisions are made."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    rng = np.random.default_rng(2026)
    opened = failed = 0
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "HEIF"):
        buffer = io.BytesIO()
        corners(48, 32).save(buffer, kind)
        for _ in range(100):
            data = bytearray(buffer.getvalue())
            for position in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
                data[position] = rng.integers(0, 256)
            path = tmp_path / "mutant"
            path.write_bytes(data)
            try:
                assert open_image(path, 16).mode == "RGB"
                opened += 1
            except PhotoError:
                failed += 1
    assert opened
    assert failed


@pytest.mark.slow
def test_the_real_photos_of_many_cameras_open(shared: Path) -> None:
    from phototag.core import Photo
    from phototag.photos.find import find_photos

    found = list(find_photos([shared / "photos/camera", shared / "photos/formats", shared / "photos/orientation"]))
    cut_to_its_metadata = "CanonRaw.cr2"
    photos = [one.path for one in found if isinstance(one, Photo) and one.path.name != cut_to_its_metadata]
    assert len(photos) > 140
    for path in photos:
        image = open_image(path, 256)
        assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("iphone_7.heic", (3024, 4032)),  # turned by EXIF alone
        ("samsung-one-ui-6.heic", (3000, 4000)),  # by the container, and EXIF repeats it
    ],
)
def test_real_heic_photos_are_upright(shared: Path, name: str, size: tuple[int, int]) -> None:
    assert open_image(shared / "photos/formats" / name, 5000).size == size


def test_the_eight_orientations_of_a_real_photo_look_the_same(shared: Path) -> None:
    images = [open_image(shared / f"photos/orientation/Landscape_{n}.jpg", 64).resize((24, 16)) for n in range(1, 9)]
    for image in images[1:]:
        difference = np.abs(np.asarray(image, int) - np.asarray(images[0], int)).mean()
        assert difference < 12


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose first scan is repeated."""
    buffer = io.BytesIO()
    corners().save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    second = min(second, data.index(b"\xff\xc4", first + 2)) if b"\xff\xc4" in data[first:second] else second
    return data[:second] + data[first:second] * scans + data[second:]


@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_a_progressive_jpeg_of_too_many_scans_is_refused(tmp_path: Path, form: str) -> None:
    path, mpf = tmp_path / "a.jpg", b""
    if form == "MPO":  # with an image behind it, by an MPF segment
        whole = mpf_photo()
        at = mpf_base(whole) - 8
        mpf = whole[at : at + 2 + int.from_bytes(whole[at + 2 : at + 4], "big")]

    def write(data: bytes) -> None:
        path.write_bytes(data[:2] + mpf + data[2:])
        with Image.open(path) as image:
            assert image.format == form

    write(progressive(0))
    assert_corners(open_image(path, 16))
    write(progressive(600))
    with pytest.raises(PhotoError, match=r"it has 6\d\d progressive scans, over the limit of 500"):
        open_image(path, 16)


@pytest.mark.slow
def test_native_decoders_print_nothing(tmp_path: Path) -> None:
    """libtiff writes to file descriptor 2; a damaged TIFF must not end up in the mail of cron."""
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "a.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[200:5000:7] = b"\xff" * len(data[200:5000:7])
    (tmp_path / "a.tif").write_bytes(data)
    command = [sys.executable, "-m", "phototag", "scan", "--quiet", "-n", str(tmp_path / "a.tif")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode in (0, 1)
    assert result.stderr.count("\n") == result.returncode
    assert not result.stderr or result.stderr.startswith("phototag: ")


SMALL = Preprocessing(height=16, width=24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "HEIF", "dng"])
@pytest.mark.parametrize("limit", [MAX_IN_MEMORY, 1000])
def test_one_look_gives_the_pixels_and_the_digest(
    tmp_path: Path, kind: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MAX_IN_MEMORY", limit)
    path = tmp_path / f"photo.{kind}"
    decode._prepare_pillow()
    if kind == "dng":
        path.write_bytes(dng(corners()))
    else:
        corners(640, 480).save(path, kind)
    picture = read_picture(path, SMALL.shortest_side)
    assert picture.digest == content_digest(path.read_bytes())
    assert picture.view(SMALL, 2).shape == (2, 16, 24, 3)
    assert (picture.view(SMALL, 2) == prepare_photo(path, SMALL, 2)).all()


@pytest.mark.parametrize("content", [None, b"", b"just text", b"\xff\xd8\xff\xe0 broken"])
def test_reading_a_bad_photo_fails_when_it_is_decoded(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.jpg"

    def view() -> object:
        return read_picture(path, SMALL.shortest_side).view(SMALL)

    if content is not None:
        path.write_bytes(content)
        assert read_picture(path, SMALL.shortest_side).digest == content_digest(content)  # not decoded yet
    with pytest.raises(PhotoError) as opened:
        prepare_photo(path, SMALL)
    with pytest.raises(PhotoError) as looked:
        view()
    assert str(looked.value) == str(opened.value)
    assert str(looked.value).startswith(f"{path}: ")
