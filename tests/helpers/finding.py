"""The photos that a walk finds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from phototag.core import Photo, WalkItem

JPEG = b"\xff\xd8\xff\xe0 not decoded here"


def photos(found: Iterable[WalkItem], root: Path) -> list[str]:
    return [str(one.path.relative_to(root)) for one in found if isinstance(one, Photo)]
