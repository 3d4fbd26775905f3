"""`benchmarks/tfjs_model.py`, which makes SavedModels of graph models of TensorFlow.js."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import PROJECT

SCRIPT = PROJECT / "benchmarks" / "tfjs_model.py"
FLOAT = {"T": {"type": "DT_FLOAT"}}
CONVOLUTION = {
    **FLOAT,
    "strides": {"list": {"i": ["1", "1", "1", "1"]}},
    "padding": {"s": "U0FNRQ=="},  # SAME
    "data_format": {"s": "TkhXQw=="},  # NHWC
    "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
    "num_args": {"i": "1"},
    "epsilon": {"f": 0},
    "fused_ops": {"list": {"s": ["Qmlhc0FkZA==", "UmVsdQ=="]}},  # BiasAdd, Relu
}


def graph_model(folder: Path) -> Path:
    """Write a graph model: max(0, half of each channel - 1), whose constants are stored in three ways."""
    dtypes: dict[str, Any] = {"dtype": "DT_FLOAT"}
    nodes = [
        {"name": "in/images", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        *({"name": name, "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}} for name in ("half", "less", "zero")),
        {"name": "fused", "op": "_FusedConv2D", "input": ["in/images", "half", "less"], "attr": CONVOLUTION},
        {"name": "out", "op": "AddV2", "input": ["fused", "zero"], "attr": FLOAT},
    ]
    half = (np.eye(3) / 2).astype(np.float16)
    packed = half.tobytes() + np.full(3, -1, "<f4").tobytes() + np.array([0], np.uint8).tobytes()
    specs = [
        {"name": "half", "shape": [1, 1, 3, 3], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "less", "shape": [3], "dtype": "float32"},
        {
            "name": "zero",
            "shape": [],
            "dtype": "float32",
            "quantization": {"dtype": "uint8", "scale": 0.5, "min": 0.0},
        },
    ]
    model = {
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": specs}],
        "signature": {
            "inputs": {"images": {"name": "in/images", **dtypes}},
            "outputs": {"tower/out": {"name": "out", **dtypes}, "fused": {"name": "fused", **dtypes}},
        },
    }
    (folder / "weights.bin").write_bytes(packed)
    path = folder / "model.json"
    path.write_text(json.dumps(model))
    return path


@pytest.mark.slow
def test_fused_operations_give_the_same_when_they_are_split(tmp_path: Path) -> None:
    import tensorflow as tf

    command = [sys.executable, SCRIPT, graph_model(tmp_path), tmp_path / "saved", "out"]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    signature = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    assert list(signature.structured_outputs) == ["out"]
    images = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3)
    (given,) = signature(tf.constant(images)).values()
    np.testing.assert_allclose(given.numpy(), np.maximum(images / 2 - 1, 0))
    unknown = subprocess.run([*map(str, command[:-1]), "missing"], capture_output=True, text=True)
    assert "has no output missing; it has out, fused" in unknown.stderr
