"""Make photos for benchmarks. What they show does not matter, but they have the entropy of a camera's photos.

    python benchmarks/camera.py FOLDER COUNT WIDTH HEIGHT

Writes COUNT JPEGs of WIDTH x HEIGHT pixels into FOLDER: surfaces of 1/f noise with edges between them, and a sensor's
noise on top. At quality 92 and 4:2:0 they take about 4 MB for 12 megapixels, and 60 KB for 500 x 375 pixels. Only a few
are drawn. The others are copies with different comments, because phototag recognizes identical files.
"""

from __future__ import annotations

import io
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DRAWN = 6
QUALITY = 92
# The standard deviation of the sensor's noise.
NOISE = 3.2


def make_photos(folder: Path, count: int, width: int, height: int) -> None:
    """Write `count` photos into `folder`, on all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = min(count, DRAWN)
    with ProcessPoolExecutor() as pool:
        contents = pool.map(draw, range(drawn), [width] * drawn, [height] * drawn)
        for seed, content in enumerate(contents):
            for number in range(seed, count, drawn):
                (folder / f"{number:06}.jpg").write_bytes(commented(content, f"photo {number}"))


def commented(jpeg: bytes, text: str) -> bytes:
    """Return `jpeg` with a comment after its first marker."""
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def draw(seed: int, width: int, height: int) -> bytes:
    """Return a JPEG of that size, which is the same for the same `seed`."""
    random = np.random.default_rng((seed, width, height))
    figures = shapes(random, width, height)
    luma = surface(random, width, height)
    luma *= 1 + figures / 2
    luma += figures * random.uniform(20, 50) + 110
    grain = random.standard_normal((max(1, height // 4), width), np.float32)
    grain *= NOISE
    for top in range(0, height, len(grain)):
        luma[top : top + len(grain)] += grain[: height - top]
    chroma = [_image(surface(random, width // 2, height // 2) * 0.4 + 128).resize((width, height)) for _ in range(2)]
    file = io.BytesIO()
    Image.merge("YCbCr", (_image(luma), *chroma)).save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return file.getvalue()


def _image(plane: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(plane, 0, 255).astype(np.uint8))


def surface(random: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Return 1/f noise around 0, which has the same power in each octave."""
    total = np.zeros((height, width), np.float32)
    step = max(width, height) // 4
    while step >= 2:
        size = (height // step + 2, width // step + 2)
        octave = Image.fromarray(random.standard_normal(size, np.float32) * np.float32(9))
        total += np.asarray(octave.resize((width, height), Image.Resampling.BICUBIC))
        step //= 2
    return total


def shapes(random: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Return polygons and ellipses of all sizes: 0 outside, and -1 to 1 inside."""
    canvas = Image.new("F", (width, height))
    pen = ImageDraw.Draw(canvas)
    for _ in range(120):
        extent = max(width, height) * 0.5 * random.random() ** 3
        x, y = random.uniform(0, width), random.uniform(0, height)
        fill = float(random.uniform(-1, 1))
        if random.random() < 0.5:
            pen.ellipse((x, y, x + extent, y + extent * random.uniform(0.2, 1)), fill)
        else:
            corners = random.uniform(-extent, extent, (5, 2)) + np.array((x, y))
            pen.polygon([tuple(corner) for corner in corners.tolist()], fill)
    return np.asarray(canvas)


if __name__ == "__main__":
    make_photos(Path(sys.argv[1]), *map(int, sys.argv[2:]))
