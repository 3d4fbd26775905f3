"""The EXIF orientation of a photo, and how to turn the photo upright."""

from __future__ import annotations

from typing import BinaryIO

from PIL import ExifTags, Image

MAX_META_BOX = 1 << 20  # bytes; those of cameras have a few thousand

# The transposition that turns an image of each EXIF orientation upright (EXIF 2.32, 4.6.4 A, tag 274).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return `image` turned upright. An unknown orientation leaves it unchanged."""
    turn = UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the width and height that an image of `size` has once it is upright."""
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def exif_orientation(image: Image.Image, default: int = 1) -> int:
    """Return the EXIF orientation of `image`, or `default` if it has none. Valid values are 1 to 8.

    `ImageOps.exif_transpose` would rewrite the EXIF, which fails if any other value in it is malformed.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, default))
    except Exception:  # noqa: BLE001
        return default


def heif_orientation(image: Image.Image, file: BinaryIO) -> int:
    """Return the EXIF orientation of a HEIF image if it still has to be applied, otherwise 1.

    A HEIF container has its own properties for turning an image (ISO/IEC 23008-12, `irot` and `imir`). With them, EXIF
    only repeats what the decoder has already applied. Some programs remove them, and then EXIF alone holds.
    """
    original = image.info.get("original_orientation") or 1
    return 1 if original == 1 or _container_turns(file) else int(original)


def _container_turns(file: BinaryIO) -> bool:
    """Return whether the properties in the container's `meta` box include a turn or a flip."""
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
        if length < 8:  # 0 means up to the end of the file
            return False
        at += length
