"""A picture that looks different after every turn and flip."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phototag.images.decode import read_picture

CORNERS = {"top left": "red", "top right": "lime", "bottom left": "blue", "bottom right": "white"}
# The transposition that a camera stores for each orientation. Turning it by the orientation restores the picture.
STORED = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """Return a picture with a different colour in each corner, so that every turn and flip looks different."""
    image = Image.new("RGB", (width, height), "black")
    for place, colour in CORNERS.items():
        x, y = (width // 2) * ("right" in place), (height // 2) * ("bottom" in place)
        image.paste(colour, (x, y, x + width // 2, y + height // 2))
    return image


def rectangles(size: tuple[int, int], **boxes: tuple[int, int, int, int]) -> bytes:
    """Return a black PNG with a rectangle of each colour in `boxes`: left, top, right and bottom in pixels."""
    image = Image.new("RGB", size)
    for colour, box in boxes.items():
        image.paste(colour, box)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def assert_corners(image: Image.Image) -> None:
    assert image.mode == "RGB"
    width, height = image.size
    for place, colour in CORNERS.items():
        x = width * 3 // 4 if "right" in place else width // 4
        y = height * 3 // 4 if "bottom" in place else height // 4
        expected: Any = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
        found: Any = image.getpixel((x, y))
        assert np.allclose(found, expected, atol=12), (place, found)


def open_image(path: Path, shortest_side: int) -> Image.Image:
    """Return the photo at `path`, decoded with both sides at least `shortest_side` pixels."""
    return read_picture(path, shortest_side).image
