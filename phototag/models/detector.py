"""From a name to an object detector that can be run.

A detector is a SavedModel with the outputs of TensorFlow's Object Detection API, or with CenterNet's. It may have a
model card. Without a card, its kinds are COCO's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phototag.core import ScoreLine, canonical
from phototag.errors import LabelMismatch, ModelError, SignatureMismatch
from phototag.images.preprocess import Preprocessing
from phototag.models import coco
from phototag.models.card import ImageInput, ModelCard, Output
from phototag.models.find import BACKGROUND_NAMES, digest_of, locate, preprocessing_for, read_card, read_labels
from phototag.models.interface import (
    API_BOXES,
    API_CLASSES,
    API_COUNT,
    API_OUTPUTS,
    API_SCORES,
    DETECTIONS,
    SCORES,
    Interface,
    check_harmless,
    gives_objects,
    interface_of,
    signature_of,
)
from phototag.models.labels import LabelFile
from phototag.models.saved_model import MetaGraph, Shape, Signature, TensorSpec, choose_meta_graph, read_saved_model
from phototag.paths import installed_directory

# `api`: the outputs of TensorFlow's Object Detection API. `centernet`: boxes, scores and kinds in one output.
Form = Literal["api", "centernet"]

# The shapes of the outputs after the first dimension, the images. None: how many boxes there are.
_SHAPES: Mapping[str, Shape] = {
    API_BOXES: (None, 4),
    API_CLASSES: (None,),
    API_SCORES: (None,),
    API_COUNT: (),
    DETECTIONS: (None, 6),
}
# The dtypes of the outputs. Some detectors number the kinds with whole numbers of 64 bits.
_NUMBERS = (*SCORES, "int16", "uint16", "uint32", "int64", "uint64")
# Boxes with a lower score are not kept. CenterNet gives a hundred boxes for each photo, most of them guesses.
LEAST_SCORE = 0.1
# The size of the images, in pixels, if neither the model nor its card says it. Most detectors of the Object Detection
# API's model zoo were trained on images of 640 x 640.
DEFAULT_SIDE = 640
MAX_KINDS = 1 << 16  # the stored form of boxes has 16 bits for the kind
# The name that label maps of TensorFlow give to a number without a kind.
_UNNAMED = "???"


@dataclass(frozen=True)
class Detector:
    """An object detector that can be run: its card, how to call and feed it, and the names of its kinds.

    `names` has the name of each number that the model gives for a kind. An empty name means that the number has none.
    `line`: how much its best score for a kind says. `weights` and `digest` are those of `Model`: the digest changes
    whenever the same photo may get other boxes.
    """

    directory: Path
    card: ModelCard
    interface: Interface
    preprocessing: Preprocessing
    form: Form
    names: tuple[str, ...]
    weights: str
    digest: str

    @property
    def line(self) -> ScoreLine:
        """What the best score of a kind says about the photo."""
        return self.card.detector or ScoreLine()

    @property
    def kinds(self) -> int:
        """The number of kinds of objects that have a name."""
        return len(set(self.names) - {""})


def find_detector(name: str, *, labels: Path | None = None, given: Mapping[str, Any] | None = None) -> Detector:
    """Return the detector that is installed as `name`, or the detector in the directory `name`.

    `labels`: a label file that overrides the card's. `given`: facts in the form of a model card, which override the
    card. This neither loads nor runs the model.

    Raises `ModelError` if there is no such model, it is not a detector, or a fact about it is wrong.
    """
    directory = locate(name)
    graphs = read_saved_model(directory)
    card = read_card(directory, given)
    graph = choose_meta_graph(graphs, card.tag_set, directory)
    form, interface = _interface(directory, card, graph)
    check_harmless(graph, interface, directory)
    preprocessing = preprocessing_for(directory, _image(directory, card.input, interface), interface)
    names = _names(directory, form, read_labels(directory, card, labels))
    weights = card.digest or digest_of(directory)
    facts = (weights, interface, list(interface.also), preprocessing, form, names)
    digest = hashlib.sha256(canonical(facts).encode("utf-8", "backslashreplace")).hexdigest()
    return Detector(directory, card, interface, preprocessing, form, names, weights, digest)


def is_detector(graph: MetaGraph, card: ModelCard, directory: Path) -> bool:
    """Return whether `graph` has the outputs of a detector, in the signature that `card` names or in the usual one."""
    try:
        signature = signature_of(directory, card, graph)
    except SignatureMismatch:
        return False
    return signature is not None and gives_objects(signature)


def is_installed_detector(name: str) -> bool:
    """Return whether the installed model `name` is an object detector by its card."""
    try:
        return read_card(installed_directory(name), None).detector is not None
    except ModelError:
        return False


def settled_card(detector: Detector) -> ModelCard:
    """Return the card of `detector` with every fact in it. The names of the kinds go into `labels.json` beside it."""
    card, interface, preprocessing = detector.card, detector.interface, detector.preprocessing
    image = replace(
        _image(detector.directory, card.input, interface),
        name=interface.input,
        height=preprocessing.height,
        width=preprocessing.width,
        channel_order=preprocessing.channel_order,
        layout=preprocessing.layout,
    )
    return replace(
        card,
        input=image,
        output=Output(),
        labels="labels.json",
        tag_set=interface.tag_set,
        signature=interface.signature,
        detector=detector.line,
        digest=detector.weights,
        head=None,
        look=None,
    )


def kind_labels(detector: Detector) -> tuple[str, ...]:
    """Return the names of the kinds as a label file of the detector has them: in the order of their numbers."""
    return tuple(
        name or (BACKGROUND_NAMES[0] if number == 0 else _UNNAMED) for number, name in enumerate(detector.names)
    )


# --- The outputs ------------------------------------------------------------------------------------------------------


def gives_boxes(interface: Interface) -> bool:
    """Return whether `interface` is that of a detector."""
    return interface.output == DETECTIONS or API_BOXES in interface.also


def columns(
    outputs: Mapping[str, NDArray[Any]], width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return left, top, right and bottom, [N, M, 4], as fractions; the scores and the numbers of the kinds, [N, M].

    `outputs`: by name, of shapes that `fits` accepts. `width` and `height`: pixels of the model's images.

    Raises `ValueError` if the outputs have different numbers of boxes.
    """
    if DETECTIONS in outputs:
        detections = outputs[DETECTIONS].astype(np.float64)
        return detections[..., :4] / (width, height, width, height), detections[..., 4], detections[..., 5]
    # The API gives top, left, bottom and right.
    edges = outputs[API_BOXES].astype(np.float64)[..., [1, 0, 3, 2]]
    scores, kinds = outputs[API_SCORES].astype(np.float64), outputs[API_CLASSES].astype(np.float64)
    if API_COUNT in outputs:  # the rows behind the last box only fill up
        rows = np.arange(scores.shape[1])
        scores = np.where(rows < outputs[API_COUNT].astype(np.float64)[:, None], scores, 0.0)
    if not edges.shape[:2] == scores.shape == kinds.shape:
        raise ValueError(f"it gives {edges.shape[1]} boxes, {scores.shape[1]} scores and {kinds.shape[1]} kinds")
    return edges, scores, kinds


# --- The facts --------------------------------------------------------------------------------------------------------


def _form(signature: Signature) -> Form | None:
    if not gives_objects(signature):
        return None
    return "api" if signature.outputs.keys() >= API_OUTPUTS else "centernet"


def _interface(directory: Path, card: ModelCard, graph: MetaGraph) -> tuple[Form, Interface]:
    """Return the form of the detector's outputs, and how to call it. Raises `SignatureMismatch`."""
    signature = signature_of(directory, card, graph)
    form = _form(signature) if signature is not None else None
    if signature is None or form is None:
        outputs = ", ".join(sorted(signature.outputs)) if signature is not None else "none by name"
        needed = f"{API_BOXES}, {API_CLASSES} and {API_SCORES}, or {DETECTIONS}"
        raise SignatureMismatch(
            f"{directory} is not an object detector: its outputs are {outputs}",
            f"name a SavedModel that has the outputs {needed}",
        )
    output, also = (DETECTIONS, ()) if form == "centernet" else (API_SCORES, (API_BOXES, API_CLASSES))
    if form == "api" and API_COUNT in signature.outputs:
        also = (*also, API_COUNT)
    for name in (output, *also):
        _check_output(directory, name, signature.outputs[name])
    return form, replace(interface_of(directory, card, graph, signature, output), also=also)


def _check_output(directory: Path, name: str, spec: TensorSpec) -> None:
    """Raise `SignatureMismatch` if `spec`, as far as it is known, cannot be the output `name` of a detector."""
    if spec.dtype not in _NUMBERS:
        what = f"{directory} is not an object detector: its output {name} is {spec.dtype}"
        raise SignatureMismatch(what, "export it again with numbers")
    shape = spec.shape
    if shape is not None and not fits(name, shape):
        dimensions = ", ".join("?" if size is None else str(size) for size in shape)
        raise SignatureMismatch(
            f"{directory} is not an object detector: its output {name} has the shape [{dimensions}]",
            f"export it again with {described(name)}",
        )


def fits(name: str, shape: Shape) -> bool:
    """Return whether the output `name` of a detector may have `shape`, with the images first. None is any size."""
    wanted = _SHAPES[name]
    if len(shape) != len(wanted) + 1:
        return False
    return all(size is None or one is None or one == size for one, size in zip(shape[1:], wanted, strict=True))


def described(name: str) -> str:
    """Return the shape that the output `name` of a detector must have, as text: `detection_boxes [N, M, 4]`."""
    return f"{name} [{', '.join(('N', *('M' if size is None else str(size) for size in _SHAPES[name])))}]"


def _image(directory: Path, image: ImageInput, interface: Interface) -> ImageInput:
    """Return the facts about the images, with the defaults of a detector: values of 0 to 255, and `DEFAULT_SIDE`."""
    if image.resize == "pad":
        what = f"{directory} has a card with input.resize = pad, but a detector gets the whole photo squashed"
        raise ModelError(what, "correct the card")
    if interface.takes_floats and image.range is None and image.mean is None:
        image = replace(image, range="0..255")
    height = interface.height or image.height or DEFAULT_SIDE
    width = interface.width or image.width or DEFAULT_SIDE
    if (image.height or height, image.width or width) == (height, width):  # `preprocessing_for` reports the others
        image = replace(image, height=height, width=width)
    # The filter that the Object Detection API and CenterNet were trained with.
    return replace(image, resize="squash", crop_fraction=1.0, interpolation=image.interpolation or "bilinear")


def _names(directory: Path, form: Form, label_file: LabelFile | None) -> tuple[str, ...]:
    """Return the name of each number that the model gives for a kind. Raises `LabelMismatch`."""
    if label_file is None:
        return coco.KINDS if form == "centernet" else coco.names_by_id()
    names = ["" if label.name in (_UNNAMED, *BACKGROUND_NAMES) else label.name for label in label_file.labels]
    if form == "api" and names[0]:
        names.insert(0, "")  # the API counts from 1
    if len(names) > MAX_KINDS or not any(names):
        what = f"the label file of {directory} names {sum(map(bool, names))} kinds of objects"
        raise LabelMismatch(what, f"name another, with 1 to {MAX_KINDS - 1} kinds")
    return tuple(names)
