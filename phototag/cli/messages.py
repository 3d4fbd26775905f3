"""The messages of the command line for errors, which carry only facts."""

from __future__ import annotations

from phototag.errors import PhotoError, PhototagError, UnknownModel


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 photo`, `2,000 photos`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def spell(name: str) -> str:
    """Return the text for a placeholder: `--index` for `index`, `phototag models list` for `command:models list`."""
    kind, _, command = name.rpartition(":")
    return f"phototag {command}" if kind else f"--{name.replace('_', '-')}"


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
