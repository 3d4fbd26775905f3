"""The content of a SavedModel, read from its protobuf alone, without TensorFlow."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import message, text_format

from phototag.errors import NotASavedModel, SignatureMismatch
from phototag.models._protobuf import PROTO_NAMES, decoded, dtype_name, message_class

FILE_NAMES = ("saved_model.pb", "saved_model.pbtxt")
# Protocol buffers cannot be larger (2 GiB), so a larger file is something else.
MAX_BYTES = 2**31 - 1
MAX_GRAPHS = 100  # two or three are usual, for serving, training or another device

Shape = tuple["int | None", ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor: its name, dtype (`float32`, or a number if it is unknown) and shape.

    A dimension that is not fixed is None. So is a shape of unknown rank, or a shape that is not stated.
    """

    name: str
    dtype: str
    shape: Shape | None
    shape_is_stated: bool = True

    @property
    def data_type(self) -> str:
        """The dtype as TensorFlow's protocol buffers call it: `DT_FLOAT`, or its number if it is unknown."""
        if self.dtype.isdigit():
            return self.dtype
        base = self.dtype.removesuffix("_ref")
        return f"DT_{PROTO_NAMES.get(base, base.upper())}{'_REF' if base != self.dtype else ''}"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature: its inputs and outputs by key."""

    key: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """An operation of a graph or of a function.

    `inputs` are names of tensors. `dtype` and `shape` are attributes of placeholders. `function` is the function that
    it calls, and `calls` are all that it may call, such as the branches of an If. `constant_shape` is the shape of a
    constant's value. `is_transposed`: its second input is transposed.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    dtype: str
    shape: Shape | None
    function: str | None
    calls: tuple[str, ...]
    constant_shape: Shape | None
    is_transposed: bool


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the graph's library.

    `nodes` are its operations by name, `returns` the tensor of each output, and `inputs` the number of its inputs.
    """

    name: str
    inputs: int
    nodes: Mapping[str, Node]
    returns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TypeName:
    """A value of a function's signature that is itself a type, such as `RaggedTensorSpec`.

    `kind` is what Python calls its type, `text` how it prints, and `representation` how it prints inside a container.
    """

    kind: str
    text: str
    representation: str

    def __str__(self) -> str:
        return self.representation


@dataclass(frozen=True, slots=True)
class ConcreteFunction:
    """One way to call a function: its arguments are `TensorSpec`s, constants, and containers of both."""

    arguments: tuple[Any, ...]
    keyword_arguments: Mapping[str, Any]


class MetaGraph:
    """One graph of a SavedModel, with its tags in stored order. The tags identify it."""

    def __init__(self, proto: Any) -> None:
        self._proto = proto
        self.tags = tuple(map(decoded, proto.meta_info_def.tags))

    @classmethod
    def described(cls, tags: tuple[str, ...], signatures: Mapping[str, Signature]) -> MetaGraph:
        """Return the description of a graph that does not exist yet."""
        graph = cls(message_class("MetaGraphDef")())
        graph.tags, graph.signatures = tags, dict(signatures)
        return graph

    @functools.cached_property
    def signatures(self) -> dict[str, Signature]:
        """The signatures by key."""
        entries = ((decoded(entry.key), entry.value) for entry in self._proto.signature_def)
        return {
            key: Signature(key, _tensors(value.inputs), _tensors(value.outputs), decoded(value.method_name))
            for key, value in entries
        }

    @functools.cached_property
    def nodes(self) -> dict[str, Node]:
        """The operations of the graph by name."""
        return {node.name: node for node in map(_node, self._proto.graph_def.node)}

    @functools.cached_property
    def functions(self) -> dict[str, Function]:
        """The functions of the graph's library by name."""
        return {function.name: function for function in map(_function, self._proto.graph_def.library.function)}

    def every_node(self) -> Iterator[Node]:
        """Yield the operations of the graph and of its functions, called or not."""
        yield from self.nodes.values()
        for function in self.functions.values():
            yield from function.nodes.values()

    @property
    def ops(self) -> set[str]:
        """The kinds of operations in use, as TensorFlow counts them: in the graph and in functions that it calls."""
        used: set[str] = set()
        pending = list(self.nodes.values())
        while pending:
            node = pending.pop()
            called = node.function if node.op in ("PartitionedCall", "StatefulPartitionedCall") else None
            for op in (node.op, called):
                if op is not None and op not in used:
                    used.add(op)
                    pending.extend(self.functions[op].nodes.values() if op in self.functions else ())
        return used - self.functions.keys()

    def ops_behind(self, tensor: str) -> set[str]:
        """Return the kinds of operations that may run for `tensor`: its dependencies and their functions."""
        found: set[str] = set()
        seen: set[str] = set()
        called: set[str] = set()
        pending = [tensor]
        while pending:
            name = pending.pop().removeprefix("^").partition(":")[0]
            node = self.nodes.get(name)
            if node is not None and name not in seen:
                seen.add(name)
                found.add(node.op)
                pending.extend(node.inputs)
                called.update((node.op, *node.calls))
        functions = list(called & self.functions.keys())
        for name in functions:
            for node in self.functions[name].nodes.values():
                found.add(node.op)
                new = {node.op, *node.calls} & self.functions.keys() - called
                called |= new
                functions.extend(new)
        return found

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned: in its variables, or in its constants if it is frozen."""
        nodes = self.nodes.values()
        variables = sum(_size(node.shape) for node in nodes if node.op in ("VarHandleOp", "VariableV2", "Variable"))
        return variables or sum(_size(node.constant_shape) for node in self.every_node())

    @property
    def tensorflow_version(self) -> str:
        """The version of TensorFlow that wrote the graph, or an empty string."""
        return decoded(self._proto.meta_info_def.tensorflow_version)

    @property
    def assets(self) -> list[str]:
        """The files that the graph reads, in the folder `assets`."""
        return [decoded(asset.filename) for asset in self._proto.asset_file_def]

    @property
    def has_objects(self) -> bool:
        """Whether the graph belongs to a TensorFlow 2 object, which may have functions."""
        return bool(self._proto.HasField("object_graph_def"))

    @property
    def callables(self) -> dict[str, tuple[ConcreteFunction, ...]]:
        """The functions of the root object by name, with the ways to call each, sorted."""
        objects, loaded = self._proto.object_graph_def, _loaded_names(self.functions)
        by_name = {entry.key: entry.value for entry in objects.concrete_functions}
        found: dict[str, tuple[ConcreteFunction, ...]] = {}
        for child in objects.nodes[0].children if objects.nodes else ():
            if not 0 <= child.node_id < len(objects.nodes):
                continue
            node = objects.nodes[child.node_id]
            if node.HasField("function"):
                names = sorted(
                    node.function.concrete_functions, key=lambda name: loaded.get(decoded(name), decoded(name))
                )
            elif node.HasField("bare_concrete_function"):
                names = [node.bare_concrete_function.concrete_function_name]
            else:
                continue
            found[decoded(child.local_name)] = tuple(_concrete(by_name[name]) for name in names if name in by_name)
        return dict(sorted(found.items()))

    def producer(self, tensor: str, through: Collection[str] | None = None) -> Node | None:
        """Return the operation that gives `tensor` (`name:0`) its values.

        This looks into calls, and passes over the operations `through`, whose first input goes on. By default these are
        the operations that change no score.
        """
        through = _PASSING_ON if through is None else through
        nodes: Mapping[str, Node] = self.nodes
        for _ in range(MAX_STEPS):
            name, _, output = tensor.partition(":")
            node = nodes.get(name)
            if node is None:
                return None
            number = int(output) if output.isdecimal() and len(output) < 4 else 0
            function = self.functions.get(node.function or node.op)
            if function is not None and number < len(function.returns):
                nodes, tensor = function.nodes, function.returns[number]
            elif node.op in through and node.inputs:
                tensor = node.inputs[0]
            else:
                return node
        return None


# Operations that pass their first input on. A longer chain of them is a loop.
_PASSING_ON = {"Identity", "IdentityN", "Reshape", "Squeeze", "Cast", "StopGradient", "EnsureShape", "PreventGradient"}
MAX_STEPS = 1000


def saved_model_file(directory: Path) -> Path:
    """Return the file in `directory` that makes it a SavedModel.

    Raises `NotASavedModel` if there is none. The error names a SavedModel in a subfolder, if there is one.
    """
    try:
        for name in FILE_NAMES:
            if (directory / name).is_file():
                return directory / name
        if not directory.is_dir():
            raise NotASavedModel(f"{directory} is not a directory; name the one that a SavedModel was exported to")
        inside = sorted(path.parent for name in FILE_NAMES for path in directory.glob(f"*/{name}"))
    except OSError as error:
        raise NotASavedModel(f"{directory} cannot be read ({error.strerror}); check its permissions") from None
    hint = f"; {inside[-1]} does" if inside else "; name the directory that a SavedModel was exported to"
    raise NotASavedModel(f"{directory} holds no saved_model.pb{hint}")


def read_saved_model(directory: Path) -> tuple[MetaGraph, ...]:
    """Return the graphs of the SavedModel in `directory`.

    Raises `NotASavedModel` if there is none or it is damaged.
    """
    path = saved_model_file(directory)
    parsed = message_class("SavedModel")()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NotASavedModel(f"{path} is larger than any protocol buffer can be; export the model again")
        with path.open("rb") as file:
            head = file.read(1)
            # The first field is the schema's version (1) or a graph (2). Other files are not read any further.
            if path.suffix == ".pb" and head and head not in (b"\x08", b"\x12"):
                raise message.DecodeError
            file.seek(0)
            data = file.read()
        if path.suffix == ".pb":
            parsed.ParseFromString(data)
        else:
            text_format.Parse(data, parsed, allow_unknown_field=True)
    except OSError as error:
        raise NotASavedModel(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except (message.DecodeError, text_format.ParseError, ValueError, RecursionError):
        raise NotASavedModel(f"{path} is damaged or no SavedModel; export the model again") from None
    if not 1 <= len(parsed.meta_graphs) <= MAX_GRAPHS:
        raise NotASavedModel(f"{path} holds {len(parsed.meta_graphs) or 'no'} graphs; export the model again")
    return tuple(map(MetaGraph, parsed.meta_graphs))


def read_fingerprint(directory: Path) -> int | None:
    """Return the checksum of the SavedModel that TensorFlow left in `fingerprint.pb`, or None."""
    parsed = message_class("FingerprintDef")()
    path = directory / "fingerprint.pb"
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            parsed.ParseFromString(file.read(1 << 16))
    except (OSError, message.DecodeError):
        return None
    return int(parsed.saved_model_checksum)


def choose_meta_graph(graphs: tuple[MetaGraph, ...], tag_set: Iterable[str] | None, source: Path) -> MetaGraph:
    """Return the graph with the tags `tag_set`. If that is None, return the only graph, or the graph for serving.

    Raises `SignatureMismatch` naming the tag-sets that there are.
    """
    if tag_set is None:
        if len(graphs) == 1:
            return graphs[0]
        tag_set = {"serve"}
    wanted = set(tag_set)
    for graph in graphs:
        if set(graph.tags) == wanted:
            return graph
    known = sorted({",".join(sorted(graph.tags)) or "(no tag)" for graph in graphs})
    asked = ",".join(sorted(wanted))
    remedy = f"{nearest(asked, known)}choose one with {{tag_set}}: {'; '.join(known)}"
    raise SignatureMismatch(f"{source} has no graph with the tags {asked}", remedy, choices=known)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests the nearest name in `known`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}? " if close else ""


def _tensors(entries: Any) -> dict[str, TensorSpec]:
    return {decoded(entry.key): _tensor(entry.value) for entry in entries}


def _tensor(info: Any) -> TensorSpec:
    is_stated = info.HasField("tensor_shape")
    shape = _shape(info.tensor_shape) if is_stated else None
    return TensorSpec(decoded(info.name), dtype_name(info.dtype), shape, is_stated)


def _node(node: Any) -> Node:
    attributes = {entry.key: entry.value for entry in node.attr if entry.key in _ATTRIBUTES}
    dtype, shape = attributes.get(b"dtype"), attributes.get(b"shape")
    value, called = attributes.get(b"value"), attributes.get(b"f")
    return Node(
        decoded(node.name),
        decoded(node.op),
        tuple(map(decoded, node.input)),
        dtype_name(dtype.type if dtype is not None else 0),
        _shape(shape.shape) if shape is not None and shape.HasField("shape") else None,
        decoded(called.func.name) if called is not None else None,
        tuple(decoded(entry.value.func.name) for entry in node.attr if entry.value.HasField("func")),
        _shape(value.tensor.tensor_shape) if node.op == b"Const" and value is not None else None,
        bool(attributes[b"transpose_b"].b) if b"transpose_b" in attributes else False,
    )


_ATTRIBUTES = (b"dtype", b"shape", b"value", b"f", b"transpose_b")


def _function(function: Any) -> Function:
    returned = {entry.key: decoded(entry.value) for entry in function.ret}
    nodes = {node.name: node for node in map(_node, function.node_def)}
    returns = tuple(returned.get(argument.name, "") for argument in function.signature.output_arg)
    return Function(decoded(function.signature.name), len(function.signature.input_arg), nodes, returns)


def _shape(shape: Any) -> Shape | None:
    return None if shape.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)


def _size(shape: Shape | None) -> int:
    return min(MAX_SIZE, math.prod(min(size or 0, MAX_SIZE) for size in shape[:8])) if shape is not None else 0


MAX_SIZE = 10**15  # of learned numbers, far more than any model has


def _loaded_names(functions: Mapping[str, Function]) -> dict[str, str]:
    """Return the names that the functions of a library have after TensorFlow has loaded them. It sorts by these.

    TensorFlow loads a function after the functions that it calls, and of the rest the last first
    (function_deserialization.py, `_sort_function_defs`). The new name ends in a counter that every tensor of a function
    increments. An exact count takes the definitions of all operations. So the operations without an output are listed
    here by name.
    """
    waiting = {name: {n for node in f.nodes.values() for n in (node.op, *node.calls)} for name, f in functions.items()}
    # The order matters: `functions.keys() - {name}` would copy all names for each function.
    waiting = {name: (called & functions.keys()) - {name} for name, called in waiting.items()}
    callers: dict[str, list[str]] = {name: [] for name in functions}
    for name, called in waiting.items():
        for other in called:
            callers[other].append(name)
    ready = [name for name, called in waiting.items() if not called]
    names: dict[str, str] = {}
    counter = 3
    while ready:
        name = ready.pop()
        function = functions[name]
        tensors = sum(node.op not in _WITHOUT_OUTPUT for node in function.nodes.values())
        counter += function.inputs + tensors
        tensors_restored = sum(node.op == "RestoreV2" for node in function.nodes.values()) * max(0, function.inputs - 2)
        counter += tensors_restored
        match = re.fullmatch(r"__inference_(.*)_\d+", name)
        names[name] = f"__inference_{match[1] if match else name}_{counter}"
        counter += 2
        for other in callers[name]:
            waiting[other].discard(name)
            if not waiting[other]:
                ready.append(other)
    return names


_WITHOUT_OUTPUT = {"AssignVariableOp", "DisableCopyOnRead", "MergeV2Checkpoints", "NoOp", "SaveV2"}


def _concrete(function: Any) -> ConcreteFunction:
    signature = _structured(function.canonicalized_input_signature)
    # A tuple of the positional arguments and a dictionary of the keyword arguments.
    if isinstance(signature, tuple) and len(signature) == 2 and isinstance(signature[1], dict):
        arguments = signature[0] if isinstance(signature[0], tuple) else ()
        return ConcreteFunction(arguments, signature[1])
    return ConcreteFunction((), {})


def _structured(value: Any, depth: int = 0) -> Any:
    """Return a structured value as Python's own values."""
    kind = value.WhichOneof("kind") or "none_value"
    if depth > MAX_DEPTH:
        return None
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        spec = getattr(value, kind)
        return TensorSpec(decoded(spec.name), dtype_name(spec.dtype), _shape(spec.shape))
    if kind in ("list_value", "tuple_value"):
        items = [_structured(item, depth + 1) for item in getattr(value, kind).values]
        return items if kind == "list_value" else tuple(items)
    if kind == "dict_value":
        return {decoded(pair.key): _structured(pair.value, depth + 1) for pair in value.dict_value.fields}
    if kind == "named_tuple_value":
        return tuple(_structured(pair.value, depth + 1) for pair in value.named_tuple_value.values)
    if kind == "type_spec_value":
        return _type_spec(value.type_spec_value, depth)
    return _scalar(value, kind)


MAX_DEPTH = 100  # of nested containers, as in protocol buffers


def _type_spec(spec: Any, depth: int) -> TypeName:
    kind = decoded(spec.type_spec_class_name).rpartition(".")[2]
    state = _structured(spec.type_state, depth + 1)
    parts = state if isinstance(state, tuple | list) else (state,)
    text = f"{kind}({', '.join(map(str, parts))})"
    return TypeName(kind, text, text)


def _scalar(value: Any, kind: str) -> Any:
    if kind == "none_value":
        return None
    if kind == "tensor_shape_value":
        shape = _shape(value.tensor_shape_value)
        printed = f"TensorShape({'None' if shape is None else list(shape)})"
        return TypeName("TensorShape", printed, printed)
    if kind == "tensor_dtype_value":
        dtype = dtype_name(value.tensor_dtype_value)
        return TypeName("DType", f"<dtype: '{dtype}'>", f"tf.{dtype}")
    if kind == "string_value":
        return decoded(value.string_value)
    return getattr(value, kind)
