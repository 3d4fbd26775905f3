"""Import TensorFlow late and quietly."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from phototag.errors import ModelError
from phototag.paths import data_directory


def import_tensorflow(*, one_core_a_call: bool = False) -> Any:
    """Return the `tensorflow` module, imported without the half dozen lines it writes to stderr.

    TensorFlow's notices about the processor and about missing GPU drivers are written by native code, before any log
    level is read. Anyone who sets `TF_CPP_MIN_LOG_LEVEL` sees them all.

    `one_core_a_call`: let it compute what one call asks for on one core; without effect where it is imported already,
    when it takes no such setting any more, or sees a GPU.

    Raises `ModelError` where TensorFlow cannot be imported.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    chatty = "TF_CPP_MIN_LOG_LEVEL" in os.environ
    # What a user set Keras to for other programs must not change what is built here.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    os.environ.setdefault("KERAS_HOME", str(data_directory() / "keras"))  # else ~/.keras is made at once
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with contextlib.nullcontext() if chatty else native_stderr_silenced():
            import tensorflow

            gpus = tensorflow.config.list_physical_devices("GPU")
            if one_core_a_call and not gpus:
                tensorflow.config.threading.set_intra_op_parallelism_threads(1)
            for gpu in gpus:
                # By default TensorFlow takes all of a GPU's memory, also what the desktop needs.
                tensorflow.config.experimental.set_memory_growth(gpu, True)
            tensorflow.config.list_logical_devices()  # looks for a GPU now, while it may print_error
    except ImportError as error:
        raise ModelError(f"TensorFlow cannot be imported ({error}); install it with: pip install tensorflow") from None
    if not chatty:
        # Retracing and the like: advice to people who write TensorFlow programs, not to those who tag photos.
        tensorflow.get_logger().setLevel("ERROR")
    return tensorflow


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Send what native code writes to file descriptor 2 nowhere, for the duration."""
    try:
        saved = os.dup(2)
    except OSError:  # started with stderr closed: there is nothing to silence
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
