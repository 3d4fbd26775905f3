"""The small networks on the features of a network: a head of everyday words, and a projection to likeness vectors.

Both are files beside the model card (`head.npz`, `look.npz`), and the card holds their digests. They may come from
anywhere, so their sizes and types are checked before any array is made.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from phototag.errors import ModelError

MAX_FILE = 1 << 24  # bytes of a file. A head of 43 words takes 0.11 MB and a projection to 128 numbers 0.33 MB
MAX_ARRAY = 1 << 25  # bytes of an array, unpacked
MAX_NAME = 100  # characters of a word
MAX_WEIGHT = 1e4  # the greatest weight of a trained head is below 10
# Far beyond the temperatures in use, and well within float32.
TEMPERATURES = (0.01, 100.0)

# By array: its dtype, and its number of dimensions. The dtype of texts also has a length.
_HEAD = {
    "words": ("U", 1),
    "weights": ("f2", 2),
    "bias": ("f4", 1),
    "mass_weight": ("f4", 1),
    "classes": ("?", 2),
    "temperature": ("f4", 0),
}
_LOOK = {"projection": ("f2", 2)}


@dataclass(frozen=True, eq=False)
class Head:
    """A logistic regression for each of W words, on F features of a network and on its C classes.

    The probability of a word is `sigmoid(weights . sqrt(features) + bias + mass_weight * odds(m))`. `m` is the
    probability of the word's `classes` together, after a softmax at `temperature`, and `odds` is
    `clip(log((m + 0.001) / (1.001 - m)), -6, 6)`.

    words: English names of nodes of the tree. weights: float16 [W, F]. bias, mass_weight: float32 [W].
    classes: bool [W, C], all False for a word without such classes. digest: `sha256:` and the digest of the file.
    """

    words: tuple[str, ...]
    weights: NDArray[np.float16]
    bias: NDArray[np.float32]
    mass_weight: NDArray[np.float32]
    classes: NDArray[np.bool_]
    temperature: float
    digest: str


@dataclass(frozen=True, eq=False)
class Look:
    """A projection of F features to a likeness vector of D numbers: photos that look alike have similar ones.

    projection: float16 [F, D]. digest: `sha256:` and the digest of the file.
    """

    projection: NDArray[np.float16]
    digest: str


def read_head(path: Path, digest: str, known: Collection[str], classes: int) -> Head:
    """Return the head in the file at `path`.

    `digest`: what the card says of the file. `known`: the words that a head may have. `classes`: those of the network.

    Raises `ModelError` naming the file and the fault.
    """
    arrays = _read(path, digest, _HEAD)
    words = tuple(map(str, arrays["words"]))
    weights, temperature = arrays["weights"], float(arrays["temperature"])
    expected = {
        "weights": (len(words), weights.shape[1]),
        "bias": (len(words),),
        "mass_weight": (len(words),),
        "classes": (len(words), classes),
    }
    _check_sizes(path, arrays, expected)
    _check_words(path, words, known)
    if not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        _fail(path, f"its temperature must be from {TEMPERATURES[0]} to {TEMPERATURES[1]:.0f}, not {temperature}")
    bias, mass_weight = arrays["bias"], arrays["mass_weight"]
    return Head(words, weights, bias, mass_weight, arrays["classes"], temperature, digest)


def read_look(path: Path, digest: str) -> Look:
    """Return the projection in the file at `path`. `digest` is what the card says of the file.

    Raises `ModelError` naming the file and the fault.
    """
    arrays = _read(path, digest, _LOOK)
    return Look(arrays["projection"], digest)


def _check_sizes(path: Path, arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            _fail(path, f"{name} has the shape {arrays[name].shape}, not {shape}")


def _check_words(path: Path, words: tuple[str, ...], known: Collection[str]) -> None:
    seen: set[str] = set()
    for word in words:
        if not word or len(word) > MAX_NAME or not word.isprintable():
            _fail(path, f"{word[:MAX_NAME]!r} cannot be a word")
        if word in seen:
            _fail(path, f"it has the word {word!r} twice")
        if word not in known:
            _fail(path, f"the tree has no word {word!r}")
        seen.add(word)


# --- The file format --------------------------------------------------------------------------------------------------


def _read(path: Path, digest: str, expected: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[Any]]:
    """Return the `expected` arrays of the archive at `path`, checked for their types and finite values."""
    data = _content(path)
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ModelError(f"{path} is not the file that the model's card names", "put back the file that came with it")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(archive.namelist())
            if names != sorted(f"{name}.npy" for name in expected):
                raise ValueError(f"it must hold the arrays {', '.join(expected)} and no others")
            return {name: _array(archive, name, *form) for name, form in expected.items()}
    # Damaged archives raise many kinds of errors: of zipfile, zlib, struct and NumPy's parser of headers.
    except Exception as error:
        fault, *_ = (str(error) or type(error).__name__).splitlines()
        raise _damaged(path, fault[:200]) from error


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise ModelError(f"{path} is not a regular file; check the path")
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror})"
        raise ModelError(what, "put back the file that came with the model, or check its permissions") from None
    if len(data) > MAX_FILE:
        _fail(path, f"it is larger than {MAX_FILE >> 20} MB")
    return data


def _array(archive: zipfile.ZipFile, name: str, kind: str, dimensions: int) -> NDArray[Any]:
    """Return the array `name` of the archive, of dtype `kind` with that many dimensions. Raises `ValueError`."""
    member = archive.getinfo(f"{name}.npy")
    # zipfile never unpacks more than the size that the directory of the archive gives.
    if member.file_size > MAX_ARRAY:
        raise ValueError(f"{name} is larger than {MAX_ARRAY >> 20} MB")
    file = io.BytesIO(archive.read(member))
    shape, in_columns, dtype = _header(name, file)
    is_text = kind == "U" and dtype.kind == "U" and dtype.itemsize <= 4 * MAX_NAME
    if not is_text and dtype != np.dtype(kind).newbyteorder("<"):
        raise ValueError(f"{name} is {dtype}, not {np.dtype(kind).name if kind != 'U' else 'text'}")
    # With the sizes given, no array is made that the file does not fill.
    if len(shape) != dimensions or min(shape, default=1) < 1:
        raise ValueError(f"{name} has the shape {shape}")
    content = file.read()
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{name} does not fill its shape {shape}")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")
    if dtype.kind == "f" and not (np.abs(array) <= MAX_WEIGHT).all():
        raise ValueError(f"{name} has values that are not numbers or above {MAX_WEIGHT:.0f}")
    if dtype.kind == "b" and max(content) > 1:
        raise ValueError(f"{name} has values that are neither true nor false")
    if is_text:
        array.tolist()  # raises ValueError for numbers that are not characters
    return array


def _header(name: str, file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether columns come first, and the dtype of the array in `file`. Raises `ValueError`."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} has an unknown format")
    try:
        # NumPy warns about headers of Python 2, and its parser raises many kinds of errors.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.lib.format.read_array_header_1_0(file)
    except Exception as error:
        raise ValueError(f"{name} has a damaged header") from error


def _fail(path: Path, fault: str) -> NoReturn:
    raise _damaged(path, fault)


def _damaged(path: Path, fault: str) -> ModelError:
    return ModelError(f"{path} cannot be used: {fault}", "put back the file that came with the model")
