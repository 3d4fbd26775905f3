"""XMP sidecars: which ones belong to a photo, which ones are orphans, and how phototag creates or changes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from phototag.core import Journal
from phototag.errors import PhotoError
from phototag.metadata import files, json_sidecar, rewrite
from phototag.metadata.edits import packed, replacement
from phototag.metadata.files import NO_FILE
from phototag.metadata.keywords import Keywords, Unwritable, key
from phototag.metadata.source import Source, same_as
from phototag.metadata.xmp_packet import MAX_PACKET
from phototag.photos.digest import content_digest
from phototag.photos.kinds import OTHER_SUFFIXES, OWN_SUFFIX, RAW_SUFFIXES, READABLE_SUFFIXES, UNREADABLE, XMP_SUFFIX

# The files for which Lightroom writes XMP sidecars. It writes into DNG files instead.
_SHORT_NAMED = RAW_SUFFIXES - {".dng"}
# Suffixes of other programs' sidecars. The photo of a sidecar never has such a suffix.
_SIDECAR_SUFFIXES = {".json", ".pp3", ".xml", XMP_SUFFIX}


def xmp_sidecar(photo: Path) -> Path:
    """Return the path of the XMP sidecar of `photo`: `photo.jpg.xmp`, or `photo.xmp` if only that exists.

    `photo.xmp` belongs to one photo only. If several photos share the stem, it belongs to the RAW file, as in
    Lightroom, which writes into all other kinds. If it could belong to two photos, it belongs to neither. Raises
    `OSError`.
    """
    full, *shorts = possible_sidecars(photo)
    if os.path.lexists(full) or not shorts or not os.path.exists(shorts[0]):
        return full
    twins = _twins(photo)
    rivals = twins & _SHORT_NAMED if suffix_of(photo) in _SHORT_NAMED else twins
    return full if rivals else shorts[0]


def own_sidecars(path: Path) -> tuple[Path, ...]:
    """Return the possible XMP sidecars that belong to the photo at `path` and to no other photo. Raises `OSError`."""
    return tuple(dict.fromkeys((full_name(path), xmp_sidecar(path))))


def possible_sidecars(photo: Path) -> tuple[Path, ...]:
    """Return the possible paths of an XMP sidecar of `photo`: `photo.jpg.xmp`, and `photo.xmp` if it may be its own.

    If `scan.tif` exists, `scan.tif.xmp` belongs to it and not to `scan.tif.jpg`. If `photo.cr2` exists, `photo.xmp`
    belongs to it. `photo.xmp` never belongs to a video. Raises `OSError`.
    """
    full, short = full_name(photo), photo.with_suffix(XMP_SUFFIX)
    if short == full or suffix_of(photo) in OTHER_SUFFIXES or os.path.isfile(photo.with_suffix("")):
        return (full,)
    is_anothers = suffix_of(photo) not in _SHORT_NAMED and os.path.lexists(short) and _twins(photo) & _SHORT_NAMED
    return (full,) if is_anothers else (full, short)


def full_name(photo: Path) -> Path:
    """Return `photo.jpg.xmp` for `photo.jpg`."""
    return photo.with_name(photo.name + XMP_SUFFIX)


def _twins(photo: Path) -> set[str]:
    """Return the suffixes of the other photos with the same folder and stem as `photo`. Raises `OSError`."""
    with os.scandir(photo.parent) as entries:
        names = [name for entry in entries if (name := entry.name) != photo.name]
    suffixes = {suffix_of(Path(name)) for name in names if os.path.splitext(name)[0] == photo.stem}
    return suffixes & {*READABLE_SUFFIXES, *UNREADABLE}


def suffix_of(path: Path) -> str:
    """Return the suffix of `path` in lower case."""
    return path.suffix.lower()


def is_orphan(path: Path) -> bool:
    """Return whether the file at `path` holds only phototag's tags for a photo that is gone. False in case of doubt.

    This is `photo.jpg.phototag.json` without `photo.jpg`. It is also `photo.jpg.xmp` without any photo that it may
    belong to, if phototag created it and it holds nothing else.
    """
    try:
        if path.is_symlink() or not path.name.endswith((OWN_SUFFIX, XMP_SUFFIX)) or _photos_of(path):
            return False
        data = Source.read(path, MAX_PACKET).data
        if path.name.endswith(OWN_SUFFIX):
            return json_sidecar.is_ours(data)
        return rewrite.is_sidecar_before(None, data) and rewrite.sidecar_without_tags(data, Keywords()) is None
    except (Unwritable, OSError, MemoryError):
        return False


def remove_orphan(path: Path) -> None:
    """Remove an orphan. Raises `PhotoError` if `is_orphan` is false or the file cannot be removed."""
    if not is_orphan(path):
        raise PhotoError(path, "it is not a sidecar of a photo that is gone, or not any more", "it was left alone")
    try:
        os.unlink(path)
    except OSError as error:
        raise PhotoError(path, f"it cannot be removed ({error.strerror})", "check the folder's permissions") from None
    files.sync_folder(path.parent)


def _photos_of(sidecar: Path) -> bool:
    """Return whether a file exists that `sidecar` may belong to, ignoring case. Raises `OSError`."""
    is_json = sidecar.name.endswith(OWN_SUFFIX)
    photo = _folded(sidecar.name.removesuffix(OWN_SUFFIX if is_json else XMP_SUFFIX))
    if not photo:
        return True
    suffixes = {""}
    if not is_json:
        suffixes |= {*READABLE_SUFFIXES, *UNREADABLE, *OTHER_SUFFIXES} - _SIDECAR_SUFFIXES
    with os.scandir(sidecar.parent) as entries:
        names = (_folded(entry.name) for entry in entries)
        return any(name.startswith(photo) and name[len(photo) :] in suffixes for name in names)


def _folded(name: str) -> str:
    """Return the `key` of a file name. Fast for ASCII, because a folder may hold very many files."""
    return name.strip().lower() if name.isascii() else key(name)


def change_sidecar(
    sidecar: Path, photo: Path, journal: Journal, change: Callable[[bytes | None], bytes | None]
) -> None:
    """Replace the content of `sidecar` by what `change` returns for it. A missing file is None."""
    if not os.path.lexists(sidecar):
        packet = change(None)
        if packet is not None:
            make_sidecar(sidecar, packet, photo, journal)
        return
    if os.path.islink(sidecar):  # it may be another photo's sidecar
        raise Unwritable("it is a symbolic link")
    source = Source.read(sidecar, MAX_PACKET)
    put_sidecar(source, change(source.data), journal)


def make_sidecar(sidecar: Path, content: bytes, photo: Path, journal: Journal | None) -> None:
    """Create the file `sidecar` of `photo`. A `journal` records that first."""
    # A sidecar is as readable as its photo, but its owner can always write it.
    mode = os.stat(photo).st_mode & 0o666 | 0o200 if os.path.exists(photo) else 0o644

    def before_rename(_: bytes | None) -> None:
        if journal is not None:
            journal.note_change(sidecar, content_digest(content), None)
        if os.path.lexists(sidecar):
            raise Unwritable("it was made by another program meanwhile")

    files.write_file(sidecar, [content], mode=mode, before_rename=before_rename)


def put_sidecar(source: Source, packet: bytes | None, journal: Journal | None) -> bool:
    """Replace the sidecar by `packet`, or remove it if that is None. Return whether it changed."""
    if packet == source.data:
        return False
    source.check_writable()
    if packet is None:
        if journal is not None:
            journal.note_change(source.path, NO_FILE, packed(replacement(b"", source.data)))
        source.remove()
    else:
        # A new modification time makes other programs read the sidecar again.
        source.replace(replacement(source.data, packet), same_as(packet), journal, mtime_ns=None)
    return True
