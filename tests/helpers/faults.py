"""Tags for the tests of faults, and the contents of the files that get them."""

from __future__ import annotations

from pathlib import Path

from phototag.core import Photo, Tag
from phototag.index import Index
from phototag.metadata import xmp
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.stamp import Stamp
from phototag.metadata.writer import Written
from phototag.photos.kinds import UNFINISHED_PREFIX

TAGS = tuple(Tag(name, 0.9, (name,), None) for name in ("red", "Ö", "日本"))
STAMP = Stamp("toy", "1", "2026-11-20T00:00:00+00:00")


def photo_at(path: Path) -> Photo:
    status = path.stat()
    return Photo(path, status.st_size, status.st_mtime_ns)


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(UNFINISHED_PREFIX)]


def embed(index: Index, photo: Photo) -> Written:
    return EmbedWriter("toy", index).write(photo, TAGS, ())


def names_in(path: Path) -> tuple[str, ...] | None:
    return xmp.read(path.read_bytes()).subject
