"""The options that decide about tags: which model, and how its scores become words; for every command that tags."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.config import drop_weaker, is_on_command_line
from phototag.cli.model_options import MODEL_FACTS, complete_model, given_facts, model_fact_options
from phototag.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from phototag.analysis.classifier import Classifier
    from phototag.engines.load import Engine
    from phototag.models.find import Model
    from phototag.run.pipeline import Scorer
    from phototag.vocabulary.choose import Chooser, LabelRule, TreeRule

DEFAULT_MAX_TAGS = 12
# Kept here too, so that --help loads nothing; a test holds it to preprocessing.MOST_CROPS.
MOST_CROPS = 2


class _Probability(click.FloatRange):
    """A number above 0, at most 1. Click's own range lets `nan` through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("it must be a number above 0, at most 1", param, ctx)
        return number


class _Finite(click.ParamType[float]):
    """Any number but `nan` and the infinities."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail("it must be a number", param, ctx)
        return number


@dataclass(frozen=True)
class TagOptions:
    """The options, as the command line gives them; None where they are not given."""

    model: str
    engine: Engine
    labels: Path | None
    given_facts: dict[str, Any]
    threshold: float | None
    max_tags: int | None
    crops: int
    taxonomy: Path | None
    language: str | None
    raw_labels: bool
    top: int | None
    logit_threshold: float | None

    @property
    def wants_labels(self) -> bool:
        """Are the model's own labels wanted, not the words of the tree?"""
        return self.raw_labels or self.top is not None or self.logit_threshold is not None


_OPTIONS = (
    click.option(
        "--model",
        metavar="NAME|DIR",
        default="efficientnet-lite0",
        show_default=True,
        shell_complete=complete_model,
        help="The model: a name, or a SavedModel directory.",
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
        help=f"Tags a photo, at most; the most specific are kept. [default: {DEFAULT_MAX_TAGS}]",
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
    """Add the options that decide about tags."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return model_fact_options(command)


def take_tag_options(options: dict[str, Any]) -> TagOptions:
    """Take the options of `tag_options` out of a command's parameters. Raises `ConfigError` where they contradict."""
    drop_weaker(options, *_RIVALS)
    facts = {name: options.pop(name) for name in MODEL_FACTS}
    own = {name: options.pop(name) for name in TagOptions.__dataclass_fields__ if name != "given_facts"}
    taken = TagOptions(**own, given_facts=given_facts(facts))
    if taken.wants_labels and (taken.taxonomy is not None or taken.language is not None):
        raise ConfigError("--raw-labels, --top and --logit-threshold are without the tree of --taxonomy and --language")
    if taken.logit_threshold is not None and taken.threshold is not None:
        raise ConfigError("--threshold and --logit-threshold contradict each other; give one")
    if taken.top is not None and taken.max_tags is not None:
        raise ConfigError("--top and --max-tags contradict each other; give one")
    return taken


def find_wanted_model(options: TagOptions) -> Model:
    """Find the model that the options name."""
    from phototag.models.find import find_model

    return find_model(options.model, labels=options.labels, given=options.given_facts)


def make_chooser(options: TagOptions, model: Model) -> Chooser:
    """Make what chooses tags from the model's scores as the options say. Raises `ConfigError`."""
    from phototag.vocabulary.choose import Chooser

    if options.wants_labels or model.taxonomy is None:
        return Chooser((_label_rule(options, model),), options.top or options.max_tags or DEFAULT_MAX_TAGS)
    return Chooser((make_tree_rule(options, model),), options.max_tags or DEFAULT_MAX_TAGS)


def make_tree_rule(options: TagOptions, model: Model) -> TreeRule:
    """Make what finds tags by the model's tree. Raises `ConfigError`."""
    from phototag.vocabulary.choose import TreeRule
    from phototag.vocabulary.overlay import apply_overlay
    from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD, ENGLISH

    assert model.taxonomy is not None
    language = ENGLISH if options.language is None else options.language
    if options.taxonomy is None:
        taxonomy = model.taxonomy.in_language(language)
    else:
        text = _read_overlay(options.taxonomy)
        taxonomy = apply_overlay(model.taxonomy, text, str(options.taxonomy), language)
    return TreeRule(
        model.labels,
        taxonomy,
        levels=model.card.thresholds,
        threshold=options.threshold or DEFAULT_THRESHOLD,
        max_tags=options.max_tags or DEFAULT_MAX_TAGS,
    )


def _read_overlay(path: Path) -> str:
    from phototag.models.find import read_text

    try:
        return read_text(path)
    except ModelError as error:  # it is no part of a model
        raise ConfigError(str(error)) from None


def _label_rule(options: TagOptions, model: Model) -> LabelRule:
    from phototag.vocabulary.choose import LabelRule
    from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD

    # What stands in the config file is for the models that have one.
    if any(getattr(options, name) is not None and is_on_command_line(name) for name in ("taxonomy", "language")):
        raise ConfigError(f"the labels of {model.card.name} have no tree; leave out --taxonomy and --language")
    without_threshold = options.top is not None or options.logit_threshold is not None
    return LabelRule(
        model.labels,
        threshold=options.threshold or (None if without_threshold else DEFAULT_THRESHOLD),
        logit_threshold=options.logit_threshold,
        temperature=model.card.temperature,
        max_tags=options.top or options.max_tags or DEFAULT_MAX_TAGS,
    )


def scorer(options: TagOptions, classifier: Classifier) -> Scorer:
    """Return what gives the scores that the chooser of the options takes."""
    from phototag.run.pipeline import Scorer

    classify = classifier.predict if options.logit_threshold is None else classifier.logits
    return Scorer(classify, by_photo=classifier.by_image)
