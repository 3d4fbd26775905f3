"""Checks of everything that a scan needs. They change nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phototag._version import __version__
from phototag.core import Photo, WalkItem
from phototag.errors import ModelError, PhotoError, PhototagError
from phototag.models.find import DEFAULT_MODEL, Model, is_installed
from phototag.paths import data_directory, installed_directory

# Free space on the disk of the index, in bytes: the index of a hundred thousand photos takes about 60 MB.
LITTLE_ROOM = 500 << 20
NO_ROOM = 10 << 20


@dataclass(frozen=True, slots=True)
class Check:
    """A check and its result.

    state: with a `fault`, a scan will fail. finding: one sentence, which an `error` replaces. remedy: what the user can
    do; it may hold placeholders as in `phototag.errors`.
    """

    subject: str
    state: Literal["ok", "warning", "fault"]
    finding: str
    remedy: str | None = None
    error: PhototagError | None = None


def check_python() -> Check:
    """Return the versions of phototag and Python."""
    system = f"{platform.system()} {platform.machine()}"
    return Check("phototag", "ok", f"{__version__}, Python {platform.python_version()}, {system}")


def check_engines() -> Iterator[Check]:
    """Check TensorFlow and LiteRT, which run models. Imports neither."""
    if importlib.util.find_spec("tensorflow") is None:
        yield Check(
            "TensorFlow",
            "fault",
            "it is not installed",
            f"Install it where phototag is: {sys.executable} -m pip install tensorflow",
        )
    else:
        yield Check("TensorFlow", "ok", _version("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly"))
    if importlib.util.find_spec("ai_edge_litert") is not None:
        yield Check("LiteRT", "ok", _version("ai-edge-litert"))


def _version(*distributions: str) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of an unknown version"


def check_model(model: Model) -> Check:
    """Check that the model exists or can be built. Does not run it."""
    if model.directory == installed_directory(DEFAULT_MODEL) and not is_installed(DEFAULT_MODEL):
        from phototag.zoo.build import has_weights

        if not has_weights(DEFAULT_MODEL):
            remedy = "Install phototag again, with all that it depends on."
            return Check("model", "fault", f"the weights of {DEFAULT_MODEL} are not installed", remedy)
        return Check("model", "ok", f"{DEFAULT_MODEL}, which the first scan builds in {model.directory}")
    return Check("model", "ok", f"{model.card.name}, {len(model.labels):,} classes, in {model.directory}")


def try_model(model: Model) -> Check:
    """Check that the model runs. Builds the default model if it is not built yet."""
    import numpy as np

    from phototag.zoo.build import ensure_built

    size = (model.preprocessing.height, model.preprocessing.width)
    try:
        ensure_built(model, lambda _: None)
        from phototag.analysis.classifier import Classifier

        classifier = Classifier(model)
        classifier.predict(np.zeros((1, *size, 3), np.uint8))
    except (ModelError, ImportError) as error:
        remedy = "Try another {model}, or install TensorFlow again."
        known = error if isinstance(error, ModelError) else None
        return Check("model runs", "fault", str(error), remedy, known)
    return Check("model runs", "ok", f"on an image of {size[1]} x {size[0]} pixels, in {classifier.engine}")


def check_decoders() -> Check:
    """Check which formats of photos can be read."""
    from PIL import features

    kinds = {
        "JPEG": features.check_codec("jpg"),
        "PNG": features.check_codec("zlib"),
        "TIFF": features.check_codec("libtiff"),
        "WebP": features.check_module("webp"),
        "AVIF": features.check_module("avif"),
        "HEIC": importlib.util.find_spec("pillow_heif") is not None,
    }
    missing = [kind for kind, there in kinds.items() if not there]
    turbo = "" if features.check_feature("libjpeg_turbo") else " without libjpeg-turbo"
    pillow = f"by Pillow {_version('pillow')}{turbo}"
    if missing:
        remedy = f"Install Pillow from a wheel: {sys.executable} -m pip install --force-reinstall pillow pillow-heif"
        return Check("photos", "fault", f"{', '.join(missing)} cannot be read {pillow}", remedy)
    raw = "; camera RAW by rawpy" if importlib.util.find_spec("rawpy") is not None else ""
    return Check("photos", "ok", f"{', '.join(kinds)} {pillow}{raw}")


def check_data_directory() -> Check:
    """Check that phototag can keep models and the index in the data directory."""
    return _check_folder("data directory", data_directory(), "Correct its permissions, or set PHOTOTAG_DATA_DIR.")


def check_index(path: Path) -> Iterator[Check]:
    """Check that the index is sound, not in use and writable, and that its disk has free space."""
    from phototag.index.health import examine

    path = path.absolute()
    health = examine(path)
    if health is None:
        yield Check("index", "ok", f"{path}, which the first scan makes")
    elif health.faults:
        for fault in health.faults:
            yield Check("index", "fault", str(fault), _REMEDY if "move it away" in fault.remedy else None, fault)
    else:
        old = "; of an older phototag, which the next scan brings up to date" if health.is_old else ""
        yield Check("index", "ok", f"{path}, sound, {_several(health.photos or 0, 'photo')}{old}")
        if health.running is not None:
            run = health.running
            finding = f"process {run.pid} has been using it since {run.started}"
            yield Check("index", "warning", finding, "Until it is done, scans end with exit code 4.")
    if health is not None and not os.access(path, os.R_OK | os.W_OK):
        yield Check("index", "fault", f"{path} may not be written", _NO_RIGHT)
    yield _check_folder("index's folder", path.parent, _NO_RIGHT)


_NO_RIGHT = "Correct its permissions, or choose another with {index}."
_REMEDY = (
    "Move it away, and the files beside it that are called so with -wal and -shm at the end. The next scan makes a new "
    "one and takes over what sidecars and photos say."
)


def _check_folder(subject: str, folder: Path, remedy: str) -> Check:
    """Check that `folder` can be written, or created if it is missing, and that its disk has free space."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not os.path.isdir(there):
        return Check(subject, "fault", f"{there} is not a folder", remedy)
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return Check(subject, "fault", f"{there} may not be written", remedy)
    room = shutil.disk_usage(there).free
    if room < LITTLE_ROOM:
        state: Literal["warning", "fault"] = "warning" if room >= NO_ROOM else "fault"
        return Check(subject, state, f"{folder}: {room >> 20} MB are left on its disk", "Make room there.")
    return Check(subject, "ok", f"{folder}, may be written, {room / 1e9:.0f} GB free")


def check_library(path: Path, found: Iterable[WalkItem]) -> Iterator[Check]:
    """Check that tags can be written beside the photos `found` at and below `path`. Checks each folder once."""
    folders: dict[str, bool] = {}  # every folder with photos, and whether it can be written
    unreadable: list[PhotoError] = []
    photos = 0
    for one in found:
        if isinstance(one, PhotoError):
            unreadable.append(one)
        elif isinstance(one, Photo):
            photos += 1
            folder = os.path.dirname(one.path)
            if folder not in folders:
                folders[folder] = os.access(folder, os.W_OK | os.X_OK)
    if unreadable:
        first = f"{unreadable[0].path}: {unreadable[0].reason}"
        yield Check("library", "fault", f"{_several(len(unreadable), 'place')} cannot be read; {first}")
    yield _check_folders(path, photos, folders)


def _check_folders(path: Path, photos: int, folders: dict[str, bool]) -> Check:
    locked = [folder for folder, may_be_written in folders.items() if not may_be_written]
    if locked:
        finding = f"{_several(len(locked), 'folder')} may not be written, {locked[0]} is the first"
        remedy = "Correct its permissions, or scan as the owner of the photos; {write} none only prints tags."
        return Check("library", "fault", finding, remedy)
    if not photos:
        return Check("library", "warning", f"{path} holds no photos", "Check the path, and whether its disk is there.")
    finding = f"{path}, {_several(photos, 'photo')} in {_several(len(folders), 'folder')}, may be written"
    return Check("library", "ok", finding)


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def failed(subject: str, error: PhototagError) -> Check:
    """Return the check of a `subject` that failed with `error`."""
    return Check(subject, "fault", str(error), error=error)
