"""Crop and resize an image to what a model takes. This module knows images and arrays, but neither paths nor models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phototag.core import canonical_record

if TYPE_CHECKING:  # what a model wants is known to a run with nothing new too, which needs no Pillow
    from PIL import Image

Resize = Literal["crop", "squash", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
ChannelOrder = Literal["RGB", "BGR"]
Layout = Literal["NHWC", "NCHW"]
# Left, top, right and bottom.
PixelBox: TypeAlias = tuple[float, float, float, float]

MOST_CROPS = 2


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its images.

    `height`, `width`: pixels. `mean`, `std`: per channel in RGB order, on the scale 0 to 255. The model gets
    (pixel - mean) / std. `channel_order` and `layout` describe the model's input tensor.

    `resize`: `crop` takes the central part with the aspect ratio of the input, scaled by `crop_fraction` (0 to 1).
    `squash` takes the whole image and ignores its aspect ratio. `pad` takes the whole image and fills up with black.
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
        """The pixels that the shorter side of an image needs so that `prepare` does not enlarge it."""
        fraction = self.crop_fraction if self.resize == "crop" else 1.0
        return round(max(self.height, self.width) / fraction)

    def prepare(self, image: Image.Image, box: PixelBox | None = None) -> NDArray[np.uint8]:
        """Return the RGB `image`, cropped and resized, as uint8 [height, width, 3] in RGB order.

        `box`: take only this part of the image, in pixels and fractions of them.
        """
        size = (self.width, self.height)
        part = (0.0, 0.0, float(image.width), float(image.height)) if box is None else box
        if self.resize == "pad":
            from PIL import Image

            scaled = self._scale(image, _fit(part, size), part)
            canvas = Image.new("RGB", size)
            canvas.paste(scaled, ((size[0] - scaled.width) // 2, (size[1] - scaled.height) // 2))
            return np.asarray(canvas)
        if self.resize == "crop":
            part = _central_box(part, size, self.crop_fraction)
        return np.asarray(self._scale(image, size, part))

    def crops(self, image: Image.Image, count: int = 1) -> NDArray[np.uint8]:
        """Return `count` crops of the RGB `image`, at most `MOST_CROPS`, as uint8 [count, height, width, 3].

        The first is the result of `prepare`, the second its mirror image. Other crops were tried on scenes: closer and
        wider ones, both ends, four corners and nine tiles, averaged or separate. Only the mirror image gave more photos
        a right tag at the same share of wrong ones.
        """
        first = self.prepare(image)
        return np.stack([first, first[:, ::-1]][:count])

    def _scale(self, image: Image.Image, size: tuple[int, int], box: PixelBox) -> Image.Image:
        from PIL.Image import Resampling

        # reducing_gap: first average whole blocks of pixels, down to 3 times the size. The difference is invisible.
        return image.resize(size, Resampling[self.interpolation.upper()], box, reducing_gap=3.0)


def _central_box(box: PixelBox, target: tuple[int, int], fraction: float) -> PixelBox:
    """Return the central part of `box` with the aspect ratio of `target`: `fraction` of the largest such part."""
    whole = _size(box)
    scale = min(whole[0] / target[0], whole[1] / target[1]) * fraction
    width, height = target[0] * scale, target[1] * scale
    left, top = box[0] + max(0.0, (whole[0] - width) / 2), box[1] + max(0.0, (whole[1] - height) / 2)
    # Pillow fails if a rounding error puts an edge outside the image.
    return left, top, min(left + width, box[2]), min(top + height, box[3])


def _fit(box: PixelBox, target: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size with the aspect ratio of `box` that fits into `target`."""
    width, height = _size(box)
    scale = min(target[0] / width, target[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _size(box: PixelBox) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]
