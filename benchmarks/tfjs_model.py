"""Turn a graph model of TensorFlow.js into a SavedModel, to try its network with phototag.

    python benchmarks/tfjs_model.py MODEL.json DIR [OUTPUT...]

MODEL.json names the files of the weights, which lie beside it. OUTPUT: the outputs that the signature gets, by the last
part of their names; all without one. With CenterNet of the package @vladmandic/human:

    python benchmarks/tfjs_model.py package/models/centernet.json build/centernet detections

The converter to TensorFlow.js fuses a convolution with the operations behind it. TensorFlow cannot import the fused
operations, because attributes are missing, and LiteRT does not know them. They are split again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
# The attributes that the plain convolution has too.
KEPT = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")
# The fused operations that have an input of their own.
WITH_INPUT = ("BiasAdd", "Prelu")
MAX_WEIGHTS = 1 << 30  # bytes


def read_weights(model: dict[str, Any], folder: Path) -> dict[str, NDArray[Any]]:
    """Return the weights by the name of their constant. Quantised weights come as what they stand for."""
    weights: dict[str, NDArray[Any]] = {}
    for group in model["weightsManifest"]:
        data = b"".join((folder / Path(name).name).read_bytes() for name in group["paths"])
        if len(data) > MAX_WEIGHTS:
            raise SystemExit(f"{folder} has more than {MAX_WEIGHTS >> 20} MB of weights; name another model")
        start = 0
        for spec in group["weights"]:
            stored = np.dtype(spec.get("quantization", spec)["dtype"])
            count = int(np.prod(spec["shape"]))
            raw = np.frombuffer(data, stored.newbyteorder("<"), count, start).reshape(spec["shape"])
            start += count * stored.itemsize
            weights[spec["name"]] = _expanded(raw, spec)
    return weights


def _expanded(raw: NDArray[Any], spec: dict[str, Any]) -> NDArray[Any]:
    quantization = spec.get("quantization", {})
    if "scale" in quantization:
        raw = raw.astype(np.float32) * quantization["scale"] + quantization["min"]
    return raw.astype(spec["dtype"])


def split(node: Any) -> Iterator[Any]:
    """Yield the plain operations that give the same as `node`, a `NodeDef`. The last has its name."""
    if node.op not in FUSED:
        yield node
        return
    behind = [name.decode() for name in node.attr["fused_ops"].list.s]
    names = [f"{node.name}/fused_{number}" for number in range(len(behind))]
    plain = type(node)(name=(*names, node.name)[0], op=FUSED[node.op], input=node.input[:2])
    for key in KEPT:
        if key in node.attr:
            plain.attr[key].CopyFrom(node.attr[key])
    yield plain
    more = iter(node.input[2:])
    before = plain.name
    for op, name in zip(behind, (*names[1:], node.name), strict=True):
        step = type(node)(name=name, op=op, input=[before, *([next(more)] if op in WITH_INPUT else [])])
        step.attr["T"].CopyFrom(node.attr["T"])
        yield step
        before = name


def graph_def(model: dict[str, Any], weights: dict[str, NDArray[Any]]) -> Any:
    """Return the `GraphDef` of a model, with its weights as constants."""
    import tensorflow as tf
    from google.protobuf import json_format

    nodes = [{**node, "attr": {k: v for k, v in node["attr"].items() if k != "value"}} for node in _nodes(model)]
    parsed = json_format.ParseDict({"node": nodes}, tf.compat.v1.GraphDef(), ignore_unknown_fields=True)
    graph = tf.compat.v1.GraphDef()
    graph.versions.producer = tf.version.GRAPH_DEF_VERSION
    for node in parsed.node:
        if node.op == "Const":
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
        graph.node.extend(split(node))
    return graph


def _nodes(model: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"attr": {}, **node} for node in model["modelTopology"]["node"]]


def convert(source: Path, directory: Path, outputs: Sequence[str] = ()) -> None:
    """Write the model in the file `source` as a SavedModel with `outputs`, or with all of its outputs."""
    import tensorflow as tf

    model = json.loads(source.read_text(encoding="utf-8"))
    graph = graph_def(model, read_weights(model, source.parent))
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    tensors = {
        kind: {key.rpartition("/")[2]: imported.graph.as_graph_element(_tensor(spec["name"])) for key, spec in specs}
        for kind, specs in ((kind, model["signature"][kind].items()) for kind in ("inputs", "outputs"))
    }
    unknown = set(outputs) - tensors["outputs"].keys()
    if unknown:
        raise SystemExit(f"{source} has no output {', '.join(unknown)}; it has {', '.join(tensors['outputs'])}")
    wanted = {name: tensor for name, tensor in tensors["outputs"].items() if name in (outputs or tensors["outputs"])}
    module = tf.Module()
    module.run = imported.prune(tensors["inputs"], wanted)
    tf.saved_model.save(module, str(directory), signatures=module.run)


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def main() -> None:
    """Convert the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.json")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("outputs", nargs="*", metavar="OUTPUT")
    options = parser.parse_args()
    convert(options.model, options.directory, options.outputs)


if __name__ == "__main__":
    main()
