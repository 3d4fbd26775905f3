"""Make the chooser that the settings ask for: the rules that turn results into tags."""

from __future__ import annotations

from pathlib import Path

from phototag.errors import ConfigError, ModelError
from phototag.models.find import Model, read_text
from phototag.run.defaults import MAX_TAGS
from phototag.run.settings import Settings
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.evidence import Rule, words_of_labels, words_of_tree
from phototag.vocabulary.head_rule import HeadRule
from phototag.vocabulary.label_rule import LabelRule
from phototag.vocabulary.overlay import apply_overlay
from phototag.vocabulary.taxonomy import DEFAULT_THRESHOLD, ENGLISH, Taxonomy
from phototag.vocabulary.tree_rule import TreeRule


def make_chooser(settings: Settings, model: Model) -> Chooser:
    """Return the chooser of tags from the results of `model`. Raises `ConfigError`."""
    max_tags = settings.top or settings.max_tags or MAX_TAGS
    if settings.wants_labels or model.taxonomy is None:
        return Chooser(_label_rule(settings, model, max_tags), words_of_labels(model.labels), max_tags)
    taxonomy = _taxonomy(settings, model.taxonomy)
    threshold = settings.threshold or DEFAULT_THRESHOLD
    tree = TreeRule(model.labels, taxonomy, levels=model.card.thresholds, threshold=threshold, max_tags=max_tags)
    more: list[Rule] = []
    if model.head is not None:
        more.append(HeadRule(model.head_words, model.head_thresholds, taxonomy, threshold=threshold))
    return Chooser(tree, words_of_tree(taxonomy), max_tags, more)


def check_explainable(settings: Settings, model: Model) -> None:
    """Raise `ConfigError` if the tags are not words of a tree."""
    if settings.wants_labels or model.taxonomy is None:
        what = "an explanation is about the words of a tree, and there is none here"
        raise ConfigError(what, "see the scores with {top} 10")


def _taxonomy(settings: Settings, taxonomy: Taxonomy) -> Taxonomy:
    language = ENGLISH if settings.language is None else settings.language
    if settings.taxonomy is None:
        return taxonomy.in_language(language)
    return apply_overlay(taxonomy, _read_overlay(settings.taxonomy), str(settings.taxonomy), language)


def _read_overlay(path: Path) -> str:
    try:
        return read_text(path)
    except ModelError as error:  # an overlay is not part of a model
        raise ConfigError(error.what, error.remedy) from None


def _label_rule(settings: Settings, model: Model, max_tags: int) -> LabelRule:
    for name in ("taxonomy", "language"):
        # Settings in the config file are meant for models that have a tree.
        if getattr(settings, name) is not None and name not in settings.from_config:
            what = f"the labels of {model.card.name} have no tree"
            raise ConfigError(what, "leave out {taxonomy} and {language}")
    if model.is_independent and settings.logit_threshold is not None:
        what = f"{model.directory} gives independent scores and no logits"
        raise ConfigError(what, "use {threshold}, not {logit_threshold}")
    without_threshold = settings.top is not None or settings.logit_threshold is not None
    return LabelRule(
        model.labels,
        threshold=settings.threshold or (None if without_threshold else DEFAULT_THRESHOLD),
        logit_threshold=settings.logit_threshold,
        temperature=model.card.temperature,
        max_tags=max_tags,
        thresholds=model.thresholds,
        independent=model.is_independent,
    )
