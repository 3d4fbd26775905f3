"""The events that a session reports. They carry facts; the front end supplies the words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from phototag.core import SkippedFile, WorkEvent


@dataclass(frozen=True, slots=True)
class ModelLoading:
    """A photo needs the model `name`, so a run has work that takes time."""

    name: str


@dataclass(frozen=True, slots=True)
class FileSkipped:
    """A scan skipped a file or folder."""

    file: SkippedFile


@dataclass(frozen=True, slots=True)
class WatchStarted:
    """phototag waits for changes in `folders` folders."""

    folders: int


@dataclass(frozen=True, slots=True)
class FolderGone:
    """A watched folder has disappeared, perhaps with its disk."""

    folder: Path


@dataclass(frozen=True, slots=True)
class FolderBack:
    """A watched folder that had disappeared is back."""

    folder: Path


Event: TypeAlias = WorkEvent | ModelLoading | FileSkipped | WatchStarted | FolderGone | FolderBack
OnEvent: TypeAlias = Callable[[Event], None]
