"""Import TensorFlow late and quietly."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from phototag.errors import ModelError
from phototag.paths import data_directory


def import_tensorflow(*, one_core_a_call: bool = False) -> Any:
    """Return the `tensorflow` module, imported without the six lines that it writes to stderr.

    Native code writes TensorFlow's notices about the processor and missing GPU drivers before any log level is read. A
    user who sets `TF_CPP_MIN_LOG_LEVEL` sees them all.

    `one_core_a_call`: let each call use one core. This has no effect if TensorFlow is already imported, because it then
    takes no such setting, or if it sees a GPU.

    Raises `ModelError` if TensorFlow cannot be imported.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    chatty = "TF_CPP_MIN_LOG_LEVEL" in os.environ
    # The user's settings of Keras for other programs must not change the models that phototag builds.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    os.environ.setdefault("KERAS_HOME", str(data_directory() / "keras"))  # otherwise Keras creates ~/.keras
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with contextlib.nullcontext() if chatty else native_stderr_silenced():
            import tensorflow

            gpus = tensorflow.config.list_physical_devices("GPU")
            if one_core_a_call and not gpus:
                tensorflow.config.threading.set_intra_op_parallelism_threads(1)
            for gpu in gpus:
                # By default TensorFlow takes all memory of a GPU, including the desktop's.
                tensorflow.config.experimental.set_memory_growth(gpu, True)
            tensorflow.config.list_logical_devices()  # looks for a GPU now, while stderr is silenced
    except ImportError as error:
        raise ModelError(f"TensorFlow cannot be imported ({error}); install it with: pip install tensorflow") from None
    if not chatty:
        # Warnings about retracing and the like help authors of TensorFlow programs, not users of phototag.
        tensorflow.get_logger().setLevel("ERROR")
        # Nor do the tracebacks of errors that TensorFlow survives, such as a damaged fingerprint.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
    return tensorflow


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Discard what native code writes to file descriptor 2 inside the `with` block."""
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed, so there is nothing to silence
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
