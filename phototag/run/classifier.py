"""A model for scripts: found, built and loaded in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phototag.analysis.classifier import Classifier as _Classifier
from phototag.core import OnWorkEvent, ignore
from phototag.engines.load import Engine
from phototag.models.find import DEFAULT_MODEL, find_model
from phototag.zoo.build import ensure_built


class Classifier(_Classifier):
    """A model, loaded and ready. Takes images and gives probabilities. Many threads may use it at the same time."""

    @classmethod
    def open(
        cls,
        name: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        labels: str | os.PathLike[str] | None = None,
        facts: Mapping[str, Any] | None = None,
        engine: Engine = "auto",
        on_event: OnWorkEvent = ignore,
    ) -> Classifier:
        """Load the installed model `name`, or the SavedModel in the directory `name`. Build a missing default model.

        `labels` is a label file. `facts` override the model card, or replace a missing one, in the card's own form:
        `{"input": {"range": "0..1"}}`. `engine` and `on_event` are as in the constructor.

        Raises `ModelError` if there is no such model, or a fact about it is missing or wrong.
        """
        model = find_model(os.fspath(name), labels=Path(labels) if labels is not None else None, given=facts)
        ensure_built(model, on_event)
        return cls(model, engine, on_event)
