"""Read a PyTorch checkpoint of plain tensors, without PyTorch and without trusting its pickle.

A pickle can name any callable and have it called. This reader resolves four names to harmless stand-ins and refuses
every other name. It reads nothing before it has checked the file's digest.

The format is PyTorch's legacy one (`torch.save` before 1.6). First come pickles of a magic number, a protocol version,
facts about the machine, and the object itself, in which tensors refer to storages by key. Then comes a pickle of the
list of keys. The storages follow in that order, each as a count of elements (8 bytes, little-endian) and the elements.
"""

from __future__ import annotations

import collections
import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from phototag.errors import ModelError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the pickle describes it: a view of a storage whose elements come later in the file."""

    storage: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
        storage = storages[self.storage]
        # as_strided does not check: a view past the end of the storage would read other memory.
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        if min((self.offset, *self.shape, *self.stride), default=0) < 0 or last >= storage.size:
            raise ValueError(f"a tensor of shape {self.shape} reaches past its storage")
        strides = tuple(step * storage.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, strides, writeable=False)


def _rebuild_tensor(storage: tuple[str, np.dtype[Any]], offset: int, shape: Any, stride: Any, *_: object) -> _Tensor:
    """Stand in for `torch._utils._rebuild_tensor_v2`."""
    return _Tensor(storage[0], storage[1], int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


class _Unpickler(pickle.Unpickler):
    """An unpickler that can make ordered dictionaries and tensors, and nothing else."""

    ALLOWED: ClassVar[dict[tuple[str, str], Callable[..., Any] | np.dtype[Any]]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return self.ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which is not a tensor") from None

    def persistent_load(self, pid: Any, /) -> tuple[str, np.dtype[Any]]:
        _, dtype, key, *_ = pid
        return str(key), np.dtype(dtype)


def read_checkpoint(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Return the tensors of the legacy checkpoint at `path` by name.

    The SHA-256 of the file must be `sha256` (64 hexadecimal digits). The arrays are float32 or int64, read-only, and in
    PyTorch's order of axes (output, input, height, width for a convolution).

    Raises `ModelError` if the file cannot be read, has another digest, or holds anything but tensors.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); install the package it comes with again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path} is not the file that was published; install the package it comes with again")
    return parse_checkpoint(data, str(path))


def parse_checkpoint(data: bytes, source: str) -> dict[str, NDArray[Any]]:
    """Return the tensors in the bytes of a legacy checkpoint. Raises `ModelError` naming `source`."""
    file = io.BytesIO(data)
    try:
        if _Unpickler(file).load() != MAGIC_NUMBER or _Unpickler(file).load() != PROTOCOL_VERSION:
            raise ValueError("it is not a PyTorch checkpoint of the legacy format")
        _Unpickler(file).load()  # the facts about the machine that wrote it
        tensors: dict[str, _Tensor] = _Unpickler(file).load()
        keys: list[str] = _Unpickler(file).load()
        dtypes = {tensor.storage: tensor.dtype for tensor in tensors.values()}
        storages = {key: _read_storage(file, dtypes[key]) for key in keys}
        return {str(name): tensor.read(storages) for name, tensor in tensors.items()}
    # A damaged pickle may raise other errors than UnpicklingError (see the documentation of `pickle`).
    except Exception as error:
        raise ModelError(f"{source} cannot be read as a checkpoint: {error}") from error


def _read_storage(file: io.BytesIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError("it ends in the middle of a storage")
    return np.frombuffer(data, dtype)
