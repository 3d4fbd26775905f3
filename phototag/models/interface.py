"""How to call a SavedModel as an image classifier: its signature or operations, and the input and output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from phototag.core import LOOK, WORDS, canonical_record
from phototag.errors import ModelError, SignatureMismatch
from phototag.images.preprocess import Layout, Preprocessing
from phototag.models.card import MAX_SIDE, ModelCard, ScoresKind
from phototag.models.saved_model import MetaGraph, Node, Shape, Signature, TensorSpec, nearest

FLOATS = ("float32", "float16", "bfloat16", "float64")
WHOLE_NUMBERS = ("uint8", "int32")
# The dtypes of scores. Quantised models give integers.
SCORES = (*FLOATS, "uint8", "int8", "int32")
# The outputs of the Object Detection API (object_detection/core/standard_fields.py, DetectionResultFields).
API_BOXES, API_CLASSES = "detection_boxes", "detection_classes"
API_SCORES, API_COUNT = "detection_scores", "num_detections"
API_OUTPUTS = {API_BOXES, API_CLASSES, API_SCORES}
# CenterNet's output: [N, M, 6], with x1, y1, x2, y2 in pixels of the input, the score, and the number of the kind.
DETECTIONS = "detections"
# The signature that TensorFlow adds for its own use.
_INIT_SIGNATURE = "__saved_model_init_op"
_PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault", "PlaceholderV2")


@dataclass(frozen=True)
class Interface:
    """How to call a SavedModel.

    `input` and `output` are keys of `signature`. If `signature` is None, they are tensors of the graph (`input_1:0`).
    `dtype` is the input's, one of `FLOATS`, `WHOLE_NUMBERS` or `string`, which means encoded JPEG files. `layout`,
    `height` and `width` come from its shape; height and width are None if it takes any size. `batch` is the number of
    images that every call must have, or None for any. `classes` is the number of scores, or None if only running the
    model tells. `also` names the other outputs of the signature that a pass gives. They change no scores, so they are
    not part of the canonical text.
    """

    tag_set: tuple[str, ...]
    signature: str | None
    input: str
    output: str
    dtype: str
    layout: Layout
    height: int | None
    width: int | None
    batch: int | None
    classes: int | None
    also: tuple[str, ...] = ()

    def canonical(self) -> str:
        """Return the text for digests."""
        return canonical_record(
            "Endpoint",  # the name of this class in 0.1.0
            tag_set=self.tag_set,
            signature=self.signature,
            input=self.input,
            output=self.output,
            dtype=self.dtype,
            layout=self.layout,
            height=self.height,
            width=self.width,
            batch=self.batch,
            classes=self.classes,
        )

    @property
    def takes_floats(self) -> bool:
        """Whether the range of the input's values is unknown without a card."""
        return self.dtype in FLOATS


class AnyModel(Protocol):
    """A model that an engine can run: a classifier or an object detector. The fields are those of `find.Model`."""

    @property
    def directory(self) -> Path:
        """The folder of the SavedModel."""

    @property
    def card(self) -> ModelCard:
        """The facts that the SavedModel does not hold."""

    @property
    def interface(self) -> Interface:
        """How to call it."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How to feed it."""

    @property
    def weights(self) -> str:
        """What identifies the SavedModel."""


def choose_interface(graph: MetaGraph, card: ModelCard, directory: Path) -> Interface:
    """Return how to call `graph` as an image classifier: as `card` says, or else in the only possible way.

    Raises `SignatureMismatch` naming `directory`, and the choices, if there are several ways or the graph is not an
    image classifier.
    """
    signature = signature_of(directory, card, graph)
    if signature is None:
        return _operations(directory, card, graph)
    return _keys(directory, card, graph, signature)


def signature_of(directory: Path, card: ModelCard, graph: MetaGraph) -> Signature | None:
    """Return the signature to run, or None if the card names operations of the graph. Raises `SignatureMismatch`."""
    usable = {key: s for key, s in graph.signatures.items() if key != _INIT_SIGNATURE and s.inputs and s.outputs}
    if card.signature is not None:
        if card.signature not in usable:
            known = f"{nearest(card.signature, usable)}it has: {_listed(usable)}"
            raise SignatureMismatch(f"{directory} has no signature {card.signature!r} with inputs and outputs", known)
        return usable[card.signature]
    only = next(iter(usable.values())) if len(usable) == 1 else None
    signature = usable.get("serving_default", only)
    if card.input.name is not None and (signature is None or card.input.name not in signature.inputs):
        return None
    if signature is None:
        if usable:
            remedy = f"choose one with {{signature}}: {_listed(usable)}"
            raise SignatureMismatch(f"{directory} has {len(usable)} signatures", remedy, choices=sorted(usable))
        raise SignatureMismatch(f"{directory} has no signature", _operations_hint(graph))
    return signature


def _keys(directory: Path, card: ModelCard, graph: MetaGraph, signature: Signature) -> Interface:
    """Return how to call `signature`, with input and output by their keys."""
    if card.output.name is None and gives_objects(signature):
        raise SignatureMismatch(f"{directory} is not a classifier: it is an object detector", "name it with {detect}")
    _check_input(directory, signature)
    also = _outputs_of_heads(directory, card, signature)
    rest = [key for key in signature.outputs if key not in also]
    output_key = card.output.name or (rest[0] if len(rest) == 1 else None)
    if output_key is None or output_key not in signature.outputs:
        fault = f"no output {output_key!r}" if output_key else f"{len(signature.outputs)} outputs"
        raise SignatureMismatch(
            f"the signature {signature.key} of {directory} has {fault}",
            f"choose one with {{output_op}}: {_listed(signature.outputs)}",
            choices=sorted(signature.outputs),
        )
    output = signature.outputs[output_key]
    if output.dtype not in SCORES:
        raise SignatureMismatch(f"{directory} is not a classifier: its output {output_key!r} is {output.dtype}")
    classes = _classes(directory, output.shape)
    return replace(interface_of(directory, card, graph, signature, output_key, classes), also=also)


def interface_of(
    directory: Path,
    card: ModelCard,
    graph: MetaGraph,
    signature: Signature,
    output: str,
    classes: int | None = None,
) -> Interface:
    """Return how to call `signature`, whose output is the key `output`. Raises `SignatureMismatch`."""
    _check_input(directory, signature)
    input_key, spec = next(iter(signature.inputs.items()))
    return _interface(directory, card, graph, spec, (signature.key, input_key, output), classes)


def _check_input(directory: Path, signature: Signature) -> None:
    if len(signature.inputs) != 1:
        raise SignatureMismatch(
            f"the signature {signature.key} of {directory} takes {len(signature.inputs)} inputs, not one image: "
            f"{_listed(signature.inputs)}"
        )


def gives_objects(signature: Signature) -> bool:
    """Return whether `signature` has the outputs of an object detector."""
    return any(signature.outputs.keys() >= names for names in (API_OUTPUTS, {DETECTIONS}))


def _outputs_of_heads(directory: Path, card: ModelCard, signature: Signature) -> tuple[str, ...]:
    """Return the outputs that the card's heads give."""
    heads = {WORDS: card.head, LOOK: card.look}
    also = tuple(name for name, entry in heads.items() if entry is not None)
    for name in also:
        spec = signature.outputs.get(name)
        if spec is None or spec.dtype not in FLOATS or (spec.shape is not None and len(spec.shape) != 2):
            what = (
                f"the signature {signature.key} of {directory} has no output {name!r} of numbers, which its card needs"
            )
            raise SignatureMismatch(what, f"export it with that output or take {_ENTRIES[name]!r} out of the card")
    return also


_ENTRIES = {WORDS: "head", LOOK: "look"}


def _operations(directory: Path, card: ModelCard, graph: MetaGraph) -> Interface:
    """Return how to call `graph`, with input and output by their names in it."""
    if card.head is not None or card.look is not None:
        what = f"{directory} would run by operations, and only a signature gives the words and the look of its card"
        raise SignatureMismatch(what, "leave out {input_op} and {output_op}, or take 'head' and 'look' out of the card")
    if card.input.name is None or card.output.name is None:
        missing = "input" if card.input.name is None else "output"
        raise SignatureMismatch(f"{directory}: the name of the {missing} is missing", _operations_hint(graph))
    for name in (card.input.name, card.output.name):
        if _operation(name) not in graph.nodes:
            raise SignatureMismatch(f"{directory} has no operation {name!r}", _operations_hint(graph))
    node = graph.nodes[_operation(card.input.name)]
    if node.op not in _PLACEHOLDERS:
        raise SignatureMismatch(f"the operation {node.name} of {directory} takes no input", _operations_hint(graph))
    spec = TensorSpec(node.name, node.dtype, node.shape)
    names = (None, _tensor_name(card.input.name), _tensor_name(card.output.name))
    return _interface(directory, card, graph, spec, names, None)


def _interface(
    directory: Path,
    card: ModelCard,
    graph: MetaGraph,
    spec: TensorSpec,
    names: tuple[str | None, str, str],
    classes: int | None,
) -> Interface:
    """Return an interface completed from the input's `spec`. `names`: signature, input and output."""
    is_file = spec.dtype == "string"
    if is_file and spec.shape == ():
        raise SignatureMismatch(f"{directory} takes one JPEG file at a time; export it again with a batch dimension")
    is_image = spec.dtype in (*FLOATS, *WHOLE_NUMBERS) and (spec.shape is None or len(spec.shape) == 4)
    if not is_file and not is_image:
        raise SignatureMismatch(f"{directory} takes no images, but {spec.dtype} of shape {_shown(spec.shape)}")
    shape = (None, None, None, None) if is_file or spec.shape is None else spec.shape
    # TensorFlow's own layout, unless the shape says otherwise.
    layout: Layout = card.input.layout or ("NCHW" if shape[1] == 3 and shape[3] != 3 else "NHWC")
    height, width, channels = shape[1:] if layout == "NHWC" else (*shape[2:], shape[1])
    if channels not in (3, None):
        raise SignatureMismatch(f"{directory} takes images of {channels} channels, not 3: its input is {_shown(shape)}")
    batch = spec.shape[0] if spec.shape else None
    if not all(size is None or 1 <= size <= MAX_SIDE for size in (batch, height, width)):
        raise SignatureMismatch(f"{directory} takes images of impossible size: its input is {_shown(spec.shape)}")
    return Interface(tuple(sorted(graph.tags)), *names, spec.dtype, layout, height, width, batch, classes)


def _operations_hint(graph: MetaGraph) -> str:
    guess = guess_operations(graph)
    if guess is None and graph.callables:
        return f"it has only functions ({_listed(graph.callables)}); export it again with signatures="
    if guess is None:
        return "name its operations with {input_op} and {output_op}, if it is an image classifier at all"
    return f"name its operations, perhaps {{input_op}} {guess[0]} {{output_op}} {guess[1]}"


def guess_operations(graph: MetaGraph) -> tuple[str, str] | None:
    """Return the operations that probably take images and give scores, or None.

    The first is a placeholder of image shape. The second is the last Softmax, or else the last operation whose output
    is not used, or the last operation of a dense layer.
    """
    nodes = graph.nodes.values()
    inputs = [
        node.name for node in nodes if node.op in _PLACEHOLDERS and node.shape is not None and len(node.shape) == 4
    ]
    used = {name.partition(":")[0] for node in nodes for name in node.inputs}
    candidates = (
        [node.name for node in nodes if node.op == "Softmax"],
        [node.name for node in nodes if node.op in (*_OVER_CLASSES, *_WITH_WEIGHTS) and node.name not in used],
        [node.name for node in nodes if node.op in ("MatMul", "BiasAdd")],
    )
    outputs = next(filter(None, candidates), [])
    return (inputs[0], outputs[-1]) if inputs and outputs else None


# Operations that an image classifier never needs: they read and write files, print, or call Python.
_REFUSED = re.compile(
    r"ReadFile|WriteFile|Print(V2)?|(Eager)?PyFunc.*|.*Summary.*(Writer|Db).*|Debug.*|SaveDataset.*|.*Snapshot.*|"
    r"MatchingFiles|WholeFileReader.*|Copy|CopyHost|.*RecordDataset.*|TextLine.*|FixedLength.*|.*SqlDataset.*"
)
# Operations that every model has for saving itself, but that must not run for a classification.
_REFUSED_IN_USE = re.compile(r"Save|SaveV2|SaveSlices|MergeV2Checkpoints")


def check_harmless(graph: MetaGraph, interface: Interface, directory: Path) -> None:
    """Raise `ModelError` naming `directory` if `graph` has operations that phototag does not run."""
    refused = refused_ops(graph, interface)
    if refused:
        raise ModelError(f"{directory} has the operations {', '.join(sorted(refused))}, which phototag does not run")


def refused_ops(graph: MetaGraph, interface: Interface) -> set[str]:
    """Return the operations for which phototag refuses to run `graph` as `interface` says.

    A graph is a program, and TensorFlow runs it with the user's rights. This refuses the operations that a classifier
    never needs. It is not a sandbox.
    """
    everywhere = {node.op for node in graph.every_node() if _REFUSED.fullmatch(node.op)}
    tensors = [_output_tensor(graph, interface), *_other_tensors(graph, interface)]
    used = {op for tensor in tensors for op in graph.ops_behind(tensor)}
    return everywhere | {op for op in used if _REFUSED_IN_USE.fullmatch(op)}


def scores_kind(graph: MetaGraph, interface: Interface) -> ScoresKind | None:
    """Return the kind of the scores, told by the operation that gives them; None if that does not tell."""
    producer = graph.producer(_output_tensor(graph, interface))
    return _SCORES_BY_OP.get(producer.op) if producer is not None else None


# The kind of the scores, by the last operation of the classifier.
_SCORES_BY_OP: Mapping[str, ScoresKind] = {
    "Softmax": "probabilities",
    "Sigmoid": "independent",
    "MatMul": "logits",
    "BiasAdd": "logits",
    "Add": "logits",
    "AddV2": "logits",
    "Conv2D": "logits",
    "Mean": "logits",
    "Mul": "logits",
}


def class_count(graph: MetaGraph, interface: Interface) -> int | None:
    """Return the number of classes, by the signature or by the last layer's weights; None if unclear."""
    if interface.classes is not None:
        return interface.classes
    tensor = _output_tensor(graph, interface)
    for _ in range(MAX_LAYERS):
        producer = graph.producer(tensor)
        if producer is None or not producer.inputs or producer.op not in (*_OVER_CLASSES, *_WITH_WEIGHTS):
            return None
        shape = _weights_shape(graph, producer)
        if shape:
            return shape[0] if producer.is_transposed else shape[-1]
        if producer.op not in _OVER_CLASSES:
            return None
        tensor = producer.inputs[0]
    return None


# Operations that give as many scores as they take, and operations whose weights decide how many.
_OVER_CLASSES = ("Softmax", "Sigmoid", "Mean", "BiasAdd", "Add", "AddV2")
_WITH_WEIGHTS = ("MatMul", "Conv2D")
MAX_LAYERS = 8  # between the output and the last layer with weights


def _weights_shape(graph: MetaGraph, layer: Node) -> Shape | None:
    """Return the shape of the constant or variable that is the second input of `layer`, or None."""
    if len(layer.inputs) < 2 or layer.op in ("Softmax", "Sigmoid", "Mean"):
        return None
    weights = graph.producer(layer.inputs[1], through=("Identity", "ReadVariableOp"))
    return (weights.constant_shape or weights.shape) if weights is not None else None


def _output_tensor(graph: MetaGraph, interface: Interface) -> str:
    if interface.signature is None:
        return interface.output
    return graph.signatures[interface.signature].outputs[interface.output].name


def _other_tensors(graph: MetaGraph, interface: Interface) -> list[str]:
    """Return the tensors of `Interface.also`. An output that the signature lacks has none: the engines say so."""
    outputs = graph.signatures[interface.signature].outputs if interface.signature is not None else {}
    return [outputs[name].name for name in interface.also if name in outputs]


def _operation(name: str) -> str:
    return name.partition(":")[0]


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"


def _classes(directory: Path, shape: Shape | None) -> int | None:
    """Return the number of scores of an output of `shape`: [N, classes], perhaps with dimensions of 1 between."""
    if shape is None:
        return None
    if len(shape) < 2 or any(size not in (1, None) for size in shape[1:-1]):
        raise SignatureMismatch(f"{directory} is not a classifier: its output has the shape {_shown(shape)}")
    return shape[-1]


def _shown(shape: Shape | None) -> str:
    return "unknown" if shape is None else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
