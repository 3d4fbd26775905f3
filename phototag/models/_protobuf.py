"""The protocol buffers of a SavedModel, without TensorFlow: message classes, and how to decode their values.

The messages are defined here, with the few fields that phototag needs. They are in a pool of their own, so they never
meet TensorFlow's. Strings are declared as bytes: a name that is not UTF-8 is odd, but still readable. Names and numbers
are TensorFlow's, from saved_model.proto, meta_graph.proto, graph.proto, node_def.proto, attr_value.proto,
function.proto, saved_object_graph.proto, struct.proto, fingerprint.proto, tensor_shape.proto and types.proto.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Each field has a number and a type, which `*` repeats. On the wire, a map is a repeated message of key and value.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "SavedModel": {"meta_graphs": (2, "*MetaGraphDef")},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaInfoDef"),
        "graph_def": (2, "GraphDef"),
        "signature_def": (5, "*SignatureEntry"),
        "asset_file_def": (6, "*AssetFileDef"),
        "object_graph_def": (7, "SavedObjectGraph"),
    },
    "MetaInfoDef": {"tags": (4, "*bytes"), "tensorflow_version": (5, "bytes")},
    "AssetFileDef": {"filename": (2, "bytes")},
    "SignatureEntry": {"key": (1, "bytes"), "value": (2, "SignatureDef")},
    "SignatureDef": {"inputs": (1, "*TensorEntry"), "outputs": (2, "*TensorEntry"), "method_name": (3, "bytes")},
    "TensorEntry": {"key": (1, "bytes"), "value": (2, "TensorInfo")},
    "TensorInfo": {"name": (1, "bytes"), "dtype": (2, "DataType"), "tensor_shape": (3, "TensorShapeProto")},
    "TensorShapeProto": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int64")},
    "GraphDef": {"node": (1, "*NodeDef"), "library": (2, "FunctionDefLibrary")},
    "NodeDef": {"name": (1, "bytes"), "op": (2, "bytes"), "input": (3, "*bytes"), "attr": (5, "*AttrEntry")},
    "AttrEntry": {"key": (1, "bytes"), "value": (2, "AttrValue")},
    "AttrValue": {
        "b": (5, "bool"),
        "type": (6, "DataType"),
        "shape": (7, "TensorShapeProto"),
        "tensor": (8, "TensorProto"),
        "func": (10, "NameAttrList"),
    },
    "TensorProto": {"tensor_shape": (2, "TensorShapeProto")},
    "NameAttrList": {"name": (1, "bytes")},
    "FunctionDefLibrary": {"function": (1, "*FunctionDef")},
    "FunctionDef": {"signature": (1, "OpDef"), "node_def": (3, "*NodeDef"), "ret": (4, "*TextEntry")},
    "OpDef": {"name": (1, "bytes"), "input_arg": (2, "*ArgDef"), "output_arg": (3, "*ArgDef")},
    "ArgDef": {"name": (1, "bytes")},
    "TextEntry": {"key": (1, "bytes"), "value": (2, "bytes")},
    "SavedObjectGraph": {"nodes": (1, "*SavedObject"), "concrete_functions": (2, "*ConcreteFunctionEntry")},
    "SavedObject": {
        "children": (1, "*ObjectReference"),
        "function": (6, "SavedFunction"),
        "bare_concrete_function": (8, "SavedBareConcreteFunction"),
    },
    "ObjectReference": {"node_id": (1, "int32"), "local_name": (2, "bytes")},
    "SavedFunction": {"concrete_functions": (1, "*bytes")},
    "SavedBareConcreteFunction": {"concrete_function_name": (1, "bytes"), "argument_keywords": (2, "*bytes")},
    "ConcreteFunctionEntry": {"key": (1, "bytes"), "value": (2, "SavedConcreteFunction")},
    "SavedConcreteFunction": {"canonicalized_input_signature": (3, "StructuredValue")},
    "StructuredValue": {
        "none_value": (1, "NoneValue"),
        "float64_value": (11, "double"),
        "int64_value": (12, "sint64"),
        "string_value": (13, "bytes"),
        "bool_value": (14, "bool"),
        "tensor_shape_value": (31, "TensorShapeProto"),
        "tensor_dtype_value": (32, "DataType"),
        "tensor_spec_value": (33, "TensorSpecProto"),
        "type_spec_value": (34, "TypeSpecProto"),
        "bounded_tensor_spec_value": (35, "TensorSpecProto"),
        "list_value": (51, "ListValue"),
        "tuple_value": (52, "ListValue"),
        "dict_value": (53, "DictValue"),
        "named_tuple_value": (54, "NamedTupleValue"),
    },
    "NoneValue": {},
    "TensorSpecProto": {"name": (1, "bytes"), "shape": (2, "TensorShapeProto"), "dtype": (3, "DataType")},
    "TypeSpecProto": {"type_state": (2, "StructuredValue"), "type_spec_class_name": (3, "bytes")},
    "ListValue": {"values": (1, "*StructuredValue")},
    "DictValue": {"fields": (1, "*PairValue")},
    "PairValue": {"key": (1, "bytes"), "value": (2, "StructuredValue")},
    "NamedTupleValue": {"name": (1, "bytes"), "values": (2, "*PairValue")},
    "FingerprintDef": {"saved_model_checksum": (1, "uint64")},
}

# types.proto, in order from 0. A variable's reference to a type has the type's number plus 100.
# fmt: off
_DATA_TYPES = (
    "INVALID", "FLOAT", "DOUBLE", "INT32", "UINT8", "INT16", "INT8", "STRING", "COMPLEX64", "INT64", "BOOL", "QINT8",
    "QUINT8", "QINT32", "BFLOAT16", "QINT16", "QUINT16", "UINT16", "COMPLEX128", "HALF", "RESOURCE", "VARIANT",
    "UINT32", "UINT64", "FLOAT8_E5M2", "FLOAT8_E4M3FN", "FLOAT8_E4M3FNUZ", "FLOAT8_E4M3B11FNUZ", "FLOAT8_E5M2FNUZ",
    "INT4", "UINT4", "INT2", "UINT2", "FLOAT4_E2M1FN",
)
# fmt: on
_REFERENCE = 100
# The names in Python programs, if they differ.
_PYTHON_NAMES = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16"}
PROTO_NAMES = {python: proto for proto, python in _PYTHON_NAMES.items()}


@functools.cache
def message_class(name: str) -> type[Any]:
    """Return the class of the message `name`."""
    pool = _pool()
    message_class: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"phototag.{name}"))
    return message_class


def _fields() -> Iterator[tuple[str, str, int, str]]:
    for name, fields in _MESSAGES.items():
        for field, (number, kind) in fields.items():
            yield name, field, number, kind


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "bytes": kinds.TYPE_BYTES,
        "int32": kinds.TYPE_INT32,
        "int64": kinds.TYPE_INT64,
        "sint64": kinds.TYPE_SINT64,
        "uint64": kinds.TYPE_UINT64,
        "double": kinds.TYPE_DOUBLE,
        "bool": kinds.TYPE_BOOL,
    }
    file = descriptor_pb2.FileDescriptorProto(name="phototag_saved_model.proto", package="phototag", syntax="proto3")
    enumeration = file.enum_type.add(name="DataType")
    for number, type_name in enumerate(_DATA_TYPES):
        enumeration.value.add(name=f"DT_{type_name}", number=number)
        if number:
            enumeration.value.add(name=f"DT_{type_name}_REF", number=number + _REFERENCE)
    definitions = {name: file.message_type.add(name=name) for name in _MESSAGES}
    definitions["StructuredValue"].oneof_decl.add(name="kind")
    for name, field_name, number, kind in _fields():
        field = definitions[name].field.add(name=field_name, number=number)
        field.label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
        if name == "StructuredValue":
            field.oneof_index = 0
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


def dtype_name(number: int) -> str:
    """Return the dtype with that number as Python programs call it: `float32`, or the number if it is unknown."""
    base = number - _REFERENCE if number > _REFERENCE else number
    if not 0 <= base < len(_DATA_TYPES):
        return str(number)
    name = _PYTHON_NAMES.get(_DATA_TYPES[base], _DATA_TYPES[base].lower())
    return name if base == number else f"{name}_ref"


def decoded(data: bytes) -> str:
    r"""Return text. Bytes that are not UTF-8 come out as `\xff`."""
    return data.decode("utf-8", "backslashreplace")
