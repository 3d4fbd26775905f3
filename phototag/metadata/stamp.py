"""Who wrote tags, and when: what phototag notes in a photo beside them."""

from __future__ import annotations

from dataclasses import dataclass

from phototag._version import __version__
from phototag.metadata.files import now


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who says so: the model's name, phototag's version, the date (ISO 8601) and the recipe, for the provenance."""

    model: str
    version: str
    date: str
    recipe: str = ""


def stamp_now(model_name: str, recipe: str = "") -> Stamp:
    """Return the stamp of a writer that writes now."""
    # A model is called what its folder is called, which may be any bytes; XML has not all of them.
    name = "".join(character if character.isprintable() else "?" for character in model_name)
    return Stamp(name, __version__, now(), recipe)
