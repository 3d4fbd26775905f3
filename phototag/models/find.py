"""From a name to a model that can be run: combines its card, its labels, its tree and its SavedModel.

A model is a SavedModel with a model card for the facts that a SavedModel does not hold. The user has to give the facts
that neither tells: phototag does not guess. The SavedModel's graph is the only part of a model that it executes.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phototag.core import LOOK, WORDS, Label, canonical
from phototag.errors import LabelMismatch, ModelError, NotASavedModel, SignatureMismatch, UnknownModel
from phototag.images.preprocess import Preprocessing
from phototag.models.card import CARD_NAME, SCALINGS, ImageInput, ModelCard, Output, Scaling, ScoresKind, parse_card
from phototag.models.head import Head, Look, read_head, read_look
from phototag.models.interface import Interface, choose_interface, class_count, scores_kind
from phototag.models.labels import LabelFile, parse_label_file, parse_labels
from phototag.models.saved_model import (
    FILE_NAMES,
    MetaGraph,
    Signature,
    TensorSpec,
    choose_meta_graph,
    read_saved_model,
)
from phototag.paths import data_directory, installed_directory, shipped_directory
from phototag.vocabulary.taxonomy import Taxonomy

DEFAULT_MODEL = "efficientnet-lite0"
MAX_TEXT_FILE = 1 << 24  # bytes of a card, a label file or a tree. The largest known label file has 0.5 MB


@dataclass(frozen=True)
class Model:
    """A model that can be run: its card, how to call it and feed it, its labels, and its tree if it has one.

    A model that comes with phototag is in `directory` once it is built. `labels` has one label for each class, without
    class 0 if `background` says that it means none of the other classes. `weights` identifies the SavedModel, by its
    files or its card. `digest` changes whenever the same photo may get other scores.

    `thresholds` has each label's own threshold, above 0 and at most 1, or None. It is empty if the label file has none,
    and it changes no scores.

    `head` and `look` are the networks on its features that the card names, which change no scores either. A model
    without a tree has no `head`, because only the tree says what its words mean.
    """

    directory: Path
    card: ModelCard
    interface: Interface
    preprocessing: Preprocessing
    labels: tuple[Label, ...]
    background: bool
    taxonomy: Taxonomy | None
    weights: str
    digest: str
    thresholds: tuple[float | None, ...] = ()
    head: Head | None = None
    look: Look | None = None

    @functools.cached_property
    def head_words(self) -> tuple[str, ...]:
        """The nodes of the tree that are the words of the head, by their ids in the order of its outputs."""
        ids = _ids_by_word()
        return tuple(ids[word] for word in self.head.words) if self.head is not None else ()

    @functools.cached_property
    def head_thresholds(self) -> Mapping[str, float]:
        """The probability from which each of `head_words` is written. A word without one is never written."""
        if self.head is None or self.card.head is None:
            return {}
        ids = _ids_by_word()
        return {ids[word]: threshold for word, threshold in self.card.head.thresholds.items()}

    @property
    def is_independent(self) -> bool:
        """Whether each score is independent of the others, so that a photo may have several labels or none."""
        return self.card.output.scores == "independent"


# --- Finding ----------------------------------------------------------------------------------------------------------


def find_model(name: str, *, labels: Path | None = None, given: Mapping[str, Any] | None = None) -> Model:
    """Return the model that is installed as `name`, or the model in the directory `name`.

    `labels`: a label file that overrides the card's. `given`: facts in the form of a model card, which override the
    card or replace a missing card. This reads cards, labels and the SavedModel's protobuf, and neither loads nor runs
    the model. It finds the default model before it is built (`phototag.zoo.build.ensure_built`).

    Raises `NotASavedModel` or another `ModelError` if there is no such model, or a fact is missing or wrong.
    """
    if name == DEFAULT_MODEL:
        return _shipped_model(labels, given)
    directory = locate(name)
    graphs = read_saved_model(directory)
    card = read_card(directory, given)
    graph = choose_meta_graph(graphs, card.tag_set, directory)
    label_file = read_labels(directory, card, labels)
    return _with_heads(
        _model(directory, card, graph, label_file, card.digest or digest_of(directory)), directory, graph
    )


def is_model_name(name: str) -> bool:
    """Return whether `name` can be the name of an installed model: a plain folder name on any system."""
    plain = bool(name) and name.isprintable() and not set(name) & set('/\\:*?"<>|') and len(name) <= 100
    return plain and not name.startswith(".") and not name.endswith((".", " "))


def is_installed(name: str) -> bool:
    """Return whether a model is installed as `name`.

    Raises `ModelError` if the data directory cannot be read.
    """
    try:
        return is_model_name(name) and installed_directory(name).is_dir()
    except OSError as error:
        raise ModelError(f"{data_directory()} cannot be read ({error.strerror}); check its permissions") from None


def locate(name: str) -> Path:
    """Return the directory of the installed model `name`, the directory `name`, or that of the SavedModel's file.

    Raises `UnknownModel` if there is none of these, and `NotASavedModel` if a part of the model is not a regular file.
    """
    if is_installed(name):
        directory = installed_directory(name)
    else:
        directory = Path(name)
        try:
            if directory.name in FILE_NAMES and directory.is_file():
                directory = directory.parent
            elif not directory.exists() or not name:
                raise UnknownModel(
                    f"{name} is neither a directory nor an installed model", "(see: {command:models list})", name=name
                )
        except OSError as error:
            raise NotASavedModel(f"{name} cannot be read ({error.strerror}); check the path") from None
    for path in saved_model_parts(directory):
        if not path.is_file():  # reading a pipe would never end, here or in TensorFlow
            raise NotASavedModel(f"{path} is not a regular file; export the model again")
    return directory


def saved_model_parts(directory: Path) -> Iterator[Path]:
    """Yield the files of the SavedModel in `directory`. Other files there do not belong to it.

    Raises `NotASavedModel` if they cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise NotASavedModel(f"{error.filename} cannot be read ({error.strerror}); check its permissions") from None

    for name in (*FILE_NAMES, "fingerprint.pb"):
        if os.path.lexists(directory / name):
            yield directory / name
    for name in ("variables", "assets", "assets.extra"):
        for folder, folders, files in os.walk(
            directory / name, onerror=fail if os.path.exists(directory / name) else None
        ):
            links = [other for other in folders if (Path(folder) / other).is_symlink()]
            if links:
                raise NotASavedModel(f"{Path(folder) / links[0]} is a link to a folder; put the folder itself there")
            yield from (Path(folder) / file for file in sorted(files))


def _shipped_model(labels: Path | None, given: Mapping[str, Any] | None) -> Model:
    """Return the default model, whose facts are all known before it is built."""
    directory = shipped_directory() / DEFAULT_MODEL
    card = read_card(directory, given)
    image = TensorSpec("images", "float32", (None, card.input.height, card.input.width, 3))
    outputs = {"logits": TensorSpec("logits", "float32", (None, 1000))}
    for name, entry in ((WORDS, card.head), (LOOK, card.look)):
        if entry is not None:
            outputs[name] = TensorSpec(name, "float32", (None, None))
    signature = Signature("serving_default", {"images": image}, outputs)
    graph = MetaGraph.described(("serve",), {signature.key: signature})
    label_file = read_labels(directory, card, labels)
    model = _model(installed_directory(DEFAULT_MODEL), card, graph, label_file, card.digest or "")
    return _with_heads(model, directory, graph)


def read_card(directory: Path, given: Mapping[str, Any] | None) -> ModelCard:
    """Return the model card in `directory`, with the facts that are `given`; without a card, a card of that name.

    Raises `ModelError` if the card cannot be read or is wrong.
    """
    path = directory / CARD_NAME
    if path.exists():
        return parse_card(read_text(path), str(path), given)
    name = "".join(c if c.isprintable() else "?" for c in os.path.basename(os.path.realpath(directory)))
    return parse_card("{}", str(directory), {"name": name, **(given or {})})


def read_labels(directory: Path, card: ModelCard, chosen: Path | None) -> LabelFile | None:
    """Return the content of the label file that the user has `chosen`, or of the card's; None if there is neither.

    Raises `ModelError` if the file cannot be read or is wrong.
    """
    if chosen is not None:
        return parse_label_file(read_text(chosen), str(chosen))
    if card.labels is None:
        return None
    path = beside_card(directory, card.labels)
    return parse_label_file(read_text(path), str(path))


def beside_card(directory: Path, file: str) -> Path:
    """Return the path of a `file` that the card in `directory` names. Raises `ModelError` if it is a link elsewhere."""
    path = directory / file
    if Path(os.path.realpath(path)).parent != Path(os.path.realpath(directory)):
        raise ModelError(f"{path} leads out of its directory, where a card has no business; put the file there")
    return path


def read_text(path: Path) -> str:
    """Return the text of a card, a label file or a tree.

    Raises `ModelError` if it cannot be read, is too large for such a file, or is not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise ModelError(f"{path} is not a regular file; check the path")
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_FILE + 1)
        if len(data) > MAX_TEXT_FILE:
            raise ModelError(f"{path} is larger than {MAX_TEXT_FILE >> 20} MB, which no such file is; check the path")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def digest_of(directory: Path) -> str:
    """Return the SHA-256 of the SavedModel's files in `directory`."""
    digest = hashlib.sha256()
    try:
        for path in saved_model_parts(directory):
            digest.update(str(path.relative_to(directory)).encode("utf-8", "surrogateescape") + b"\0")
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{directory} cannot be read ({error.strerror}); check its permissions") from None
    return f"sha256:{digest.hexdigest()}"


# --- Bringing card and SavedModel together ----------------------------------------------------------------------------


def _model(directory: Path, card: ModelCard, graph: MetaGraph, label_file: LabelFile | None, weights: str) -> Model:
    interface = choose_interface(graph, card, directory)
    missing = tuple(missing_facts(card, graph, interface, label_file))
    if missing or label_file is None:
        remedy = f"pass {' and '.join(fact.text for fact in missing)}"
        raise ModelError(f"{directory} does not say all that is needed", remedy, missing=missing)
    preprocessing = preprocessing_for(directory, card.input, interface)
    label_file, background = fit_labels(directory, card, label_file, interface.classes)
    labels, taxonomy = _with_taxonomy(card, label_file.labels)
    # A tree adds up probabilities, so its classes must exclude each other.
    if card.output.scores is None and scores_kind(graph, interface) == "independent":
        card = replace(card, output=replace(card.output, scores="independent"))
    if card.output.scores == "independent":
        taxonomy = None
    facts = (weights, interface, preprocessing, card.output, card.temperature, labels)
    digest = hashlib.sha256(canonical(facts).encode("utf-8", "backslashreplace")).hexdigest()
    thresholds = label_file.thresholds
    return Model(directory, card, interface, preprocessing, labels, background, taxonomy, weights, digest, thresholds)


def _with_heads(model: Model, directory: Path, graph: MetaGraph) -> Model:
    """Return `model` with the head and the projection that its card names, from files in `directory`.

    Raises `ModelError` if one of the files, or the card, is wrong.
    """
    card, head, look = model.card, None, None
    if card.head is not None and model.taxonomy is not None:
        path = beside_card(directory, card.head.file)
        classes = len(model.labels) + model.background
        head = read_head(path, card.head.digest, _ids_by_word(), classes)
        strangers = sorted(card.head.thresholds.keys() - set(head.words))
        if strangers:
            fault = f"head.thresholds has {strangers[0]!r}, a word that {path.name} does not have"
            raise ModelError(f"{directory / CARD_NAME}: {fault}; take it out or correct it")
        _check_width(model, graph, WORDS, len(head.words), path)
    if card.look is not None:
        path = beside_card(directory, card.look.file)
        look = read_look(path, card.look.digest)
        _check_width(model, graph, LOOK, look.projection.shape[1], path)
    if head is not None and look is not None and head.weights.shape[1] != look.projection.shape[0]:
        features = f"{head.weights.shape[1]} and {look.projection.shape[0]} features"
        raise ModelError(f"{directory}: its head and its look are for {features}; put back those of one model")
    return replace(model, head=head, look=look)


def _check_width(model: Model, graph: MetaGraph, output: str, width: int, path: Path) -> None:
    """Raise `SignatureMismatch` unless the signature's `output` has `width` numbers, as far as that is known."""
    shape = graph.signatures[str(model.interface.signature)].outputs[output].shape
    if shape is not None and shape[1] not in (None, width):
        unit = "words" if output == WORDS else "numbers of a likeness vector"
        what = f"{model.directory} gives {shape[1]} {unit}, but {path} has {width}"
        raise SignatureMismatch(what, "put back the file that came with the model")


@dataclass(frozen=True)
class MissingFact:
    """A setting that the user has to give before the model can be run, and `takes`, the words for its values."""

    setting: str
    takes: str

    @property
    def text(self) -> str:
        """The setting and its values, with a placeholder for the setting."""
        return f"{{{self.setting}}}{self.takes}"


def missing_facts(
    card: ModelCard, graph: MetaGraph, interface: Interface, labels: LabelFile | None
) -> Iterator[MissingFact]:
    """Yield the settings that the user has to give before the model can be run."""
    if labels is None:
        classes = class_count(graph, interface)
        count = "" if classes is None else f"{classes} "
        yield MissingFact("labels", f" FILE with a name for each of its {count}classes")
    if None in (interface.height or card.input.height, interface.width or card.input.width):
        yield MissingFact("input_size", ", such as 224")
    if interface.takes_floats and card.input.range is None and card.input.mean is None:
        ranges = ", ".join(SCALINGS)
        yield MissingFact("input_range", f", one of {ranges} ({{command:models add}} finds out which from photos)")


def preprocessing_for(directory: Path, image: ImageInput, interface: Interface) -> Preprocessing:
    """Return how to prepare images, by the card and by the shape of the input.

    Call this only if `missing_facts` yields nothing. Raises `ModelError` naming `directory` if card and shape
    contradict.
    """
    scaling = _scaling(directory, image, interface)
    return Preprocessing(
        height=_side(directory, "height", interface.height, image.height),
        width=_side(directory, "width", interface.width, image.width),
        mean=scaling.mean,
        std=scaling.std,
        resize=image.resize,
        crop_fraction=image.crop_fraction,
        interpolation=image.interpolation or "bicubic",
        channel_order=image.channel_order or scaling.channel_order,
        layout=interface.layout,
    )


def _side(directory: Path, side: str, of_graph: int | None, of_card: int | None) -> int:
    if of_graph is not None and of_card is not None and of_graph != of_card:
        fault = f"takes images of {side} {of_graph}, not {of_card}"
        raise SignatureMismatch(f"{directory} {fault}", "correct {input_size} or the card")
    found = of_graph or of_card
    assert found is not None, "missing_facts would have said so"
    return found


def _scaling(directory: Path, image: ImageInput, interface: Interface) -> Scaling:
    if not interface.takes_floats:
        if image.mean is not None or image.range not in (None, "0..255"):
            what = f"{directory} takes {interface.dtype}, and so values of 0 to 255"
            raise ModelError(what, "leave out {input_range} or the card's")
        return SCALINGS["0..255"]
    if image.range is not None:
        return SCALINGS[image.range]
    assert image.mean is not None, "missing_facts would have said so"
    assert image.std is not None, "the card is checked for it"
    return Scaling(image.mean, image.std)


def fit_labels(directory: Path, card: ModelCard, label_file: LabelFile, classes: int | None) -> tuple[LabelFile, bool]:
    """Return the labels without the label of the background class, and whether the model has that class.

    `classes`: how many scores the model gives, or None if unknown.

    Raises `LabelMismatch` if the number of labels does not fit.
    """
    background = card.output.background
    if label_file.labels[0].name.casefold() in BACKGROUND_NAMES:
        background, label_file = True, label_file.without_first()
    elif background and len(label_file.labels) == classes:
        label_file = label_file.without_first()
    if not label_file.labels:
        raise LabelMismatch(f"{directory} has no label but the background class's", "name another file with {labels}")
    if classes is not None:
        check_classes(directory, classes, len(label_file.labels), background=background)
    return label_file, background


BACKGROUND_NAMES = ("background", "__background__")


def check_classes(directory: Path, classes: int, labels: int, *, background: bool) -> None:
    """Raise `LabelMismatch` with both numbers unless each of `classes` but the background class has a label."""
    if classes == labels + background:
        return
    remedy = "name another file with {labels}"
    if not background and classes == labels + 1:
        remedy = "if class 0 is a background class without a label, pass {background}"
    raise LabelMismatch(f"{directory} has {classes} classes, but there are {labels + background} labels", remedy)


def _with_taxonomy(card: ModelCard, labels: tuple[Label, ...]) -> tuple[tuple[Label, ...], Taxonomy | None]:
    """Return the labels, with synsets if they are ImageNet's, and the tree that they belong to."""
    if card.taxonomy == "none":
        return labels, None
    taxonomy = imagenet_taxonomy()
    if not any(label.synset for label in labels):
        labels = _with_imagenet_synsets(labels)
    known = sum(label.synset in taxonomy.nodes for label in labels)
    if card.taxonomy == "imagenet" and not known:
        raise LabelMismatch(f"no label of the model {card.name} is in the tree imagenet; leave out its taxonomy")
    return labels, taxonomy if card.taxonomy == "imagenet" or known == len(labels) else None


def _with_imagenet_synsets(labels: tuple[Label, ...]) -> tuple[Label, ...]:
    """Return `labels` with synsets if they clearly are ImageNet's 1000 in their order.

    Lists differ in a few names (crane and crane bird). If nine in ten agree class by class, that is not chance.
    """
    imagenet = imagenet_labels()
    agreeing = sum(a.name.casefold() == b.name.casefold() for a, b in zip(labels, imagenet, strict=False))
    if len(labels) != len(imagenet) or agreeing < 0.9 * len(imagenet):
        return labels
    return tuple(replace(label, synset=known.synset) for label, known in zip(labels, imagenet, strict=True))


@functools.cache
def imagenet_labels() -> tuple[Label, ...]:
    """Return the 1000 labels of ImageNet with their synsets, in class order."""
    path = shipped_directory() / DEFAULT_MODEL / "labels.txt"
    return parse_labels(read_text(path), str(path))


@functools.cache
def imagenet_taxonomy() -> Taxonomy:
    """Return the tree over ImageNet's classes."""
    path = shipped_directory() / "taxonomies" / "imagenet.tsv"
    return Taxonomy.parse(read_text(path), str(path))


@functools.cache
def _ids_by_word() -> Mapping[str, str]:
    """Return the ids of the nodes of the tree over ImageNet's classes by their English names."""
    return {node.name: node.id for node in imagenet_taxonomy().nodes.values()}


def settled_card(model: Model, scores: ScoresKind) -> ModelCard:
    """Return the card of `model` with every fact in it, so that the user never has to give one again.

    `scores`: what the model gives. The labels go into `labels.json` beside the card.
    """
    preprocessing, interface, card = model.preprocessing, model.interface, model.card
    scaling: dict[str, Any] = {"range": card.input.range}
    if interface.takes_floats and card.input.range is None:
        scaling = {"mean": preprocessing.mean, "std": preprocessing.std}
    image = replace(
        card.input,
        name=interface.input,
        height=preprocessing.height,
        width=preprocessing.width,
        channel_order=preprocessing.channel_order,
        layout=preprocessing.layout,
        **scaling,
    )
    output = Output(name=interface.output, scores=scores, background=model.background)
    return replace(
        card,
        input=image,
        output=output,
        labels="labels.json",
        tag_set=interface.tag_set,
        signature=interface.signature,
        digest=card.digest or digest_of(model.directory),
        head=card.head if model.head is not None else None,
    )
