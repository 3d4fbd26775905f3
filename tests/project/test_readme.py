"""What the README says is true."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import fields

import click
import pytest

import phototag
from phototag.cli import cli, exit_codes
from phototag.cli.models import models
from phototag.models.card import HeadFile, ImageInput, LookFile, ModelCard, Output, parse_card
from phototag.models.find import find_model, imagenet_taxonomy
from phototag.vocabulary.overlay import apply_overlay
from tests.helpers import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def table_after(marker: str) -> list[list[str]]:
    """The cells of the first table after `marker`."""
    text = README[README.index(marker) :]
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[0].splitlines()[2:]]


def test_the_table_of_options_is_complete_and_has_the_defaults() -> None:
    scan = cli.commands["scan"]
    documented = {re.findall(r"--[a-z-]+", row[0])[0]: row[2] for row in table_after("<!-- options")}
    options = {option.opts[0]: option for option in scan.params if isinstance(option, click.Option)}
    assert set(documented) == set(options)
    for name, option in options.items():
        if option.show_default:
            assert documented[name].strip("`") == str(option.default)


def test_every_option_of_every_command_has_help() -> None:
    for command in (*cli.commands.values(), *models.commands.values()):
        assert command.help
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help


def test_the_commands_and_options_of_models_are_all_there() -> None:
    documented = {row[0].strip("`").split()[1] for row in table_after("| command | what it does")}
    assert documented == set(models.commands)
    text = README[README.index("`models add` takes") : README.index("### What a model is")]
    options = {option.opts[0] for option in models.commands["add"].params if isinstance(option, click.Option)}
    assert set(re.findall(r"--[a-z-]+", text)) == options - {"--verbose"}


def test_the_table_of_exit_codes_is_complete() -> None:
    documented = {int(row[0]) for row in table_after("| exit code | meaning")}
    assert documented == {0, *(code for name, code in vars(exit_codes).items() if name.startswith("EXIT_"))}


def test_the_table_of_the_model_card_is_complete() -> None:
    documented = {name for row in table_after("| key | meaning") for name in re.findall(r"`([a-z_.]+)`", row[0])}
    parts = {"input": ImageInput, "output": Output, "head": HeadFile, "look": LookFile}
    keys = {field.name for field in fields(ModelCard)} - parts.keys()
    keys |= {f"{part}.{field.name}" for part, record in parts.items() for field in fields(record)}
    assert documented == keys


def test_the_example_of_a_model_card_is_valid() -> None:
    example = next(text for text in re.findall(r"```json\n(.*?)```", README, re.DOTALL) if '"my-model"' in text)
    json.loads(example)
    assert parse_card(example, "README").input.crop_fraction == 0.875


def test_the_example_of_a_vocabulary_of_ones_own_is_valid() -> None:
    tree = imagenet_taxonomy()
    example = next(text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "toucan" in text)
    for language in tree.languages:
        own = apply_overlay(tree, example, "README", language)
        assert own.path("n01843383")[-1] == "Tukan"
        assert own.path("n02084071")[1] == "pet"
        assert own.nodes["n04565375"].state == own.nodes["n02950826"].state == "never"  # a weapon, a cannon


def test_what_is_said_of_the_tree_and_its_thresholds_is_so() -> None:
    model = find_model("efficientnet-lite0")
    assert model.taxonomy is not None
    classes = {label.synset for label in model.labels}
    text = " ".join(README.split())
    assert f"{len(model.taxonomy.nodes.keys() - classes)} everyday words over the {len(classes)} classes" in text
    levels = model.card.thresholds
    assert (
        f"{levels.root:.2f} for the broad ones at the top, {levels.inner:.2f} for those between and {levels.leaf:.2f}"
        " for the most specific" in text
    )


def test_the_table_of_parts_is_complete() -> None:
    documented = {row[0].strip("`/") for row in table_after("| part | what it knows")}
    parts = {path.name for path in (PROJECT / "phototag").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert documented == parts - {"__init__.py", "__main__.py", "__pycache__"}


def test_the_example_of_the_library_is_the_one_in_examples() -> None:
    example = next(text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Session" in text)
    assert (PROJECT / "examples" / "tag_bytes.py").read_text().endswith(f"\n\n{example}")


def test_the_calls_of_the_library_exist() -> None:
    calls = [call for row in table_after("| call | what it does") for call in re.findall(r"`([^`]+)`", row[0])]
    assert len(calls) == 8
    for call in calls:
        owner, name = re.match(r"(?:(\w+)\.)?(\w+)\(", call).groups()  # type: ignore[union-attr]
        assert hasattr(phototag.Session if owner == "session" else phototag, name)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`|  )make ([a-z-]+)", README, re.MULTILINE))))
def test_every_make_target_exists(target: str) -> None:
    arguments = ["make", "--dry-run", target, "PHOTOS=x", "MODEL=x"]
    assert subprocess.run(arguments, cwd=PROJECT, capture_output=True).returncode == 0


def test_the_changelog_knows_this_version() -> None:
    assert f"## {phototag.__version__}" in (PROJECT / "CHANGELOG.md").read_text()


def test_each_part_knows_only_those_below_it() -> None:
    parts = [re.sub(r"/|\.py", "", row[0].strip("`")) for row in table_after("How it is built")]
    there = {
        path.stem
        for path in (PROJECT / "phototag").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(parts) == there - {"__init__", "__main__"}
    for path in (PROJECT / "phototag").rglob("*.py"):
        part = path.relative_to(PROJECT / "phototag").parts[0].removesuffix(".py")
        known = set(re.findall(r"^\s*(?:from|import) phototag\.(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        if part in parts:
            above = {(part, other) for other in known & set(parts[: parts.index(part)])}
            assert not above, path
