"""The messages of the command line for errors, which carry only facts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from phototag.errors import PhotoError, PhototagError, UnknownModel

if TYPE_CHECKING:
    from phototag.core import Box


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 photo`, `2,000 photos`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def spell(name: str) -> str:
    """Return the text for a placeholder: `--index` for `index`, `phototag models list` for `command:models list`."""
    kind, _, command = name.rpartition(":")
    return f"phototag {command}" if kind else f"--{name.replace('_', '-')}"


def rounded_box(box: Box) -> dict[str, Any]:
    """Return the fields of `box` as values of JSON: score and edges with four digits."""
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(box).items()}


def error_message(error: PhototagError) -> str:
    """Return the message of `error`, with settings as options, and with commands."""
    if isinstance(error, UnknownModel):
        from phototag.zoo.recipes import BUILDABLE

        name = error.facts["name"]
        if name in BUILDABLE:
            return f"the model {name} is not built yet; build it with: phototag models build {name}"
    return error.text(spell)


def photo_reason(error: PhotoError) -> str:
    """Return why a photo failed, without its path."""
    return error.reason_text(spell)
