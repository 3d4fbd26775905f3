"""From the pixels of one image to the numbers a model takes. Knows images and arrays; no paths, no models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phototag.core import canonical_record

Resize = Literal["crop", "squash", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
ChannelOrder = Literal["RGB", "BGR"]
Layout = Literal["NHWC", "NCHW"]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


MOST_CROPS = 2


@dataclass(frozen=True)
class Preprocessing:
    """What a model wants its images to be.

    `height`, `width`: pixels. `mean`, `std`: per channel in RGB order, on the scale 0 to 255; the model gets
    (pixel - mean) / std. `resize`: `crop` takes the centre square-like part of the input's aspect ratio, of
    `crop_fraction` (0 to 1) of the largest such part; `squash` takes the whole image whatever its aspect ratio;
    `pad` takes the whole image and fills the rest with black. `channel_order` and `layout` are how the model's input
    tensor is laid out.
    """

    height: int
    width: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Resize = "crop"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bicubic"
    channel_order: ChannelOrder = "RGB"
    layout: Layout = "NHWC"

    def canonical(self) -> str:
        """Return the text for digests."""
        return canonical_record(
            "Preprocessing",
            height=self.height,
            width=self.width,
            mean=self.mean,
            std=self.std,
            resize=self.resize,
            crop_fraction=self.crop_fraction,
            interpolation=self.interpolation,
            channel_order=self.channel_order,
            layout=self.layout,
        )

    @property
    def shortest_side(self) -> int:
        """The shortest side in pixels that an image needs so that `prepare` has not to enlarge it."""
        fraction = self.crop_fraction if self.resize == "crop" else 1.0
        return round(max(self.height, self.width) / fraction)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the RGB `image`, cropped and resized, as uint8 [height, width, 3] in RGB order."""
        size = (self.width, self.height)
        if self.resize == "pad":
            scaled = self._scale(image, _fit(image.size, size), None)
            canvas = Image.new("RGB", size)
            canvas.paste(scaled, ((size[0] - scaled.width) // 2, (size[1] - scaled.height) // 2))
            return np.asarray(canvas)
        box = _centre_box(image.size, size, self.crop_fraction) if self.resize == "crop" else None
        return np.asarray(self._scale(image, size, box))

    def crops(self, image: Image.Image, count: int = 1) -> NDArray[np.uint8]:
        """Return `count` crops of the RGB `image`, at most `MOST_CROPS`, as uint8 [count, height, width, 3].

        The first is what `prepare` gives, the second its mirror image. Of all that was tried on scenes (closer and
        wider crops, both ends, four corners, nine tiles, averaged or each on its own), this alone gave more photos a
        right tag at the same share of wrong ones.
        """
        first = self.prepare(image)
        return np.stack([first, first[:, ::-1]][:count])

    def _scale(
        self, image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None
    ) -> Image.Image:
        # reducing_gap: average whole blocks of pixels first, down to 3 times the size; the eye sees no difference.
        return image.resize(size, _RESAMPLING[self.interpolation], box, reducing_gap=3.0)


def _centre_box(image: tuple[int, int], target: tuple[int, int], fraction: float) -> tuple[float, float, float, float]:
    """The centre part of `image` with the aspect ratio of `target`, `fraction` of the largest one, as a box."""
    scale = min(image[0] / target[0], image[1] / target[1]) * fraction
    width, height = target[0] * scale, target[1] * scale
    left, top = max(0.0, (image[0] - width) / 2), max(0.0, (image[1] - height) / 2)
    # A rounding error past the edge is an error to Pillow.
    return left, top, min(left + width, image[0]), min(top + height, image[1])


def _fit(image: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The largest size with the aspect ratio of `image` that fits into `target`."""
    scale = min(target[0] / image[0], target[1] / image[1])
    return max(1, round(image[0] * scale)), max(1, round(image[1] * scale))
