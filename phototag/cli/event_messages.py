"""The messages of the command line for events, which carry only facts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phototag.cli.messages import plural
from phototag.core import EngineChosen, ModelBuilding, ModelConverting, WaitingFor
from phototag.run.events import Event, FolderBack, FolderGone, WatchStarted


def event_message(event: Event) -> str | None:
    """Return the message for `event`, or None if the user need not know of it."""
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
