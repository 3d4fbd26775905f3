"""Choose the engine that runs a model. Conversions are made once, and kept in the data directory with their results."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock

from phototag.core import EngineChosen, ModelConverting, OnWorkEvent, canonical
from phototag.engines.litert_runner import Conversion, LiteRTRunner, is_litert_installed
from phototag.engines.runner import Runner, first_line
from phototag.errors import ModelError
from phototag.models.find import Model, saved_model_parts
from phototag.paths import data_directory

Engine = Literal["auto", "litert", "tensorflow"]

# Increment this when models are converted or checked differently. Conversions of another format are made again.
FORMAT = 1
MAX_VERDICT = 1 << 16  # bytes
MAX_CONTENT = 1 << 31  # bytes, the limit of a flatbuffer


def open_runner(model: Model, engine: Engine, on_event: OnWorkEvent, callers: int) -> Runner:
    """Load `model` into `engine`. `auto` is LiteRT, unless LiteRT cannot run the model or there is a GPU.

    `on_event` is called before a model is converted and, with `auto`, if the conversion failed. `callers`: how many
    threads will call it.

    Raises `ModelError` if the model cannot be loaded, or if LiteRT cannot load it and `engine` is `litert`.
    """
    if engine == "litert" and not is_litert_installed():
        remedy = "install it with: pip install ai-edge-litert, or leave out {engine}"
        raise ModelError("LiteRT is not installed", remedy)
    if engine != "tensorflow" and is_litert_installed():
        conversion = _conversion(model, on_event, tell=engine == "auto")
        reason = conversion.reason
        if conversion.content is not None and (engine == "litert" or not conversion.gpu):
            try:
                return LiteRTRunner(model.directory, model.interface, model.preprocessing, conversion.content)
            except (ValueError, RuntimeError) as error:  # it ran when it was made, perhaps on another processor
                reason = f"LiteRT cannot load it ({first_line(error)})"
        if engine == "litert":
            raise ModelError(f"{model.directory} cannot run in LiteRT: {reason}", "leave out {engine}")
    from phototag.engines.tensorflow_runner import TensorFlowRunner

    return TensorFlowRunner(model.directory, model.interface, model.preprocessing, callers)


# --- Keeping conversions ----------------------------------------------------------------------------------------------


def _conversion(model: Model, on_event: OnWorkEvent, *, tell: bool) -> Conversion:
    """Return the conversion of `model`, made now or earlier. `tell`: report the reason if it fails now."""
    place, kept = _place(), _Kept.of(model)
    found = kept.read(place)
    if found is not None:
        return found
    try:
        place.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(place / ".lock"):
            found = kept.read(place)  # another process may have made it meanwhile
            if found is None:
                on_event(ModelConverting(model.card.name))
                found = _make(model)
                if found.lasting:
                    kept.write(place, found)
    except OSError as error:
        hint = "make room or set PHOTOTAG_DATA_DIR to a folder that can be written"
        found = Conversion(None, f"{place} cannot be written ({error.strerror or error}; {hint})")
    if tell and found.reason is not None:
        on_event(EngineChosen(model.card.name, found.reason))
    return found


def forget_conversions(directory: Path) -> None:
    """Remove the conversions of the model in `directory`."""
    _forget(lambda verdict: verdict.get("model") == str(directory))


def _place() -> Path:
    return data_directory() / "converted"


def _forget(is_meant: Callable[[dict[str, Any]], bool]) -> None:
    for path in _place().glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            if is_meant(_read_verdict(path)):
                path.unlink()
                path.with_suffix(".tflite").unlink(missing_ok=True)


def _read_verdict(path: Path) -> dict[str, Any]:
    """Return the verdict in the file at `path`. Raises `OSError` or `ValueError` if there is none."""
    verdict = json.loads(_read(path, MAX_VERDICT))
    if not isinstance(verdict, dict):
        raise ValueError("no object")
    return verdict


def _read(path: Path, most: int) -> bytes:
    if not path.is_file() or path.stat().st_size > most:  # reading a pipe would never end
        raise ValueError(f"{path} is none of ours")
    return path.read_bytes()


@dataclass(frozen=True)
class _Kept:
    """The place of a model's conversion: `<key>.json` holds the verdict, `<key>.tflite` the new model.

    `model` and `use` identify the model: its directory, and how it is called and fed. The key is a digest of these, of
    the SavedModel's files, and of the versions of the programs that converted and checked it.
    """

    model: str
    use: str
    key: str

    @classmethod
    def of(cls, model: Model) -> _Kept:
        # Interpolation and crop are not part of the graph.
        fed = model.preprocessing
        graph = (fed.height, fed.width, fed.mean, fed.std, fed.channel_order, fed.layout)
        use = canonical((model.interface, graph))
        # A card's digest does not change if the files beside it do, so they count too.
        files = [(str(path), *_size_and_time(path)) for path in saved_model_parts(model.directory)]
        versions = (FORMAT, _version("tensorflow"), _version("ai-edge-litert"))
        facts = (str(model.directory), use, model.weights, files, versions, _gpus())
        # Only if there are any, so that earlier conversions stay valid. Not in `use`, so that a conversion with other
        # outputs replaces this one.
        also = model.interface.also
        key = hashlib.sha256(
            canonical((*facts, also) if also else facts).encode("utf-8", "surrogateescape")
        ).hexdigest()
        return cls(str(model.directory), hashlib.sha256(use.encode()).hexdigest(), key[:32])

    def read(self, place: Path) -> Conversion | None:
        """Return the conversion that was kept, or None if there is none or it is damaged."""
        try:
            verdict = _read_verdict(place / f"{self.key}.json")
            reason, gpu, digest = verdict["reason"], bool(verdict["gpu"]), verdict["sha256"]
            if isinstance(reason, str):
                return Conversion(None, reason, gpu)
            content = _read(place / f"{self.key}.tflite", MAX_CONTENT)
        except (OSError, ValueError, KeyError):
            return None
        return Conversion(content, None, gpu) if hashlib.sha256(content).hexdigest() == digest else None

    def write(self, place: Path, conversion: Conversion) -> None:
        """Keep `conversion`, and remove earlier conversions of the same model and use."""
        _forget(lambda verdict: (verdict.get("model"), verdict.get("use")) == (self.model, self.use))
        digest = None
        if conversion.content is not None:
            digest = hashlib.sha256(conversion.content).hexdigest()
            _replace(place / f"{self.key}.tflite", conversion.content)
        verdict = {
            "model": self.model,
            "use": self.use,
            "reason": conversion.reason,
            "gpu": conversion.gpu,
            "sha256": digest,
        }
        _replace(place / f"{self.key}.json", json.dumps(verdict).encode())


def _replace(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`, all or nothing. The caller must hold the lock."""
    new = path.with_name(".new")
    new.write_bytes(content)
    os.replace(new, path)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _version(package: str) -> str | None:
    """Return the version of an installed package without importing it, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpus() -> tuple[object, ...]:
    """Return what decides whether TensorFlow sees a GPU; empty if there clearly is none.

    Only importing TensorFlow tells, and that takes seconds. So it is found out when a model is converted, and again
    when any of this has changed.
    """
    devices = sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*"))
    devices += [device for device in ("/dev/kfd", "/dev/dxg") if os.path.exists(device)]
    plugins = [_version("tensorflow-metal"), _version("tensorflow-directml-plugin")]
    if not devices and not any(plugins):
        return ()
    cuda = [_version(f"nvidia-cudnn-cu{number}") for number in (11, 12, 13)]
    environment = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")]
    return (*devices, *plugins, *cuda, *environment)


# --- Making one -------------------------------------------------------------------------------------------------------


def _make(model: Model) -> Conversion:
    """Convert `model`, in this process if TensorFlow is already imported, else in another process.

    Raises `ModelError` if TensorFlow cannot load the model.
    """
    if "tensorflow" in sys.modules or not sys.executable:
        from phototag.engines.convert import convert
    else:
        from phototag.engines._child import convert_in_child as convert
    return convert(model.directory, model.interface, model.preprocessing)
