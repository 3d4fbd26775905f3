"""Describe a SavedModel: as TensorFlow's `saved_model_cli show` prints it, and as data with a verdict.

Pure: models in, lines and data out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from phototag.errors import SignatureMismatch, Spell, python_spelling, spelled
from phototag.models.card import ScoresKind
from phototag.models.examine import Examination
from phototag.models.find import BACKGROUND_NAMES
from phototag.models.interface import Interface, class_count, scores_kind
from phototag.models.saved_model import (
    ConcreteFunction,
    MetaGraph,
    Signature,
    TensorSpec,
    TypeName,
    choose_meta_graph,
    nearest,
)

IMAGENET_CLASSES = 1000

# --- As saved_model_cli prints it -------------------------------------------------------------------------------------


def reference_lines(
    graphs: Sequence[MetaGraph],
    source: Path,
    *,
    everything: bool,
    tag_set: Sequence[str] | None,
    signature: str | None,
    list_ops: bool,
) -> Iterator[str]:
    """Yield what `saved_model_cli show` of TensorFlow 2.21 prints. Ops come sorted; its own order is random.

    `everything` overrides the other arguments, as in `saved_model_cli`. Raises `SignatureMismatch` if there is no such
    tag-set or signature.
    """
    if everything:
        yield from _everything(graphs)
    elif tag_set is None:
        yield "The given SavedModel contains the following tag-sets:"
        for tags in sorted(list(graph.tags) for graph in graphs):
            yield repr(", ".join(sorted(tags)))
    else:
        graph = choose_meta_graph(tuple(graphs), tag_set, source)
        if list_ops:
            yield _ops_line(graph)
        if signature is None:
            yield "The given SavedModel MetaGraphDef contains SignatureDefs with the following keys:"
            yield from (f'SignatureDef key: "{key}"' for key in sorted(graph.signatures))
        else:
            yield from _signature_lines(_signature(graph, signature, source), "")


def _signature(graph: MetaGraph, key: str, source: Path) -> Signature:
    if key in graph.signatures:
        return graph.signatures[key]
    known = ", ".join(sorted(graph.signatures)) or "none"
    raise SignatureMismatch(f"{source} has no signature {key!r}", f"{nearest(key, graph.signatures)}it has: {known}")


def _everything(graphs: Sequence[MetaGraph]) -> Iterator[str]:
    for graph in sorted(graphs, key=lambda graph: graph.tags):
        yield ""
        yield f"MetaGraphDef with tag-set: '{', '.join(graph.tags)}' contains the following SignatureDefs:"
        for key in sorted(graph.signatures):
            yield ""
            yield f"signature_def['{key}']:"
            yield from _signature_lines(graph.signatures[key], "  ")
        yield _ops_line(graph)
    with_objects = [graph for graph in graphs if graph.has_objects]
    if with_objects:
        yield ""
        yield from _function_lines(with_objects[0])


def _ops_line(graph: MetaGraph) -> str:
    ops = ", ".join(map(repr, sorted(graph.ops)))
    shown = f"{{{ops}}}" if ops else "set()"
    return f"The MetaGraph with tag set {list(graph.tags)} contains the following ops: {shown}"


def _signature_lines(signature: Signature, indent: str) -> Iterator[str]:
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        yield f"{indent}The given SavedModel SignatureDef contains the following {kind}(s):"
        for key in sorted(tensors):
            tensor = tensors[key]
            yield f"{indent}  {kind}s['{key}'] tensor_info:"
            yield f"{indent}      dtype: {tensor.data_type}"
            yield f"{indent}      shape: {_reference_shape(tensor)}"
            yield f"{indent}      name: {tensor.name}"
    yield f"{indent}Method name is: {signature.method_name}"


def _reference_shape(tensor: TensorSpec) -> str:
    if tensor.shape is None:
        return "unknown_rank" if tensor.shape_is_stated else "()"
    return f"({', '.join('-1' if size is None else str(size) for size in tensor.shape)})"


def _function_lines(graph: MetaGraph) -> Iterator[str]:
    if custom_ops(graph):
        yield "Concrete Functions: N/A (could not be listed due to the existence of custom ops in the SavedModel)"
        return
    yield "Concrete Functions:"
    for index, (name, functions) in enumerate(graph.callables.items()):
        if index:
            yield ""
        yield f"  Function Name: '{name}'"
        for number, function in enumerate(functions, 1):
            if function.arguments:
                yield f"    Option #{number}"
                yield "      Callable with:"
                for place, argument in enumerate(function.arguments, 1):
                    yield f"        Argument #{place}"
                    yield from _argument_lines(argument)
            for place, keyword in enumerate(function.keyword_arguments, 1):
                yield f"        Named Argument #{place}"
                yield f"          {keyword}"


def _argument_lines(argument: Any) -> Iterator[str]:
    indent = " " * 10
    if isinstance(argument, str):
        yield indent + argument
    elif isinstance(argument, TensorSpec):
        yield f"{indent}{argument.name}: {tensor_spec(argument)}"
    else:
        yield f"{indent}DType: {argument.kind if isinstance(argument, TypeName) else type(argument).__name__}"
        yield f"{indent}Value: {_reference_value(argument)}"


def _reference_value(argument: Any) -> str:
    """Return a value as the reference prints it: two backspaces take back a container's last comma."""
    if isinstance(argument, list | tuple):
        return "[" + "".join(f"{_quoted(item)}, " for item in argument) + "\b\b]"
    if isinstance(argument, dict):
        return "{" + "".join(f"'{key}': {_quoted(item)}, " for key, item in argument.items()) + "\b\b}"
    return argument.text if isinstance(argument, TypeName) else str(argument)


def _quoted(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else _plain(value)


def _plain(value: Any) -> str:
    """Return a value as Python prints it."""
    if isinstance(value, TensorSpec):
        return tensor_spec(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_repr, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_repr, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_repr(item)}" for key, item in value.items()) + "}"
    return str(value)


def _repr(value: Any) -> str:
    return repr(value) if isinstance(value, str) else _plain(value)


def tensor_spec(spec: TensorSpec) -> str:
    """Return `spec` as TensorFlow's own `TensorSpec` prints."""
    if spec.shape is None:
        shape = "<unknown>"
    else:
        shape = f"({', '.join(map(str, spec.shape))}{',' if len(spec.shape) == 1 else ''})"
    return f"TensorSpec(shape={shape}, dtype=tf.{spec.dtype}, name={spec.name!r})"


def custom_ops(graph: MetaGraph) -> set[str]:
    """Return the operations of `graph` that TensorFlow 2.21 does not have: they need another library."""
    return {node.op for node in graph.every_node()} - graph.functions.keys() - _known_ops()


@functools.cache
def _known_ops() -> frozenset[str]:
    """Return the operations of TensorFlow, as benchmarks/tensorflow_ops.py lists them."""
    return frozenset((Path(__file__).parent / "tensorflow_ops.txt").read_text(encoding="ascii").split())


# --- As data ----------------------------------------------------------------------------------------------------------


def verdict(examination: Examination, probed: Any = None, spell: Spell = python_spelling) -> dict[str, Any]:
    """Return the verdict on the model, as data.

    `probed`: what running the model showed (`analysis.classifier.Probe`), or None. `spell`: returns the words for
    settings and commands.
    """
    interface = examination.interface
    if interface is not None and _says_nothing(examination, interface) and probed is None:
        return {"image_classifier": "no", "why": "nothing says that it takes images: its input may have any shape"}
    if interface is None:
        return _refusal(examination, spell)
    graph = examination.graph
    classes = probed.classes if probed is not None else class_count(graph, interface)
    scores = _scores(examination, interface, probed)
    custom = sorted(custom_ops(graph))
    return {
        "image_classifier": _likelihood(examination, interface, scores, classes, custom),
        "why": _doubt(examination, scores, custom),
        "input": _input_facts(examination, interface),
        "output": {
            "name": interface.output.removesuffix(":0"),
            "classes": classes,
            "scores": scores,
            "also": list(interface.also),
            "background": _background(examination, classes),
            "measured": None if probed is None else {"least": probed.least, "greatest": probed.greatest},
        },
        "labels": _label_facts(examination, classes),
        "missing": [spelled(fact.text, spell) for fact in examination.missing],
    }


def _scores(examination: Examination, interface: Interface, probed: Any) -> ScoresKind | None:
    """Return the kind of the scores: as measured, unless that may be chance and the card or the graph differs."""
    stated = examination.card.output.scores or scores_kind(examination.graph, interface)
    # Independent scores may add up to 1 by chance, and logits may lie between 0 and 1.
    chances = (("independent", "probabilities"), ("logits", "independent"))
    if probed is None or (stated, probed.scores) in chances:
        return stated
    measured: ScoresKind = probed.scores
    return measured


def _refusal(examination: Examination, spell: Spell) -> dict[str, Any]:
    """Return the verdict on a model that cannot be called."""
    fault = examination.fault
    assert fault is not None, "without a fault there is an interface"
    why = fault.text(spell).removeprefix(f"{examination.directory} ").removeprefix("is not a classifier: ")
    return {"image_classifier": "perhaps" if "choices" in fault.facts else "no", "why": why}


def _says_nothing(examination: Examination, interface: Interface) -> bool:
    """Return whether neither shape, card nor number of classes tells that it is an image classifier."""
    if interface.signature is None or examination.card.input.height is not None:
        return False
    signature = examination.graph.signatures[interface.signature]
    shape = signature.inputs[interface.input].shape
    return shape is None and interface.dtype != "string" and class_count(examination.graph, interface) is None


def _likelihood(
    examination: Examination, interface: Interface, scores: ScoresKind | None, classes: int | None, custom: list[str]
) -> str:
    # A single independent class is a classifier too: the photo shows it or not.
    if custom or (classes is not None and classes < (1 if scores == "independent" else 2)):
        return "no"
    by_signature = interface.signature is not None and (scores == "logits" or examination.labels is not None)
    return "yes" if scores in ("probabilities", "independent") or by_signature else "perhaps"


def _doubt(examination: Examination, scores: ScoresKind | None, custom: list[str]) -> str | None:
    if custom:
        return f"it needs operations that TensorFlow does not have: {', '.join(custom)}"
    by_operations = examination.interface is not None and examination.interface.signature is None
    if by_operations and scores not in ("probabilities", "independent"):
        return "it takes images, but ends without a Softmax, and nothing says that its numbers are scores of classes"
    return None


def _input_facts(examination: Examination, interface: Interface) -> dict[str, Any]:
    image = examination.card.input
    values: str | None = image.range
    if image.mean is not None and image.std is not None:
        values = f"(pixel - {_channels(image.mean)}) / {_channels(image.std)}"
    return {
        "name": interface.input.removesuffix(":0"),
        "dtype": interface.dtype,
        "height": interface.height or image.height,
        "width": interface.width or image.width,
        "layout": interface.layout,
        "batch": interface.batch,
        "values": values if interface.takes_floats else "encoded JPEG" if interface.dtype == "string" else "0..255",
    }


def _channels(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else f"[{', '.join(f'{value:g}' for value in values)}]"


def _background(examination: Examination, classes: int | None) -> str:
    labels = examination.labels
    if examination.card.output.background or (labels and labels.labels[0].name.casefold() in BACKGROUND_NAMES):
        return "yes"
    return "probably" if classes == IMAGENET_CLASSES + 1 and labels is None else "no"


def _label_facts(examination: Examination, classes: int | None) -> dict[str, Any]:
    labels = examination.labels
    count = None if labels is None else len(labels.labels)
    # The label file of an installed model leaves the background class out, and its card says so.
    offsets = {0, 1} if examination.card.output.background else {0}
    fits = None if count is None or classes is None else classes - count in offsets
    return {"count": count, "fit": fits}


def as_data(
    examination: Examination, verdict_data: dict[str, Any], fingerprint: int | None, size: int
) -> dict[str, Any]:
    """Return all facts about the model, to be printed as JSON."""
    return {
        "path": str(examination.directory),
        "verdict": verdict_data,
        "size": size,
        "fingerprint": fingerprint,
        "graphs": [_graph_data(graph) for graph in examination.graphs],
    }


def _graph_data(graph: MetaGraph) -> dict[str, Any]:
    return {
        "tags": list(graph.tags),
        "tensorflow_version": graph.tensorflow_version,
        "parameters": graph.parameters,
        "assets": graph.assets,
        "signatures": {key: _signature_data(signature) for key, signature in graph.signatures.items()},
        "functions": {name: [_function_data(one) for one in found] for name, found in graph.callables.items()},
        "ops": sorted(graph.ops),
        "custom_ops": sorted(custom_ops(graph)),
    }


def _signature_data(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {key: _tensor_data(tensor) for key, tensor in signature.inputs.items()},
        "outputs": {key: _tensor_data(tensor) for key, tensor in signature.outputs.items()},
        "method_name": signature.method_name,
    }


def _tensor_data(tensor: TensorSpec) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": shape}


def _function_data(function: ConcreteFunction) -> dict[str, Any]:
    return {
        "arguments": [_value_data(argument) for argument in function.arguments],
        "keyword_arguments": {name: _value_data(value) for name, value in function.keyword_arguments.items()},
    }


def _value_data(value: Any) -> Any:
    if isinstance(value, TensorSpec):
        return _tensor_data(value)
    if isinstance(value, list | tuple):
        return [_value_data(item) for item in value]
    if isinstance(value, dict):
        return {key: _value_data(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # not a number in JSON
    return value.text if isinstance(value, TypeName) else value
