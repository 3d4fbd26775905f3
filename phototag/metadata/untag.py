"""Undo what phototag wrote: all of it, or one change in the journal."""

from __future__ import annotations

import os
from pathlib import Path

from phototag.core import Journal
from phototag.errors import NO_MEMORY, PhotoError
from phototag.metadata import json_sidecar, rewrite, xmp
from phototag.metadata.edits import Edit, already_back, applied, unpacked
from phototag.metadata.files import NO_FILE, os_fault
from phototag.metadata.found import keywords_in, names_phototag
from phototag.metadata.keywords import Unwritable
from phototag.metadata.sidecars import make_sidecar, own_sidecars, possible_sidecars, put_sidecar
from phototag.metadata.source import Source, same_as
from phototag.metadata.xmp_packet import MAX_PACKET
from phototag.photos.kinds import OWN_SUFFIX, XMP_SUFFIX

_CHANGED = ("it was changed since", "{command:untag} on the photo removes the tags and keeps the change")
_MISFIT = ("the journal does not fit it", "use {command:untag} on the photo")


def untag(path: Path, journal: Journal, *, dry_run: bool = False) -> tuple[Path, ...]:
    """Remove everything that phototag wrote for the photo at `path`, also from its sidecars. Return the changed files.

    A file that has not changed since becomes byte for byte what it was before. In other files, only what phototag
    recorded as its own is removed. With `dry_run`, nothing changes, and the files that would change are returned.
    Raises `PhotoError` if removing fails.
    """
    changed: list[Path] = []
    try:
        if _untag_photo(path, journal, dry_run=dry_run):
            changed.append(path)
    except Unwritable as refused:
        raise PhotoError(path, f"its tags cannot be removed: {refused.reason}", refused.remedy) from None
    except OSError as error:
        raise os_fault(path, "its tags cannot be removed", error) from None
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None
    changed += remove_from_sidecars(path, journal, dry_run=dry_run)
    sidecar = json_sidecar.sidecar_path(path)
    if json_sidecar.remove_sidecar(path, dry_run=dry_run):
        changed.append(sidecar)
    return tuple(changed)


def _untag_photo(path: Path, journal: Journal, *, dry_run: bool) -> bool:
    try:
        source = Source.read(path)
    except Unwritable:
        return False  # phototag does not write into such files
    before = source.taken_back(journal, rewrite.is_photo_before)
    data = source.data if before is None else before
    try:
        data = applied(data, rewrite.without_tags(data).edits)
    except Unwritable:
        # phototag does not write into such photos. But another program may have changed it since.
        if data == source.data:
            if names_phototag(data) or keywords_in(path)[0].provenance is not None:
                raise
            return False
    if data == source.data:
        return False
    source.check_writable()
    if not dry_run:
        edits = (Edit(0, source.data, data),)
        source.replace(edits, same_as(data), None, mtime_ns=source.status.st_mtime_ns)
    return True


def remove_from_sidecars(path: Path, journal: Journal, *, in_run: bool = False, dry_run: bool = False) -> list[Path]:
    """Remove what phototag wrote from the XMP sidecars of the photo at `path`. Return the changed sidecars.

    With `in_run`, a `photo.xmp` that may be another photo's stays, and the journal records each change. Raises
    `PhotoError`.
    """
    try:
        sidecars = own_sidecars(path) if in_run else possible_sidecars(path)
    except OSError as error:
        raise os_fault(path, "its sidecars cannot be found", error) from None
    changed = []
    for sidecar in sidecars:
        try:
            recording = journal if in_run else None
            if os.path.exists(sidecar) and _untag_sidecar(sidecar, path, journal, recording, dry_run=dry_run):
                changed.append(sidecar)
        except Unwritable as refused:
            fault = f"phototag's tags cannot be removed from its sidecar {sidecar.name}: {refused.reason}"
            raise PhotoError(path, fault, refused.remedy) from None
        except OSError as error:
            raise os_fault(path, f"its sidecar {sidecar.name} cannot be changed", error) from None
    return changed


def _untag_sidecar(sidecar: Path, photo: Path, journal: Journal, recording: Journal | None, *, dry_run: bool) -> bool:
    """Remove phototag's tags from `sidecar`, and return whether it changes. The journal `recording` notes it first."""
    if os.path.islink(sidecar):
        return False  # another photo's sidecar, or not a sidecar; phototag does not write through links
    try:
        source = Source.read(sidecar, MAX_PACKET)
    except Unwritable:
        return False  # phototag does not write such sidecars
    before = source.taken_back(journal, rewrite.is_sidecar_before)
    try:
        packet = rewrite.sidecar_without_tags(before, keywords_in(photo)[0]) if before is not None else None
    except Unwritable:
        if not names_phototag(source.data):
            return False
        raise
    if packet == source.data:
        return False
    source.check_writable()
    return dry_run or put_sidecar(source, packet, recording)


def take_back(path: Path, digest: bytes, undo: bytes | None, *, dry_run: bool = False) -> bool:
    """Undo one change of the journal, `digest` and `undo`, to the photo or sidecar at `path`.

    The file becomes byte for byte what it was before. A photo keeps its modification time. Return False if the change
    was never made or is already undone. With `dry_run`, nothing changes.

    Raises `PhotoError` if the file has changed since, is missing or read-only, or if the journal is damaged.
    """
    try:
        if path.name.endswith((OWN_SUFFIX, XMP_SUFFIX)) and path.is_symlink():
            raise Unwritable("it is a symbolic link now, which phototag does not write through", "move it away")
        if digest == NO_FILE:
            return _put_back(path, undo, dry_run=dry_run)
        if not os.path.lexists(path):
            if undo is None and path.parent.is_dir():
                return False
            raise Unwritable("it is gone", "if it was moved, use {command:untag} on the photo where it is now")
        return _take_back(path, Source.read(path), digest, undo, dry_run=dry_run)
    except Unwritable as refused:
        raise PhotoError(
            path, f"what phototag did to it cannot be taken back: {refused.reason}", refused.remedy
        ) from None
    except OSError as error:
        raise os_fault(path, "what phototag did to it cannot be taken back", error) from None
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None


def _take_back(path: Path, source: Source, digest: bytes, undo: bytes | None, *, dry_run: bool) -> bool:
    if source.digest != digest:
        if undo is not None and _was_never_made(path, source.data, undo):
            return False
        raise Unwritable(*_CHANGED)
    try:
        edits = unpacked(undo, source.data) if undo is not None else None
    except ValueError:
        raise Unwritable(*_MISFIT) from None
    before = applied(source.data, edits) if edits is not None else None
    if not _could_become(path, before, source.data):
        raise Unwritable(*_MISFIT)
    if not path.name.endswith(OWN_SUFFIX):  # phototag replaces its JSON sidecars regardless of their mode
        source.check_writable()
    if dry_run:
        return True
    if edits is None or before is None:
        source.remove()
    else:
        is_sidecar = path.name.endswith((OWN_SUFFIX, XMP_SUFFIX))
        source.replace(edits, same_as(before), None, mtime_ns=None if is_sidecar else source.status.st_mtime_ns)
    return True


def _put_back(path: Path, undo: bytes | None, *, dry_run: bool) -> bool:
    """Restore a sidecar that phototag removed."""
    try:
        content = applied(b"", unpacked(undo or b"", b""))
    except ValueError:
        raise Unwritable(*_MISFIT) from None
    if os.path.lexists(path):
        if Source.read(path).data == content:
            return False
        raise Unwritable("another file has its place now", "move that away")
    if not _is_own_sidecar(path, content):
        raise Unwritable(*_MISFIT)
    if not dry_run:
        suffix = OWN_SUFFIX if path.name.endswith(OWN_SUFFIX) else XMP_SUFFIX
        make_sidecar(path, content, path.with_name(path.name.removesuffix(suffix)), None)
    return True


def _is_own_sidecar(path: Path, content: bytes) -> bool:
    """Return whether phototag may have written `content` into a sidecar with the name of `path`."""
    if path.name.endswith(OWN_SUFFIX):
        return json_sidecar.is_ours(content)
    return path.name.endswith(XMP_SUFFIX) and xmp.read(content).provenance is not None


def _could_become(path: Path, before: bytes | None, now: bytes) -> bool:
    """Return whether phototag could have made `now` from `before`, or as a new file if that is None.

    The journal is a file that may be damaged, so its answers are checked.
    """
    if path.name.endswith(OWN_SUFFIX):
        return json_sidecar.is_ours(now) and (before is None or json_sidecar.is_ours(before))
    if not path.name.endswith(XMP_SUFFIX):
        return rewrite.is_photo_before(before, now)
    return rewrite.is_sidecar_before(before, now) or (
        before is not None and rewrite.is_sidecar_after_removal(before, now)
    )


def _was_never_made(path: Path, data: bytes, undo: bytes) -> bool:
    """Return whether `data` is still the content before the change, because the run was killed first.

    Then all bytes that `undo` would restore are in `data`. If it would restore none, the file has no record of
    phototag's.
    """
    try:
        back = already_back(undo, data)
    except ValueError:
        return False
    if back is None:
        return False
    if len(back.strip()) >= 4:  # the bytes that the change removes are at least an offset, not just padding
        return True
    try:
        read = xmp.read if path.name.endswith(XMP_SUFFIX) else rewrite.read_keywords
        return read(data).provenance is None
    except Unwritable:
        return False
