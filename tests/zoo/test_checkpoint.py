import collections
import hashlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from phototag.errors import ModelError
from phototag.zoo import checkpoint
from phototag.zoo.checkpoint import parse_checkpoint, read_checkpoint


class _Global:
    """Pickles as the name of a callable of PyTorch's, without PyTorch."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


PICKLER: Any = pickle._Pickler  # the stubs leave out some of its methods


class _Pickler(PICKLER):
    """Writes what `torch.save` writes."""

    dispatch: ClassVar[dict[type, object]] = dict(PICKLER.dispatch)

    def persistent_id(self, value: object) -> object:
        return value.key if isinstance(value, _Storage) else None

    def save_global_name(self, value: _Global) -> None:
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    dispatch[_Global] = save_global_name


class _Storage:
    def __init__(self, name: str, count: int) -> None:
        self.key = ("storage", _Global("torch", "FloatStorage"), name, "cpu", count, None)


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments: tuple[Any, ...] = (storage, offset, shape, stride, False, collections.OrderedDict())


def _save_tensor(pickler: _Pickler, value: _Tensor) -> None:
    pickler.save_global_name(_Global("torch._utils", "_rebuild_tensor_v2"))
    pickler.save(value.arguments)
    pickler.write(pickle.REDUCE)


_Pickler.dispatch[_Tensor] = _save_tensor


def legacy_checkpoint(tensors: object, storages: dict[str, np.ndarray]) -> bytes:
    import io

    file = io.BytesIO()
    for value in (
        checkpoint.MAGIC_NUMBER,
        checkpoint.PROTOCOL_VERSION,
        {"little_endian": True},
        tensors,
        list(storages),
    ):
        _Pickler(file, 2).dump(value)
    for array in storages.values():
        file.write(struct.pack("<q", array.size) + array.astype("<f4").tobytes())
    return file.getvalue()


def test_tensors_come_back_with_their_shapes_and_strides() -> None:
    values = np.arange(6, dtype=np.float32)
    storage = _Storage("7", 6)
    tensors = {
        "rows": _Tensor(storage, 0, (2, 3), (3, 1)),
        "columns": _Tensor(storage, 0, (3, 2), (1, 3)),
        "tail": _Tensor(storage, 4, (2,), (1,)),
    }
    read = parse_checkpoint(legacy_checkpoint(collections.OrderedDict(tensors), {"7": values}), "test")
    np.testing.assert_array_equal(read["rows"], values.reshape(2, 3))
    np.testing.assert_array_equal(read["columns"], values.reshape(2, 3).T)
    np.testing.assert_array_equal(read["tail"], [4, 5])


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(0, (7,), (1,)), (6, (1,), (1,)), (0, (2, 3), (4, 1)), (0, (2,), (-1,)), (-1, (2,), (1,))],
)
def test_a_tensor_that_reaches_past_its_storage_is_refused(
    offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    data = legacy_checkpoint({"bad": _Tensor(_Storage("7", 6), offset, shape, stride)}, {"7": np.zeros(6)})
    with pytest.raises(ModelError, match="past its storage"):
        parse_checkpoint(data, "test")


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    data = legacy_checkpoint(Evil(), {})
    with pytest.raises(ModelError, match=r"system, which is not a tensor"):
        parse_checkpoint(data, "evil.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "builtins getattr", "collections namedtuple", "numpy.core.multiarray _reconstruct"]
)
def test_no_other_name_is_resolved(name: str) -> None:
    module, attribute = name.split()
    data = legacy_checkpoint(_Global(module, attribute), {})
    with pytest.raises(ModelError, match="which is not a tensor"):
        parse_checkpoint(data, "test")


def test_every_truncation_is_an_error_of_ours() -> None:
    data = legacy_checkpoint({"t": _Tensor(_Storage("7", 6), 0, (6,), (1,))}, {"7": np.zeros(6)})
    assert parse_checkpoint(data, "whole")["t"].shape == (6,)
    for length in range(len(data)):
        with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
            parse_checkpoint(data[:length], "cut")


def test_nothing_is_unpickled_before_the_digest_is_right(tmp_path: Path) -> None:
    data = legacy_checkpoint({"t": _Tensor(_Storage("7", 2), 0, (2,), (1,))}, {"7": np.ones(2)})
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    assert read_checkpoint(path, hashlib.sha256(data).hexdigest())["t"].tolist() == [1, 1]
    path.write_bytes(data[:-1] + b"\1")
    with pytest.raises(ModelError, match="not the file that was published"):
        read_checkpoint(path, hashlib.sha256(data).hexdigest())
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "missing.pth", "0" * 64)
