"""Write tags into photos and sidecars, and change them there as other programs do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from phototag.core import Journal, Photo, Tag, Undo
from phototag.index import Index
from phototag.metadata import containers, rewrite, xmp
from phototag.metadata.blocks import Changes
from phototag.metadata.edits import applied, packed, replacement
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.found import read_keywords
from phototag.metadata.json_sidecar import JsonSidecarWriter, sidecar_path
from phototag.metadata.keywords import Keywords
from phototag.metadata.writer import Written
from phototag.metadata.xmp_sidecar import XmpSidecarWriter
from phototag.photos.digest import content_digest
from tests.helpers.program import phototag

CAT = Tag("cat", 0.9, ("animal", "cat"), None, ())
DOG = Tag("dog", 0.9, ("animal", "dog"), None, ())
HUMAN = xmp.create(Keywords(subject=("holiday",)), sidecar=True)
TOUCAN = Tag("toucan", 0.93, ("animal", "bird", "toucan"), None)
BIRD = Tag("bird", 0.97, ("animal", "bird"), None)
ANIMAL = Tag("animal", 0.99, ("animal",), None)
BIRDS = (TOUCAN, BIRD, ANIMAL)


def found(path: Path) -> Photo:
    status = path.stat()
    return Photo(path, status.st_size, status.st_mtime_ns)


def embed(path: Path, journal: Journal, *tags: Tag) -> tuple[Path, ...]:
    return EmbedWriter("toy", journal).write(found(path), tags, ()).files


def write_sidecar(path: Path, journal: Journal, *tags: Tag) -> tuple[Path, ...]:
    return XmpSidecarWriter("toy", journal).write(found(path), tags, ()).files


def subjects(path: Path) -> list[tuple[str, tuple[str, ...] | None]]:
    return [(file.name, keywords.subject) for file, keywords in read_keywords(path)]


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name + ".xmp")


def change(index: Index, path: Path, before: bytes | None) -> None:
    """Record in the journal that phototag made the file at `path` from `before`."""
    now = path.read_bytes()
    undo = packed(replacement(now, before)) if before is not None else None
    index.note_change(path, content_digest(now), undo)


def write_again(path: Path, journal: Journal, *tags: Tag, way: str = "embed", **options: Any) -> Written:
    previous = options.pop("previous", ())
    if way == "json":
        return JsonSidecarWriter("toy", "0", journal, **options).write(found(path), tags, (), previous)
    writer = EmbedWriter if way == "embed" else XmpSidecarWriter
    return writer("toy", journal, **options).write(found(path), tags, (), previous)


def file_of(path: Path, way: str) -> Path:
    """Return the file that gets the tags of a photo with that `--write`."""
    return {"embed": path, "xmp": sidecar_of(path), "json": sidecar_path(path)}[way]


def rewritten(path: Path, change: Callable[[Keywords], Keywords]) -> None:
    """Change keywords in the packet as another program does, without phototag's rules."""
    data = path.read_bytes()
    is_photo = path.suffix != ".xmp"
    packet = containers.read_blocks(data).xmp if is_photo else data
    assert packet is not None
    edits = xmp.update(packet, change(xmp.read(packet)))
    if is_photo:
        edits = containers.rewrite(data, Changes(edits))
    path.write_bytes(applied(data, edits))


def remove(path: Path, *names: str) -> None:
    """Remove keywords from all lists of the XMP, as a user does in an application."""

    def change(keywords: Keywords) -> Keywords:
        subject = tuple(one for one in keywords.subject or () if one not in names)
        paths = [one.split("|") for one in keywords.hierarchical or () if one.split("|")[-1] not in names]
        hierarchical = tuple("|".join(level for level in path if level not in names) for path in paths)
        return replace(keywords, subject=subject, hierarchical=hierarchical)

    rewritten(path, change)


def keywords_of(file: Path) -> Keywords:
    """Return the keywords in a photo or an XMP sidecar, without those of other files."""
    data = file.read_bytes()
    return xmp.read(data) if file.suffix == ".xmp" else rewrite.read_keywords(data)


@dataclass
class Notes:
    """A journal whose entries a test can inspect."""

    index: Index
    entries: list[tuple[Path, bytes, bytes | None]] = field(default_factory=list)

    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        self.entries.append((path, digest, undo))
        self.index.note_change(path, digest, undo)

    def undo_of(self, digest: bytes, before: int | None = None) -> Undo | None:
        return self.index.undo_of(digest, before)


def keywords(path: Path) -> list[str]:
    """Return the names of the keywords in a photo and its sidecars."""
    (shown,) = (json.loads(line) for line in phototag("show", "--format", "json", path).stdout.splitlines())
    return sorted({one["name"] for one in shown["keywords"]})


def remove_red(photo: Path, write: str) -> None:
    """Remove the keyword red as a user would."""
    if write == "json":
        sidecar = photo.with_name(photo.name + ".phototag.json")
        content = json.loads(sidecar.read_text())
        content["tags"] = [tag for tag in content["tags"] if tag["name"] != "red"]
        sidecar.write_text(json.dumps(content))
        return
    file = photo if write == "embed" else photo.with_name(photo.name + ".xmp")
    lists = ("XMP-dc:Subject", "XMP-lr:HierarchicalSubject", *(("XPKeywords",) if write == "embed" else ()))
    command = ["exiftool", "-q", "-overwrite_original", *(f"-{name}-=red" for name in lists[:2])]
    subprocess.run([*command, *(f"-{name}=green" for name in lists[2:]), str(file)], check=True)
