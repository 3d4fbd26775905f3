"""Writers that put tags where photo applications look: into the photo itself, or into an XMP sidecar beside it."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from phototag._version import __version__
from phototag.core import Journal, Photo, Prediction, Tag
from phototag.errors import NO_MEMORY, PhotoError, no_photo
from phototag.metadata import containers, files, json_sidecar, rewrite, xmp
from phototag.metadata.edits import Edit, Edits, already_back, applied, inverse, packed, pieces, replacement, unpacked
from phototag.metadata.files import NO_FILE, EarlierTags, Written, moment, now, os_fault
from phototag.metadata.foreign import embedded_keywords
from phototag.metadata.keywords import (
    FIELDS,
    Keywords,
    Memory,
    Unwritable,
    key,
    noted_names,
    noted_tags,
    rejected_names,
)
from phototag.metadata.rewrite import Stamp
from phototag.photos.digest import content_digest
from phototag.photos.kinds import OTHER_SUFFIXES, OWN_SUFFIX, RAW_SUFFIXES, READABLE_SUFFIXES, UNREADABLE, XMP_SUFFIX

MAX_PHOTO = 1 << 29  # bytes; a file is held in memory twice while it is written into
MAX_OTHER = 1 << 26  # bytes; a file of a kind that is not written into
_JPEG_HEAD = 1 << 18  # bytes; the packet is in the first few segments


@dataclass(frozen=True)
class EmbedWriter:
    """Writes tags into photos; where one must not be written into, into its XMP sidecar.

    `journal`: told of each change before it is made. `recipe`: what `standing` knows its own work by.
    `forget_rejections`: tags that a person has removed are written again. `touch`: let a photo's time of change be
    that of the writing.
    """

    model_name: str
    journal: Journal
    recipe: str = ""
    forget_rejections: bool = False
    touch: bool = False

    name = "embed"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make `photo` say `tags` beside what people wrote in it. Raises `PhotoError`.

        `previous`: the names that were written into it, or into its XMP sidecar, before. What a person has removed of
        them since, or of what is noted there, is not written again.
        """
        try:
            done = self._embed(photo, tags, previous)
        except Unwritable as reason:
            in_sidecar = XmpSidecarWriter(self.model_name, self.journal, self.recipe, self.forget_rejections)
            done = in_sidecar.write(photo, tags, predictions, previous)
            notes = [f"its tags are in {done.files[0].name}"] if done.files else []
            if _has_tags(_held(photo.path)[0]):
                notes.append("those of an earlier run stay in it")
            return replace(done, note=f"{', '.join(notes)}: {reason}" if notes else None)
        except OSError as error:
            raise PhotoError(photo.path, os_fault("it cannot be written into", error)) from None
        except MemoryError:
            raise PhotoError(photo.path, NO_MEMORY) from None
        # There may be a sidecar from when the photo could not be written into.
        if not done.files and not self.forget_rejections and _rejected_beside(photo.path):
            # It alone remembers what a person has removed: nothing was written in which the photo could.
            XmpSidecarWriter(self.model_name, self.journal, self.recipe).write(photo, (), ())
        else:
            remove_from_sidecars(photo.path, self.journal, in_run=True)
        return replace(done, photo=_look_again(photo))

    def standing(self, photo: Photo) -> EarlierTags | None:
        """Return what an earlier run of the same recipe left, if `photo` has not changed since; None otherwise."""
        return _standing(photo, self.recipe, lambda: (photo.path, xmp_sidecar(photo.path)))

    def _embed(self, photo: Photo, tags: Sequence[Tag], previous: Sequence[str]) -> Written:
        path = photo.path
        source = _Source.read(path)
        # Its other name in this run may have been written into; else the tags are those of the picture it was.
        if not source.is_as_seen(photo) and not source.is_as_left(self.journal):
            raise PhotoError(path, "it was changed while it was looked at; the next scan looks again")
        stamp = _stamp_of(self)
        memory = replace(_memory_of_photo(source, path, previous, self.journal), forget=self.forget_rejections)
        rewriting = rewrite.with_tags(source.data, tags, stamp, memory)
        files = (path,) if _are_left(tags, rewriting.rejected) else ()
        if not rewriting.edits:
            return Written(files, photo, None, source.digest, rewriting.rejected, rewriting.own_tags)
        source.check_writable()
        digest = source.replace(
            rewriting.edits,
            lambda content: rewrite.prove(source.data, content, rewriting),
            self.journal,
            # The very time that is noted: what is later was done by others.
            mtime_ns=moment(stamp.date) if self.touch else source.status.st_mtime_ns,
        )
        left_out = [f"{keyword} in {FIELDS.get(name, 'any list')}" for name, keyword in rewriting.left_out]
        note = f"cannot be written: {', '.join(left_out)}" if left_out else None
        return Written(files, photo, note, digest, rewriting.rejected, rewriting.own_tags)


@dataclass(frozen=True)
class XmpSidecarWriter:
    """Writes tags into `photo.jpg.xmp`, or into the sidecar of either name that is there.

    `journal`, `recipe`, `forget_rejections`: as `EmbedWriter`'s.
    """

    model_name: str
    journal: Journal
    recipe: str = ""
    forget_rejections: bool = False

    name = "xmp"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make the sidecar of `photo` say `tags` beside all else that it says. Raises `PhotoError`.

        `previous`: the names that were written there before. What a person has removed of them since, or of what is
        noted there or in the photo, is not written again.
        """
        sidecar = _full_name(photo.path)
        try:
            sidecar = xmp_sidecar(photo.path)
            if not tags and not os.path.lexists(sidecar):
                return Written((), photo)
            held, source = _held(photo.path)
            # Of a picture that the tags are not of, the digest would say that it has them.
            digest = source.digest if source is not None and source.is_as_seen(photo) else None
            rejected: tuple[str, ...] = ()

            def change(packet: bytes | None) -> bytes | None:
                nonlocal rejected
                memory = replace(_memory_of_sidecar(packet, previous, self.journal), forget=self.forget_rejections)
                packet, rejected = rewrite.sidecar_with_tags(packet, held, tags, _stamp_of(self), memory)
                return packet

            _change_sidecar(sidecar, photo.path, self.journal, change)
        except Unwritable as reason:
            fault = f"its sidecar {sidecar.name} is left alone ({reason}); move it away to have a new one"
            raise PhotoError(photo.path, fault) from None
        except OSError as error:
            raise PhotoError(photo.path, os_fault(f"its sidecar {sidecar.name} cannot be written", error)) from None
        except MemoryError:
            raise PhotoError(photo.path, NO_MEMORY) from None
        return Written((sidecar,) if _are_left(tags, rejected) else (), photo, None, digest, rejected)

    def standing(self, photo: Photo) -> EarlierTags | None:
        """Return what an earlier run of the same recipe left, if `photo` has not changed since; None otherwise."""
        return _standing(photo, self.recipe, lambda: (xmp_sidecar(photo.path),))


def removed_by_people(photo: Photo, write: str, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    """Return the names that a person has removed from where the writer named `write` wrote `previous` for `photo`.

    By the rules of that writer's own `write`; nothing is changed. () where there is no such writer, and for what cannot
    be read.
    """
    ways = {"json": json_sidecar.removed_by_people, "embed": _removed_from_photo, "xmp": _removed_from_sidecar}
    try:
        return ways[write](photo.path, previous, journal) if write in ways else ()
    except (Unwritable, PhotoError, OSError, MemoryError):
        return ()


def _removed_from_photo(path: Path, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    removed: tuple[str, ...] = ()
    try:
        source = _Source.read(path)
        again = [Tag(name, 1.0, (name,), None) for name in previous]
        rewriting = rewrite.with_tags(source.data, again, _stamp(""), _memory_of_photo(source, path, previous, journal))
        removed = rewriting.rejected
        if rewriting.edits:
            source.check_writable()
    except Unwritable:  # then they were written into its sidecar
        return tuple(dict.fromkeys((*removed, *_removed_from_sidecar(path, previous, journal))))
    return removed


def _removed_from_sidecar(path: Path, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    removed: tuple[str, ...] = ()
    held, _ = _held(path)

    def look(packet: bytes | None) -> bytes | None:
        nonlocal removed
        memory = _memory_of_sidecar(packet, previous, journal)
        _, removed = rewrite.sidecar_with_tags(packet, held, (), _stamp(""), memory)
        return packet  # it stays what it is

    _change_sidecar(xmp_sidecar(path), path, journal, look)
    return removed


def untag(path: Path, journal: Journal, *, dry_run: bool = False) -> tuple[Path, ...]:
    """Remove all that phototag wrote for the photo at `path`, from it and from its sidecars; return the files changed.

    A file that has not changed since becomes byte for byte what it was; of others, what phototag noted there is
    removed, and what people wrote stays. With `dry_run` nothing is changed, and the files that would be are returned.
    Raises `PhotoError` where that cannot be done.
    """
    changed: list[Path] = []
    try:
        if _untag_photo(path, journal, dry_run=dry_run):
            changed.append(path)
    except Unwritable as reason:
        raise PhotoError(path, f"its tags cannot be removed: {reason}") from None
    except OSError as error:
        raise PhotoError(path, os_fault("its tags cannot be removed", error)) from None
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None
    changed += remove_from_sidecars(path, journal, dry_run=dry_run)
    sidecar = json_sidecar.sidecar_path(path)
    if json_sidecar.remove_sidecar(path, dry_run=dry_run):
        changed.append(sidecar)
    return tuple(changed)


def take_back(path: Path, digest: bytes, undo: bytes | None, *, dry_run: bool = False) -> bool:
    """Take back one change of the journal's, `digest` and `undo`, of the file at `path`: a photo or a sidecar.

    The file becomes byte for byte what it was before, and a photo keeps its time of change. Return False where the
    change was never made, or has been taken back already. With `dry_run` nothing is changed.

    Raises `PhotoError` where the file has been changed since, is gone or read-only, or the journal is damaged.
    """
    try:
        if path.name.endswith((OWN_SUFFIX, XMP_SUFFIX)) and path.is_symlink():
            raise Unwritable("it is a symbolic link now, which phototag does not write through; move it away")
        if digest == NO_FILE:
            return _put_back(path, undo, dry_run=dry_run)
        if not os.path.lexists(path):
            if undo is None and path.parent.is_dir():
                return False
            raise Unwritable("it is gone; if it was moved, use phototag untag on the photo where it is now")
        return _take_back(path, _Source.read(path), digest, undo, dry_run=dry_run)
    except Unwritable as reason:
        raise PhotoError(path, f"what phototag did to it cannot be taken back: {reason}") from None
    except OSError as error:
        raise PhotoError(path, os_fault("what phototag did to it cannot be taken back", error)) from None
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None


_CHANGED = "it was changed since; phototag untag on the photo removes the tags and keeps the change"
_MISFIT = "the journal does not fit it; use phototag untag on the photo"


def _take_back(path: Path, source: _Source, digest: bytes, undo: bytes | None, *, dry_run: bool) -> bool:
    if source.digest != digest:
        if undo is not None and _was_never_made(path, source.data, undo):
            return False
        raise Unwritable(_CHANGED)
    try:
        edits = unpacked(undo, source.data) if undo is not None else None
    except ValueError:
        raise Unwritable(_MISFIT) from None
    before = applied(source.data, edits) if edits is not None else None
    if not _could_become(path, before, source.data):
        raise Unwritable(_MISFIT)
    if not path.name.endswith(OWN_SUFFIX):  # which phototag replaces whatever its mode
        source.check_writable()
    if dry_run:
        return True
    if edits is None or before is None:
        source.remove()
    else:
        is_sidecar = path.name.endswith((OWN_SUFFIX, XMP_SUFFIX))
        source.replace(edits, _same_as(before), None, mtime_ns=None if is_sidecar else source.status.st_mtime_ns)
    return True


def _put_back(path: Path, undo: bytes | None, *, dry_run: bool) -> bool:
    """Take back that a sidecar was removed."""
    try:
        content = applied(b"", unpacked(undo or b"", b""))
    except ValueError:
        raise Unwritable(_MISFIT) from None
    if os.path.lexists(path):
        if _Source.read(path).data == content:
            return False
        raise Unwritable("another file has its place now; move that away")
    if not _is_own_sidecar(path, content):
        raise Unwritable(_MISFIT)
    if not dry_run:
        suffix = OWN_SUFFIX if path.name.endswith(OWN_SUFFIX) else XMP_SUFFIX
        _make_sidecar(path, content, path.with_name(path.name.removesuffix(suffix)), None)
    return True


def _is_own_sidecar(path: Path, content: bytes) -> bool:
    """Is `content` one that phototag may have written into a sidecar of this name?"""
    if path.name.endswith(OWN_SUFFIX):
        return json_sidecar.is_ours(content)
    return path.name.endswith(XMP_SUFFIX) and xmp.read(content).provenance is not None


def _could_become(path: Path, before: bytes | None, now: bytes) -> bool:
    """Could phototag have made `now` of `before`, or anew? The journal is a file that anything may have happened to."""
    if path.name.endswith(OWN_SUFFIX):
        return json_sidecar.is_ours(now) and (before is None or json_sidecar.is_ours(before))
    if not path.name.endswith(XMP_SUFFIX):
        return rewrite.is_photo_before(before, now)
    return rewrite.is_sidecar_before(before, now) or (
        before is not None and rewrite.is_sidecar_after_removal(before, now)
    )


def _was_never_made(path: Path, data: bytes, undo: bytes) -> bool:
    """Is `data` what the change would have been made of? So it is where a run was killed just before.

    All that `undo` would put back stands there; where that is nothing, no note of phototag's is in the file.
    """
    try:
        back = already_back(undo, data)
    except ValueError:
        return False
    if back is None:
        return False
    if len(back.strip()) >= 4:  # what the change would have taken away: an offset at least, no padding
        return True
    try:
        read = xmp.read if path.name.endswith(XMP_SUFFIX) else rewrite.read_keywords
        return read(data).provenance is None
    except Unwritable:
        return False


def remove_from_sidecars(path: Path, journal: Journal, *, in_run: bool = False, dry_run: bool = False) -> list[Path]:
    """Remove what phototag wrote from the XMP sidecars of the photo at `path`; return those that were changed.

    `in_run`: not from a `photo.xmp` that may be another photo's, and what is done is noted in the journal. Raises
    `PhotoError`.
    """
    try:
        sidecars = _own_sidecars(path) if in_run else _sidecars(path)
    except OSError as error:
        raise PhotoError(path, os_fault("its sidecars cannot be found", error)) from None
    changed = []
    for sidecar in sidecars:
        try:
            noted = journal if in_run else None
            if os.path.exists(sidecar) and _untag_sidecar(sidecar, path, journal, noted, dry_run=dry_run):
                changed.append(sidecar)
        except Unwritable as reason:
            fault = f"phototag's tags cannot be removed from its sidecar {sidecar.name}: {reason}"
            raise PhotoError(path, fault) from None
        except OSError as error:
            raise PhotoError(path, os_fault(f"its sidecar {sidecar.name} cannot be changed", error)) from None
    return changed


def is_orphan(path: Path) -> bool:
    """Is the file at `path` a sidecar of phototag's alone, of a photo that is gone? False for all that is doubtful.

    `photo.jpg.phototag.json` without `photo.jpg`; `photo.jpg.xmp` without it or another photo that it may belong to,
    if phototag has made it and a person has added nothing.
    """
    try:
        if path.is_symlink() or not path.name.endswith((OWN_SUFFIX, XMP_SUFFIX)) or _photos_of(path):
            return False
        data = _Source.read(path, xmp.MAX_PACKET).data
        if path.name.endswith(OWN_SUFFIX):
            return json_sidecar.is_ours(data)
        return rewrite.is_sidecar_before(None, data) and rewrite.sidecar_without_tags(data, Keywords()) is None
    except (Unwritable, OSError, MemoryError):
        return False


def remove_orphan(path: Path) -> None:
    """Remove a sidecar for which `is_orphan` holds. Raises `PhotoError` where it does not, or it cannot be removed."""
    if not is_orphan(path):
        raise PhotoError(path, "it is no sidecar of a photo that is gone, or not any more; it was left alone")
    try:
        os.unlink(path)
    except OSError as error:
        raise PhotoError(path, f"it cannot be removed ({error.strerror}); check the folder's permissions") from None
    files.sync_folder(path.parent)


# Of what other programs put beside a photo, and what stays there as a photo's sidecar does.
_SIDECAR_SUFFIXES = {".json", ".pp3", ".xml", XMP_SUFFIX}


def _photos_of(sidecar: Path) -> bool:
    """Is there any file that `sidecar` may belong to, in whatever case its name is written? Raises `OSError`."""
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
    """The `key` of a file's name; there may be very many in a folder."""
    return name.strip().lower() if name.isascii() else key(name)


def read_keywords(path: Path) -> tuple[tuple[Path, Keywords], ...]:
    """Return the keywords of the photo at `path` and those of its XMP sidecars, with the files they are in.

    Raises `PhotoError` where the photo cannot be read.
    """
    if not os.path.isfile(path):
        raise no_photo(path)
    try:
        path.open("rb").close()  # what cannot be opened would look like a photo without keywords
    except OSError as error:
        raise PhotoError(path, f"it cannot be read ({error.strerror}); check its permissions") from None
    found = [(path, _held(path)[0])]
    for sidecar in _sidecars(path):
        if os.path.isfile(sidecar):
            try:
                found.append((sidecar, xmp.read(_Source.read(sidecar, xmp.MAX_PACKET).data)))
            except Unwritable as reason:
                raise PhotoError(path, f"its sidecar {sidecar.name} cannot be read: {reason}") from None
            except OSError as error:
                raise PhotoError(path, os_fault(f"its sidecar {sidecar.name} cannot be read", error)) from None
    return tuple(found)


def xmp_sidecar(photo: Path) -> Path:
    """The XMP sidecar that belongs to `photo`: `photo.jpg.xmp`, or `photo.xmp` where that alone is there.

    `photo.xmp` is of one photo only: beside several of one stem that of the RAW file, if there is one, as Lightroom
    has it, which writes into all else; of two that are equal it might be either's, and then it is none's. Raises
    `OSError`.
    """
    full, *shorts = _sidecars(photo)
    if os.path.lexists(full) or not shorts or not os.path.exists(shorts[0]):
        return full
    twins = _twins(photo)
    rivals = twins & _SHORT_NAMED if _suffix(photo) in _SHORT_NAMED else twins
    return full if rivals else shorts[0]


# Of what Lightroom writes XMP sidecars for. A DNG it writes into.
_SHORT_NAMED = RAW_SUFFIXES - {".dng"}


def _twins(photo: Path) -> set[str]:
    """The suffixes of the other photos beside `photo` that have its stem. Raises `OSError`."""
    with os.scandir(photo.parent) as entries:
        names = [name for entry in entries if (name := entry.name) != photo.name]
    suffixes = {_suffix(Path(name)) for name in names if os.path.splitext(name)[0] == photo.stem}
    return suffixes & {*READABLE_SUFFIXES, *UNREADABLE}


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _own_sidecars(path: Path) -> tuple[Path, ...]:
    """The names of XMP sidecars that are of the photo at `path` and no other. Raises `OSError`."""
    return tuple(dict.fromkeys((_full_name(path), xmp_sidecar(path))))


def _full_name(photo: Path) -> Path:
    return photo.with_name(photo.name + XMP_SUFFIX)


def _sidecars(photo: Path) -> tuple[Path, ...]:
    """The names that an XMP sidecar of `photo` may have: `photo.jpg.xmp`, and `photo.xmp` where that can be its.

    Beside `scan.tif`, `scan.tif.xmp` is that photo's and not of `scan.tif.jpg`; beside `photo.cr2`, `photo.xmp` is that
    RAW file's; and it is never of a film. Raises `OSError`.
    """
    full, short = _full_name(photo), photo.with_suffix(XMP_SUFFIX)
    if short == full or _suffix(photo) in OTHER_SUFFIXES or os.path.isfile(photo.with_suffix("")):
        return (full,)
    is_anothers = _suffix(photo) not in _SHORT_NAMED and os.path.lexists(short) and _twins(photo) & _SHORT_NAMED
    return (full,) if is_anothers else (full, short)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """The file at `path`, open, and its status. Raises `OSError`, and `Unwritable` where it is no file."""
    # O_NONBLOCK: a pipe would keep us waiting.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):  # also a folder, which cannot be made a file object
            raise Unwritable("it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, status
    finally:
        os.close(descriptor)


def _check_size(file: BinaryIO, size: int, limit: int | None) -> None:
    """Raise `Unwritable` where the file is larger than `limit`, or than one of its kind may be."""
    if limit is None:
        limit = MAX_PHOTO
        if size > MAX_OTHER:  # a film beside a photo, perhaps
            containers.check_kind(file.read(256))
            file.seek(0)
    if size > limit:
        raise Unwritable(f"it is larger than {limit >> 20} MB")


@dataclass(frozen=True)
class _Source:
    """A file as it was read: where it really is, its content, and its status at that time."""

    path: Path
    data: bytes
    status: os.stat_result

    @classmethod
    def read(cls, path: Path, limit: int | None = None) -> _Source:
        """Raises `OSError`, and `Unwritable` where it is no file, too large, or being changed.

        `limit`: in bytes; where None, what a file of its kind may have.
        """
        real = Path(os.path.realpath(path))
        with _opened(real) as (file, status):
            _check_size(file, status.st_size, limit)
            data = file.read(status.st_size + 1)
        if len(data) != status.st_size:
            raise Unwritable("it is being written by another program")
        return cls(real, data, status)

    @functools.cached_property
    def digest(self) -> bytes:
        """`content_digest` of the content."""
        return content_digest(self.data)

    def is_as_seen(self, photo: Photo) -> bool:
        """Is the file what `photo` says of it?"""
        return (self.status.st_size, self.status.st_mtime_ns) == (photo.size, photo.mtime_ns)

    def is_as_left(self, journal: Journal) -> bool:
        """Is the file as phototag left it, by what the journal knows?"""
        return self.digest != NO_FILE and journal.undo_of(self.digest) is not None

    def check_writable(self) -> None:
        """Raise `Unwritable` where the file's owner does not want it changed, or another name would lose it."""
        if self.status.st_nlink > 1:
            raise Unwritable("it has several names (hard links)")
        if not self.status.st_mode & 0o222 or not os.access(self.path, os.W_OK):
            raise Unwritable("it is read-only")

    def replace(
        self, edits: Edits, prove: Callable[[bytes], None], journal: Journal | None, *, mtime_ns: int | None
    ) -> bytes:
        """Put the file with `edits` in its place, once `prove` accepts what is on the disk and nobody has changed it.

        With a `journal` the way back is noted there first. `mtime_ns`: its time of change afterwards; None: now. Return
        the digest of the new content. Raises `Unwritable` and `OSError`; then nothing has changed.
        """
        digest = b""

        def before_rename(content: bytes | None) -> None:
            nonlocal digest
            assert content is not None
            prove(content)
            digest = content_digest(content)
            if journal is not None:
                journal.note_change(self.path, digest, packed(inverse(edits)))
            self._check_unchanged()

        files.write_file(
            self.path,
            pieces(memoryview(self.data), edits),
            like=self.status,
            times=(self.status.st_atime_ns, mtime_ns) if mtime_ns is not None else None,
            before_rename=before_rename,
            read_back=True,
        )
        return digest

    def remove(self) -> None:
        """Remove the file. Raises `Unwritable` and `OSError`."""
        self._check_unchanged()
        files.sync_put_off()  # what a sidecar has may just have gone into its photo
        os.unlink(self.path)
        files.sync_folder(self.path.parent)

    def _check_unchanged(self) -> None:
        now = os.stat(self.path)
        facts = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
        if any(getattr(now, fact) != getattr(self.status, fact) for fact in facts):
            raise Unwritable("it was changed by another program meanwhile")

    def taken_back(self, journal: Journal, is_credible: Callable[[bytes | None, bytes], bool]) -> bytes | None:
        """Return the content before all changes that the journal knows; None where there was no file.

        What the journal says counts where `is_credible` finds that it could have become what is there: it is a file
        that anything may have happened to.
        """
        data, change = self.data, None
        # Each change before the last one: a photo that was tagged and untagged is in the journal with both contents.
        while (undo := journal.undo_of(content_digest(data), change)) is not None:
            change = undo.change
            if undo.edits is None:
                return None if is_credible(None, self.data) else self.data
            try:
                data = applied(data, unpacked(undo.edits, data))
            except ValueError:
                break  # a damaged journal; what is noted in the file remains
        return data if data is self.data or is_credible(data, self.data) else self.data


def _untag_photo(path: Path, journal: Journal, *, dry_run: bool) -> bool:
    try:
        source = _Source.read(path)
    except Unwritable:
        return False  # phototag writes into none like it
    before = source.taken_back(journal, rewrite.is_photo_before)
    data = source.data if before is None else before
    try:
        data = applied(data, rewrite.without_tags(data).edits)
    except Unwritable:
        # Not a photo that phototag writes into, unless another program has made it one since.
        if data == source.data:
            if _names_phototag(data) or _held(path)[0].provenance is not None:
                raise
            return False
    if data == source.data:
        return False
    source.check_writable()
    if not dry_run:
        edits = (Edit(0, source.data, data),)
        source.replace(edits, _same_as(data), None, mtime_ns=source.status.st_mtime_ns)
    return True


def _untag_sidecar(sidecar: Path, photo: Path, journal: Journal, noted: Journal | None, *, dry_run: bool) -> bool:
    """`noted`: where the change is noted first."""
    if os.path.islink(sidecar):
        return False  # another photo's, or no sidecar at all; phototag writes none through a link
    try:
        source = _Source.read(sidecar, xmp.MAX_PACKET)
    except Unwritable:
        return False  # phototag writes none like it
    before = source.taken_back(journal, rewrite.is_sidecar_before)
    try:
        packet = rewrite.sidecar_without_tags(before, _held(photo)[0]) if before is not None else None
    except Unwritable:
        if not _names_phototag(source.data):
            return False
        raise
    if packet == source.data:
        return False
    source.check_writable()
    return dry_run or _put_sidecar(source, packet, noted)


def _names_phototag(data: bytes) -> bool:
    """May there be tags of phototag's in a file that it cannot change, or not any more?"""
    return xmp.NAMESPACE.encode() in data


def _change_sidecar(
    sidecar: Path, photo: Path, journal: Journal, change: Callable[[bytes | None], bytes | None]
) -> None:
    """Make what `change` makes of the content of `sidecar`, which is None where there is none."""
    if not os.path.lexists(sidecar):
        packet = change(None)
        if packet is not None:
            _make_sidecar(sidecar, packet, photo, journal)
        return
    if os.path.islink(sidecar):  # it may be another photo's
        raise Unwritable("it is a symbolic link")
    source = _Source.read(sidecar, xmp.MAX_PACKET)
    _put_sidecar(source, change(source.data), journal)


def _make_sidecar(sidecar: Path, content: bytes, photo: Path, journal: Journal | None) -> None:
    """Make the file `sidecar` of `photo`, where there is none; with a `journal` that is noted there first."""
    # A sidecar is as public as its photo, but its owner can always write it.
    mode = os.stat(photo).st_mode & 0o666 | 0o200 if os.path.exists(photo) else 0o644

    def before_rename(_: bytes | None) -> None:
        if journal is not None:
            journal.note_change(sidecar, content_digest(content), None)
        if os.path.lexists(sidecar):
            raise Unwritable("it was made by another program meanwhile")

    files.write_file(sidecar, [content], mode=mode, before_rename=before_rename)


def _put_sidecar(source: _Source, packet: bytes | None, journal: Journal | None) -> bool:
    if packet == source.data:
        return False
    source.check_writable()
    if packet is None:
        if journal is not None:
            journal.note_change(source.path, NO_FILE, packed(replacement(b"", source.data)))
        source.remove()
    else:
        # A sidecar's time of change tells other programs to read it again.
        source.replace(replacement(source.data, packet), _same_as(packet), journal, mtime_ns=None)
    return True


def _same_as(expected: bytes) -> Callable[[bytes], None]:
    def prove(content: bytes) -> None:
        if content != expected:
            raise Unwritable("what was written does not read back")

    return prove


def _held(path: Path) -> tuple[Keywords, _Source | None]:
    """The keywords in the photo at `path` itself, as far as they can be read, and the file if it was read whole.

    Raises `PhotoError` where it is gone.
    """
    source = None
    try:
        source = _Source.read(path)
        return rewrite.read_keywords(source.data), source
    except (Unwritable, OSError):
        if not path.is_file():  # a pipe would keep us waiting
            raise PhotoError(path, "it is no longer there, or no longer a file; scan again") from None
        return _by_other_means(path), source


def _has_tags(held: Keywords) -> bool:
    return held.provenance is not None and len(rejected_names(held)) < len(noted_names(held.provenance))


def _memory_of_photo(source: _Source, path: Path, previous: Sequence[str], journal: Journal) -> Memory:
    # As phototag left it, nobody has removed anything: what is missing was not wanted by the last run.
    written = tuple(previous) if previous and not source.is_as_left(journal) else ()
    return Memory(written, _rejected_beside(path))


def _memory_of_sidecar(packet: bytes | None, previous: Sequence[str], journal: Journal) -> Memory:
    is_ours = packet is not None and journal.undo_of(content_digest(packet)) is not None
    return Memory(() if is_ours else tuple(previous))


def _rejected_beside(path: Path) -> tuple[str, ...]:
    """The names that a person has removed from the XMP sidecars of the photo at `path`, as far as they can be read."""
    rejected: list[str] = []
    for sidecar in _own_sidecars(path):
        with contextlib.suppress(Unwritable, OSError):
            if not os.path.islink(sidecar):
                rejected += rejected_names(xmp.read(_Source.read(sidecar, xmp.MAX_PACKET).data))
    return tuple(rejected)


def _standing(photo: Photo, recipe: str, places: Callable[[], Iterable[Path]]) -> EarlierTags | None:
    """What is noted in the first of the files that has a note of `recipe`, if the photo has not changed since."""
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
    """The keywords of the file at `path`, if there may be a note of phototag's; what costs most comes last."""
    if path != photo and path.is_symlink():
        return Keywords()
    if path == photo:
        with _opened(path) as (file, _):
            head = file.read(_JPEG_HEAD)
        containers.check_kind(head)
        if _suffix(path) in UNREADABLE or (head.startswith(b"\xff\xd8") and not _names_phototag(head)):
            return Keywords()
    source = _Source.read(path, None if path == photo else xmp.MAX_PACKET)
    if not _names_phototag(source.data):
        return Keywords()
    return rewrite.read_keywords(source.data) if path == photo else xmp.read(source.data)


def _by_other_means(path: Path) -> Keywords:
    """The keywords in a photo that phototag does not write into."""
    packet, in_iptc, in_exif = embedded_keywords(path)
    try:
        found = xmp.read(packet) if packet is not None else Keywords()
    except Unwritable:
        found = Keywords()
    return Keywords(
        found.subject, found.hierarchical, found.tags_list, found.last_keyword, in_iptc, in_exif, found.provenance
    )


def _are_left(tags: Iterable[Tag], rejected: Iterable[str]) -> bool:
    return not {key(tag.name) for tag in tags} <= set(map(key, rejected))


def _look_again(photo: Photo) -> Photo:
    try:
        status = os.stat(photo.path)
    except OSError as error:
        raise PhotoError(photo.path, os_fault("it has gone since it was written", error)) from None
    return Photo(photo.path, status.st_size, status.st_mtime_ns)


def _stamp_of(writer: EmbedWriter | XmpSidecarWriter) -> Stamp:
    return replace(_stamp(writer.model_name), recipe=writer.recipe)


def _stamp(model_name: str) -> Stamp:
    # A model is called what its folder is called, which may be any bytes; XML has not all of them.
    name = "".join(character if character.isprintable() else "?" for character in model_name)
    return Stamp(name, __version__, now())
