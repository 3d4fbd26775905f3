"""The analyzer that runs an object detector. Its result `boxes` holds the objects of a photo and where they are."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phototag.analysis.analyzer import ResultType
from phototag.analysis.objects import Once, in_parts
from phototag.core import BOXES, Box, Results, ignore
from phototag.errors import LabelMismatch, SignatureMismatch
from phototag.models.detector import LEAST_SCORE, Detector, columns, described, fits

if TYPE_CHECKING:  # a run without new photos neither decodes nor loads a model
    from phototag.engines.runner import Pixels, Runner
    from phototag.images.decode import Picture

MOST_BOXES = 100
# Detectors of float16 give a score of 1.0005 at most.
_RANGE_TOLERANCE = 1e-3
# A stored edge or score is a whole number of these steps.
_STEPS = 65535
# The stored form: the version, the number of boxes, and for each box kind, score, left, top, right and bottom.
_VERSION = 1
_HEAD = struct.Struct("<BB")
_BOX = struct.Struct("<6H")


class DetectorAnalyzer:
    """Gives the objects of each photo: a tuple of `Box`, the surest first, at most `MOST_BOXES`.

    `load` returns the loaded detector. It is called once, by the first thread that needs it.
    """

    after: tuple[str, ...] = ()

    def __init__(self, detector: Detector, load: Callable[[], Runner]) -> None:
        self._detector = detector
        self._runner = Once(load)
        self._numbers = {name: number for number, name in reversed(list(enumerate(detector.names)))}
        self.results = (ResultType[Sequence[Box]](BOXES, boxes_key(detector), self._pack, self._unpack),)
        self.recipe = (detector.digest,)
        self.shortest_side = detector.preprocessing.shortest_side

    @property
    def by_photo(self) -> bool:
        """Whether a call for one photo keeps a core busy. Loads the model."""
        return self._runner.get().by_image

    def prepare(self, picture: Picture) -> Pixels:
        """Return the picture, squashed to the size of the model: uint8 [1, height, width, 3]. Raises `PhotoError`."""
        return picture.view(self._detector.preprocessing)

    def analyse(self, prepared: Sequence[Pixels], earlier: Sequence[Results]) -> Sequence[Results]:
        """Return the boxes of each photo. Raises `ModelError`."""
        images = np.concatenate(prepared)
        size = self._detector.interface.batch or len(images)  # each call may give another number of boxes
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        found = [boxes for part in parts for some in in_parts(self._detect, part) for boxes in some]
        return [{BOXES: boxes} for boxes in found]

    def _detect(self, images: Pixels) -> list[tuple[Box, ...]]:
        return boxes_of(self._runner.get().run_unchecked(images), self._detector)

    def _pack(self, boxes: Sequence[Box]) -> bytes:
        return pack(boxes, self._numbers)

    def _unpack(self, packed: bytes) -> tuple[Box, ...]:
        return unpack(packed, self._detector.names)


def boxes_key(detector: Detector) -> str:
    """Return the key of the boxes, a digest of everything that determines them."""
    return hashlib.sha256("\0".join((BOXES, detector.digest)).encode()).hexdigest()[:32]


def check_detector(detector: Detector) -> None:
    """Load the detector and run it on images of noise. Raises `ModelError` if it fails or does not give boxes."""
    from phototag.engines.load import open_runner

    runner = open_runner(detector, "tensorflow", ignore, 1)
    DetectorAnalyzer(detector, lambda: runner).analyse(list(runner.noise()[:, None]), [{}, {}])


# --- From outputs to boxes --------------------------------------------------------------------------------------------


def boxes_of(outputs: Mapping[str, NDArray[Any]], detector: Detector) -> list[tuple[Box, ...]]:
    """Return the boxes of each image, the surest first.

    `outputs`: by name, [N, ...], as `Runner.run_unchecked` gives them. Boxes are clipped to the photo. Those with a
    score below `LEAST_SCORE` are left out, and so are those without area, and kinds without a name.

    Raises `SignatureMismatch` if an output has an impossible shape or a score is outside 0 to 1. Raises `LabelMismatch`
    if a kind is beyond the names.
    """
    for name, values in outputs.items():
        if not fits(name, values.shape):
            shape = ", ".join(map(str, values.shape))
            what = f"{detector.directory} is not an object detector: its output {name} has the shape [{shape}]"
            raise SignatureMismatch(what, f"export it again with {described(name)}")
    try:
        by_column = columns(outputs, detector.preprocessing.width, detector.preprocessing.height)
    except ValueError as error:
        raise SignatureMismatch(f"{detector.directory} is not an object detector: {error}") from None
    return [_boxes(*rows, detector) for rows in zip(*by_column, strict=True)]


def _boxes(
    edges: NDArray[np.float64], scores: NDArray[np.float64], kinds: NDArray[np.float64], detector: Detector
) -> tuple[Box, ...]:
    """Return the boxes of one image. `edges`: [M, 4]. `scores` and `kinds`: [M]."""
    is_sound = np.isfinite(edges).all(axis=1) & np.isfinite(scores) & np.isfinite(kinds)
    kept = np.flatnonzero(is_sound & (np.where(is_sound, scores, 0.0) >= LEAST_SCORE))
    kept = kept[np.argsort(-scores[kept], kind="stable")][:MOST_BOXES]
    if len(kept) and scores[kept[0]] > 1 + _RANGE_TOLERANCE:
        what = f"{detector.directory} is not an object detector: it gives a score of {scores[kept[0]]:.3g}"
        raise SignatureMismatch(what, "export it again with scores of 0 to 1")
    # Rounded as they are stored, so that a box keeps its area.
    stored = np.rint(np.clip(edges[kept], 0.0, 1.0) * _STEPS)
    boxes: list[Box] = []
    for number, score, (left, top, right, bottom) in zip(
        np.rint(kinds[kept]).tolist(), np.minimum(scores[kept], 1.0).tolist(), stored.tolist(), strict=True
    ):
        name = _name(int(number), detector)
        if name and left < right and top < bottom:
            boxes.append(Box(name, score, left / _STEPS, top / _STEPS, right / _STEPS, bottom / _STEPS))
    return tuple(boxes)


def _name(number: int, detector: Detector) -> str:
    if 0 <= number < len(detector.names):
        return detector.names[number]
    known = f"the kinds up to {len(detector.names) - 1}"
    remedy = "put a label file beside it that names each kind, and name that file in its model card"
    raise LabelMismatch(f"{detector.directory} finds the kind {number}, but there are only names for {known}", remedy)


# --- The stored form --------------------------------------------------------------------------------------------------


def pack(boxes: Sequence[Box], numbers: Mapping[str, int]) -> bytes:
    """Return at most `MOST_BOXES` boxes as bytes: 12 for each. `numbers` has the number of each kind.

    Edges and scores are kept to the nearest 1/65535.
    """
    rows = (
        (numbers[box.name], *(round(one * _STEPS) for one in (box.score, box.left, box.top, box.right, box.bottom)))
        for box in boxes[:MOST_BOXES]
    )
    packed = b"".join(_BOX.pack(*row) for row in rows)
    return _HEAD.pack(_VERSION, len(packed) // _BOX.size) + packed


def unpack(packed: bytes, names: Sequence[str]) -> tuple[Box, ...]:
    """Return the boxes in `packed`. `names` has the name of each number of a kind.

    Raises `ValueError` for bytes that `pack` did not make.
    """
    if len(packed) < _HEAD.size or packed[0] != _VERSION:
        raise ValueError("boxes of an unknown version")
    count = packed[1]
    if count > MOST_BOXES or len(packed) != _HEAD.size + count * _BOX.size:
        raise ValueError("boxes that are cut off")
    return tuple(_unpacked(row, names) for row in _BOX.iter_unpack(packed[_HEAD.size :]))


def _unpacked(row: tuple[int, ...], names: Sequence[str]) -> Box:
    number, score, *edges = row
    left, top, right, bottom = edges
    if number >= len(names) or not names[number] or left >= right or top >= bottom:
        raise ValueError("boxes that no detector gives")
    return Box(names[number], score / _STEPS, *(edge / _STEPS for edge in edges))
