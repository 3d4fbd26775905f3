"""Run a SavedModel in TensorFlow."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from phototag.engines._tensorflow import import_tensorflow
from phototag.engines.runner import Pixels, Runner, first_line
from phototag.errors import NotASavedModel, SignatureMismatch
from phototag.images.preprocess import Preprocessing
from phototag.models.interface import Interface, check_harmless
from phototag.models.saved_model import choose_meta_graph, read_saved_model

# The quality of the JPEG files that models with string inputs get. At 95, artefacts change no result.
JPEG_QUALITY = 95


class TensorFlowRunner(Runner):
    """A SavedModel, loaded into TensorFlow. It is the reference for every other engine.

    `call` is the function from the input tensor to the output tensors. `callers`: how many threads will call it. With
    several callers, TensorFlow is told to use one core for each call, if it still takes that setting and there is no
    GPU. That gives a third more images a second than calls that share all cores, because they wait for the slowest.

    Raises `NotASavedModel` if the directory cannot be loaded, and `SignatureMismatch` if it cannot be called this way.
    """

    def __init__(self, directory: Path, interface: Interface, preprocessing: Preprocessing, callers: int = 1) -> None:
        super().__init__(directory, interface, preprocessing, interface.batch)
        graph = choose_meta_graph(read_saved_model(directory), interface.tag_set, directory)
        check_harmless(graph, interface, directory)
        self._tensorflow = import_tensorflow(one_core_a_call=callers > 1 and interface.batch in (None, 1))
        threads_a_call: int = self._tensorflow.config.threading.get_intra_op_parallelism_threads()
        self._one_core_a_call = threads_a_call == 1
        self._memory_failures = (MemoryError, self._tensorflow.errors.ResourceExhaustedError)
        self._failures = (
            self._tensorflow.errors.OpError,
            TypeError,
            ValueError,
            KeyError,
            RuntimeError,
            AttributeError,
        )
        self.call = self._load()
        self._tracing, self._function = threading.Lock(), None

    def trace(self, batch: int | None) -> Any:
        """Return the concrete function from raw pixels, uint8 [batch, height, width, 3], to the outputs.

        The scores come first, then the outputs of `Interface.also` in their order. Scores and other floats are float32.
        It includes the normalisation, which costs less there and does not hold Python's lock. It does not work for
        models that take encoded images. Raises TensorFlow's errors if the graph does not fit.
        """
        tf, interface, preprocessing = self._tensorflow, self._interface, self._preprocessing

        def outputs(images: Any) -> tuple[Any, ...]:
            if interface.takes_floats:
                images = (tf.cast(images, tf.float32) - preprocessing.mean) / preprocessing.std
            if preprocessing.channel_order == "BGR":
                images = tf.reverse(images, [-1])
            if preprocessing.layout == "NCHW":
                images = tf.transpose(images, [0, 3, 1, 2])
            scores, *others = self.call(tf.cast(images, interface.dtype))
            others = [tf.cast(other, tf.float32) if other.dtype.is_floating else other for other in others]
            return tf.cast(scores, tf.float32), *others

        pixels = tf.TensorSpec([batch, preprocessing.height, preprocessing.width, 3], tf.uint8)
        return tf.function(outputs, input_signature=[pixels], autograph=False).get_concrete_function()

    def _traced(self) -> Any:
        with self._tracing:
            if self._function is None:
                self._function = self.trace(self._interface.batch)
            return self._function

    def _infer(self, images: Pixels) -> list[NDArray[Any]]:
        constant = self._tensorflow.constant
        if self._interface.dtype == "string":
            outputs = self.call(constant([_jpeg(image) for image in images]))
        else:
            outputs = self._traced()(constant(images))
        return [output.numpy() for output in outputs]

    def _load(self) -> Callable[[Any], list[Any]]:
        directory, interface = self._directory, self._interface
        names = (interface.output, *interface.also)
        try:
            loaded = self._tensorflow.saved_model.load(str(directory), tags=list(interface.tag_set))
        # TensorFlow's parsers raise OSError, ValueError, OpError and others for a damaged SavedModel.
        except Exception as error:
            raise NotASavedModel(f"{directory} cannot be loaded ({first_line(error)}); export it again") from error
        self._owner = loaded  # keeps the variables alive
        if interface.signature is not None:
            signature = loaded.signatures.get(interface.signature)
            if signature is None or not signature.structured_outputs.keys() >= set(names):
                raise SignatureMismatch(f"{directory} has no signature {interface.signature!r} that can be called")

            def call(tensor: Any) -> list[Any]:
                given = signature(**{interface.input: tensor})
                return [given[name] for name in names]

            return call
        try:
            function = loaded.prune(interface.input, interface.output)
        except (AttributeError, ValueError, KeyError) as error:
            raise SignatureMismatch(
                f"{directory} cannot be run from {interface.input} to {interface.output} ({first_line(error)})",
                "choose others with {input_op} and {output_op}",
            ) from error
        return lambda tensor: [function(tensor)]


def _jpeg(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
