"""EfficientNet-Lite: the network in Keras, filled from its published PyTorch weights, exported as a SavedModel.

The Lite family is EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6 for swish, and
with stem and head of the same width in every size. The numbers are those of TensorFlow's own release of it
(tensorflow/tpu, models/official/efficientnet/lite).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phototag.classifier._tensorflow import import_tensorflow
from phototag.errors import ModelError

Weights = Mapping[str, NDArray[Any]]

STEM_FILTERS = 32
HEAD_FILTERS = 1280
BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Stage:
    """`repeats` inverted-residual blocks of one shape; the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


LITE0_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def export_efficientnet_lite0(weights: Weights, directory: Path) -> None:
    """Write EfficientNet-Lite0 with `weights` into `directory` as a SavedModel.

    `weights` are the tensors of the PyTorch checkpoint by name. The SavedModel's signature `serving_default` takes
    float32 [N, 224, 224, 3], RGB scaled to (pixel - 127) / 128, and gives float32 [N, 1000] logits.

    Raises `ModelError` where the weights are not those of this network.
    """
    tf = import_tensorflow()
    loader = _WeightLoader(weights)
    model = _network(tf, loader, image_size=224, classes=1000)
    loader.check_all_used()
    # Not Model.export: that stores every weight twice and calls the output "output_0".
    module = tf.Module()
    module.variables_of_the_network = [variable.value for variable in model.variables]
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name="images")
    serve = tf.function(lambda images: {"logits": model(images, training=False)}, input_signature=[images])
    tf.saved_model.save(module, str(directory), signatures=serve)


def _network(tf: Any, weights: _WeightLoader, image_size: int, classes: int) -> Any:
    layers = tf.keras.layers
    images = layers.Input((image_size, image_size, 3), name="images")
    x = weights.conv(layers, images, "_conv_stem", STEM_FILTERS, kernel=3, stride=2)
    x = layers.ReLU(6)(weights.batch_norm(layers, x, "_bn0"))
    for number, (stage, stride) in enumerate(_blocks(LITE0_STAGES)):
        x = _inverted_residual(layers, x, weights, f"_blocks.{number}", stage, stride)
    x = weights.conv(layers, x, "_conv_head", HEAD_FILTERS, kernel=1, stride=1)
    x = layers.ReLU(6)(weights.batch_norm(layers, x, "_bn1"))
    x = layers.GlobalAveragePooling2D()(x)
    logits = weights.dense(layers, x, "_fc", classes)
    return tf.keras.Model(images, logits)


def _blocks(stages: tuple[Stage, ...]) -> Iterator[tuple[Stage, int]]:
    for stage in stages:
        for repeat in range(stage.repeats):
            yield stage, stage.stride if repeat == 0 else 1


def _inverted_residual(layers: Any, x: Any, weights: _WeightLoader, name: str, stage: Stage, stride: int) -> Any:
    """Widen, filter each channel by itself, narrow again; add the input where the shapes agree."""
    shortcut, width = x, int(x.shape[-1])
    if stage.expansion != 1:
        x = weights.conv(layers, x, f"{name}._expand_conv", width * stage.expansion, kernel=1, stride=1)
        x = layers.ReLU(6)(weights.batch_norm(layers, x, f"{name}._bn0"))
    x = weights.depthwise(layers, x, f"{name}._depthwise_conv", stage.kernel, stride)
    x = layers.ReLU(6)(weights.batch_norm(layers, x, f"{name}._bn1"))
    x = weights.conv(layers, x, f"{name}._project_conv", stage.filters, kernel=1, stride=1)
    x = weights.batch_norm(layers, x, f"{name}._bn2")
    return layers.Add()([shortcut, x]) if stride == 1 and width == stage.filters else x


class _WeightLoader:
    """Makes layers and fills each from the checkpoint at once, with PyTorch's axes moved to Keras's."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        # Batch counters serve training alone.
        self._unused = {name for name in weights if not name.endswith("num_batches_tracked")}

    def conv(self, layers: Any, x: Any, name: str, filters: int, kernel: int, stride: int) -> Any:
        layer = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False)
        kernels = self._take(f"{name}.weight", (filters, int(x.shape[-1]), kernel, kernel))
        return self._fill(layer, x, np.transpose(kernels, (2, 3, 1, 0)))

    def depthwise(self, layers: Any, x: Any, name: str, kernel: int, stride: int) -> Any:
        layer = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False)
        kernels = self._take(f"{name}.weight", (int(x.shape[-1]), 1, kernel, kernel))
        return self._fill(layer, x, np.transpose(kernels, (2, 3, 0, 1)))

    def batch_norm(self, layers: Any, x: Any, name: str) -> Any:
        parts = ("weight", "bias", "running_mean", "running_var")
        values = [self._take(f"{name}.{part}", (int(x.shape[-1]),)) for part in parts]
        return self._fill(layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON), x, *values)

    def dense(self, layers: Any, x: Any, name: str, units: int) -> Any:
        weight = self._take(f"{name}.weight", (units, int(x.shape[-1])))
        return self._fill(layers.Dense(units), x, weight.T, self._take(f"{name}.bias", (units,)))

    def check_all_used(self) -> None:
        if self._unused:
            raise ModelError(f"the weights are of another network: {min(self._unused)} has no place in it")

    def _take(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        value = self._weights.get(name)
        if value is None or value.shape != shape:
            found = "missing" if value is None else f"of shape {value.shape}"
            raise ModelError(f"the weights are of another network: {name} is {found}, not of shape {shape}")
        self._unused.discard(name)
        return value

    @staticmethod
    def _fill(layer: Any, x: Any, *values: NDArray[Any]) -> Any:
        y = layer(x)
        layer.set_weights(list(values))
        return y
