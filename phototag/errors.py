"""Every error that a user can cause. This module imports nothing of phototag's.

    PhototagError
      ConfigError            a setting, a pattern or a path cannot be used
      ModelError             the model cannot be used
        NotASavedModel       the path holds no SavedModel
          UnknownModel       there is neither a directory nor an installed model of that name
        OutOfMemory          a batch needs more memory than the machine has
        SignatureMismatch    the model takes or gives something other than its card says
        LabelMismatch        the labels do not belong to the model's output
      IndexUnusable          the index cannot be read or written
      IndexBusy              another run holds the index
      OutputError            results cannot be printed or saved
      PhotoError             one photo or folder failed; the run goes on

An error carries facts; the front end supplies the words for settings and commands. A remedy holds placeholders for
them: `{index}` is a setting, spelled `--index` by the command line and `index=` by Python; `{command:models list}` is a
command. The command line decides which exit code belongs to which error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

# Returns the words for a placeholder: the name of a setting, or `command:` and a command.
Spell: TypeAlias = Callable[[str], str]

_PLACEHOLDER = re.compile(r"\{((?:command:)?[a-z_][a-z_ ]*)\}")
NO_MEMORY = "it needs more memory than this machine has"


def python_spelling(name: str) -> str:
    """Return the words of the Python interface: `index=` for a setting, `phototag models list` for a command."""
    kind, _, command = name.rpartition(":")
    return f"phototag {command}" if kind else f"{name}="


def spelled(text: str, spell: Spell) -> str:
    """Return `text` with every placeholder replaced by what `spell` returns for it."""
    return _PLACEHOLDER.sub(lambda match: spell(match[1]), text)


class PhototagError(Exception):
    """An error with a message for the user: what failed, and the remedy.

    `what` is the first part of a sentence and names the file or the model. `remedy` is the rest: it may hold
    placeholders, and a remedy in parentheses follows without a semicolon. `facts` are for programs.
    """

    # Stable in JSON, logs and HTTP.
    code: ClassVar[str] = "error"

    def __init__(self, what: str, remedy: str = "", **facts: object) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy
        self.facts = facts

    def text(self, spell: Spell = python_spelling) -> str:
        """Return the message as one sentence, with the settings and commands of the remedy as `spell` writes them."""
        return self.what + _ending(self.remedy, spell)

    def __str__(self) -> str:
        return self.text()

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ would lose the facts. Errors of another process or machine come as pickles of this.
        return _rebuilt, (type(self), self.__dict__.copy(), self.args)


def _ending(remedy: str, spell: Spell) -> str:
    if not remedy:
        return ""
    return (" " if remedy.startswith("(") else "; ") + spelled(remedy, spell)


def _rebuilt(kind: type[PhototagError], state: dict[str, Any], arguments: tuple[Any, ...]) -> PhototagError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error


class ConfigError(PhototagError):
    """A setting, a pattern or a path that the user gave cannot be used."""

    code = "config"


class ModelError(PhototagError):
    """The model cannot be used: missing, damaged, without the facts that are needed, or failing when it runs."""

    code = "model"


class NotASavedModel(ModelError):
    """The path holds no SavedModel."""

    code = "not-a-saved-model"


class UnknownModel(NotASavedModel):
    """There is neither a directory nor an installed model of that name. Facts: `name`."""

    code = "unknown-model"


class OutOfMemory(ModelError):
    """The model needs more memory for a batch than the machine has."""

    code = "out-of-memory"


class SignatureMismatch(ModelError):
    """The model takes or gives something other than its card says."""

    code = "signature-mismatch"


class LabelMismatch(ModelError):
    """The labels do not belong to the model's output."""

    code = "label-mismatch"


class IndexUnusable(PhototagError):
    """The index of the library cannot be used: unreadable, damaged, full disk, or written by a newer phototag."""

    code = "index-unusable"


class IndexBusy(PhototagError):
    """Another run holds the index."""

    code = "index-busy"


class OutputError(PhototagError):
    """Results or messages cannot be printed where the user sent them."""

    code = "output"


class PhotoError(PhototagError):
    """One photo, or one folder of photos, that failed. It never ends a run.

    `path` is the photo. The message is the path, a colon, and the reason: "the file is truncated".
    """

    code = "photo"

    def __init__(self, path: object, reason: str, remedy: str = "", **facts: object) -> None:
        super().__init__(f"{path}: {reason}", remedy, **facts)
        self.path = str(path)
        self._reason = reason

    @property
    def reason(self) -> str:
        """The message without the path, as Python spells it."""
        return self.reason_text()

    def reason_text(self, spell: Spell = python_spelling) -> str:
        """Return the message without the path, with settings and commands as `spell` writes them."""
        return self._reason + _ending(self.remedy, spell)


def no_photo(path: str | os.PathLike[str]) -> PhotoError:
    """Return the error for a `path` that should be a photo but is not a regular file."""
    if os.path.isdir(path):
        return PhotoError(path, "it is a folder", "name photos")
    return PhotoError(path, "there is no such photo", "check the path")
