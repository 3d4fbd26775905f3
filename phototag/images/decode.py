"""Read a photo once and decode it once, upright and small, for every network that looks at it."""

from __future__ import annotations

import functools
import io
import logging
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from phototag.errors import NO_MEMORY, PhotoError
from phototag.images.limits import LARGE_PIXELS, MAX_IN_MEMORY, Name, check_scans, check_size, one_at_a_time
from phototag.images.orientation import exif_orientation, heif_orientation, upright, upright_size
from phototag.images.preprocess import Preprocessing
from phototag.images.raw import open_raw
from phototag.photos.digest import content_digest, stream_digest
from phototag.photos.kinds import (
    JPEG_XL,
    RAW_SUFFIXES,
    READABLE_FORMATS,
    READABLE_KINDS,
    SNIFF_BYTES,
    open_at_once,
    os_reason,
    sniff,
)

# Left, top, right and bottom, as fractions of the upright photo: 0 to 1.
Box: TypeAlias = tuple[float, float, float, float]
Size: TypeAlias = tuple[int, int]
Source: TypeAlias = "Path | bytes | int"
T = TypeVar("T")

_JPEGS = ("JPEG", "MPO")  # MPO is Pillow's name for a JPEG that announces other images behind it
KINDS = f"{', '.join(READABLE_KINDS[:-1])} and {READABLE_KINDS[-1]}"
# Bytes of a JPEG that the decoder gets at once. For each block it waits for the interpreter lock. With Pillow's own
# 64 KB, that is fifty times for a camera's photo.
_BLOCK = 1 << 22
_REDUCIBLE_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F")


class Picture:
    """A photo, read at once and decoded by its first `view`, `region`, `image` or `size`.

    Not thread-safe: one thread works on a picture. Different pictures can be used in different threads.

    `digest` is the `content_digest` of the file. `shortest_side` is the size to decode: both sides of the decoded photo
    have at least that many pixels, if the photo has them. No view may need more.

    Everything that decodes raises `PhotoError` for anything that is wrong with the file.
    """

    def __init__(self, source: Source, name: Name, digest: bytes, shortest_side: int) -> None:
        self.digest = digest
        self.shortest_side = shortest_side
        self._source: Source | None = source
        self._name = name
        self._decoded: _Decoded | None = None
        self._image: Image.Image | None = None
        self._views: dict[tuple[Preprocessing, int], NDArray[np.uint8]] = {}

    @property
    def image(self) -> Image.Image:
        """The decoded photo, upright and RGB.

        A JPEG is decoded at a fraction of its size if that suffices, which is several times faster. Transparency is
        laid over white. 16-bit samples are scaled to 8 bits. Animations and files with several pages give the first.
        """
        if self._image is None:
            self._image = _without_memory_error(self._name, self._whole().upright)
        return self._image

    @property
    def size(self) -> Size:
        """The width and height of the upright photo in pixels, before it was reduced."""
        return self._whole().full_size

    def view(self, preprocessing: Preprocessing, crops: int = 1) -> NDArray[np.uint8]:
        """Return the photo as `preprocessing` wants it: uint8 [crops, height, width, 3], RGB, read-only.

        The view does not depend on `shortest_side`: a photo that was decoded larger is first reduced to the size that
        decoding it for `preprocessing.shortest_side` would give. The result is kept for the next call.
        """
        key = (preprocessing, crops)
        if key not in self._views:
            image = self._image_for(preprocessing.shortest_side)
            pixels = _without_memory_error(self._name, lambda: preprocessing.crops(image, crops))
            pixels.flags.writeable = False
            self._views[key] = pixels
        return self._views[key]

    def region(self, box: Box, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return a part of the photo, such as a face, as `preprocessing` wants it: uint8 [height, width, 3], RGB.

        The part of `box` outside the photo is cut off. Raises `ValueError` if nothing is left.
        """
        left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in box)
        if not (left < right and top < bottom):
            raise ValueError(f"the region {box} has no area inside the photo")
        image = self.image
        width, height = image.size
        pixels = (left * width, top * height, right * width, bottom * height)
        return _without_memory_error(self._name, lambda: preprocessing.prepare(image, pixels))

    def _image_for(self, side: int) -> Image.Image:
        """Return the upright image as decoding the photo for `side` alone would give it."""
        if side > self.shortest_side:
            raise ValueError(f"a view needs {side} pixels, and the photo is decoded for {self.shortest_side}")
        if side == self.shortest_side:
            return self.image
        whole = self._whole()
        if side < whole.least_side:
            return _without_memory_error(self._name, self._decode(side).upright)
        scale = whole.scale_for(side)
        if scale == whole.scale:
            return self.image
        return _without_memory_error(self._name, lambda: whole.reduced(scale).upright())

    def _whole(self) -> _Decoded:
        if self._decoded is None:
            self._decoded = self._decode(self.shortest_side)
            if self._decoded.least_side == 0:
                self._source = None  # may be a large file
        return self._decoded

    def _decode(self, side: int) -> _Decoded:
        assert self._source is not None
        return _with_file(self._source, self._name, lambda file: _decode(file, self._name, side))


def read_picture(source: Source, shortest_side: int, name: Name | None = None) -> Picture:
    """Read a photo. Return it with its digest, to be decoded with both sides at least `shortest_side` pixels.

    `source`: a path, the content of a file, or an open file descriptor. `name`: what error messages call the photo, and
    whose suffix says whether it is a RAW file; a path is its own name.

    A file is read once, unless it has more than `MAX_IN_MEMORY` bytes. Such a file is read again when it is decoded. A
    descriptor must stay open until then. It is read from its beginning and never closed.

    Raises `PhotoError` if the file cannot be read. Thread-safe.
    """
    if name is None:
        name = source if isinstance(source, Path) else "photo"
    if isinstance(source, bytes):
        return Picture(source, name, content_digest(source), shortest_side)
    data, digest = _with_file(source, name, lambda file: _read(file, name))
    return Picture(source if data is None else data, name, digest, shortest_side)


def prepare_photo(path: Path, preprocessing: Preprocessing, crops: int = 1) -> NDArray[np.uint8]:
    """Return the photo at `path` as `preprocessing` wants it: uint8 [crops, height, width, 3], RGB.

    Raises `PhotoError` for anything that is wrong with the file. Thread-safe.
    """
    return read_picture(path, preprocessing.shortest_side).view(preprocessing, crops)


# --- Reading ----------------------------------------------------------------------------------------------------------


def _with_file(source: Source, name: Name, use: Callable[[BinaryIO], T]) -> T:
    """Return the result of `use` for the opened `source`. Turn every error that it raises into a `PhotoError`."""
    _prepare_pillow()
    head = b""
    try:
        with _opened(source) as file:
            head = file.read(SNIFF_BYTES)
            file.seek(0)
            return use(file)
    except PhotoError:
        raise
    except MemoryError:
        raise PhotoError(name, NO_MEMORY) from None
    # Decoders of hostile input raise any type: OSError, SyntaxError, struct.error, IndexError and others.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotoError(name, os_reason(error)) from None
        raise PhotoError(name, _damage_reason(error, head)) from error


def _opened(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, int):
        os.lseek(source, 0, os.SEEK_SET)
        return open(source, "rb", closefd=False)
    return open(source, "rb", opener=open_at_once)


def _read(file: BinaryIO, name: Name) -> tuple[bytes | None, bytes]:
    """Return the content of `file`, or None if it has more than `MAX_IN_MEMORY` bytes, and its digest."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):  # reading a device would never end
        raise PhotoError(name, "it is not a regular file")
    if status.st_size <= MAX_IN_MEMORY:
        data = file.read()
        return data, content_digest(data)
    return None, stream_digest(file)


def _without_memory_error(name: Name, make: Callable[[], T]) -> T:
    try:
        return make()
    except MemoryError:
        raise PhotoError(name, NO_MEMORY) from None


# --- Decoding ---------------------------------------------------------------------------------------------------------


class _Decoded(NamedTuple):
    """A decoded photo: an RGB image, not upright yet, and how it came to its size.

    `stored_size`: the width and height in the file. `scale`: the factor by which the image is smaller. `full_size`: the
    size of the upright photo, which is larger than the stored one if the image is a preview or a thumbnail.

    `drafts`: the decoder can reduce the image. `reduces`: it can be reduced after decoding.

    `least_side`: for a smaller side, the photo has to be decoded again, because a smaller image in the file suffices.
    """

    image: Image.Image
    orientation: int
    stored_size: Size
    full_size: Size
    scale: int = 1
    drafts: bool = False
    reduces: bool = False
    least_side: int = 0

    def upright(self) -> Image.Image:
        with one_at_a_time(self.image.width * self.image.height > LARGE_PIXELS):
            return upright(self.image, self.orientation)

    def scale_for(self, side: int) -> int:
        """Return the `scale` of the photo if it were decoded for the shortest side `side`."""
        draft = _draft_factor(self.stored_size, side) if self.drafts else 1
        return draft * (_reduction(_divided(self.stored_size, draft), side) if self.reduces else 1)

    def reduced(self, scale: int) -> _Decoded:
        """Return the photo with a larger `scale`. Each pixel is the average over its area, as in decoding for it."""
        common = math.gcd(scale, self.scale)
        repeated, factor = self.scale // common, scale // common
        image = self.image
        if repeated == 1:
            image = image.reduce(factor)
        else:
            # Pillow's own BOX filter takes whole pixels, so areas would be up to half a pixel off. That moves scores
            # three times as far. One direction after the other, so that memory does not grow by the square.
            image = image.resize((image.width * repeated, image.height), Image.Resampling.NEAREST).reduce((factor, 1))
            image = image.resize((image.width, image.height * repeated), Image.Resampling.NEAREST).reduce((1, factor))
            image = image.crop((0, 0, *_divided(self.stored_size, scale)))
        return self._replace(image=image, scale=scale)


def _draft_factor(size: Size, side: int) -> int:
    """Return by how much Pillow's decoder for JPEG reduces an image of `size` (`JpegImageFile.draft`)."""
    most = min(size) // side
    return next((factor for factor in (8, 4, 2) if factor <= most), 1)


def _reduction(size: Size, side: int) -> int:
    """Return by how much to reduce an image of `size` after decoding. It keeps at least twice the side."""
    return max(1, min(size) // (2 * side))


def _divided(size: Size, factor: int) -> Size:
    return -(-size[0] // factor), -(-size[1] // factor)


def _decode(file: BinaryIO, name: Name, shortest_side: int) -> _Decoded:
    if PurePath(name).suffix.lower() in RAW_SUFFIXES:
        return _decode_raw(file, name, shortest_side)
    with Image.open(file, formats=READABLE_FORMATS) as image:
        return _decode_image(image, file, name, shortest_side)


def _decode_raw(file: BinaryIO, name: Name, shortest_side: int) -> _Decoded:
    preview, developed, size = open_raw(file, name, shortest_side)
    if developed is not None:
        least_side = 0 if preview is None else min(preview.image.size) + 1
        return _Decoded(developed, 1, developed.size, size, least_side=least_side)
    assert preview is not None
    decoded = _decode_image(preview.image, preview.data, name, shortest_side, preview.orientation)
    return decoded._replace(full_size=size)


def _decode_image(
    image: Image.Image, file: BinaryIO, name: Name, shortest_side: int, orientation: int | None = None
) -> _Decoded:
    """Decode `image`, whose data is in `file`. `orientation` overrides the one in its EXIF."""
    size = image.size
    check_size(name, *size)
    drafts = False
    if isinstance(image, ImageFile.ImageFile) and image.format in _JPEGS:
        drafts = True
        if image.info.get("progressive"):
            check_scans(file, name)
        # Not for a TIFF, which may have a million strips and would read a block for each.
        image.decodermaxblock = _BLOCK
    image.draft("RGB", (shortest_side, shortest_side))  # a HEIF gives a thumbnail if that is large enough
    least_side = _thumbnail_side(image) + 1 if image.format == "HEIF" else 0
    with one_at_a_time(image.width * image.height > LARGE_PIXELS):
        image.load()
        if orientation is None:
            orientation = heif_orientation(image, file) if image.format == "HEIF" else exif_orientation(image)
        reduces = image.mode in _REDUCIBLE_MODES and "transparency" not in image.info
        factor = _reduction(image.size, shortest_side) if reduces else 1
        # Reduced before anything else that would need memory for all the pixels once more.
        rgb = _to_rgb(image.reduce(factor) if factor > 1 else image)
    stored_size = size if drafts else image.size  # that of a thumbnail
    scale = factor * (_draft_factor(size, shortest_side) if drafts else 1)
    full_size = upright_size(size, orientation)
    return _Decoded(rgb, orientation, stored_size, full_size, scale, drafts, reduces, least_side)


def _thumbnail_side(image: Image.Image) -> int:
    """Return the shorter side of the largest thumbnail in a HEIF that is smaller than `image`, or -1 without any."""
    shorter, longer = sorted(image.size)
    longest_sides = image.info.get("thumbnails", ())  # a thumbnail has the aspect ratio of the photo
    sides = (math.ceil(side * shorter / longer) for side in longest_sides)
    return max((side for side in sides if side < shorter), default=-1)


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
    """Scale gray samples of 16 or 32 bits, or floating-point ones, to 8 bits. Pillow alone would clip them."""
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
    """Let Pillow read HEIC, and lift its size limit, which refuses the 200 megapixels of today's phones."""
    import pillow_heif

    # The reason that phototag gives for a damaged file holds what Pillow would log about it.
    logging.getLogger("PIL").addHandler(logging.NullHandler())

    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # `check_size` has its own limit, and comes before decoding


def _damage_reason(error: Exception, head: bytes) -> str:
    if not head:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        kind = sniff(head)
        if kind is None:
            return f"it is not a photo of a kind that phototag reads ({KINDS})"
        if kind == "JPEG XL":
            return f"it is {JPEG_XL}"
        if kind not in READABLE_KINDS:
            return f"it is not a photo, whatever its name says ({kind})"
        return f"it is damaged: it begins like a {kind} file, but its header cannot be read"
    text = _words(error)
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "the file is truncated; restore it from a backup"
    return f"it is damaged and cannot be decoded ({text or type(error).__name__})"


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""  # LibRaw gives bytes
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)
