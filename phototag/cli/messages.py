"""The words of the command line for errors and events, which carry facts alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phototag.core import EngineChosen, ModelBuilding, ModelConverting, WaitingFor
from phototag.errors import PhotoError, PhototagError, UnknownModel
from phototag.run.events import Event, FolderBack, FolderGone, WatchStarted


def plural(count: int, noun: str) -> str:
    """`1 photo`, `2,000 photos`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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


def event_message(event: Event) -> str | None:
    """Return the line that tells the user about `event`, or None for an event that is not worth one."""
    message = _MESSAGES.get(type(event))
    return message(event) if message is not None else None


def _waiting(event: WaitingFor) -> str:
    if event.model is not None:
        return f"Waiting for another process that works on the model {event.model}."
    return f"Waiting for another run that holds the index {event.index}."


_MESSAGES: dict[type[Any], Callable[[Any], str]] = {
    ModelBuilding: lambda event: f"Building the model {event.name} in {event.directory}: once, for some seconds.",
    ModelConverting: lambda event: f"Converting the model {event.name} for LiteRT: once, for some seconds.",
    EngineChosen: lambda event: f"The model {event.name} runs in TensorFlow: {event.reason}.",
    WaitingFor: _waiting,
    WatchStarted: lambda event: f"Watching {plural(event.folders, 'folder')}; Ctrl-C ends it.",
    FolderGone: lambda event: f"{event.folder} is gone; it is watched again when it is back",
    FolderBack: lambda event: f"{event.folder} is there again.",
}
