"""EfficientNet-Lite: the network, filled from its published PyTorch weights and exported as a SavedModel.

The Lite family is EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6 instead of swish.
Stem and head have the same width in every size. The numbers come from TensorFlow's own release (tensorflow/tpu,
models/official/efficientnet/lite).

It is written in TensorFlow's operations, not in Keras, because a user may have set Keras to another backend or another
order of axes. Batch normalisation is folded into the preceding convolutions, which gives the same scores in less time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phototag.core import LOOK, WORDS
from phototag.engines._tensorflow import import_tensorflow
from phototag.errors import ModelError
from phototag.models.head import Head, Look
from phototag.zoo.export import save_model

Weights = Mapping[str, NDArray[Any]]
# From an image tensor, or the output of the layers before, to the next tensor.
Layer = Callable[[Any], Any]

STEM_FILTERS = 32
HEAD_FILTERS = 1280
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Stage:
    """`repeats` inverted-residual blocks of one shape. The first block has the stride."""

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


def export_efficientnet_lite(
    weights: Weights,
    directory: Path,
    *,
    image_size: int,
    width: float = 1.0,
    depth: float = 1.0,
    head: Head | None = None,
    look: Look | None = None,
) -> None:
    """Write an EfficientNet-Lite with `weights` into `directory` as a SavedModel.

    `weights` are the tensors of the PyTorch checkpoint by name. `width` and `depth` multiply the filters and the
    repeats of Lite0. The SavedModel's signature `serving_default` takes float32 [N, image_size, image_size, 3], RGB
    scaled to (pixel - 127) / 128, and gives float32 [N, 1000] `logits`. With a `head` for W words it also gives
    `words`, float32 [N, W], and with a `look` of D numbers `look`, float32 [N, D].

    Raises `ModelError` if the weights, the head or the look are not of this network.
    """
    tf = import_tensorflow()
    network = _Network(tf, weights)
    *layers, classify = network.layers(tuple(_scaled(width, depth)))
    network.check_all_used()
    words = network.words(head) if head is not None else None
    projection = network.projection(look) if look is not None else None

    def outputs(images: Any) -> dict[str, Any]:
        for layer in layers:
            images = layer(images)
        features = tf.reduce_mean(images, axis=[1, 2])
        given = {"logits": classify(features)}
        if words is not None:
            given[WORDS] = words(features, given["logits"])
        if projection is not None:
            given[LOOK] = tf.matmul(features, projection)
        return given

    save_model(outputs, network.variables, directory, image_size=image_size)


def _scaled(width: float, depth: float) -> Iterator[Stage]:
    """Yield Lite0's stages, wider and deeper. The first and the last keep their repeats."""
    for stage in LITE0_STAGES:
        inner = stage not in (LITE0_STAGES[0], LITE0_STAGES[-1])
        repeats = math.ceil(stage.repeats * depth) if inner else stage.repeats
        yield replace(stage, repeats=repeats, filters=_rounded(stage.filters * width))


def _rounded(filters: float) -> int:
    """Return the nearest multiple of 8, but at least nine tenths of `filters`."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


def _blocks(stages: tuple[Stage, ...]) -> Iterator[tuple[Stage, int]]:
    for stage in stages:
        for repeat in range(stage.repeats):
            yield stage, stage.stride if repeat == 0 else 1


class _Network:
    """Makes the layers of the network, and fills each from the checkpoint."""

    def __init__(self, tensorflow: Any, weights: Weights) -> None:
        self._tensorflow = tensorflow
        self._weights = weights
        # Batch counters are only for training.
        self._unused = {name for name in weights if not name.endswith("num_batches_tracked")}
        self.variables: list[Any] = []

    def layers(self, stages: tuple[Stage, ...]) -> Iterator[Layer]:
        """Yield the layers from images to the features before their mean, and from the features' mean to logits."""
        tf = self._tensorflow
        yield self._convolution("_conv_stem", "_bn0", 3, STEM_FILTERS, kernel=3, stride=2, relu=True)
        channels = STEM_FILTERS
        for number, (stage, stride) in enumerate(_blocks(stages)):
            yield self._inverted_residual(f"_blocks.{number}", channels, stage, stride)
            channels = stage.filters
        yield self._convolution("_conv_head", "_bn1", channels, HEAD_FILTERS, kernel=1, stride=1, relu=True)
        weight = self._variable(self._take("_fc.weight", (CLASSES, HEAD_FILTERS)).T)
        bias = self._variable(self._take("_fc.bias", (CLASSES,)))
        yield lambda x: tf.matmul(x, weight) + bias

    def words(self, head: Head) -> Callable[[Any, Any], Any]:
        """Return the function from features and logits to the probabilities of the words, as `Head` says.

        Raises `ModelError` if the head is for other features or classes.
        """
        tf = self._tensorflow
        self._check_features("head", head.weights.shape[1])
        if head.classes.shape[1] != CLASSES:
            raise ModelError(f"the head is for {head.classes.shape[1]} classes, and the network has {CLASSES}")
        weight, bias = self._variable(head.weights.T), self._variable(head.bias)
        classes, of_mass = head.classes.T.astype(np.float32), self._variable(head.mass_weight)

        def probabilities(features: Any, logits: Any) -> Any:
            masses = tf.matmul(tf.nn.softmax(logits / head.temperature), classes)
            odds = tf.clip_by_value(tf.math.log((masses + 0.001) / (1.001 - masses)), -6.0, 6.0)
            return tf.sigmoid(tf.matmul(tf.sqrt(features), weight) + bias + of_mass * odds)

        return probabilities

    def projection(self, look: Look) -> Any:
        """Return the matrix from features to likeness vectors. Raises `ModelError` if it is for other features."""
        self._check_features("look", look.projection.shape[0])
        return self._variable(look.projection)

    def _check_features(self, name: str, features: int) -> None:
        if features != HEAD_FILTERS:
            raise ModelError(f"the {name} is for {features} features, and the network has {HEAD_FILTERS}")

    def check_all_used(self) -> None:
        """Raise `ModelError` if the network has no place for some weights of the checkpoint."""
        if self._unused:
            raise ModelError(f"the weights are of another network: {min(self._unused)} has no place in it")

    def _inverted_residual(self, name: str, channels: int, stage: Stage, stride: int) -> Layer:
        """Return a block that widens, filters each channel alone, narrows, and adds its input if the shapes agree."""
        wide = channels * stage.expansion
        steps: list[Layer] = []
        if stage.expansion != 1:
            steps.append(
                self._convolution(f"{name}._expand_conv", f"{name}._bn0", channels, wide, kernel=1, stride=1, relu=True)
            )
        steps.append(self._depthwise(f"{name}._depthwise_conv", f"{name}._bn1", wide, stage.kernel, stride))
        steps.append(
            self._convolution(
                f"{name}._project_conv", f"{name}._bn2", wide, stage.filters, kernel=1, stride=1, relu=False
            )
        )

        def block(x: Any) -> Any:
            y = x
            for step in steps:
                y = step(y)
            return x + y if stride == 1 and channels == stage.filters else y

        return block

    def _convolution(
        self, name: str, norm: str, channels: int, filters: int, *, kernel: int, stride: int, relu: bool
    ) -> Layer:
        tf = self._tensorflow
        scale, shift = self._batch_norm(norm, filters)
        kernels = self._take(f"{name}.weight", (filters, channels, kernel, kernel))
        weight = self._variable(np.transpose(kernels, (2, 3, 1, 0)) * scale)  # OIHW to HWIO
        bias = self._variable(shift)

        def convolve(x: Any) -> Any:
            y = tf.nn.bias_add(tf.nn.conv2d(x, weight, stride, "SAME"), bias)
            return tf.nn.relu6(y) if relu else y

        return convolve

    def _depthwise(self, name: str, norm: str, channels: int, kernel: int, stride: int) -> Layer:
        tf = self._tensorflow
        scale, shift = self._batch_norm(norm, channels)
        kernels = self._take(f"{name}.weight", (channels, 1, kernel, kernel))
        weight = self._variable(np.transpose(kernels, (2, 3, 0, 1)) * scale[:, np.newaxis])
        bias = self._variable(shift)
        strides = [1, stride, stride, 1]
        return lambda x: tf.nn.relu6(tf.nn.bias_add(tf.nn.depthwise_conv2d(x, weight, strides, "SAME"), bias))

    def _batch_norm(self, name: str, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the factors of a convolution's filters, and the terms of its output."""
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (self._take(f"{name}.{part}", (channels,)).astype(np.float64) for part in parts)
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        return scale, beta - mean * scale

    def _variable(self, value: NDArray[Any]) -> Any:
        variable = self._tensorflow.Variable(value.astype(np.float32), trainable=False)
        self.variables.append(variable)
        return variable

    def _take(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        value = self._weights.get(name)
        if value is None or value.shape != shape:
            found = "missing" if value is None else f"of shape {value.shape}"
            raise ModelError(f"the weights are of another network: {name} is {found}, not of shape {shape}")
        self._unused.discard(name)
        return value
