"""Open a photo upright and small, whatever its kind, its mode and its author's intentions."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from phototag.errors import NO_MEMORY, PhotoError
from phototag.images.preprocess import Preprocessing
from phototag.photos.digest import content_digest, stream_digest
from phototag.photos.kinds import (
    JPEG_XL,
    RAW,
    RAW_SUFFIXES,
    READABLE_FORMATS,
    READABLE_KINDS,
    SNIFF_BYTES,
    open_at_once,
    os_reason,
    reads_raw,
    sniff,
)

_JPEGS = ("JPEG", "MPO")  # what Pillow calls a JPEG that says it has others behind it
KINDS = "JPEG, PNG, WebP, TIFF, GIF, BMP, HEIC and AVIF"

# Refused above: 268 megapixels, more than any camera takes in one shot (200), and about 1 GB once decoded.
MAX_PIXELS = 2**28
MAX_META_BOX = 1 << 20  # bytes; a camera's has a few thousand
# Larger images (50 megapixels) are decoded one at a time: each takes hundreds of megabytes.
LARGE_PIXELS = 50 * 10**6
_LARGE_IMAGES = threading.RLock()
MAX_SCANS = 500  # of a progressive JPEG
MAX_RAW = 1 << 29  # bytes; a camera's of 150 megapixels has half as many
MAX_IN_MEMORY = 1 << 26  # bytes; a larger file is read twice for its digest, a larger RAW waits for others
# Bytes of a JPEG that the decoder gets at once. With each block it waits for the interpreter, which another thread may
# be using; by Pillow's own 64 KB that is fifty times for a photo of a camera.
_BLOCK = 1 << 22
_REDUCIBLE_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F")

# What turns an image of each EXIF orientation upright (EXIF 2.32, 4.6.4 A, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(path: Path, shortest_side: int) -> Image.Image:
    """Return the photo at `path` as an upright RGB image, both sides at least `shortest_side` pixels if it has them.

    A JPEG is decoded at a fraction of its size where that suffices, which is several times faster. Transparency is
    laid over white; 16-bit samples are scaled to 8; of an animation or a file of several pages the first is taken.

    Raises `PhotoError` with the reason for anything that is wrong with the file. Thread-safe.
    """
    return _with_file(path, lambda file: _decode(file, path, shortest_side))


T = TypeVar("T")


def _with_file(path: Path, use: Callable[[BinaryIO], T], data: bytes | None = None) -> T:
    """Return what `use` makes of the file at `path`; turn whatever it raises into a `PhotoError` with the reason.

    `data`: what is in the file, where that was read before.
    """
    _prepare_pillow()
    head = b""
    try:
        with open(path, "rb", opener=open_at_once) if data is None else io.BytesIO(data) as file:
            head = file.read(SNIFF_BYTES)
            file.seek(0)
            return use(file)
    except PhotoError:
        raise
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None
    # Decoders of hostile input raise whatever comes: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotoError(path, os_reason(error)) from None
        raise PhotoError(path, _damage_reason(error, head)) from error


def prepare_photo(path: Path, preprocessing: Preprocessing, crops: int = 1) -> NDArray[np.uint8]:
    """Return the photo at `path` as `Preprocessing.crops` makes it: uint8 [crops, height, width, 3], RGB.

    Raises `PhotoError` with the reason for anything that is wrong with the file. Thread-safe.
    """
    return _prepare(open_image(path, preprocessing.shortest_side), path, preprocessing, crops)


def _prepare(image: Image.Image, path: Path, preprocessing: Preprocessing, crops: int) -> NDArray[np.uint8]:
    try:
        return preprocessing.crops(image, crops)
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None


@dataclass(frozen=True, slots=True)
class Looked:
    """A photo as it was read: the digest of its content, and its pixels, where they were wanted."""

    digest: bytes
    pixels: NDArray[np.uint8] | None


def look_at(
    path: Path, preprocessing: Preprocessing, crops: int, is_known: Callable[[bytes], bool] = lambda _: False
) -> Looked:
    """Return the digest of the photo at `path`, and what `prepare_photo` gives unless `is_known` accepts the digest.

    The file is read once, unless it is very large. Raises `PhotoError` with the reason for anything that is wrong with
    it. Thread-safe.
    """
    data, digest = _with_file(path, _read)
    if is_known(digest):
        return Looked(digest, None)
    image = _with_file(path, lambda file: _decode(file, path, preprocessing.shortest_side), data)
    return Looked(digest, _prepare(image, path, preprocessing, crops))


def _read(file: BinaryIO) -> tuple[bytes | None, bytes]:
    """Return what is in the file, unless that is too much for memory, and its digest."""
    if os.fstat(file.fileno()).st_size <= MAX_IN_MEMORY:
        data = file.read()
        return data, content_digest(data)
    return None, stream_digest(file)


def _decode(file: BinaryIO, path: Path, shortest_side: int) -> Image.Image:
    if path.suffix.lower() in RAW_SUFFIXES:
        return _decode_raw(file, path, shortest_side)
    with Image.open(file, formats=READABLE_FORMATS) as image:
        return _decode_image(image, file, path, shortest_side)


def _decode_image(
    image: Image.Image, file: BinaryIO, path: Path, shortest_side: int, orientation: int | None = None
) -> Image.Image:
    """Decode `image`, whose data `file` holds; its own orientation goes unless another is known."""
    _check_size(path, *image.size)
    if isinstance(image, ImageFile.ImageFile) and image.format in _JPEGS:
        if image.info.get("progressive"):
            _check_scans(file, path)
        image.decodermaxblock = _BLOCK  # not of a TIFF, which may have a million strips and read as much for each
    image.draft("RGB", (shortest_side, shortest_side))
    with _one_at_a_time(image.width * image.height > LARGE_PIXELS):
        return _upright_rgb(image, file, shortest_side, orientation)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PhotoError(
            path, f"it claims {width} x {height} pixels, over the limit of {MAX_PIXELS // 10**6} megapixels"
        )


def _one_at_a_time(is_large: bool) -> contextlib.AbstractContextManager[object]:
    return _LARGE_IMAGES if is_large else contextlib.nullcontext()


def _decode_raw(file: BinaryIO, path: Path, shortest_side: int) -> Image.Image:
    """Decode the preview that the camera put into a RAW file, or develop the RAW where that is too small or missing.

    The preview is what the camera's JPEG would show, and comes a hundred times as fast.
    """
    if not reads_raw():
        raise PhotoError(path, f"it is {RAW}")
    try:
        import rawpy
    except ImportError as error:
        raise PhotoError(path, f"rawpy, which reads RAW files, cannot be loaded ({error}); install it again") from None
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > MAX_RAW:
        raise PhotoError(path, f"it has {size >> 20} megabytes, over the limit of {MAX_RAW >> 20} for a RAW file")
    try:
        # An object for each file, and so for each thread: LibRaw shares nothing between its objects.
        with _one_at_a_time(size > MAX_IN_MEMORY), rawpy.imread(file) as raw:
            _check_size(path, raw.sizes.raw_width, raw.sizes.raw_height)
            preview = _raw_preview(raw)
            if preview is None or min(preview.image.size) < shortest_side:
                developed = _develop(raw)
                if developed is not None and (preview is None or min(developed.size) > min(preview.image.size)):
                    return developed
    except rawpy.LibRawFileUnsupportedError:
        raise PhotoError(path, "it is no RAW file, or of a camera that LibRaw does not know") from None
    if preview is None:
        raise PhotoError(path, "it has no preview, and its data cannot be developed; is it damaged?")
    return _decode_image(preview.image, preview.data, path, shortest_side, preview.orientation)


class _Preview(NamedTuple):
    """A RAW's preview, not decoded yet; what it will be decoded from, and the EXIF orientation that is right for it."""

    image: Image.Image
    data: BinaryIO
    orientation: int


# LibRaw's way to say how an image is to be turned, in EXIF's.
_EXIF_OF_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


def _raw_preview(raw: Any) -> _Preview | None:
    """Return the largest preview in the `rawpy.RawPy`, or None where there is none that can be used."""
    import rawpy

    try:
        thumb = raw.extract_thumb()
        is_jpeg = thumb.format == rawpy.ThumbFormat.JPEG  # or pixels
        data = io.BytesIO(thumb.data if is_jpeg else b"")
        image = Image.open(data, formats=("JPEG",)) if is_jpeg else Image.fromarray(np.squeeze(thumb.data))
    except Exception:  # noqa: BLE001  # decoders of hostile input raise whatever comes; the RAW itself may yet do
        return None
    flip = _EXIF_OF_FLIP.get(raw.sizes.flip, 1)
    is_tall = (raw.sizes.width < raw.sizes.height) != (flip >= 5)
    # Cameras differ: a preview may be stored as the sensor saw it or upright, and say so, or say nothing, or the wrong
    # thing. What makes it as tall or wide as the photo is believed, its own word first.
    said = _exif_orientation(image, flip)
    own = said if said in range(1, 9) else flip
    fitting = (one for one in (own, flip, 1) if ((image.width < image.height) != (one >= 5)) == is_tall)
    return _Preview(image, data, next(fitting, own))


def _develop(raw: Any) -> Image.Image | None:
    """Return the RAW of the `rawpy.RawPy`, upright and at half its size, or None where that cannot be done."""
    import rawpy

    try:
        with _one_at_a_time(raw.sizes.raw_width * raw.sizes.raw_height > LARGE_PIXELS):
            pixels = raw.postprocess(half_size=True, use_camera_wb=True)
        return Image.fromarray(np.squeeze(pixels)).convert("RGB")
    except rawpy.LibRawError:
        return None


def _check_scans(file: BinaryIO, path: Path) -> None:
    """Refuse a progressive JPEG with absurdly many scans, each of which costs the time of the whole picture.

    Encoders write about ten; the limit is what libjpeg-turbo advises against such bombs (its report LJT-01-005).
    """
    at = file.tell()
    file.seek(0)
    scans, tail = 0, b""
    while chunk := file.read(1 << 20):
        # A start of scan, SOS; in the data of a scan every 0xFF is followed by another byte.
        scans += (tail + chunk).count(b"\xff\xda")
        tail = chunk[-1:]
    file.seek(at)
    if scans > MAX_SCANS:
        raise PhotoError(path, f"it has {scans} progressive scans, over the limit of {MAX_SCANS}")


def _upright_rgb(image: Image.Image, file: BinaryIO, shortest_side: int, orientation: int | None) -> Image.Image:
    image.load()
    if orientation is None:
        orientation = _heif_orientation(image, file) if image.format == "HEIF" else _exif_orientation(image)
    factor = min(image.size) // (2 * shortest_side)
    small: Image.Image = image
    if factor > 1 and image.mode in _REDUCIBLE_MODES and "transparency" not in image.info:
        small = image.reduce(factor)  # before anything that would need memory for all the pixels once more
    rgb = _to_rgb(small)
    turn = _UPRIGHT.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _exif_orientation(image: Image.Image, default: int = 1) -> int:
    """Return the EXIF orientation, 1 to 8 where it makes sense, `default` where there is none.

    Not `ImageOps.exif_transpose`: it writes the EXIF anew, and fails where any other value of it is malformed.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, default))
    except Exception:  # noqa: BLE001
        return default


def _heif_orientation(image: Image.Image, file: BinaryIO) -> int:
    """Return the EXIF orientation where it still has to be applied, else 1.

    A HEIF container has its own way to say how the image is turned (ISO/IEC 23008-12, `irot` and `imir`), and then EXIF
    is only a copy of that. Photos from which some program took the container's word are turned by EXIF alone.
    """
    original = image.info.get("original_orientation") or 1
    return 1 if original == 1 or _container_turns(file) else int(original)


def _container_turns(file: BinaryIO) -> bool:
    """Look for a turn or a flip among the properties in the container's `meta` box."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return False
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # the real length follows
            length = int.from_bytes(head[8:], "big")
        if head[4:8] == b"meta":
            meta = head[8:] + file.read(min(length, MAX_META_BOX))
            return b"irot" in meta or b"imir" in meta
        if length < 8:  # 0 means to the end of the file
            return False
        at += length


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey_to_rgb(image)
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Scale grey samples of 16 or 32 bits, or floating-point ones, to 8 bits; Pillow alone would clip them."""
    with np.errstate(all="ignore"):  # a photo may hold any floating-point number
        samples = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    top = float(samples.max(initial=0.0))
    if image.mode == "F":
        white = 1.0 if top <= 1.0 else 255.0 if top <= 255.0 else top
    else:
        white = 255.0 if image.mode == "I" and top <= 255.0 else max(65535.0, top)
    return Image.fromarray(np.clip(samples * (255.0 / white), 0, 255).astype(np.uint8)).convert("RGB")


@functools.cache
def _prepare_pillow() -> None:
    """Let Pillow read HEIC, and replace its limit of size, which refuses the 200 megapixels of today's phones."""
    import pillow_heif

    # What Pillow would log of a damaged file is in the reason that is given for it.
    logging.getLogger("PIL").addHandler(logging.NullHandler())

    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # open_image has its own limit, checked before anything is decoded


def _damage_reason(error: Exception, head: bytes) -> str:
    if not head:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        kind = sniff(head)
        if kind is None:
            return f"it is no photo of a kind that phototag reads ({KINDS})"
        if kind == "JPEG XL":
            return f"it is {JPEG_XL}"
        if kind not in READABLE_KINDS:
            return f"it is no photo, whatever its name says ({kind})"
        return f"it is damaged: it begins like a {kind} file, but its header cannot be read"
    text = _words(error)
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "the file is truncated; restore it from a backup"
    return f"it is damaged and cannot be decoded ({text or type(error).__name__})"


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""  # bytes from LibRaw
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)
