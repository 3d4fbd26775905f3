"""What a SavedModel says about itself, read from its protobuf alone, without TensorFlow.

The messages are defined here, with the few fields that are needed, and in a pool of their own, so that they never meet
TensorFlow's. Strings are declared as bytes: a name that is not UTF-8 is odd, not unreadable. Names and numbers are
TensorFlow's, from saved_model.proto, meta_graph.proto, graph.proto, node_def.proto, attr_value.proto,
tensor_shape.proto and types.proto.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from phototag.errors import NotASavedModel, SignatureMismatch

FILE_NAMES = ("saved_model.pb", "saved_model.pbtxt")
# Protocol buffers cannot be larger (2 GiB), so such a file is something else.
MAX_BYTES = 2**31 - 1

# Field: its number and type; `*` repeats it. A map is, on the wire, a repeated message of key and value.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "SavedModel": {"meta_graphs": (2, "*MetaGraphDef")},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaInfoDef"),
        "graph_def": (2, "GraphDef"),
        "signature_def": (5, "*SignatureEntry"),
    },
    "MetaInfoDef": {"tags": (4, "*bytes")},
    "SignatureEntry": {"key": (1, "bytes"), "value": (2, "SignatureDef")},
    "SignatureDef": {"inputs": (1, "*TensorEntry"), "outputs": (2, "*TensorEntry"), "method_name": (3, "bytes")},
    "TensorEntry": {"key": (1, "bytes"), "value": (2, "TensorInfo")},
    "TensorInfo": {"name": (1, "bytes"), "dtype": (2, "DataType"), "tensor_shape": (3, "TensorShapeProto")},
    "TensorShapeProto": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int64")},
    "GraphDef": {"node": (1, "*NodeDef")},
    "NodeDef": {"name": (1, "bytes"), "op": (2, "bytes"), "attr": (5, "*AttrEntry")},
    "AttrEntry": {"key": (1, "bytes"), "value": (2, "AttrValue")},
    "AttrValue": {"type": (6, "DataType"), "shape": (7, "TensorShapeProto")},
}

# types.proto, in order from 0. A variable's reference to a type has its number plus 100.
# fmt: off
_DATA_TYPES = (
    "INVALID", "FLOAT", "DOUBLE", "INT32", "UINT8", "INT16", "INT8", "STRING", "COMPLEX64", "INT64", "BOOL", "QINT8",
    "QUINT8", "QINT32", "BFLOAT16", "QINT16", "QUINT16", "UINT16", "COMPLEX128", "HALF", "RESOURCE", "VARIANT",
    "UINT32", "UINT64", "FLOAT8_E5M2", "FLOAT8_E4M3FN", "FLOAT8_E4M3FNUZ", "FLOAT8_E4M3B11FNUZ", "FLOAT8_E5M2FNUZ",
    "INT4", "UINT4", "INT2", "UINT2", "FLOAT4_E2M1FN",
)
# fmt: on
_REFERENCE = 100
# The names that Python programs use, where they differ.
_DTYPES = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16"}

Shape = tuple["int | None", ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor: its name in the graph, dtype (`float32`, or `type 23` where it is an unusual one) and shape.

    A dimension that is not fixed is None, and so is a shape of unknown rank.
    """

    name: str
    dtype: str
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature: what goes in and what comes out, by key."""

    key: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class Node:
    """An operation of the graph. `dtype` and `shape` are its attributes, which placeholders have."""

    name: str
    op: str
    dtype: str
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class MetaGraph:
    """One graph of a SavedModel, with the tags that it is chosen by."""

    tags: frozenset[str]
    signatures: Mapping[str, Signature]
    nodes: Mapping[str, Node]


def saved_model_file(directory: Path) -> Path:
    """Return the file in `directory` that makes it a SavedModel.

    Raises `NotASavedModel` where there is none, naming the folder inside that may be meant.
    """
    for name in FILE_NAMES:
        if (directory / name).is_file():
            return directory / name
    if not directory.is_dir():
        raise NotASavedModel(f"{directory} is no directory; name the one that a SavedModel was exported to")
    inside = sorted(path.parent for name in FILE_NAMES for path in directory.glob(f"*/{name}"))
    hint = f"; {inside[-1]} does" if inside else "; name the directory that a SavedModel was exported to"
    raise NotASavedModel(f"{directory} holds no saved_model.pb{hint}")


def read_saved_model(directory: Path) -> tuple[MetaGraph, ...]:
    """Return the graphs of the SavedModel in `directory`.

    Raises `NotASavedModel` where there is none or it is damaged.
    """
    path = saved_model_file(directory)
    parsed = _message_class("SavedModel")()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NotASavedModel(f"{path} is larger than any protocol buffer can be; export the model again")
        data = path.read_bytes()
        if path.suffix == ".pb":
            parsed.ParseFromString(data)
        else:
            text_format.Parse(data, parsed, allow_unknown_field=True)
    except OSError as error:
        raise NotASavedModel(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except (message.DecodeError, text_format.ParseError, ValueError, RecursionError):
        raise NotASavedModel(f"{path} is damaged or no SavedModel; export the model again") from None
    if not parsed.meta_graphs:
        raise NotASavedModel(f"{path} holds no graph; export the model again")
    return tuple(_meta_graph(graph) for graph in parsed.meta_graphs)


def choose_meta_graph(graphs: tuple[MetaGraph, ...], tag_set: Iterable[str] | None, source: Path) -> MetaGraph:
    """Return the graph with the tags `tag_set`; without one, the only graph, or that for serving.

    Raises `SignatureMismatch` naming the tag-sets that there are.
    """
    if tag_set is None:
        if len(graphs) == 1:
            return graphs[0]
        tag_set = {"serve"}
    wanted = frozenset(tag_set)
    for graph in graphs:
        if graph.tags == wanted:
            return graph
    known = "; ".join(sorted(",".join(sorted(graph.tags)) or "(no tag)" for graph in graphs))
    raise SignatureMismatch(
        f"{source} has no graph with the tags {','.join(sorted(wanted))}; choose one with --tag-set: {known}"
    )


def _meta_graph(graph: Any) -> MetaGraph:
    signatures = (
        Signature(_text(entry.key), _tensors(entry.value.inputs), _tensors(entry.value.outputs))
        for entry in graph.signature_def
    )
    nodes = (_node(node) for node in graph.graph_def.node)
    return MetaGraph(
        frozenset(map(_text, graph.meta_info_def.tags)),
        {signature.key: signature for signature in signatures},
        {node.name: node for node in nodes},
    )


def _tensors(entries: Any) -> dict[str, TensorSpec]:
    return {_text(entry.key): _tensor(entry.value) for entry in entries}


def _tensor(info: Any) -> TensorSpec:
    shape = _shape(info.tensor_shape) if info.HasField("tensor_shape") else None
    return TensorSpec(_text(info.name), _dtype(info.dtype), shape)


def _node(node: Any) -> Node:
    attributes = {entry.key: entry.value for entry in node.attr if entry.key in (b"dtype", b"shape")}
    dtype, shape = attributes.get(b"dtype"), attributes.get(b"shape")
    return Node(
        _text(node.name),
        _text(node.op),
        _dtype(dtype.type if dtype is not None else 0),
        _shape(shape.shape) if shape is not None and shape.HasField("shape") else None,
    )


def _shape(shape: Any) -> Shape | None:
    return None if shape.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)


def _dtype(number: int) -> str:
    if not 0 <= number < len(_DATA_TYPES):
        return f"type {number}"
    name = _DATA_TYPES[number]
    return _DTYPES.get(name, name.lower())


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


@functools.cache
def _message_class(name: str) -> type[Any]:
    pool = _pool()
    message_class: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"phototag.{name}"))
    return message_class


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {"bytes": kinds.TYPE_BYTES, "int32": kinds.TYPE_INT32, "int64": kinds.TYPE_INT64, "bool": kinds.TYPE_BOOL}
    file = descriptor_pb2.FileDescriptorProto(name="phototag_saved_model.proto", package="phototag", syntax="proto3")
    enumeration = file.enum_type.add(name="DataType")
    for number, type_name in enumerate(_DATA_TYPES):
        enumeration.value.add(name=f"DT_{type_name}", number=number)
        if number:
            enumeration.value.add(name=f"DT_{type_name}_REF", number=number + _REFERENCE)
    for name, fields in _MESSAGES.items():
        definition = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = definition.field.add(name=field_name, number=number)
            field.label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in scalars:
                field.type = scalars[kind]
            elif kind == "DataType":
                field.type, field.type_name = kinds.TYPE_ENUM, ".phototag.DataType"
            else:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".phototag.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
