"""Writers that put tags where photo applications look: into the photo itself, or into an XMP sidecar beside it."""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import phototag
from phototag.errors import PhotoError
from phototag.metadata import embedding, files, json_sidecar, xmp
from phototag.metadata.edits import Edit, Edits, applied, inverse, packed, pieces, replacement, unpacked
from phototag.metadata.embedding import Stamp
from phototag.metadata.files import Undo, Written, os_fault
from phototag.metadata.keywords import FIELDS, Keywords, Unwritable
from phototag.opening import NO_MEMORY, embedded_keywords
from phototag.photos import READABLE_SUFFIXES, UNREADABLE, Photo
from phototag.taxonomy import Prediction, Tag

MAX_PHOTO = 1 << 29  # bytes; a file is held in memory twice while it is written into
XMP_SUFFIX = ".xmp"


class Journal(Protocol):
    """Remembers how to take back what was done to files."""

    def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
        """Note, before it is done, that the file at `path` will have the SHA-256 `digest`.

        `undo`: the packed edits that take it back; None where there was no file.
        """

    def undo_of(self, digest: bytes, before: int | None = None) -> Undo | None:
        """Return how a file of the SHA-256 `digest` is taken back by one change, or None where nothing is known.

        `before`: only by changes before that one.
        """


@dataclass(frozen=True)
class EmbedWriter:
    """Writes tags into photos; where one must not be written into, into its XMP sidecar.

    `touch`: let a photo's time of change be that of the writing.
    """

    model_name: str
    journal: Journal
    touch: bool = False

    name = "embed"

    def standing(self, photo: Photo) -> None:
        """Nothing yet."""

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make `photo` say `tags` beside what people wrote in it. Raises `PhotoError`."""
        try:
            note = self._embed(photo, tags)
        except Unwritable as reason:
            done = XmpSidecarWriter(self.model_name, self.journal).write(photo, tags, predictions)
            notes = [f"its tags are in {done.files[0].name}"] if done.files else []
            if _held(photo.path).provenance is not None:
                notes.append("those of an earlier run stay in it")
            return Written(done.files, done.photo, f"{', '.join(notes)}: {reason}" if notes else None)
        except OSError as error:
            raise PhotoError(photo.path, os_fault("it cannot be written into", error)) from None
        except MemoryError:
            raise PhotoError(photo.path, NO_MEMORY) from None
        # There may be a sidecar from when the photo could not be written into.
        remove_from_sidecars(photo.path, self.journal, only_its_own=True)
        return Written((photo.path,) if tags else (), _look_again(photo), note)

    def _embed(self, photo: Photo, tags: Sequence[Tag]) -> str | None:
        path = photo.path
        source = _Source.read(path)
        now = (source.status.st_size, source.status.st_mtime_ns)
        # Its other name in this run may have been written into; else the tags are those of the picture it was.
        if now != (photo.size, photo.mtime_ns) and self.journal.undo_of(hashlib.sha256(source.data).digest()) is None:
            raise PhotoError(path, "it was changed while it was looked at; the next scan looks again")
        rewriting = embedding.with_tags(source.data, tags, _stamp(self.model_name))
        if not rewriting.edits:
            return None
        source.check_writable()
        source.replace(
            rewriting.edits,
            lambda content: embedding.prove(source.data, content, rewriting),
            self.journal,
            touch=self.touch,
        )
        left_out = [f"{keyword} in {FIELDS.get(name, 'any list')}" for name, keyword in rewriting.left_out]
        return f"cannot be written: {', '.join(left_out)}" if left_out else None


@dataclass(frozen=True)
class XmpSidecarWriter:
    """Writes tags into `photo.jpg.xmp`, or into the sidecar of either name that is there."""

    model_name: str
    journal: Journal

    name = "xmp"

    def standing(self, photo: Photo) -> None:
        """Nothing yet."""

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make the sidecar of `photo` say `tags` beside all else that it says. Raises `PhotoError`."""
        sidecar = _full_name(photo.path)
        try:
            sidecar = xmp_sidecar(photo.path)
            if not tags and not os.path.lexists(sidecar):
                return Written((), photo)
            _change_sidecar(
                sidecar,
                photo.path,
                self.journal,
                lambda packet: embedding.sidecar_with_tags(packet, _held(photo.path), tags, _stamp(self.model_name)),
            )
        except Unwritable as reason:
            fault = f"its sidecar {sidecar.name} is left alone ({reason}); move it away to have a new one"
            raise PhotoError(photo.path, fault) from None
        except OSError as error:
            raise PhotoError(photo.path, os_fault(f"its sidecar {sidecar.name} cannot be written", error)) from None
        except MemoryError:
            raise PhotoError(photo.path, NO_MEMORY) from None
        return Written((sidecar,) if tags else (), photo)


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


def remove_from_sidecars(
    path: Path, journal: Journal, *, only_its_own: bool = False, dry_run: bool = False
) -> list[Path]:
    """Remove what phototag wrote from the XMP sidecars of the photo at `path`; return those that were changed.

    `only_its_own`: not from a `photo.xmp` that may be another photo's. Raises `PhotoError`.
    """
    try:
        sidecars = dict.fromkeys((_full_name(path), xmp_sidecar(path))) if only_its_own else _sidecars(path)
    except OSError as error:
        raise PhotoError(path, os_fault("its sidecars cannot be found", error)) from None
    changed = []
    for sidecar in sidecars:
        try:
            if os.path.exists(sidecar) and _untag_sidecar(sidecar, path, journal, dry_run=dry_run):
                changed.append(sidecar)
        except Unwritable as reason:
            fault = f"phototag's tags cannot be removed from its sidecar {sidecar.name}: {reason}"
            raise PhotoError(path, fault) from None
        except OSError as error:
            raise PhotoError(path, os_fault(f"its sidecar {sidecar.name} cannot be changed", error)) from None
    return changed


def read_keywords(path: Path) -> tuple[tuple[Path, Keywords], ...]:
    """Return the keywords of the photo at `path` and those of its XMP sidecars, with the files they are in.

    Raises `PhotoError` where the photo cannot be read.
    """
    if not os.path.isfile(path):
        raise PhotoError(path, "there is no such photo; check the path")
    try:
        path.open("rb").close()  # what cannot be opened would look like a photo without keywords
    except OSError as error:
        raise PhotoError(path, f"it cannot be read ({error.strerror}); check its permissions") from None
    found = [(path, _held(path))]
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

    `photo.xmp` is of one photo only; beside two of one stem it might be either's, and then it is none's. Raises
    `OSError`.
    """
    full, *shorts = _sidecars(photo)
    if os.path.lexists(full) or not shorts or not os.path.exists(shorts[0]):
        return full
    short = shorts[0]
    suffixes = {*READABLE_SUFFIXES, *UNREADABLE}
    with os.scandir(photo.parent) as entries:
        names = [name for entry in entries if (name := entry.name) != photo.name]
    twins = (name for name in names if os.path.splitext(name)[0] == photo.stem)
    return full if any(os.path.splitext(name)[1].lower() in suffixes for name in twins) else short


def _full_name(photo: Path) -> Path:
    return photo.with_name(photo.name + XMP_SUFFIX)


def _sidecars(photo: Path) -> tuple[Path, ...]:
    """The names that an XMP sidecar of `photo` may have: `photo.jpg.xmp`, and `photo.xmp` where that can be its.

    Beside `scan.tif`, `scan.tif.xmp` is that photo's and not of `scan.tif.jpg`.
    """
    full, short = _full_name(photo), photo.with_suffix(XMP_SUFFIX)
    return (full,) if short == full or os.path.isfile(photo.with_suffix("")) else (full, short)


@dataclass(frozen=True)
class _Source:
    """A file as it was read: where it really is, its content, and its status at that time."""

    path: Path
    data: bytes
    status: os.stat_result

    @classmethod
    def read(cls, path: Path, limit: int = MAX_PHOTO) -> _Source:
        """Raises `OSError`, and `Unwritable` where it is no file, too large, or being changed."""
        real = Path(os.path.realpath(path))
        # O_NONBLOCK: a pipe would keep us waiting.
        descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):  # also a folder, which cannot be made a file object
                raise Unwritable("it is no regular file")
            if status.st_size > limit:
                raise Unwritable(f"it is larger than {limit >> 20} MB")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(status.st_size + 1)
        finally:
            os.close(descriptor)
        if len(data) != status.st_size:
            raise Unwritable("it is being written by another program")
        return cls(real, data, status)

    def check_writable(self) -> None:
        """Raise `Unwritable` where the file's owner does not want it changed, or another name would lose it."""
        if self.status.st_nlink > 1:
            raise Unwritable("it has several names (hard links)")
        if not self.status.st_mode & 0o222 or not os.access(self.path, os.W_OK):
            raise Unwritable("it is read-only")

    def replace(
        self, edits: Edits, prove: Callable[[bytes], None], journal: Journal | None, *, touch: bool = False
    ) -> None:
        """Put the file with `edits` in its place, once `prove` accepts what is on the disk and nobody has changed it.

        With a `journal` the way back is noted there first. Raises `Unwritable` and `OSError`; then nothing has changed.
        """

        def before_rename(content: bytes | None) -> None:
            assert content is not None
            prove(content)
            if journal is not None:
                journal.note_change(self.path, hashlib.sha256(content).digest(), packed(inverse(edits)))
            self._check_unchanged()

        files.write_file(
            self.path,
            pieces(memoryview(self.data), edits),
            like=self.status,
            keep_times=not touch,
            before_rename=before_rename,
            read_back=True,
        )

    def remove(self) -> None:
        """Remove the file. Raises `Unwritable` and `OSError`."""
        self._check_unchanged()
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
        while (undo := journal.undo_of(hashlib.sha256(data).digest(), change)) is not None:
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
    before = source.taken_back(journal, embedding.is_photo_before)
    data = source.data if before is None else before
    try:
        data = applied(data, embedding.without_tags(data).edits)
    except Unwritable:
        # Not a photo that phototag writes into, unless another program has made it one since.
        if data == source.data:
            if _names_phototag(data) or _held(path).provenance is not None:
                raise
            return False
    if data == source.data:
        return False
    source.check_writable()
    if not dry_run:
        source.replace((Edit(0, source.data, data),), _same_as(data), None)
    return True


def _untag_sidecar(sidecar: Path, photo: Path, journal: Journal, *, dry_run: bool) -> bool:
    if os.path.islink(sidecar):
        return False  # another photo's, or no sidecar at all; phototag writes none through a link
    try:
        source = _Source.read(sidecar, xmp.MAX_PACKET)
    except Unwritable:
        return False  # phototag writes none like it
    before = source.taken_back(journal, embedding.is_sidecar_before)
    try:
        packet = embedding.sidecar_without_tags(before, _held(photo)) if before is not None else None
    except Unwritable:
        if not _names_phototag(source.data):
            return False
        raise
    if packet == source.data:
        return False
    source.check_writable()
    return dry_run or _put_sidecar(source, packet, None)


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
            # A sidecar is as public as its photo, but its owner can always write it.
            mode = os.stat(photo).st_mode & 0o666 | 0o200
            digest = hashlib.sha256(packet).digest()

            def before_rename(_: bytes | None) -> None:
                journal.note_change(sidecar, digest, None)
                if os.path.lexists(sidecar):
                    raise Unwritable("it was made by another program meanwhile")

            files.write_file(sidecar, [packet], mode=mode, before_rename=before_rename)
        return
    if os.path.islink(sidecar):  # it may be another photo's
        raise Unwritable("it is a symbolic link")
    source = _Source.read(sidecar, xmp.MAX_PACKET)
    _put_sidecar(source, change(source.data), journal)


def _put_sidecar(source: _Source, packet: bytes | None, journal: Journal | None) -> bool:
    if packet == source.data:
        return False
    source.check_writable()
    if packet is None:
        source.remove()
    else:
        # A sidecar's time of change tells other programs to read it again.
        source.replace(replacement(source.data, packet), _same_as(packet), journal, touch=True)
    return True


def _same_as(expected: bytes) -> Callable[[bytes], None]:
    def prove(content: bytes) -> None:
        if content != expected:
            raise Unwritable("what was written does not read back")

    return prove


def _held(path: Path) -> Keywords:
    """The keywords in the photo at `path` itself, as far as they can be read. Raises `PhotoError` where it is gone."""
    try:
        return embedding.read_keywords(_Source.read(path).data)
    except (Unwritable, OSError):
        if not path.is_file():  # a pipe would keep us waiting
            raise PhotoError(path, "it is no longer there, or no longer a file; scan again") from None
        return _by_other_means(path)


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


def _look_again(photo: Photo) -> Photo:
    try:
        status = os.stat(photo.path)
    except OSError as error:
        raise PhotoError(photo.path, os_fault("it has gone since it was written", error)) from None
    return Photo(photo.path, status.st_size, status.st_mtime_ns)


def _stamp(model_name: str) -> Stamp:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    # A model is called what its folder is called, which may be any bytes; XML has not all of them.
    name = "".join(character if character.isprintable() else "?" for character in model_name)
    return Stamp(name, phototag.__version__, now)
