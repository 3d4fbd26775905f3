from typing import Any

import numpy as np
import pytest
from PIL import Image

from phototag.images.preprocess import Preprocessing


def bars(width: int, height: int) -> Image.Image:
    """Red on the left, green in the middle square, blue on the right."""
    side = min(width, height)
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    image.paste((0, 255, 0), ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2))
    return image


def test_crop_takes_the_centre() -> None:
    pixels = Preprocessing(8, 8, interpolation="nearest").prepare(bars(96, 32))
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (0, 255, 0)).all()


def test_crop_fraction_takes_less_of_it() -> None:
    image = Image.new("RGB", (40, 40), "red")
    image.paste("blue", (10, 10, 30, 30))
    inner = Preprocessing(4, 4, crop_fraction=0.5, interpolation="nearest").prepare(image)
    assert (inner == (0, 0, 255)).all()
    assert (Preprocessing(4, 4, interpolation="nearest").prepare(image)[0, 0] == (255, 0, 0)).all()


def test_crop_keeps_the_aspect_ratio_of_the_input() -> None:
    pixels = Preprocessing(height=4, width=8, interpolation="nearest").prepare(bars(64, 64))
    assert pixels.shape == (4, 8, 3)
    assert (pixels == (0, 255, 0)).all()


def test_squash_takes_all_of_the_image() -> None:
    pixels = Preprocessing(9, 9, resize="squash", interpolation="nearest").prepare(bars(99, 33))
    assert [tuple(pixels[4, x]) for x in (0, 4, 8)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_pad_takes_all_of_the_image_and_fills_with_black() -> None:
    pixels = Preprocessing(9, 9, resize="pad", interpolation="nearest").prepare(bars(99, 33))
    assert [tuple(pixels[4, x]) for x in (0, 4, 8)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert (pixels[[0, 2, 6, 8]] == 0).all()


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (333, 500)])
def test_any_size_is_prepared(resize: Any, size: tuple[int, int]) -> None:
    pixels = Preprocessing(7, 5, resize=resize, crop_fraction=0.875).prepare(Image.new("RGB", size, "white"))
    assert pixels.shape == (7, 5, 3)
    assert pixels.max() == 255


@pytest.mark.parametrize("seed", range(20))
def test_the_crop_never_leaves_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for width, height, rows, columns in rng.integers(1, 400, (200, 4)).tolist():
        Preprocessing(rows % 40 + 1, columns % 40 + 1, interpolation="nearest").prepare(
            Image.new("RGB", (width, height))
        )


def test_the_shortest_side_accounts_for_the_crop() -> None:
    assert Preprocessing(224, 224, crop_fraction=0.875).shortest_side == 256
    assert Preprocessing(224, 300, resize="squash", crop_fraction=0.875).shortest_side == 300
