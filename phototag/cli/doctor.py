"""`phototag doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phototag.cli.exit_codes import EXIT_FAULT
from phototag.cli.finding_options import FINDING_SETTINGS, NamedPath, finding_options, index_option, take
from phototag.cli.messages import error_message, spell
from phototag.cli.model_options import model_fact_options
from phototag.cli.terminal import Console, printable, verbose_option
from phototag.errors import ConfigError, ModelError, spelled
from phototag.run.defaults import MODEL

if TYPE_CHECKING:
    from phototag.doctor import Check
    from phototag.run.settings import Settings

_STATES = {"ok": "ok", "warning": "warning", "fault": "FAULT"}


@click.command()
@click.argument("paths", metavar="[PATH...]", nargs=-1, type=NamedPath(path_type=Path))
@click.option(
    "--model",
    metavar="NAME|DIR",
    default=MODEL,
    show_default=True,
    help="The model: a name, or a SavedModel directory.",
)
@click.option("--try-model", is_flag=True, help="Also run the model, which builds the default one if need be.")
@model_fact_options
@finding_options
@index_option
@click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="One line a check, or one JSON object a line.",
)
@verbose_option()
@click.pass_context
def doctor(ctx: click.Context, /, paths: tuple[Path, ...], **options: Any) -> None:
    """Say whether this machine can do the job, and what to do where it cannot.

    Looks at what phototag needs, at the model and the index, and at the folders in PATH, whether tags may be written
    there. Changes nothing. The exit code is 1 where there is a fault.
    """
    from phototag.run.settings import Settings

    console = Console(quiet=False)
    as_json = options["format"] == "json"
    faults = 0
    for check in _checks(paths, Settings(**take(options, *FINDING_SETTINGS)), options):
        faults += check.state == "fault"
        finding = check.finding if check.error is None else error_message(check.error)
        remedy = None if check.remedy is None else spelled(check.remedy, spell)
        if as_json:
            told = {"subject": check.subject, "state": check.state, "finding": finding, "remedy": remedy}
            console.result(json.dumps(told))
        else:
            console.result(f"{_STATES[check.state]:8} {check.subject}: {printable(finding)}")
            if remedy is not None:
                console.result(f"{'':8} {printable(remedy)}")
    ctx.exit(EXIT_FAULT if faults else 0)


def _checks(paths: tuple[Path, ...], settings: Settings, options: dict[str, Any]) -> Iterator[Check]:
    from phototag import doctor as checks
    from phototag.paths import default_index
    from phototag.run.session import Session

    session = Session(settings)

    yield checks.check_python()
    yield from checks.check_engines()
    yield from _check_model(options)
    yield checks.check_decoders()
    yield checks.check_data_directory()
    yield from checks.check_index(options["index"] or default_index())
    for path in paths:
        try:
            yield from checks.check_library(path, session.find([path]))
        except ConfigError as error:
            yield checks.failed("library", error)


def _check_model(options: dict[str, Any]) -> Iterator[Check]:
    from phototag import doctor as checks
    from phototag.models.find import find_model
    from phototag.run.settings import card_facts

    try:
        model = find_model(options["model"], labels=options["labels"], given=card_facts(options))
    except ModelError as error:
        yield checks.failed("model", error)
        return
    yield checks.check_model(model)
    if options["try_model"]:
        yield checks.try_model(model)
