"""Camera RAW files: the preview that the camera put in, or the developed picture. Only this module imports rawpy."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from phototag.errors import PhotoError
from phototag.images.limits import LARGE_PIXELS, MAX_IN_MEMORY, MAX_RAW, Name, check_size, one_at_a_time
from phototag.images.orientation import exif_orientation, upright_size
from phototag.photos.kinds import RAW, reads_raw

# The EXIF orientation for each value of LibRaw's `flip`.
_EXIF_OF_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


class Preview(NamedTuple):
    """The preview in a RAW file, not decoded yet. `data` is what it is decoded from, `orientation` its EXIF one."""

    image: Image.Image
    data: BinaryIO
    orientation: int


class Raw(NamedTuple):
    """The pictures in a RAW file. One of the two is not None.

    `developed` is upright. It is None if the preview is large enough. `size` is the upright width and height.
    """

    preview: Preview | None
    developed: Image.Image | None
    size: tuple[int, int]


def open_raw(file: BinaryIO, name: Name, shortest_side: int) -> Raw:
    """Find the preview in a RAW file, and develop the file if the preview is missing or below `shortest_side` pixels.

    The preview shows what the camera's JPEG would show, and takes a hundredth of the time. Raises `PhotoError`.
    """
    if not reads_raw():
        raise PhotoError(name, f"it is {RAW}")
    try:
        import rawpy
    except ImportError as error:
        raise PhotoError(
            name, f"rawpy, which reads RAW files, cannot be loaded ({error})", "install it again"
        ) from None
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > MAX_RAW:
        raise PhotoError(name, f"it has {size >> 20} megabytes, over the limit of {MAX_RAW >> 20} for a RAW file")
    try:
        # One object for each file, and so for each thread: LibRaw's objects share no data.
        with one_at_a_time(size > MAX_IN_MEMORY), rawpy.imread(file) as raw:
            check_size(name, raw.sizes.raw_width, raw.sizes.raw_height)
            found = _pictures(raw, shortest_side)
    except rawpy.LibRawFileUnsupportedError:
        raise PhotoError(name, "it is not a RAW file, or of a camera that LibRaw does not know") from None
    if found.preview is None and found.developed is None:
        raise PhotoError(name, "it has no preview, and its data cannot be developed; it may be damaged")
    return found


def _pictures(raw: Any, shortest_side: int) -> Raw:
    flip = _EXIF_OF_FLIP.get(raw.sizes.flip, 1)
    size = upright_size((raw.sizes.width, raw.sizes.height), flip)
    preview = _preview(raw, flip)
    if preview is None or min(preview.image.size) < shortest_side:
        developed = _develop(raw)
        if developed is not None and (preview is None or min(developed.size) > min(preview.image.size)):
            return Raw(preview, developed, size)
    return Raw(preview, None, size)


def _preview(raw: Any, flip: int) -> Preview | None:
    """Return the largest preview in the `rawpy.RawPy`, or None if no preview can be used.

    `flip` is the EXIF orientation of the RAW picture.
    """
    import rawpy

    try:
        thumb = raw.extract_thumb()
        is_jpeg = thumb.format == rawpy.ThumbFormat.JPEG  # otherwise pixels
        data = io.BytesIO(thumb.data if is_jpeg else b"")
        image = Image.open(data, formats=("JPEG",)) if is_jpeg else Image.fromarray(np.squeeze(thumb.data))
    except Exception:  # noqa: BLE001  # decoders of hostile input raise any type; developing the RAW may still work
        return None
    is_tall = (raw.sizes.width < raw.sizes.height) != (flip >= 5)
    # Cameras differ: a preview may be upright or as the sensor saw it, and its EXIF right, wrong or missing. Take the
    # first orientation that makes the preview as tall or wide as the photo, beginning with the preview's own.
    said = exif_orientation(image, flip)
    own = said if said in range(1, 9) else flip
    fitting = (one for one in (own, flip, 1) if ((image.width < image.height) != (one >= 5)) == is_tall)
    return Preview(image, data, next(fitting, own))


def _develop(raw: Any) -> Image.Image | None:
    """Return the picture in the `rawpy.RawPy`, upright and at half its size, or None if LibRaw fails."""
    import rawpy

    try:
        with one_at_a_time(raw.sizes.raw_width * raw.sizes.raw_height > LARGE_PIXELS):
            pixels = raw.postprocess(half_size=True, use_camera_wb=True)
        return Image.fromarray(np.squeeze(pixels)).convert("RGB")
    except rawpy.LibRawError:
        return None
