"""The settings of a session: one flat value that every front end fills in. Imports nothing heavy."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phototag.errors import ConfigError
from phototag.run.defaults import BATCH_SIZE, MODEL, MOST_CROPS, SETTLE


@dataclass(frozen=True)
class Settings:
    """The settings of a session. A field has the same name in every front end. None means the default.

    The model:
        model: the name of an installed model, or a SavedModel directory.
        engine: `litert`, `tensorflow`, or `auto`: LiteRT if it gives the same scores and there is no GPU.
        labels: a label file. tag_set, signature, input_op, output_op, input_range, input_size, background: facts that
            override the model card; input_size is (height, width) in pixels.
        detect: the name of an installed object detector, or its SavedModel directory. None: do not look for objects.

    The tags:
        threshold: shifts every word's threshold, above 0 and at most 1; 0.7 is as fitted.
        max_tags: the most tags a photo gets. crops: how many crops of each photo the model sees, 1 or 2.
        taxonomy: a YAML file that changes the tree. language: the language of the tags, such as `de`.
        raw_labels, top, logit_threshold: the model's own labels instead of words of the tree.

    The photos:
        exclude: patterns in gitignore syntax. no_default_excludes: look into hidden folders too.
        follow_symlinks: follow links inside the folders.

    The run:
        write: where tags go: `json`, `embed`, `xmp` or `none`. touch: update a photo's modification time.
        dry_run: do not write or remember anything. force: also tag photos that are up to date.
        forget_rejections: also write tags that the user removed.
        jobs: worker threads. batch_size: photos per batch. max_runtime: seconds after which a run stops.
        index: the path of the index.

    Watching:
        settle: seconds for which a photo has to stay the same. poll: seconds between two checks of a network folder.

    from_config: the names of settings that come from a config file or the environment. Such a setting is ignored if
    the model cannot use it. From the caller, it would be an error.
    """

    model: str = MODEL
    engine: Literal["auto", "litert", "tensorflow"] = "auto"
    labels: Path | None = None
    tag_set: tuple[str, ...] | None = None
    signature: str | None = None
    input_op: str | None = None
    output_op: str | None = None
    input_range: str | None = None
    input_size: tuple[int, int] | None = None
    background: bool = False
    detect: str | None = None

    threshold: float | None = None
    max_tags: int | None = None
    crops: int = 1
    taxonomy: Path | None = None
    language: str | None = None
    raw_labels: bool = False
    top: int | None = None
    logit_threshold: float | None = None

    exclude: tuple[str, ...] = ()
    no_default_excludes: bool = False
    follow_symlinks: bool = False

    write: Literal["json", "embed", "xmp", "none"] = "json"
    touch: bool = False
    dry_run: bool = False
    force: bool = False
    forget_rejections: bool = False
    jobs: int | None = None
    batch_size: int = BATCH_SIZE
    max_runtime: float | None = None
    index: Path | None = None

    settle: float = SETTLE
    poll: float | None = None

    from_config: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Accept the forms that programs use: text for a path, a path for a model, and one pattern alone."""
        object.__setattr__(self, "model", os.fspath(self.model))
        if self.detect is not None:
            object.__setattr__(self, "detect", os.fspath(self.detect))
        for name in ("labels", "taxonomy", "index"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))
        exclude: object = self.exclude
        if isinstance(exclude, str):  # each letter of it would be a pattern, and `*` would exclude everything
            object.__setattr__(self, "exclude", (exclude,))

    @property
    def wants_labels(self) -> bool:
        """Whether the tags are the model's own labels instead of words of the tree."""
        return self.raw_labels or self.top is not None or self.logit_threshold is not None

    @property
    def facts(self) -> dict[str, Any]:
        """The facts about the model in the settings, in the form of a model card."""
        return card_facts(vars(self))

    def check(self) -> None:
        """Raise `ConfigError` if a value is out of its range, or two settings contradict each other."""
        if self.wants_labels and (self.taxonomy is not None or self.language is not None):
            remedy = "leave out {raw_labels}, {top} and {logit_threshold}, or {taxonomy} and {language}"
            raise ConfigError("tags are the model's own labels or words of the tree, not both", remedy)
        self._check_pair("threshold", "logit_threshold")
        self._check_pair("top", "max_tags")
        ranges = {
            "threshold": (self.threshold, math.ulp(0.0), 1.0),
            "max_tags": (self.max_tags, 1, math.inf),
            "top": (self.top, 1, math.inf),
            "crops": (self.crops, 1, MOST_CROPS),
            "jobs": (self.jobs, 1, 256),
            "batch_size": (self.batch_size, 1, 1024),
        }
        for name, (value, least, most) in ranges.items():
            if value is not None and not least <= value <= most:
                raise ConfigError(f"{value} is out of range", f"give {{{name}}} a value {_described(least, most)}")

    def _check_pair(self, one: str, other: str) -> None:
        if getattr(self, one) is not None and getattr(self, other) is not None:
            remedy = f"give {{{one}}} or {{{other}}}, not both"
            raise ConfigError("two settings contradict each other", remedy)


def _described(least: float, most: float) -> str:
    if least < 1:
        return "above 0 and at most 1"
    return f"of at least {least}" if most == math.inf else f"from {least} to {most}"


def card_facts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about a model in `options`, in the form of a model card. Options that are None are left out."""
    size = options.get("input_size") or (None, None)
    image = {
        "name": options.get("input_op"),
        "height": size[0],
        "width": size[1],
        "range": options.get("input_range"),
        "mean": options.get("mean"),
        "std": options.get("std"),
        "resize": options.get("resize"),
        "crop_fraction": options.get("crop_fraction"),
        "channel_order": options.get("channel_order"),
    }
    output = {
        "name": options.get("output_op"),
        "scores": options.get("output"),
        "background": options.get("background") or None,
    }
    facts = {
        "tag_set": options.get("tag_set"),
        "signature": options.get("signature"),
        "input": _given(image) or None,
        "output": _given(output) or None,
    }
    return _given(facts)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
