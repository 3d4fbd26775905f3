"""The origin of tags, which phototag records next to them."""

from __future__ import annotations

from dataclasses import dataclass

from phototag._version import __version__
from phototag.metadata.files import now


@dataclass(frozen=True, slots=True)
class Stamp:
    """The origin of tags: the model's name, phototag's version, the date (ISO 8601) and the recipe."""

    model: str
    version: str
    date: str
    recipe: str = ""


def stamp_now(model_name: str, recipe: str = "") -> Stamp:
    """Return the stamp for tags that are written now."""
    # The name of a model may be that of its folder, which may hold characters that XML does not allow.
    name = "".join(character if character.isprintable() else "?" for character in model_name)
    return Stamp(name, __version__, now(), recipe)
