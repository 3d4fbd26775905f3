"""Examine a SavedModel that may be an image classifier, even if it cannot be run as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phototag.errors import LabelMismatch, ModelError, SignatureMismatch
from phototag.models.card import ModelCard
from phototag.models.detector import is_detector
from phototag.models.find import MissingFact, fit_labels, locate, missing_facts, read_card, read_labels
from phototag.models.interface import Interface, check_harmless, choose_interface, class_count, guess_operations
from phototag.models.labels import LabelFile
from phototag.models.saved_model import MetaGraph, choose_meta_graph, read_saved_model
from phototag.paths import installed_directory


@dataclass(frozen=True)
class Examination:
    """The facts about a SavedModel that may be an image classifier.

    `name`: what the user calls the model. `interface`: how to call it, or None; `fault` then says why not.
    `needs_names`: the operations are a guess, so the user has to name them. `missing`: the settings that `find_model`
    would ask for.
    """

    name: str
    directory: Path
    card: ModelCard
    graphs: tuple[MetaGraph, ...]
    graph: MetaGraph
    interface: Interface | None
    needs_names: bool
    fault: ModelError | None
    missing: tuple[MissingFact, ...]
    labels: LabelFile | None


def examine(name: str, *, labels: Path | None = None, given: Mapping[str, Any] | None = None) -> Examination:
    """Return the facts about the model `name`, even if they are too few to run it. Arguments are as in `find_model`.

    Raises `ModelError` if there is no such model, it is damaged, or a card, a label file or a tag-set is wrong.
    """
    directory = locate(name)
    graphs = read_saved_model(directory)
    card = read_card(directory, given)
    known_labels = read_labels(directory, card, labels)
    graph, interface, needs_names = graphs[0], None, False
    fault: ModelError | None = None
    try:
        graph = choose_meta_graph(graphs, card.tag_set, directory)
        interface = choose_interface(graph, card, directory)
    except SignatureMismatch as error:
        is_for_objects = is_detector(graph, card, directory)
        is_named = any(one is not None for one in (card.tag_set, card.signature, card.input.name, card.output.name))
        if is_named and not is_for_objects:
            raise  # the user named something wrong, which tells nothing about the model
        fault, interface = error, None if is_for_objects else _guessed_interface(graph, card, directory)
        needs_names = interface is not None
    if interface is not None:
        try:
            check_harmless(graph, interface, directory)
        except ModelError as error:
            fault, interface = error, None
    missing = _missing(directory, card, graph, interface, known_labels) if interface is not None else ()
    known_as = name if directory == installed_directory(name) else str(directory)
    return Examination(known_as, directory, card, graphs, graph, interface, needs_names, fault, missing, known_labels)


def _guessed_interface(graph: MetaGraph, card: ModelCard, directory: Path) -> Interface | None:
    """Return how to call `graph` by the operations that look like input and output, or None."""
    guess = guess_operations(graph)
    if guess is not None:
        named = replace(card, input=replace(card.input, name=guess[0]), output=replace(card.output, name=guess[1]))
        with contextlib.suppress(SignatureMismatch):
            return choose_interface(graph, named, directory)
    return None


def _missing(
    directory: Path, card: ModelCard, graph: MetaGraph, interface: Interface, labels: LabelFile | None
) -> tuple[MissingFact, ...]:
    missing = tuple(missing_facts(card, graph, interface, labels))
    if labels is not None:
        try:
            fit_labels(directory, card, labels, class_count(graph, interface))
        except LabelMismatch as error:
            why = f"{error.what.removeprefix(f'{directory} ')}; {error.remedy}"
            return (MissingFact("labels", f" FILE that fits: {why}"), *missing)
    return missing
