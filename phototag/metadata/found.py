"""Read the keywords and tags that a photo and its sidecars already have."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from phototag.core import Journal, Photo, Tag
from phototag.errors import PhotoError, no_photo
from phototag.metadata import containers, json_sidecar, rewrite, xmp
from phototag.metadata.files import moment, os_fault
from phototag.metadata.foreign import embedded_keywords
from phototag.metadata.keywords import Keywords, Memory, Unwritable, noted_names, noted_tags, rejected_names
from phototag.metadata.sidecars import change_sidecar, own_sidecars, possible_sidecars, suffix_of, xmp_sidecar
from phototag.metadata.source import Source, opened
from phototag.metadata.stamp import stamp_now
from phototag.metadata.writer import EarlierTags
from phototag.metadata.xmp_packet import MAX_PACKET, NAMESPACE
from phototag.photos.digest import content_digest
from phototag.photos.kinds import UNREADABLE

_JPEG_HEAD = 1 << 18  # bytes; the packet is in one of the first segments


def read_keywords(path: Path) -> tuple[tuple[Path, Keywords], ...]:
    """Return the keywords of the photo at `path` and of each of its XMP sidecars, with the file that holds them.

    Raises `PhotoError` if the photo or a sidecar cannot be read.
    """
    if not os.path.isfile(path):
        raise no_photo(path)
    try:
        path.open("rb").close()  # a photo that cannot be opened would seem to have no keywords
    except OSError as error:
        raise PhotoError(path, f"it cannot be read ({error.strerror})", "check its permissions") from None
    found = [(path, keywords_in(path)[0])]
    for sidecar in possible_sidecars(path):
        if os.path.isfile(sidecar):
            try:
                found.append((sidecar, xmp.read(Source.read(sidecar, MAX_PACKET).data)))
            except Unwritable as refused:
                raise PhotoError(
                    path, f"its sidecar {sidecar.name} cannot be read: {refused.reason}", refused.remedy
                ) from None
            except OSError as error:
                raise os_fault(path, f"its sidecar {sidecar.name} cannot be read", error) from None
    return tuple(found)


def keywords_in(path: Path) -> tuple[Keywords, Source | None]:
    """Return the readable keywords in the photo at `path` itself, and the file if it could be read.

    Raises `PhotoError` if the photo is missing.
    """
    source = None
    try:
        source = Source.read(path)
        return rewrite.read_keywords(source.data), source
    except (Unwritable, OSError):
        if not path.is_file():  # opening a pipe would block
            raise PhotoError(path, "it has gone, or is not a file any more", "scan again") from None
        return _read_with_pillow(path), source


def _read_with_pillow(path: Path) -> Keywords:
    """Return the keywords in a photo that phototag does not write into."""
    packet, in_iptc, in_exif = embedded_keywords(path)
    try:
        found = xmp.read(packet) if packet is not None else Keywords()
    except Unwritable:
        found = Keywords()
    return Keywords(
        found.subject, found.hierarchical, found.tags_list, found.last_keyword, in_iptc, in_exif, found.provenance
    )


def has_tags(held: Keywords) -> bool:
    """Return whether `held` has tags of phototag's that the user did not remove."""
    return held.provenance is not None and len(rejected_names(held)) < len(noted_names(held.provenance))


def names_phototag(data: bytes) -> bool:
    """Return whether a file that phototag cannot parse may contain phototag's tags."""
    return NAMESPACE.encode() in data


def earlier_tags_in(photo: Photo, recipe: str, places: Callable[[], Iterable[Path]]) -> EarlierTags | None:
    """Return the tags in the first of `places` with a record of `recipe`, or None if the photo has changed since."""
    if not recipe:
        return None
    with contextlib.suppress(OSError):
        for path in places():
            with contextlib.suppress(OSError, Unwritable, ValueError, MemoryError):
                found = _own_tags_in(path, photo.path)
                noted = found.provenance
                if noted is not None and noted.recipe == recipe and photo.mtime_ns <= moment(noted.date):
                    tags = noted_tags(found)
                    return EarlierTags(tags, (), (path,) if tags else (), rejected_names(found))
    return None


def _own_tags_in(path: Path, photo: Path) -> Keywords:
    """Return the keywords of the file at `path`, or none if phototag left no record in it. Cheap checks come first."""
    if path != photo and path.is_symlink():
        return Keywords()
    if path == photo:
        with opened(path) as (file, _):
            head = file.read(_JPEG_HEAD)
        containers.check_kind(head)
        if suffix_of(path) in UNREADABLE or (head.startswith(b"\xff\xd8") and not names_phototag(head)):
            return Keywords()
    source = Source.read(path, None if path == photo else MAX_PACKET)
    if not names_phototag(source.data):
        return Keywords()
    return rewrite.read_keywords(source.data) if path == photo else xmp.read(source.data)


def memory_of_photo(source: Source, path: Path, previous: Sequence[str], journal: Journal) -> Memory:
    """Return what is known about earlier runs for the photo at `path`, besides its own record."""
    # If the photo is as phototag left it, the user removed nothing: the last run did not want the missing names.
    written = tuple(previous) if previous and not source.is_as_left(journal) else ()
    return Memory(written, rejected_beside(path))


def memory_of_sidecar(packet: bytes | None, previous: Sequence[str], journal: Journal) -> Memory:
    """Return what is known about earlier runs for a sidecar, besides its own record."""
    is_ours = packet is not None and journal.undo_of(content_digest(packet)) is not None
    return Memory(() if is_ours else tuple(previous))


def rejected_beside(path: Path) -> tuple[str, ...]:
    """Return the names that the user removed from the readable XMP sidecars of the photo at `path`."""
    rejected: list[str] = []
    for sidecar in own_sidecars(path):
        with contextlib.suppress(Unwritable, OSError):
            if not os.path.islink(sidecar):
                rejected += rejected_names(xmp.read(Source.read(sidecar, MAX_PACKET).data))
    return tuple(rejected)


def removed_by_user(photo: Photo, write: str, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    """Return the names that the user removed after the writer named `write` wrote `previous` for `photo`.

    The rules are those of the writer's own `write` method, but nothing changes. Returns () for a writer that does not
    exist, and if the files cannot be read.
    """
    ways = {"json": json_sidecar.removed_by_user, "embed": _removed_from_photo, "xmp": _removed_from_sidecar}
    try:
        return ways[write](photo.path, previous, journal) if write in ways else ()
    except (Unwritable, PhotoError, OSError, MemoryError):
        return ()


def _removed_from_photo(path: Path, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    removed: tuple[str, ...] = ()
    try:
        source = Source.read(path)
        again = [Tag(name, 1.0, (name,), None) for name in previous]
        memory = memory_of_photo(source, path, previous, journal)
        rewriting = rewrite.with_tags(source.data, again, stamp_now(""), memory)
        removed = rewriting.rejected
        if rewriting.edits:
            source.check_writable()
    except Unwritable:  # the writer wrote into its sidecar instead
        return tuple(dict.fromkeys((*removed, *_removed_from_sidecar(path, previous, journal))))
    return removed


def _removed_from_sidecar(path: Path, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    removed: tuple[str, ...] = ()
    held, _ = keywords_in(path)

    def look(packet: bytes | None) -> bytes | None:
        nonlocal removed
        memory = memory_of_sidecar(packet, previous, journal)
        _, removed = rewrite.sidecar_with_tags(packet, held, (), stamp_now(""), memory)
        return packet  # unchanged

    change_sidecar(xmp_sidecar(path), path, journal, look)
    return removed
