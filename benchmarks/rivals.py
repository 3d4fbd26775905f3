"""The programs that phototag is measured against, each in its own process; see benchmarks/speed.py.

    python benchmarks/rivals.py loop|dataset MODEL FOLDER COUNT      usual programs, in Keras
    python benchmarks/rivals.py floor CONVERSION FOLDER COUNT        the least work that any program needs, on one core
    python benchmarks/rivals.py reference MODEL FOLDER...     the likeliest class of each photo, decoded in full

Prints JSON: wall and processor seconds per photo, measured after TensorFlow is imported and the model is loaded and
warm. The `reference` prints the likeliest class of each photo by path, as a line of the model's labels.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image, ImageOps

SIZE = 224
CROP = 0.875  # of EfficientNet-Lite0
INFERRED = 300


def loop(model: str, folder: str, count: str) -> dict[str, float]:
    """Measure `load_img` and `predict`, one photo after another."""
    import keras

    photos, network = _photos(folder, count), _keras_model(model)

    def classify(path: Path) -> None:
        image = keras.utils.load_img(path, target_size=(SIZE, SIZE))
        network.predict(keras.utils.img_to_array(image)[np.newaxis], verbose=0)

    for path in photos[:2]:
        classify(path)
    return _cost(classify, photos)


def dataset(model: str, folder: str, count: str) -> dict[str, float]:
    """Measure `image_dataset_from_directory` in batches of 32, and `predict`."""
    import keras

    network = _keras_model(model)
    network.predict(np.zeros((64, SIZE, SIZE, 3), np.float32), batch_size=32, verbose=0)
    batches = int(count) // 32

    def classify(_: None) -> None:
        images = keras.utils.image_dataset_from_directory(
            folder, labels=None, image_size=(SIZE, SIZE), batch_size=32, shuffle=False, verbose=False
        )
        network.predict(images.take(batches), verbose=0)

    return {name: seconds / (batches * 32) for name, seconds in _cost(classify, [None]).items()}


def floor(conversion: str, folder: str, count: str) -> dict[str, float]:
    """Measure the fastest decoding and the converted model, each alone, on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    photos = _photos(folder, count)
    tensors: list[Any] = []

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.draft("RGB", (round(SIZE / CROP), round(SIZE / CROP)))
            box = _crop(image.size)
            tensors.append(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box, reducing_gap=3.0)))

    decode(photos[0])
    decoding = _cost(decode, photos)
    interpreter = Interpreter(conversion, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def infer(tensor: Any) -> None:
        interpreter.set_tensor(taken["index"], tensor[np.newaxis])
        interpreter.invoke()
        interpreter.get_tensor(given["index"])

    infer(tensors[0])
    inferring = _cost(infer, (tensors * INFERRED)[:INFERRED])
    return {kind: decoding[kind] + inferring[kind] for kind in decoding}


def reference(model: str, *folders: str) -> dict[str, str]:
    """Decode every pixel, reduce with Lanczos' filter to the model's size, and run the SavedModel in TensorFlow."""
    import tensorflow as tf

    # Keep a reference, because otherwise the variables would be freed.
    loaded = tf.saved_model.load(model)
    signature = loaded.signatures["serving_default"]
    labels = (Path(model) / "labels.txt").read_text(encoding="utf-8").splitlines()

    def likeliest(path: Path) -> str:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        small = upright.resize((SIZE, SIZE), Image.Resampling.LANCZOS, _crop(upright.size))
        (scores,) = signature(tf.constant((np.asarray(small, np.float32)[np.newaxis] - 127) / 128)).values()
        return labels[int(np.argmax(scores))]

    photos = [
        path for folder in folders for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    ]
    found = {}
    for path in photos:
        with contextlib.suppress(OSError, ValueError):  # damaged photos
            found[str(path)] = likeliest(path)
    return found


def _photos(folder: str, count: str) -> list[Path]:
    return sorted(Path(folder).rglob("*.jpg"))[: int(count)]


def _crop(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box that EfficientNet-Lite0 looks at."""
    half = min(size) * CROP / 2
    return size[0] / 2 - half, size[1] / 2 - half, size[0] / 2 + half, size[1] / 2 + half


def _keras_model(directory: str) -> Any:
    import keras

    images = keras.Input((SIZE, SIZE, 3))
    served = keras.layers.TFSMLayer(directory, call_endpoint="serving_default")
    return keras.Model(images, served(keras.layers.Rescaling(1 / 128, -127 / 128)(images))["logits"])


def _cost(do: Callable[[Any], None], items: Sequence[Any]) -> dict[str, float]:
    """Return the wall and processor seconds that one of `items` takes."""
    started, busy = time.perf_counter(), time.process_time()
    for item in items:
        do(item)
    return {
        "wall": (time.perf_counter() - started) / len(items),
        "cpu": (time.process_time() - busy) / len(items),
    }


PARTS = {"loop": loop, "dataset": dataset, "floor": floor, "reference": reference}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](*sys.argv[2:])))
