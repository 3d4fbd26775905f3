"""Model cards: the facts that a SavedModel does not hold, as JSON beside it (`phototag.json`)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from phototag.core import ScoreLine, canonical_record
from phototag.errors import ModelError
from phototag.images.preprocess import ChannelOrder, Interpolation, Layout, Resize
from phototag.vocabulary.taxonomy import LevelThresholds

CARD_NAME = "phototag.json"
MAX_SIDE = 4096  # pixels of a model's input

Triple = tuple[float, float, float]
ValueRange = Literal["0..1", "-1..1", "0..255", "imagenet", "caffe"]
# What a model gives. `independent`: each class has a score of 0 to 1 of its own, as from a Sigmoid. Several classes or
# none may then be right.
ScoresKind = Literal["logits", "probabilities", "independent"]


@dataclass(frozen=True)
class Scaling:
    """How pixels of 0 to 255 become the values that a model takes: (pixel - mean) / std, per channel in RGB order."""

    mean: Triple
    std: Triple
    channel_order: ChannelOrder = "RGB"


# The ranges in use. `imagenet` is PyTorch's (torchvision.transforms.Normalize): the mean and standard deviation of
# ImageNet's pixels. `caffe` is the range of the first VGG and ResNet models (keras.applications.imagenet_utils).
SCALINGS: Mapping[str, Scaling] = {
    "0..1": Scaling((0, 0, 0), (255, 255, 255)),
    "-1..1": Scaling((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "0..255": Scaling((0, 0, 0), (1, 1, 1)),
    "imagenet": Scaling((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": Scaling((123.68, 116.779, 103.939), (1, 1, 1), "BGR"),
}


@dataclass(frozen=True)
class ImageInput:
    """The images that a model takes. A field that is None comes from the SavedModel, or the user has to give it.

    `name`: the input's key in the signature, or a graph operation. `height`, `width`: pixels. `range`: a key of
    `SCALINGS`. Without a range, `mean` and `std` per channel in RGB order, on the scale 0 to 255. The other fields are
    those of `Preprocessing`. No interpolation means `bicubic`, and for an object detector `bilinear`. A detector gets
    the whole photo, squashed.
    """

    name: str | None = None
    height: int | None = None
    width: int | None = None
    range: ValueRange | None = None
    mean: Triple | None = None
    std: Triple | None = None
    resize: Resize = "crop"
    crop_fraction: float = 1.0
    interpolation: Interpolation | None = None
    channel_order: ChannelOrder | None = None
    layout: Layout | None = None


@dataclass(frozen=True)
class Output:
    """The scores that a model gives. A field that is None comes from the SavedModel, or is measured.

    `name`: the output's key in the signature, or a graph operation. `scores`: whether they are `logits`,
    `probabilities` or `independent`. `background`: class 0 means none of the other classes, and has no label.
    """

    name: str | None = None
    scores: ScoresKind | None = None
    background: bool = False

    def canonical(self) -> str:
        """Return the text for digests."""
        return canonical_record("Output", name=self.name, scores=self.scores, background=self.background)


@dataclass(frozen=True)
class HeadFile:
    """The file of a head of everyday words (`models.head`), in the card's directory.

    `digest`: `sha256:` and the SHA-256 of the file. `thresholds`: by word the probability from which it is written,
    above 0 and below 1. A word without one is never written.
    """

    file: str
    digest: str
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LookFile:
    """The file of a projection to likeness vectors (`models.head`), in the card's directory.

    `digest`: `sha256:` and the SHA-256 of the file.
    """

    file: str
    digest: str


@dataclass(frozen=True)
class ModelCard:
    """The facts that a SavedModel does not hold.

    - `tag_set`, `signature`: the graph of the SavedModel, and its signature; None for the usual ones
    - `labels`: the label file, in the card's directory
    - `taxonomy`: the tree that tags are hedged up: `imagenet`, or `none` for tags without a hierarchy. None means
      `imagenet` if the labels are ImageNet's
    - `temperature`: the divisor of the logits before the softmax
    - `thresholds`: how sure the model must be of a word, by the word's level in the tree. Both this and the temperature
      are fitted on labelled photos (benchmarks/calibrate.py)
    - `detector`: the model is an object detector, and its best score of a kind says this much; None for a classifier
      and for a detector without such facts
    - `digest`: identifies the weights. None means the SHA-256 of the SavedModel's files
    - `head`, `look`: the networks on the features. The signature then has the outputs `words` and `look`
    """

    name: str
    input: ImageInput = field(default_factory=ImageInput)
    output: Output = field(default_factory=Output)
    labels: str | None = None
    tag_set: tuple[str, ...] | None = None
    signature: str | None = None
    taxonomy: Literal["imagenet", "none"] | None = None
    temperature: float = 1.0
    thresholds: LevelThresholds = field(default_factory=LevelThresholds)
    detector: ScoreLine | None = None
    licence: str | None = None
    source: str | None = None
    digest: str | None = None
    head: HeadFile | None = None
    look: LookFile | None = None


def parse_card(text: str, source: str, given: Mapping[str, Any] | None = None) -> ModelCard:
    """Return the model card in `text`, which is JSON. The facts that are `given` have the card's form and override it.

    Raises `ModelError` naming `source` and the wrong key.
    """
    try:
        value = json.loads(text)
    # RecursionError: JSON may begin with thousands of opening brackets.
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source} is not JSON ({error})") from None
    card: ModelCard = _record(ModelCard, _merged(value, given or {}), source)
    _check(card, source)
    return card


def format_card(card: ModelCard) -> str:
    """Return `card` as JSON, without the keys that have their default."""
    return json.dumps(_plain(card), ensure_ascii=False, indent=2) + "\n"


def _merged(value: Any, given: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    merged = dict(value)
    for key, item in given.items():
        merged[key] = _merged(merged.get(key, {}), item) if isinstance(item, Mapping) else item
    # A given range replaces the card's mean and deviation, and vice versa.
    if "input" in given and isinstance(merged.get("input"), dict):
        rivals = {"range"} if "mean" in given["input"] else {"mean", "std"} if "range" in given["input"] else set()
        merged["input"] = {key: item for key, item in merged["input"].items() if key not in rivals}
    return merged


def _plain(record: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for each in dataclasses.fields(record):
        value = getattr(record, each.name)
        default = each.default_factory() if callable(each.default_factory) else each.default
        if value != default:
            plain[each.name] = _plain(value) if dataclasses.is_dataclass(value) else value
    return plain


def _check(card: ModelCard, source: str) -> None:
    if card.labels is not None:
        _check_beside(card.labels, "labels", source)
    _check_heads(card, source)
    # Far beyond the temperatures in use, and well within float32.
    if not 0.01 <= card.temperature <= 100:
        raise ModelError(f"{source}: temperature must be from 0.01 to 100, not {card.temperature}")
    for level, threshold in dataclasses.asdict(card.thresholds).items():
        if not 0 < threshold < 1:
            raise ModelError(f"{source}: thresholds.{level} must be between 0 and 1, not {threshold}")
    if card.detector is not None:
        _check_line(card.detector, source)
    _check_input(card.input, source)


def _check_line(line: ScoreLine, source: str) -> None:
    # Far beyond the lines that fit real detectors.
    limits = {"slope": (line.slope, 0, 20), "offset": (line.offset, -20, 20), "floor": (line.floor, 0.001, 0.999)}
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise ModelError(f"{source}: detector.{name} must be from {least} to {most}, not {value}")


def _check_beside(file: str, key: str, source: str) -> None:
    if os.path.basename(file) != file or file in ("", ".", ".."):
        raise ModelError(f"{source}: {key} must name a file in the card's own directory, not {file!r}")


def _check_heads(card: ModelCard, source: str) -> None:
    for key, entry in (("head", card.head), ("look", card.look)):
        if entry is not None:
            _check_beside(entry.file, f"{key}.file", source)
            if not entry.file.endswith(".npz"):  # so that it never replaces another file of the model
                raise ModelError(f"{source}: {key}.file must end with .npz, not be {entry.file!r}")
    for word, threshold in (card.head.thresholds if card.head is not None else {}).items():
        if not 0 < threshold < 1:
            raise ModelError(f"{source}: head.thresholds of {word!r} must be between 0 and 1, not {threshold}")


def _check_input(image: ImageInput, source: str) -> None:
    for side in (image.height, image.width):
        if side is not None and not 1 <= side <= MAX_SIDE:
            raise ModelError(f"{source}: input.height and input.width must be 1 to {MAX_SIDE} pixels, not {side}")
    if not 0.1 <= image.crop_fraction <= 1:
        raise ModelError(f"{source}: input.crop_fraction must be from 0.1 to 1, not {image.crop_fraction}")
    if image.std is not None and not all(1e-3 <= abs(value) <= 1e6 for value in image.std):
        raise ModelError(f"{source}: input.std must be from 0.001 to 1000000, not {image.std}")
    if image.mean is not None and not all(abs(value) <= 1e6 for value in image.mean):
        raise ModelError(f"{source}: input.mean must be at most 1000000, not {image.mean}")
    if (image.mean is None) != (image.std is None):
        raise ModelError(f"{source}: input.mean and input.std must be given together")
    if image.range is not None and image.mean is not None:
        raise ModelError(f"{source}: input.range and input.mean contradict each other; give one")


def _record(kind: type[Any], value: object, where: str) -> Any:
    """Return a dataclass of `kind` made from a JSON object. Unknown and missing keys and wrong types are errors."""
    if not isinstance(value, dict):
        raise ModelError(f"{where} must be a JSON object")
    hints, known = get_type_hints(kind), {each.name: each for each in dataclasses.fields(kind)}
    for key in value:
        if key not in known:
            raise ModelError(f"{where}: there is no key {key!r}; the keys are {', '.join(known)}")
    for each in known.values():
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and each.name not in value:
            raise ModelError(f"{where}: the key {each.name!r} is missing")
    return kind(**{key: _value(hints[key], item, f"{where}: {key}") for key, item in value.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):  # a type or None
        return None if value is None else _value(arguments[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in arguments:
            raise ModelError(f"{where} must be one of {', '.join(map(repr, arguments))}, not {str(value)[:80]!r}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is Mapping:
        return _mapping(arguments[1], value, where)
    return _scalar(kind, value, where)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    endless = kinds[-1] is Ellipsis
    if not isinstance(value, list | tuple) or not (endless or len(value) == len(kinds)):
        raise ModelError(f"{where} must be a list of {'texts' if endless else 'three numbers, one for each channel'}")
    return tuple(_value(kinds[0], item, where) for item in value)


def _mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"{where} must be a JSON object")
    return {_value(str, key, f"{where}: a key"): _value(kind, item, f"{where}: {key}") for key, item in value.items()}


def _scalar(kind: type[Any], value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        number = _float(value)
        if math.isfinite(number):
            return number
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        if kind is str and not value.isprintable():  # lone surrogates, null characters, line breaks
            raise ModelError(f"{where} holds unprintable characters: {value[:80]!r}")
        return value
    expected = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}[kind]
    raise ModelError(f"{where} must be {expected}, not {str(value)[:80]!r}")


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any length
        return math.inf
