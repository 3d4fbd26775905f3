"""The options for facts about a model without a model card. Every command that takes a model has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from phototag.errors import ModelError

# A copy of the keys of models.card.SCALINGS, so that --help imports nothing heavy. A test compares them.
INPUT_RANGES = ("0..1", "-1..1", "0..255", "imagenet", "caffe")


# The parameters of `model_fact_options` without the label file.
MODEL_FACTS = ("tag_set", "signature", "input_op", "output_op", "input_range", "input_size", "background")


class _Size(click.ParamType[tuple[int, int]]):
    """`224` or `240x320` (height x width)."""

    name = "pixels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(value))
        if match is None:
            self.fail("it must be a number of pixels such as 224, or height x width such as 240x320", param, ctx)
        return int(match[1]), int(match[2] or match[1])


class _Triple(click.ParamType[tuple[float, float, float]]):
    """`123.7,116.3,103.5`, or one number for all three channels."""

    name = "r,g,b"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        try:
            numbers = [float(part) for part in str(value).split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail("it must be one number, or three with commas between, on the scale 0 to 255", param, ctx)
        return (numbers[0], numbers[len(numbers) // 2], numbers[-1])


class _Tags(click.ParamType[tuple[str, ...]]):
    """`serve,gpu`. Spaces and order do not matter, and `""` is the set without tags."""

    name = "tags"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return tuple(sorted({tag.strip() for tag in str(value).split(",")} - {""}))


def complete_model(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a model for the shell: the names of installed models, or else files and folders."""
    from phototag.models.find import DEFAULT_MODEL

    return _completions({DEFAULT_MODEL, *_installed(detectors=False)}, incomplete)


def complete_detector(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an object detector for the shell: the names of installed detectors, or else files and folders."""
    return _completions(_installed(detectors=True), incomplete)


def _installed(*, detectors: bool) -> set[str]:
    from phototag.models.detector import is_installed_detector
    from phototag.zoo.build import installed_models

    try:
        return {name for name in installed_models() if is_installed_detector(name) == detectors}
    except ModelError:  # completion has nowhere to print an error
        return set()


def _completions(names: set[str], incomplete: str) -> list[CompletionItem]:
    fitting = sorted(name for name in names if name.startswith(incomplete))
    return [CompletionItem(name) for name in fitting] or [CompletionItem(incomplete, type="file")]


def model_fact_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for facts that a SavedModel does not hold."""
    for option in (
        click.option("--background", is_flag=True, help="Class 0 is a background class that has no label."),
        click.option(
            "--input-size", type=_Size(), metavar="N|HxW", help="Size of its images, where the model takes any."
        ),
        click.option(
            "--input-range", type=click.Choice(INPUT_RANGES), help="Range of the values that the model takes."
        ),
        click.option("--output-op", metavar="NAME", help="Output of the signature, or operation of the graph."),
        click.option("--input-op", metavar="NAME", help="Operation of the graph that takes the images."),
        click.option(
            "--signature",
            "--signature_def",
            metavar="KEY",
            help="Signature to run. [default: serving_default, or the only one]",
        ),
        click.option(
            "--tag-set",
            "--tag_set",
            type=_Tags(),
            metavar="TAGS",
            help="Graph to run. [default: serve, or the only one]",
        ),
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Names of the classes: one a line, CSV, or JSON.",
        ),
    ):
        command = option(command)
    return command


def model_card_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the other facts of a model card."""
    for option in (
        click.option(
            "--output",
            type=click.Choice(["logits", "probabilities", "independent"]),
            help="What the model's scores are. [default: measured]",
        ),
        click.option("--channel-order", type=click.Choice(["RGB", "BGR"]), help="Order of the colour channels."),
        click.option("--crop-fraction", type=float, help="How much of the largest centre crop is taken. [default: 1]"),
        click.option(
            "--resize", type=click.Choice(["crop", "squash", "pad"]), help="How photos get the model's shape."
        ),
        click.option("--std", type=_Triple(), metavar="R,G,B", help="What they are then divided by."),
        click.option("--mean", type=_Triple(), metavar="R,G,B", help="What is subtracted from pixels, of 0 to 255."),
    ):
        command = option(command)
    return command
