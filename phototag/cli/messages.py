"""The words of the command line for errors and events, which carry facts alone."""

from __future__ import annotations

from phototag.core import EngineChosen, ModelBuilding, ModelConverting, WaitingFor, WorkEvent
from phototag.errors import PhotoError, PhototagError, UnknownModel


def spell(name: str) -> str:
    """Return the words for a placeholder: `--index` for `index`, `phototag models list` for `command:models list`."""
    kind, _, command = name.rpartition(":")
    return f"phototag {command}" if kind else f"--{name.replace('_', '-')}"


def error_message(error: PhototagError) -> str:
    """Return the message of `error`, with options and commands for settings."""
    if isinstance(error, UnknownModel):
        from phototag.zoo.recipes import BUILDABLE

        name = error.facts["name"]
        if name in BUILDABLE:
            return f"the model {name} is not built yet; build it with: phototag models build {name}"
    return error.text(spell)


def photo_reason(error: PhotoError) -> str:
    """Return why a photo failed, without its path."""
    return error.reason_text(spell)


def event_message(event: WorkEvent) -> str:
    """Return the line that tells the user about `event`."""
    match event:
        case ModelBuilding(name, directory):
            return f"Building the model {name} in {directory}: once, for some seconds."
        case ModelConverting(name):
            return f"Converting the model {name} for LiteRT: once, for some seconds."
        case EngineChosen(name, reason):
            return f"The model {name} runs in TensorFlow: {reason}."
        case WaitingFor(model=str(name)):
            return f"Waiting for another process that works on the model {name}."
        case WaitingFor(index=index):
            return f"Waiting for another run that holds the index {index}."
