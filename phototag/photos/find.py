"""The walk that finds the photos and sidecars of a library. It decodes nothing."""

from __future__ import annotations

import errno
import functools
import operator
import os
import re
import stat
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from phototag.core import Photo, SkippedFile, WalkItem
from phototag.errors import ConfigError, PhotoError
from phototag.photos.ignore import (
    IGNORE_FILES,
    STOP_FILES,
    Patterns,
    compile_patterns,
    is_excluded_by_default,
    is_ignored,
    patterns_above,
    patterns_in,
)
from phototag.photos.kinds import (
    JPEG_XL,
    OTHER_SUFFIXES,
    OWN_SUFFIX,
    RAW_SUFFIXES,
    READABLE_KINDS,
    READABLE_SUFFIXES,
    SNIFF_BYTES,
    UNFINISHED,
    UNFINISHED_PREFIX,
    UNREADABLE,
    XMP_SIDECAR,
    XMP_SUFFIX,
    os_reason,
    reads_raw,
    sniff,
    strerror,
)

# The photos that may own the other files of their shot. If several have the same stem, the first in this order owns
# them, so that each file has one owner. JPEGs come first, because cameras write them next to a RAW.
_OWNERS = {".jpg": 0, ".jpeg": 1, ".heic": 2, ".heif": 3, ".hif": 4}
_VIDEO, _VIDEO_OWNERS = ".mov", {".jpg", ".jpeg", ".heic"}  # of a Live Photo
_COMPANION_SUFFIXES = RAW_SUFFIXES | {_VIDEO}
# Pixel phones: PXL_1.RAW-01.COVER.jpg and PXL_1.RAW-02.ORIGINAL.dng are one shot. If the first holds a video, its name
# has RAW-01.MP.
_PIXEL_PART = re.compile(r"\.raw-\d\d(?:\.mp)?\.(?:cover|original)\Z")
_SIGNS = frozenset(STOP_FILES + IGNORE_FILES)
_BY_NAME = operator.attrgetter("name")


def find_photos(
    roots: Sequence[Path],
    *,
    exclude: Sequence[str] = (),
    default_excludes: bool = True,
    follow_symlinks: bool = False,
) -> Iterator[WalkItem]:
    """Yield the files and folders at and below `roots`, lazily: each photo once, in order of names within a folder.

    `exclude` holds patterns in gitignore syntax, relative to each root. Ignore files in the folders and above them
    apply too. A root itself is never excluded. It may be a symbolic link; links below it need `follow_symlinks`.

    Yields a `PhotoError` for a folder that cannot be read or has disappeared since it was listed. The walk goes on, and
    nothing is known about the content of that folder.

    The companions of a photo are not yielded themselves, unless they are roots. A photo that is a root has none.

    Raises `ConfigError` before it yields anything if a root does not exist or a pattern is malformed.
    """
    walk = _Walk(compile_patterns(exclude, None, os.curdir), default_excludes, follow_symlinks)
    _check_roots(roots)
    try:
        absolute = [os.path.abspath(root) for root in roots]
    except FileNotFoundError:
        what = "the current folder, which the paths are relative to, is gone"
        raise ConfigError(what, "change to another") from None
    # Files first: a file that the user named is never skipped, even if the walk of its folder would exclude it.
    return (found for root in sorted(absolute, key=os.path.isdir) for found in walk.root(root))


def find_sidecars(roots: Sequence[Path]) -> Iterator[Path | PhotoError]:
    """Yield each file at and below `roots` whose name is that of a sidecar, lazily, in order of names within a folder.

    Nothing is excluded, because sidecars remain in folders that the user excludes later. Links are not followed. Yields
    a `PhotoError` for a folder that cannot be read. Raises `ConfigError` if a root does not exist.
    """
    _check_roots(roots)
    return (found for root in roots for found in _sidecars_below(root))


def _sidecars_below(root: Path) -> Iterator[Path | PhotoError]:
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=unreadable.append):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if name.endswith((OWN_SUFFIX, XMP_SUFFIX)))
    if not os.path.isdir(root) and root.name.endswith((OWN_SUFFIX, XMP_SUFFIX)):
        yield root
    for error in unreadable:
        if os.path.isdir(error.filename):
            yield PhotoError(error.filename, f"the folder cannot be read ({strerror(error)})", "check its permissions")


def _check_roots(roots: Sequence[Path]) -> None:
    for root in roots:
        if not os.path.lexists(root):
            raise ConfigError(f"{root} does not exist", "check the path")
        if not os.path.exists(root):
            raise ConfigError(f"{root} is a symbolic link to nothing", "check where it points")


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to walk, and the patterns that apply inside. The innermost patterns come first and take precedence."""

    path: str
    patterns: tuple[Patterns, ...]
    is_named: bool = False


# Identifies a file, regardless of its path: device and inode (os.stat_result.st_dev, st_ino).
_Identity: TypeAlias = tuple[int, int]
# Returns the stat of a file. os.DirEntry.stat keeps its result, so calling it again costs nothing.
_Stat: TypeAlias = Callable[[], os.stat_result]


class _Walk:
    """One walk over several roots. It remembers which folders it has visited.

    A library may hold a million photos, so each costs one stat and little else.
    """

    def __init__(self, exclude: Patterns, default_excludes: bool, follow_symlinks: bool) -> None:
        self._exclude = exclude
        self._default_excludes = default_excludes
        self._follow_symlinks = follow_symlinks
        self._seen_folders: set[_Identity] = set()
        # Only roots and links, which are not reached through their folder. No other file can appear twice.
        self._seen_files: set[_Identity] = set()

    def root(self, path: str) -> Iterator[WalkItem]:
        try:
            if not os.path.isdir(path):
                if path.endswith(XMP_SUFFIX):  # named by a shell's `*`; untag may have removed it since
                    yield SkippedFile(path, "sidecar", XMP_SIDECAR)
                elif not path.endswith(OWN_SUFFIX):
                    found = self._file(path, functools.partial(os.stat, path), is_detour=True)
                    yield from () if found is None else (found,)
                return
            own = (replace(self._exclude, base=path),) if self._exclude.patterns.patterns else ()
            folder = _Folder(path, (*own, *patterns_above(path)), is_named=True)
        except (OSError, PhotoError) as error:
            yield _as_photo_error(path, error)
            return
        yield from self._tree(folder)

    def _tree(self, top: _Folder) -> Iterator[WalkItem]:
        # A list instead of recursion, because a tree may be deeper than Python's stack.
        pending = [self._children(top)]
        while pending:
            for child in pending[-1]:
                if isinstance(child, _Folder):
                    pending.append(self._children(child))
                    break
                yield child
            else:
                pending.pop()

    def _children(self, folder: _Folder) -> Iterator[WalkItem | _Folder]:
        try:
            identity = _identity(os.stat(folder.path))
            if identity in self._seen_folders:
                return
            self._seen_folders.add(identity)
            with os.scandir(folder.path) as entries:
                children = sorted(entries, key=_BY_NAME, reverse=True)
        except OSError as error:
            yield _lost_folder(folder.path, error)
            return
        signs = _SIGNS.intersection(map(_BY_NAME, children))
        if not (folder.is_named or signs.isdisjoint(STOP_FILES)):
            yield SkippedFile(folder.path, "excluded", f"the folder holds {min(signs.intersection(STOP_FILES))}")
            return
        try:
            own = patterns_in(folder.path, signs)
        except PhotoError as error:
            yield error
            return
        if own:
            folder = replace(folder, patterns=(*own, *folder.patterns))
        yield from self._found(folder, identity, children)

    def _found(
        self, folder: _Folder, identity: _Identity, entries: list[os.DirEntry[str]]
    ) -> Iterator[WalkItem | _Folder]:
        """Yield an item for each of `entries`, beginning with the last. Remove the entries from the list."""
        companions = self._companions(folder, entries)
        with_their_owner = frozenset[str]().union(*companions.values())
        while entries:
            entry = entries.pop()  # frees its stat, which would add up over a large folder
            if entry.name in with_their_owner:
                continue
            try:
                child = self._child(folder, entry)
            except OSError as error:
                lost = _lost_since(folder.path, identity)
                if lost is not None:  # one error for all the entries of the folder
                    yield _lost_folder(folder.path, lost)
                    return
                child = _as_photo_error(entry.path, error)  # for example, a link to itself
            if companions and entry.name in companions and isinstance(child, Photo):
                paths = tuple(Path(folder.path, name) for name in companions[entry.name])
                child = replace(child, companions=paths)
            if child is not None:
                yield child

    def _companions(self, folder: _Folder, entries: Sequence[os.DirEntry[str]]) -> dict[str, list[str]]:
        """Return the sorted names of the companions of each photo that has any, by the photo's name.

        Excluded files, links and files that the user named take no part.
        """
        suffixes = {entry.name[entry.name.rfind(".") :] for entry in entries}
        if _COMPANION_SUFFIXES.isdisjoint(map(str.lower, suffixes)):  # true of most folders
            return {}
        shots = self._shots(folder, entries, _COMPANION_SUFFIXES)
        owners = self._shots(folder, entries, _OWNERS, among=shots)
        companions = {}
        for shot, names in owners.items():
            owner = min(names, key=lambda name: (_OWNERS[_suffix(name)], name))
            may_be_live = _suffix(owner) in _VIDEO_OWNERS
            companions[owner] = sorted(name for name in shots[shot] if may_be_live or _suffix(name) != _VIDEO)
        return companions

    def _shots(
        self,
        folder: _Folder,
        entries: Sequence[os.DirEntry[str]],
        suffixes: Container[str],
        among: Container[str] | None = None,
    ) -> dict[str, list[str]]:
        """Return the names of the files with these suffixes by shot. `among`: only the files of these shots."""
        shots: dict[str, list[str]] = {}
        for entry in entries:
            name = entry.name
            if (
                _suffix(name) in suffixes
                and (among is None or _shot(name) in among)
                and self._takes_part(folder, entry)
            ):
                shots.setdefault(_shot(name), []).append(name)
        return shots

    def _takes_part(self, folder: _Folder, entry: os.DirEntry[str]) -> bool:
        try:
            return (
                entry.is_file(follow_symlinks=False)
                and self._left_out(folder, entry) is None
                and not (self._seen_files and _identity(entry.stat()) in self._seen_files)
            )
        except OSError:  # reported when the walk reaches the entry
            return False

    def _child(self, folder: _Folder, entry: os.DirEntry[str]) -> WalkItem | _Folder | None:
        """Return the item for `entry`, or None if it is phototag's own or appeared before."""
        if entry.name.endswith(OWN_SUFFIX) and entry.is_file():
            return None
        left_out = self._left_out(folder, entry)
        if left_out is not None:
            return left_out
        if entry.is_dir():
            return _Folder(entry.path, folder.patterns)
        is_link = entry.is_symlink()
        if is_link and self._is_reached_by_folder(entry.path):
            return None
        return self._file(entry.path, entry.stat, is_detour=is_link)

    def _left_out(self, folder: _Folder, entry: os.DirEntry[str]) -> SkippedFile | None:
        name = entry.name
        if name.startswith(UNFINISHED_PREFIX) and UNFINISHED.fullmatch(name):
            return SkippedFile(entry.path, "unfinished", "a file that phototag was, or is, writing")
        if self._default_excludes and is_excluded_by_default(name):
            return SkippedFile(entry.path, "excluded", "excluded by default (see {no_default_excludes})")
        if entry.is_symlink() and not self._follow_symlinks:
            return SkippedFile(entry.path, "excluded", "a symbolic link (see {follow_symlinks})")
        if folder.patterns and is_ignored(folder.patterns, entry.path, entry.is_dir()):
            return SkippedFile(entry.path, "excluded", "excluded by {exclude} or an ignore file")
        return None

    def _file(self, path: str, ask_stat: _Stat, *, is_detour: bool) -> WalkItem | None:
        """Return the item for the file at `path`, or None if it appeared before.

        `is_detour`: `path` is a root or a link, so the file may appear again through its folder.
        """
        if is_detour or self._seen_files:
            identity = _identity(ask_stat())
            if identity in self._seen_files:
                return None
            if is_detour:
                self._seen_files.add(identity)
        return _look_at(path, ask_stat)

    def _is_reached_by_folder(self, link: str) -> bool:
        real = os.path.realpath(link)
        return os.path.exists(real) and _identity(os.stat(os.path.dirname(real))) in self._seen_folders


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _lost_since(path: str, identity: _Identity) -> OSError | None:
    """Return why the folder at `path` has disappeared, for example with its disk, or None if it is still there."""
    try:
        same = _identity(os.stat(path)) == identity
    except OSError as error:
        return error
    return None if same else FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _lost_folder(path: str, error: OSError) -> PhotoError:
    remedy = "check its permissions" if isinstance(error, PermissionError) else "check the disk or the network it is on"
    return PhotoError(path, f"the folder cannot be read ({strerror(error)})", remedy)


def _as_photo_error(path: str, error: OSError | PhotoError) -> PhotoError:
    if isinstance(error, PhotoError):
        return error
    if os.path.islink(path):
        reason = f"it is a symbolic link that leads nowhere ({strerror(error)})"
        return PhotoError(path, reason, "remove or correct it")
    return PhotoError(path, os_reason(error))


def _look_at(path: str, ask_stat: _Stat) -> WalkItem:
    """Return the item for the file at `path`. Files with unknown suffixes are recognized by their first bytes."""
    suffix = _suffix(os.path.basename(path))
    if suffix == XMP_SUFFIX:
        return SkippedFile(path, "sidecar", XMP_SIDECAR)
    if suffix in OTHER_SUFFIXES:
        return SkippedFile(path, "other", "no photo")
    status = ask_stat()
    if not stat.S_ISREG(status.st_mode):
        return SkippedFile(path, "other", "no regular file")
    if suffix in UNREADABLE and not (suffix in RAW_SUFFIXES and reads_raw()):
        return SkippedFile(path, "unreadable", UNREADABLE[suffix])
    if suffix not in READABLE_SUFFIXES and suffix not in RAW_SUFFIXES:
        with open(path, "rb") as file:
            kind = sniff(file.read(SNIFF_BYTES))
        if kind == "JPEG XL":
            return SkippedFile(path, "unreadable", JPEG_XL)
        if kind not in READABLE_KINDS:
            return SkippedFile(path, "other", "no photo")
    return Photo(path, status.st_size, status.st_mtime_ns)


def _suffix(name: str) -> str:
    """Return the same as `PurePath(name).suffix`, in lower case."""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix.lower() if stem and suffix else ""


def _shot(name: str) -> str:
    """Return the part of a file's name that all files of one shot share."""
    return _PIXEL_PART.sub("", name.rpartition(".")[0].lower())
