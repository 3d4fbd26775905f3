"""Build the models that phototag has recipes for, and install models: all or nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import filelock

from phototag.core import ModelBuilding, OnWorkEvent, WaitingFor, ignore
from phototag.errors import ConfigError, ModelError
from phototag.models.card import CARD_NAME, format_card
from phototag.models.find import (
    DEFAULT_MODEL,
    Model,
    find_model,
    is_installed,
    is_model_name,
    read_text,
    saved_model_parts,
)
from phototag.paths import data_directory, installed_directory, shipped_directory
from phototag.zoo.checkpoint import read_checkpoint
from phototag.zoo.recipes import BUILDABLE, EFFICIENTNET_LITES, KERAS_APPLICATIONS, EfficientNetLite, card_of


def build_model(name: str, on_event: OnWorkEvent) -> Path:
    """Build and install the model `name`, one of `BUILDABLE`, and return its directory. An earlier build is replaced.

    `on_event` is called before the work begins. The models of keras.applications download their weights.

    Raises `ConfigError` for an unknown name, and `ModelError` if the weights are missing or the directory cannot be
    written.
    """
    if name not in BUILDABLE:
        known = f"{', '.join(EFFICIENTNET_LITES)}, and the classifiers of keras.applications, such as mobilenet_v2"
        raise ConfigError(f"there is no recipe for {name}", f"phototag can build {known}")
    with _locked(name, on_event):
        on_event(ModelBuilding(name, installed_directory(name)))
        _install(name, lambda new: _build(name, new))
    return installed_directory(name)


def ensure_built(model: Model, on_event: OnWorkEvent) -> None:
    """Build `model` if it is the default model and is missing, or was built for another version of its card.

    If several processes want it at the same time, all but the first wait. Raises the errors of `build_model`.
    """
    if model.directory != installed_directory(DEFAULT_MODEL) or _is_current():
        return
    with _locked(DEFAULT_MODEL, on_event):
        if not _is_current():
            on_event(ModelBuilding(DEFAULT_MODEL, model.directory))
            _install(DEFAULT_MODEL, lambda new: _build(DEFAULT_MODEL, new))


def has_weights(name: str) -> bool:
    """Return whether the weights of `name`, one of `BUILDABLE`, are on this machine, so that it can be built."""
    lite = EFFICIENTNET_LITES.get(name)
    return lite is not None and importlib.util.find_spec(lite.package) is not None


def add_model(name: str, model: Model, labels: str, *, link: bool) -> Path:
    """Install a copy of `model` as `name`, with its card, the text of its label file and its heads.

    Returns its directory. `link`: link to the SavedModel, which stays in its place.

    Raises `ConfigError` if the name cannot be used or is taken, and `ModelError` if the directory cannot be written.
    """

    def fill(new: Path) -> None:
        for part in saved_model_parts(model.directory):
            target = new / part.relative_to(model.directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            if link:
                target.symlink_to(os.path.abspath(part))
            else:
                shutil.copyfile(part, target)
        # A linked model may change, so phototag reads its files at every start.
        card = replace(model.card, digest=None) if link else model.card
        (new / CARD_NAME).write_text(format_card(card), encoding="utf-8")
        (new / str(model.card.labels)).write_text(labels, encoding="utf-8")
        for entry in (card.head, card.look):
            if entry is not None:
                shutil.copyfile(model.directory / entry.file, new / entry.file)

    check_name(name)
    with _locked(name):
        check_name(name)  # only the lock keeps other processes from taking the name
        _install(name, fill)
    return installed_directory(name)


def check_name(name: str) -> None:
    """Raise `ConfigError` if `name` cannot be the name of another model."""
    if not is_model_name(name):
        raise ConfigError(f"{name!r} cannot be the name of a model", "choose another")
    if name in BUILDABLE or is_installed(name):
        raise ConfigError(f"the name {name} is taken", "remove that model or choose another name")


def installed_path(name: str) -> Path:
    """Return the directory of the installed model `name`. Raises `ConfigError` if there is none."""
    if not is_installed(name):
        raise ConfigError(f"no model {name} is installed", "(see: {command:models list})")
    return installed_directory(name)


def remove_model(name: str) -> None:
    """Remove the installed model `name`. Raises `ConfigError` if there is none."""
    installed_path(name)
    with _locked(name):
        directory, staging = installed_path(name), _clean_staging(name)
        # Rename it first, so that half a model is never found under its name.
        os.rename(directory, staging / "removed")
        shutil.rmtree(staging)
    from phototag.engines.load import forget_conversions

    forget_conversions(directory)


def installed_models() -> list[str]:
    """Return the names of the installed models, sorted.

    Raises `ModelError` if the data directory cannot be read.
    """
    place = data_directory() / "models"
    try:
        return sorted(path.name for path in place.iterdir() if is_installed(path.name)) if place.is_dir() else []
    except OSError as error:
        raise ModelError(f"{place} cannot be read ({error.strerror}); check its permissions") from None


# --- Recipes ----------------------------------------------------------------------------------------------------------


def _build(name: str, directory: Path) -> None:
    """Write the SavedModel `name`, its card and its labels into the empty `directory`."""
    lite = EFFICIENTNET_LITES.get(name)
    if lite is not None:
        _build_efficientnet_lite(name, lite, directory)
    else:
        from phototag.zoo.keras_applications import export_keras_application

        application = KERAS_APPLICATIONS[name]
        export_keras_application(application.function, application.image_size, directory)
    shipped = shipped_directory() / DEFAULT_MODEL
    if name != DEFAULT_MODEL:
        card = card_of(name)
        shutil.copyfile(shipped / "labels.txt", directory / str(card.labels))
        (directory / CARD_NAME).write_text(format_card(card), encoding="utf-8")
        return
    for path in shipped.iterdir():
        if path.is_file():  # the folder of a checkout also has the sources of the head
            shutil.copyfile(path, directory / path.name)


def _build_efficientnet_lite(name: str, lite: EfficientNetLite, directory: Path) -> None:
    from phototag.zoo.efficientnet_lite import export_efficientnet_lite

    weights = read_checkpoint(_package_file(lite.package, lite.file), lite.sha256)
    # The head and the projection were learned on the features of the default model.
    default = find_model(DEFAULT_MODEL) if name == DEFAULT_MODEL else None
    export_efficientnet_lite(
        weights,
        directory,
        image_size=lite.image_size,
        width=lite.width,
        depth=lite.depth,
        head=default.head if default is not None else None,
        look=default.look if default is not None else None,
    )


def _package_file(package: str, file: str) -> Path:
    """Return the path of a data file of an installed package, without running any code of the package."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"the package {package} is not installed; install it with: pip install {package}")
    return Path(found.submodule_search_locations[0]) / file


def _is_current() -> bool:
    """Return whether the installed default model is complete and matches the shipped card."""
    directory = installed_directory(DEFAULT_MODEL)
    parts = [directory / "saved_model.pb", *(directory / "variables").glob("*")]
    if len(parts) < 3 or not all(path.is_file() and path.stat().st_size for path in parts):
        return False
    try:
        installed = read_text(directory / CARD_NAME)
    except ModelError:
        return False
    return installed == read_text(shipped_directory() / DEFAULT_MODEL / CARD_NAME)


# --- Installing -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(name: str, on_event: OnWorkEvent = ignore) -> Iterator[None]:
    """Hold the lock of the model `name`, and name its directory in errors of the file system."""
    directory = installed_directory(name)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory.with_name(f".{name}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            on_event(WaitingFor(model=name))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        hint = "make room or set PHOTOTAG_DATA_DIR to a folder that can be written"
        raise ModelError(f"{directory} cannot be written ({error.strerror or error}); {hint}") from error


def _install(name: str, fill: Callable[[Path], None]) -> None:
    """Let `fill` make the model in a staging folder, and move it to its place. The caller must hold the lock."""
    directory, staging = installed_directory(name), _clean_staging(name)
    new = staging / "new"
    new.mkdir()
    try:
        fill(new)
        for path in new.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with path.open("r+b") as file:  # Windows flushes only files that are open for writing
                    os.fsync(file.fileno())
        if directory.exists():
            # A rename cannot replace a directory. A process that finds nothing in between waits for the lock.
            os.rename(directory, staging / "replaced")
        os.rename(new, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _clean_staging(name: str) -> Path:
    """Return the empty folder for making the model `name`, without the remains of a build that was killed.

    The caller must hold the lock. The folder is hidden, so it is never taken for a model, and it is on the same file
    system.
    """
    staging = installed_directory(name).parent / ".staging" / name
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging
