"""What a SavedModel may be good for, also where it cannot be run as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phototag.core import Label
from phototag.errors import LabelMismatch, SignatureMismatch
from phototag.models.card import ModelCard
from phototag.models.find import fit_labels, locate, missing_facts, read_card, read_labels
from phototag.models.interface import Interface, choose_interface, class_count, guess_operations, refused_ops
from phototag.models.saved_model import MetaGraph, choose_meta_graph, read_saved_model
from phototag.paths import installed_directory


@dataclass(frozen=True)
class Examination:
    """What is known of a SavedModel that may be an image classifier.

    `name` is what `--model` takes. `interface` is how to call it, None where `fault` says why that cannot be told;
    `needs_names` where the operations had to be guessed and have to be named. `missing` are the options that
    `find_model` would ask for, each with what it takes.
    """

    name: str
    directory: Path
    card: ModelCard
    graphs: tuple[MetaGraph, ...]
    graph: MetaGraph
    interface: Interface | None
    needs_names: bool
    fault: str | None
    missing: tuple[str, ...]
    labels: tuple[Label, ...] | None


def examine(name: str, *, labels: Path | None = None, given: Mapping[str, Any] | None = None) -> Examination:
    """Return what is known of the model `name`, also where that is not enough to run it. Arguments as `find_model`'s.

    Raises `ModelError` where there is no such model, it is damaged, or a card, a label file or a tag-set is wrong.
    """
    directory = locate(name)
    graphs = read_saved_model(directory)
    card = read_card(directory, given)
    known_labels = read_labels(directory, card, labels)
    graph, interface, fault, needs_names = graphs[0], None, None, False
    try:
        graph = choose_meta_graph(graphs, card.tag_set, directory)
        interface = choose_interface(graph, card, directory)
    except SignatureMismatch as error:
        if any(named is not None for named in (card.tag_set, card.signature, card.input.name, card.output.name)):
            raise  # what was named is wrong, which says nothing about the model
        fault = str(error).removeprefix(f"{directory} ")
        guess = guess_operations(graph)
        if guess is not None:
            guessed = replace(card.input, name=guess[0]), replace(card.output, name=guess[1])
            with contextlib.suppress(SignatureMismatch):
                interface = choose_interface(graph, replace(card, input=guessed[0], output=guessed[1]), directory)
                needs_names = True
    if interface is not None and (refused := refused_ops(graph, interface)):
        fault, interface = f"has the operations {', '.join(sorted(refused))}, which phototag does not run", None
    missing = tuple(missing_facts(card, graph, interface, known_labels)) if interface is not None else ()
    if interface is not None and known_labels is not None:
        try:
            fit_labels(directory, card, known_labels, class_count(graph, interface))
        except LabelMismatch as error:
            missing = (f"--labels FILE that fits: {str(error).removeprefix(f'{directory} ')}", *missing)
    known_as = name if directory == installed_directory(name) else str(directory)
    return Examination(known_as, directory, card, graphs, graph, interface, needs_names, fault, missing, known_labels)
