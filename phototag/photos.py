"""Find the photos of a library: by name, by place, by what a file begins with; none is opened to be looked at."""

from __future__ import annotations

import errno
import fnmatch
import functools
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import pathspec

from phototag.errors import ConfigError, PhotoError

# fmt: off
READABLE_SUFFIXES = frozenset({
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".png", ".tif", ".tiff", ".webp",
})
RAW_SUFFIXES = frozenset({
    ".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq",
    ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".rwz",
    ".sr2", ".srf", ".srw", ".x3f",
})
# Not worth opening to see whether they are photos after all.
OTHER_SUFFIXES = frozenset({
    ".3gp", ".aae", ".ai", ".avi", ".bz2", ".cfg", ".conf", ".csv", ".db", ".doc", ".docx", ".eps", ".gz", ".htm",
    ".html", ".ini", ".json", ".log", ".m2ts", ".m4a", ".m4v", ".md", ".mkv", ".mov", ".mp3", ".mp4", ".mpg", ".mts",
    ".npy", ".npz", ".ods", ".odt", ".pb", ".pbtxt", ".pdf", ".pp3", ".ps", ".psb", ".psd", ".py", ".sh", ".sqlite",
    ".svg", ".tar", ".tmp", ".toml", ".tsv", ".txt", ".wav", ".webm", ".wmv", ".xcf", ".xls", ".xlsx", ".xml", ".xmp",
    ".xz", ".yaml", ".yml", ".zip",
})
# fmt: on
_RAW = "a camera RAW file, which phototag cannot read"
JPEG_XL = "a JPEG XL file, which phototag cannot read"
UNREADABLE = dict.fromkeys(RAW_SUFFIXES, _RAW) | {".jxl": JPEG_XL}
# What phototag wrote itself is not worth a word.
OWN_SUFFIX = ".phototag.json"
# Files that phototag is writing. Short, so that the long name of a photo does not become too long; hidden, so that no
# gallery shows them.
UNFINISHED_PREFIX, UNFINISHED_SUFFIX = ".phototag-", ".tmp"
UNFINISHED = re.compile(re.escape(UNFINISHED_PREFIX) + r"\w+" + re.escape(UNFINISHED_SUFFIX))

# What programs keep for themselves: thumbnails, previews, bins, backups, catalogues. Case does not matter.
DEFAULT_EXCLUDES = (
    ".*",  # hidden files and folders, and the ._ companions that macOS leaves on foreign disks
    "@eaDir",
    "@Recycle",
    "@SynoResource",
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Thumbs.db",
    "iPod Photo Cache",
    "*.lrdata",
    "*.lrlibrary",
    "*.cocatalogdb",
    "*.photoslibrary",
    "*.aplibrary",
    "*.migratedphotolibrary",
    "*_original",  # exiftool's backups: IMG_1.jpg_original
    "*~",
    "*.bak",
    "__MACOSX",
)
# A folder that holds one of these is passed over with all that is below it.
STOP_FILES = (".nomedia", ".noimage")
IGNORE_FILES = (".phototagignore", ".ppignore")
MAX_IGNORE_FILE = 1 << 20  # bytes
# Patterns become regular expressions, which take time that grows with the power of their stars.
MAX_PATTERN = 1000
MAX_STARS = 3  # between two slashes, and of `**`


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo's file as one stat saw it. `path` is absolute, `mtime_ns` in nanoseconds since 1970."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file or folder that is left alone: a photo phototag cannot read, no photo at all, or excluded.

    `unfinished`: a file that phototag itself was writing.
    """

    path: Path
    kind: Literal["unreadable", "other", "excluded", "unfinished"]
    reason: str


Found: TypeAlias = Photo | PassedOver | PhotoError


# --- Finding ----------------------------------------------------------------------------------------------------------


def find_photos(
    roots: Sequence[Path],
    *,
    exclude: Sequence[str] = (),
    default_excludes: bool = True,
    follow_symlinks: bool = False,
) -> Iterator[Found]:
    """Yield what there is at and below `roots`: each photo once, by name within a folder; lazily.

    `exclude` are patterns in gitignore syntax, relative to each root. Ignore files inside the folders and above them
    are honoured. A root itself is never excluded, and it may be a symbolic link; links below it need `follow_symlinks`.
    A folder that cannot be read is yielded as a `PhotoError`, and the walk goes on.

    Raises `ConfigError` before anything is yielded where a root does not exist or a pattern is malformed.
    """
    walk = _Walk(_compile_patterns(exclude, "--exclude"), default_excludes, follow_symlinks)
    for root in roots:
        if not os.path.lexists(root):
            raise ConfigError(f"{root} does not exist; check the path")
        if not os.path.exists(root):
            raise ConfigError(f"{root} is a symbolic link to nothing; check where it points")
    try:
        absolute = [Path(os.path.abspath(root)) for root in roots]
    except FileNotFoundError:
        raise ConfigError("the current folder, which the paths are relative to, is gone; change to another") from None
    # Files first: what the user names is never passed over, also where a folder's walk would exclude it.
    return (found for root in sorted(absolute, key=os.path.isdir) for found in walk.root(root))


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be walked, and the patterns that hold inside.

    Each pattern comes with the path of the folder it is relative to; the innermost comes first and has the last word.
    """

    path: Path
    patterns: tuple[tuple[str, pathspec.GitIgnoreSpec], ...]
    is_named: bool = False


# What tells one file from another, however it is reached: device and number (os.stat_result.st_dev, st_ino).
_Identity: TypeAlias = tuple[int, int]


class _Walk:
    """One walk over several roots; remembers where it was."""

    def __init__(self, exclude: pathspec.GitIgnoreSpec, default_excludes: bool, follow_symlinks: bool) -> None:
        self._exclude = exclude
        self._default_excludes = default_excludes
        self._follow_symlinks = follow_symlinks
        self._seen_folders: set[_Identity] = set()
        # Only files reached by another way than their folder: roots and links. The rest cannot come twice.
        self._seen_files: set[_Identity] = set()

    def root(self, path: Path) -> Iterator[Found]:
        try:
            if not os.path.isdir(path):
                if not path.name.endswith(OWN_SUFFIX):  # as a shell's `*` names it
                    yield from self._file(path, is_detour=True)
                return
            own = ((str(path), self._exclude),) if self._exclude.patterns else ()
            folder = _Folder(path, (*own, *_patterns_above(path)), is_named=True)
        except (OSError, PhotoError) as error:
            yield _as_photo_error(path, error)
            return
        yield from self._tree(folder)

    def _tree(self, top: _Folder) -> Iterator[Found]:
        # A stack and not recursion: a tree may be deeper than Python's stack.
        pending = [self._children(top)]
        while pending:
            child = next(pending[-1], None)
            if child is None:
                pending.pop()
            elif isinstance(child, _Folder):
                pending.append(self._children(child))
            else:
                yield child

    def _children(self, folder: _Folder) -> Iterator[Found | _Folder]:
        try:
            identity = _identity(os.stat(folder.path))
            if identity in self._seen_folders:
                return
            self._seen_folders.add(identity)
            with os.scandir(folder.path) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield PhotoError(folder.path, f"the folder cannot be read ({strerror(error)}); check its permissions")
            return
        stop = next((entry.name for entry in children if entry.name in STOP_FILES), None)
        if stop is not None and not folder.is_named:
            yield PassedOver(folder.path, "excluded", f"the folder holds {stop}")
            return
        try:
            folder = _with_ignore_files(folder, {entry.name for entry in children})
        except PhotoError as error:
            yield error
            return
        for entry in children:
            try:
                if not (entry.name.endswith(OWN_SUFFIX) and entry.is_file()):
                    yield from self._child(folder, entry)
            except OSError as error:  # a link that leads to itself, say
                yield _as_photo_error(folder.path / entry.name, error)

    def _child(self, folder: _Folder, entry: os.DirEntry[str]) -> Iterator[Found | _Folder]:
        path = folder.path / entry.name
        if UNFINISHED.fullmatch(entry.name):
            yield PassedOver(path, "unfinished", "a file that phototag was, or is, writing")
            return
        if self._default_excludes and _default_excludes_match(entry.name):
            yield PassedOver(path, "excluded", "excluded by default (see --no-default-excludes)")
            return
        is_link = entry.is_symlink()
        if is_link and not self._follow_symlinks:
            yield PassedOver(path, "excluded", "a symbolic link (see --follow-symlinks)")
            return
        is_folder = entry.is_dir()
        if folder.patterns and _ignored(folder, path, is_folder):
            yield PassedOver(path, "excluded", "excluded by --exclude or an ignore file")
        elif is_folder:
            yield _Folder(path, folder.patterns)
        elif not (is_link and self._comes_under_its_own_name(path)):
            yield from self._file(path, is_detour=is_link)

    def _file(self, path: Path, *, is_detour: bool) -> Iterator[Found]:
        """What the file at `path` is, unless it came before. `is_detour`: it may come again by way of its folder."""
        if is_detour or self._seen_files:
            identity = _identity(os.stat(path))
            if identity in self._seen_files:
                return
            if is_detour:
                self._seen_files.add(identity)
        yield _look_at(path)

    def _comes_under_its_own_name(self, link: Path) -> bool:
        real = os.path.realpath(link)
        return os.path.exists(real) and _identity(os.stat(os.path.dirname(real))) in self._seen_folders


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _as_photo_error(path: Path, error: OSError | PhotoError) -> PhotoError:
    if isinstance(error, PhotoError):
        return error
    if path.is_symlink():
        return PhotoError(path, f"it is a symbolic link that leads nowhere ({strerror(error)}); remove or correct it")
    return PhotoError(path, os_reason(error))


def _look_at(path: Path) -> Found:
    """Say what the file at `path` is: by its suffix where that is known, else by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return PassedOver(path, "other", "no photo")
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return PassedOver(path, "other", "no regular file")
        if suffix in UNREADABLE:
            return PassedOver(path, "unreadable", UNREADABLE[suffix])
        if suffix not in READABLE_SUFFIXES:
            with open(path, "rb") as file:
                kind = sniff(file.read(SNIFF_BYTES))
            if kind == "JPEG XL":
                return PassedOver(path, "unreadable", JPEG_XL)
            if kind not in READABLE_KINDS:
                return PassedOver(path, "other", "no photo")
    except OSError as error:
        return _as_photo_error(path, error)
    return Photo(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _default_exclude_pattern() -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in DEFAULT_EXCLUDES))


def _default_excludes_match(name: str) -> bool:
    return _default_exclude_pattern().match(name.lower()) is not None


def _with_ignore_files(folder: _Folder, names: set[str]) -> _Folder:
    """Return `folder` with the patterns of the ignore files in it put first."""
    own = [_read_ignore_file(folder.path, name) for name in IGNORE_FILES if name in names]
    return replace(folder, patterns=(*own, *folder.patterns)) if own else folder


def _patterns_above(root: Path) -> Iterator[tuple[str, pathspec.GitIgnoreSpec]]:
    """The patterns of the ignore files in the folders above `root`, the nearest first.

    Those that leave out `root` itself are left out here: who names a folder wants it.
    """
    for folder in root.parents:
        for name in IGNORE_FILES:
            if (folder / name).is_file():
                base, patterns = _read_ignore_file(folder, name)
                if not patterns.match_file(os.path.relpath(root, base) + "/"):
                    yield base, patterns


def _read_ignore_file(folder: Path, name: str) -> tuple[str, pathspec.GitIgnoreSpec]:
    """Return the patterns in the ignore file `name` of `folder`, and what they are relative to."""
    path = folder / name
    try:
        if not path.is_file():  # a pipe would never end
            raise PhotoError(folder, f"it is left out, because {name} in it is no file; remove that")
        with path.open("rb") as file:
            data = file.read(MAX_IGNORE_FILE + 1)
        if len(data) > MAX_IGNORE_FILE:
            raise PhotoError(folder, f"it is left out, because {name} in it has more than a megabyte; shorten it")
        return str(folder), _compile_patterns(data.decode("utf-8-sig", "surrogateescape").splitlines(), str(path))
    except OSError as error:
        raise PhotoError(folder, f"it is left out, because {name} in it cannot be read ({strerror(error)})") from None
    except ConfigError as error:
        # Whoever wrote it wanted something left alone; what, cannot be told.
        raise PhotoError(folder, f"it is left out: {error}") from None


def _compile_patterns(patterns: Sequence[str], source: str) -> pathspec.GitIgnoreSpec:
    for pattern in patterns:
        if pattern.startswith("#"):  # a comment may be as starry as it likes
            continue
        segments = pattern.split("/")
        stars = max(segment.replace("**", "").count("*") for segment in segments)
        if len(pattern) > MAX_PATTERN or stars > MAX_STARS or pattern.count("**") > MAX_STARS:
            raise ConfigError(f"the pattern {pattern[:40]!r} of {source} is too long or has too many stars; shorten it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of odd brackets, which are odd but not wrong
            return pathspec.GitIgnoreSpec.from_lines(patterns)
    except (ValueError, re.error) as error:
        raise ConfigError(f"a pattern of {source} is not in gitignore syntax ({error}); correct it") from None


def _ignored(folder: _Folder, path: Path, is_folder: bool) -> bool:
    for base, patterns in folder.patterns:
        relative = os.path.relpath(path, base) + ("/" if is_folder else "")
        decision = patterns.check_file(relative).include
        if decision is not None:
            return decision
    return False


# --- Kinds of files -------------------------------------------------------------------------------------------------

SNIFF_BYTES = 32
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"<?xml", "XML"),
    (b"<!DOCTYPE", "HTML"),
    (b"<html", "HTML"),
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"\x1aE\xdf\xa3", "video"),
)
READABLE_KINDS = {"JPEG", "PNG", "GIF", "TIFF", "WebP", "BMP", "HEIC", "AVIF"}


def sniff(head: bytes) -> str | None:
    """Name the kind of file that begins with `head` (32 bytes are enough), or None where it is none that is known."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    # "BM" alone begins many a text: the reserved bytes and a known size of the header after it tell a BMP.
    if head[:2] == b"BM" and head[14:18] in {n.to_bytes(4, "little") for n in (12, 40, 52, 56, 64, 108, 124)}:
        return "BMP"
    if head[4:8] == b"ftyp":
        return "AVIF" if head[8:12] in _AVIF_BRANDS else "HEIC" if head[8:12] in _HEIF_BRANDS else "video"
    return None


def os_reason(error: OSError) -> str:
    """Say why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "it is gone, or was never there"
    if isinstance(error, PermissionError):
        return "it may not be read; check its permissions"
    return f"it cannot be read ({strerror(error)})"


def strerror(error: OSError) -> str:
    """The system's words for `error`."""
    return (error.strerror or errno.errorcode.get(error.errno or 0, str(error))).lower()
