"""`phototag inspect`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.messages import spell
from phototag.cli.model_options import complete_model, model_fact_options
from phototag.cli.terminal import printable, verbose_option
from phototag.errors import ConfigError

if TYPE_CHECKING:
    from phototag.models.examine import Examination


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=complete_model)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "saved_model_cli"]),
    default="text",
    show_default=True,
    help="For people, as data, or byte for byte what TensorFlow's saved_model_cli show prints.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--all", "everything", is_flag=True, help="saved_model_cli's: all graphs, signatures, ops and functions.")
@click.option("--list_ops", "--list-ops", is_flag=True, help="saved_model_cli's: the operations of the graph.")
@click.option("--probe", is_flag=True, help="Run the model on noise, to measure what only that can tell.")
@model_fact_options
@verbose_option()
def inspect(
    model: str,
    output_format: str,
    as_json: bool,
    everything: bool,
    list_ops: bool,
    probe: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Say what a SavedModel takes and gives, and how scan would run it.

    MODEL is a SavedModel's directory, its saved_model.pb, or the name of an installed model. Nothing of it is loaded or
    run without --probe.

    --all and --list_ops belong to --format saved_model_cli, which also takes --tag_set and --signature_def.
    """
    del verbose
    if as_json and output_format == "saved_model_cli":
        raise ConfigError("--json and --format saved_model_cli contradict each other; give one")
    if as_json:
        output_format = "json"
    if output_format == "saved_model_cli":
        _print_reference(model, options, everything=everything, list_ops=list_ops)
        return
    if everything or list_ops:
        raise ConfigError("--all and --list_ops need --format saved_model_cli; the other formats say all that there is")
    from phototag.cli.inspect_text import human_lines, scan_command
    from phototag.models.describe import as_data, verdict
    from phototag.models.examine import examine
    from phototag.models.find import saved_model_parts
    from phototag.models.saved_model import read_fingerprint
    from phototag.run.settings import card_facts

    examination = examine(model, labels=options["labels"], given=card_facts(options))
    probed = _probe(examination) if probe else None
    found = verdict(examination, probed, spell)
    if "missing" in found:
        found["command"] = scan_command(examination, options, probed)
    size = sum(path.stat().st_size for path in saved_model_parts(examination.directory))
    data = as_data(examination, found, read_fingerprint(examination.directory), size)
    if output_format == "json":
        click.echo(json.dumps(data))
    else:
        for line in human_lines(data):
            click.echo(printable(line))


def _print_reference(model: str, options: dict[str, Any], *, everything: bool, list_ops: bool) -> None:
    from phototag.models.describe import reference_lines
    from phototag.models.find import locate
    from phototag.models.saved_model import read_saved_model

    directory = locate(model)
    graphs = read_saved_model(directory)
    if list_ops and not everything and options["tag_set"] is None:
        click.echo("--list_ops must be paired with a tag-set or with --all.")
    lines = reference_lines(
        graphs,
        directory,
        everything=everything,
        tag_set=options["tag_set"],
        signature=options["signature"],
        list_ops=list_ops,
    )
    click.echo("\n".join(lines))


def _probe(examination: Examination) -> Any:
    """Run the model on noise. If the range of its values is unknown, take 0 to 1."""
    from dataclasses import replace

    from phototag.analysis.classifier import probe
    from phototag.models.find import preprocessing_for

    interface = examination.interface
    if interface is None:
        assert examination.fault is not None, "without a fault there is an interface"
        why = examination.fault.text(spell).removeprefix(f"{examination.directory} ")
        raise ConfigError(f"{examination.directory} cannot be probed: it {why}")
    image = examination.card.input
    if interface.takes_floats and image.range is None and image.mean is None:
        image = replace(image, range="0..1")
    if None in (interface.height or image.height, interface.width or image.width):
        raise ConfigError(
            f"{examination.directory} does not say the size of its images; pass --input-size, such as 224"
        )
    return probe(examination.directory, interface, preprocessing_for(examination.directory, image, interface))
