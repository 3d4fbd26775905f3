"""The options that decide about tags: the model, and how scores become words. Every command that tags has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from phototag.cli.config import drop_weaker, is_on_command_line
from phototag.cli.model_options import MODEL_FACTS, complete_detector, complete_model, model_fact_options
from phototag.run.defaults import MAX_TAGS, MODEL, MOST_CROPS


class _Probability(click.FloatRange):
    """A number above 0 and at most 1. Click's own range accepts `nan`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("it must be a number above 0, at most 1", param, ctx)
        return number


class _Finite(click.ParamType[float]):
    """Any number except `nan` and the infinities."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail("it must be a number", param, ctx)
        return number


_OPTIONS = (
    click.option(
        "--model",
        metavar="NAME|DIR",
        default=MODEL,
        show_default=True,
        shell_complete=complete_model,
        help="The model: a name, or a SavedModel directory.",
    ),
    click.option(
        "--detect",
        metavar="NAME|DIR",
        shell_complete=complete_detector,
        help="Also look for objects with this detector: a name, or a SavedModel directory. [default: none]",
    ),
    click.option(
        "--engine",
        type=click.Choice(["auto", "litert", "tensorflow"]),
        default="auto",
        show_default=True,
        help="What runs the model: LiteRT, for which it is converted once, or TensorFlow, slower by seconds; "
        "auto is LiteRT where the scores are the same and there is no GPU.",
    ),
    click.option(
        "--threshold",
        type=_Probability(0, 1, min_open=True),
        help="How sure a tag must be, above 0 and at most 1; what a word needs moves with it. [default: 0.7]",
    ),
    click.option(
        "--max-tags",
        type=click.IntRange(min=1),
        help=f"Tags a photo, at most; the most specific are kept. [default: {MAX_TAGS}]",
    ),
    click.option(
        "--crops",
        type=click.IntRange(1, MOST_CROPS),
        default=1,
        show_default=True,
        help="How often to look at each photo: with 2 also in the mirror, surer, at twice the model's time.",
    ),
    click.option(
        "--taxonomy",
        metavar="FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Your own vocabulary: a YAML file that renames, moves, adds or forbids words of the tree.",
    ),
    click.option(
        "--language",
        metavar="CODE",
        help="The language of the tags: en, de, fr or es; English where it has no name.",
    ),
    click.option("--raw-labels", is_flag=True, help="The model's own labels as tags, not the words of the tree."),
    click.option(
        "--top",
        metavar="N",
        type=click.IntRange(min=1),
        help="The N likeliest of the model's own labels, however unlikely.",
    ),
    click.option(
        "--logit-threshold",
        metavar="X",
        type=_Finite(),
        help="The model's own labels whose logit is at least X.",
    ),
)


_LABEL_OPTIONS = ("raw_labels", "top", "logit_threshold")
_RIVALS = (
    *((label, tree) for label in _LABEL_OPTIONS for tree in ("taxonomy", "language", "explain")),
    ("threshold", "logit_threshold"),
    ("top", "max_tags"),
)


def tag_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that decide about tags to `command`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return model_fact_options(command)


# The settings that decide about tags, by the names of their parameters.
TAG_SETTINGS = (
    "model",
    "engine",
    "labels",
    *MODEL_FACTS,
    "detect",
    "threshold",
    "max_tags",
    "crops",
    "taxonomy",
    "language",
    "raw_labels",
    "top",
    "logit_threshold",
)


def take_tag_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `tag_options` out of a command's parameters, as fields of `Settings`."""
    drop_weaker(options, *_RIVALS)
    taken = {name: options.pop(name) for name in TAG_SETTINGS}
    taken["background"] = bool(taken["background"])
    taken["from_config"] = frozenset(name for name in TAG_SETTINGS if not is_on_command_line(name))
    return taken
