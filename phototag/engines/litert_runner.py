"""Run a converted model in LiteRT. It is ten times lighter than TensorFlow, which is never imported."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phototag.engines._tensorflow import native_stderr_silenced
from phototag.engines.runner import Pixels, Runner
from phototag.images.preprocess import Preprocessing
from phototag.models.interface import Interface


def is_litert_installed() -> bool:
    """Return whether LiteRT can be imported. It has no wheels for some platforms."""
    return importlib.util.find_spec("ai_edge_litert") is not None


@dataclass(frozen=True)
class Conversion:
    """The result of converting a model: the `content` of the file, or the `reason` why there is none.

    `reason` is the end of a sentence. `gpu`: TensorFlow saw a GPU. A conversion that is not `lasting` may have another
    result next time.
    """

    content: bytes | None
    reason: str | None = None
    gpu: bool = False
    lasting: bool = True


class LiteRTRunner(Runner):
    """A converted model, which takes uint8 [batch, height, width, 3] and gives a row of each output for each image.

    It runs one image after another, on one core. An interpreter is for one thread, so each thread that calls gets its
    own. The threads run in parallel, because LiteRT releases the GIL. They share the content, but each interpreter
    keeps a copy of the weights, laid out for the processor.

    Raises `ValueError` or `RuntimeError` if this LiteRT cannot run `content`.
    """

    _failures = (ValueError, RuntimeError)
    _one_core_a_call = True

    def __init__(self, directory: Path, interface: Interface, preprocessing: Preprocessing, content: bytes) -> None:
        super().__init__(directory, interface, preprocessing, interface.batch or 1)
        self._content = content
        self._of_thread = threading.local()
        with native_stderr_silenced():  # the first interpreter of a process prints a line
            self._interpreter()

    def _infer(self, images: Pixels) -> list[NDArray[Any]]:
        interpreter, taken, given = self._interpreter()
        interpreter.set_tensor(taken, images)
        interpreter.invoke()
        return [interpreter.get_tensor(number) for number in given]

    def _interpreter(self) -> tuple[Any, int, list[int]]:
        """Return this thread's interpreter, and the numbers of its input and output tensors."""
        mine: tuple[Any, int, list[int]] | None = getattr(self._of_thread, "interpreter", None)
        if mine is None:
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_content=self._content, num_threads=1)
            interpreter.allocate_tensors()
            (taken,) = interpreter.get_input_details()
            size = (self._batch, self._preprocessing.height, self._preprocessing.width, 3)
            if tuple(taken["shape"]) != size or taken["dtype"] != np.uint8:
                raise ValueError(f"the converted model takes {taken['dtype'].__name__} {tuple(taken['shape'])}")
            # A graph converted from a function keeps the order of its outputs. The converter's check covers that too.
            numbers = [given["index"] for given in interpreter.get_output_details()]
            if len(numbers) != 1 + len(self._interface.also):
                raise ValueError(f"the converted model gives {len(numbers)} outputs")
            mine = self._of_thread.interpreter = (interpreter, taken["index"], numbers)
        return mine
