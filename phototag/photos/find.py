"""Find the photos of a library: by name, by place, by what a file begins with; none is opened to be looked at."""

from __future__ import annotations

import errno
import functools
import importlib.util
import operator
import os
import re
import stat
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import pathspec

from phototag.core import Photo, SkippedFile, WalkItem
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
RAW = "a camera RAW file, which phototag reads with the help of rawpy: pip install 'phototag[raw]'"
JPEG_XL = "a JPEG XL file, which phototag cannot read"
UNREADABLE = dict.fromkeys(RAW_SUFFIXES, RAW) | {".jxl": JPEG_XL}
# The photos that may own the other files of their shot. Where there are several of one stem, the first of this order
# does, so that each file has one owner only: JPEGs first, which are what cameras write beside a RAW.
_OWNERS = {".jpg": 0, ".jpeg": 1, ".heic": 2, ".heif": 3, ".hif": 4}
_VIDEO, _VIDEO_OWNERS = ".mov", {".jpg", ".jpeg", ".heic"}  # of a Live Photo
_COMPANION_SUFFIXES = RAW_SUFFIXES | {_VIDEO}
# Pixel phones: PXL_1.RAW-01.COVER.jpg and PXL_1.RAW-02.ORIGINAL.dng are one shot; with a video in the first, RAW-01.MP.
_PIXEL_PART = re.compile(r"\.raw-\d\d(?:\.mp)?\.(?:cover|original)\Z")
# What phototag wrote itself is not worth a word.
OWN_SUFFIX = ".phototag.json"
XMP_SUFFIX = ".xmp"
XMP_SIDECAR = "an XMP sidecar"
# Files that phototag is writing. Short, so that the long name of a photo does not become too long; hidden, so that no
# gallery shows them.
UNFINISHED_PREFIX, UNFINISHED_SUFFIX = ".phototag-", ".tmp"
UNFINISHED = re.compile(re.escape(UNFINISHED_PREFIX) + r"\w+" + re.escape(UNFINISHED_SUFFIX))

# What programs keep for themselves: thumbnails, previews, bins, backups, catalogues. Case does not matter. Besides, all
# that is hidden: what begins with a dot, such as the ._ companions that macOS leaves on foreign disks.
DEFAULT_EXCLUDES = frozenset(map(str.lower, (
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
    "__MACOSX",
)))  # fmt: skip
DEFAULT_EXCLUDED_ENDINGS = (
    ".lrdata",
    ".lrlibrary",
    ".cocatalogdb",
    ".photoslibrary",
    ".aplibrary",
    ".migratedphotolibrary",
    "_original",  # exiftool's backups: IMG_1.jpg_original
    "~",
    ".bak",
)
# A folder that holds one of these is passed over with all that is below it.
STOP_FILES = (".nomedia", ".noimage")
IGNORE_FILES = (".phototagignore", ".ppignore")
_SIGNS = frozenset(STOP_FILES + IGNORE_FILES)
_BY_NAME = operator.attrgetter("name")
MAX_IGNORE_FILE = 1 << 20  # bytes
# Patterns become regular expressions, which take time that grows with the power of their stars.
MAX_PATTERN = 1000
MAX_STARS = 3  # between two slashes, and of `**`


# --- Finding ----------------------------------------------------------------------------------------------------------


def find_photos(
    roots: Sequence[Path],
    *,
    exclude: Sequence[str] = (),
    default_excludes: bool = True,
    follow_symlinks: bool = False,
) -> Iterator[WalkItem]:
    """Yield what there is at and below `roots`: each photo once, by name within a folder; lazily.

    `exclude` are patterns in gitignore syntax, relative to each root. Ignore files inside the folders and above them
    are honoured. A root itself is never excluded, and it may be a symbolic link; links below it need `follow_symlinks`.
    A folder that cannot be read, or is gone since it was listed, is yielded as a `PhotoError`, and the walk goes on:
    nothing is known then of what is in it. In a folder, what is a photo's
    companion is not yielded itself; what the user named has no companions and is none.

    Raises `ConfigError` before anything is yielded where a root does not exist or a pattern is malformed.
    """
    walk = _Walk(_compile_patterns(exclude, "--exclude", os.curdir), default_excludes, follow_symlinks)
    _check_roots(roots)
    try:
        absolute = [os.path.abspath(root) for root in roots]
    except FileNotFoundError:
        raise ConfigError("the current folder, which the paths are relative to, is gone; change to another") from None
    # Files first: what the user names is never passed over, also where a folder's walk would exclude it.
    return (found for root in sorted(absolute, key=os.path.isdir) for found in walk.root(root))


def find_sidecars(roots: Sequence[Path]) -> Iterator[Path | PhotoError]:
    """Yield each file at and below `roots` that is a sidecar by its name, by name within a folder; lazily.

    Nothing is left out: sidecars stay where a folder is excluded later. Links are not followed. A folder that cannot
    be read is yielded as a `PhotoError`. Raises `ConfigError` where a root does not exist.
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
            yield PhotoError(error.filename, f"the folder cannot be read ({strerror(error)}); check its permissions")


def _check_roots(roots: Sequence[Path]) -> None:
    for root in roots:
        if not os.path.lexists(root):
            raise ConfigError(f"{root} does not exist; check the path")
        if not os.path.exists(root):
            raise ConfigError(f"{root} is a symbolic link to nothing; check where it points")


@dataclass(frozen=True, slots=True)
class _Patterns:
    """The patterns of one ignore file or of the options, in gitignore syntax, relative to the folder `base`.

    `some` finds what at least one of them finds: most paths match none, and to ask one by one costs far more.
    """

    base: str
    patterns: pathspec.GitIgnoreSpec
    some: re.Pattern[str]

    def decide(self, path: str, is_folder: bool) -> bool | None:
        """Is what is at `path`, below the base, to be ignored? None: they do not say."""
        start = len(self.base) + (not self.base.endswith(os.sep))
        relative = path[start:].replace(os.sep, "/") + "/" * is_folder
        return None if self.some.search(relative) is None else self.patterns.check_file(relative).include


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be walked, and the patterns that hold inside: the innermost come first and have the last word."""

    path: str
    patterns: tuple[_Patterns, ...]
    is_named: bool = False


# What tells one file from another, however it is reached: device and number (os.stat_result.st_dev, st_ino).
_Identity: TypeAlias = tuple[int, int]
# Gives the stat of a file; what was asked once, as os.DirEntry.stat, does not ask again.
_Stat: TypeAlias = Callable[[], os.stat_result]


class _Walk:
    """One walk over several roots; remembers where it was.

    Each photo costs one stat and little else, since a library may have a million.
    """

    def __init__(self, exclude: _Patterns, default_excludes: bool, follow_symlinks: bool) -> None:
        self._exclude = exclude
        self._default_excludes = default_excludes
        self._follow_symlinks = follow_symlinks
        self._seen_folders: set[_Identity] = set()
        # Only files reached by another way than their folder: roots and links. The rest cannot come twice.
        self._seen_files: set[_Identity] = set()

    def root(self, path: str) -> Iterator[WalkItem]:
        try:
            if not os.path.isdir(path):
                if path.endswith(XMP_SUFFIX):  # as a shell's `*` names it; untag may have removed it by now
                    yield SkippedFile(path, "sidecar", XMP_SIDECAR)
                elif not path.endswith(OWN_SUFFIX):
                    found = self._file(path, functools.partial(os.stat, path), is_detour=True)
                    yield from () if found is None else (found,)
                return
            own = (replace(self._exclude, base=path),) if self._exclude.patterns.patterns else ()
            folder = _Folder(path, (*own, *_patterns_above(path)), is_named=True)
        except (OSError, PhotoError) as error:
            yield _as_photo_error(path, error)
            return
        yield from self._tree(folder)

    def _tree(self, top: _Folder) -> Iterator[WalkItem]:
        # A stack and not recursion: a tree may be deeper than Python's stack.
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
            folder = _with_ignore_files(folder, signs)
        except PhotoError as error:
            yield error
            return
        yield from self._found(folder, identity, children)

    def _found(
        self, folder: _Folder, identity: _Identity, entries: list[os.DirEntry[str]]
    ) -> Iterator[WalkItem | _Folder]:
        """Yield what the entries of the folder are, the last first, and use them up."""
        companions = self._companions(folder, entries)
        with_their_owner = frozenset[str]().union(*companions.values())
        while entries:
            entry = entries.pop()  # with its stat, or they would add up
            if entry.name in with_their_owner:
                continue
            try:
                child = self._child(folder, entry)
            except OSError as error:
                lost = _lost_since(folder.path, identity)
                if lost is not None:  # one word for all that was in it
                    yield _lost_folder(folder.path, lost)
                    return
                child = _as_photo_error(entry.path, error)  # a link that leads to itself, say
            if companions and entry.name in companions and isinstance(child, Photo):
                paths = tuple(Path(folder.path, name) for name in companions[entry.name])
                child = replace(child, companions=paths)
            if child is not None:
                yield child

    def _companions(self, folder: _Folder, entries: Sequence[os.DirEntry[str]]) -> dict[str, list[str]]:
        """Return the names of the photos that have companions, with the names of those, sorted.

        What is left out, a link, or named by the user itself is neither the one nor the other.
        """
        suffixes = {entry.name[entry.name.rfind(".") :] for entry in entries}
        if _COMPANION_SUFFIXES.isdisjoint(map(str.lower, suffixes)):  # as in most folders
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
        """Return the names of the files of these suffixes by their shot, all or those of the shots `among`."""
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
        except OSError:  # is said when its turn comes
            return False

    def _child(self, folder: _Folder, entry: os.DirEntry[str]) -> WalkItem | _Folder | None:
        """What the entry is, unless it is not worth a word or came before."""
        if entry.name.endswith(OWN_SUFFIX) and entry.is_file():
            return None
        left_out = self._left_out(folder, entry)
        if left_out is not None:
            return left_out
        if entry.is_dir():
            return _Folder(entry.path, folder.patterns)
        is_link = entry.is_symlink()
        if is_link and self._comes_under_its_own_name(entry.path):
            return None
        return self._file(entry.path, entry.stat, is_detour=is_link)

    def _left_out(self, folder: _Folder, entry: os.DirEntry[str]) -> SkippedFile | None:
        name = entry.name
        if name.startswith(UNFINISHED_PREFIX) and UNFINISHED.fullmatch(name):
            return SkippedFile(entry.path, "unfinished", "a file that phototag was, or is, writing")
        if self._default_excludes and _is_excluded_by_default(name):
            return SkippedFile(entry.path, "excluded", "excluded by default (see --no-default-excludes)")
        if entry.is_symlink() and not self._follow_symlinks:
            return SkippedFile(entry.path, "excluded", "a symbolic link (see --follow-symlinks)")
        if folder.patterns and _ignored(folder, entry.path, entry.is_dir()):
            return SkippedFile(entry.path, "excluded", "excluded by --exclude or an ignore file")
        return None

    def _file(self, path: str, ask_stat: _Stat, *, is_detour: bool) -> WalkItem | None:
        """What the file at `path` is, unless it came before. `is_detour`: it may come again by way of its folder."""
        if is_detour or self._seen_files:
            identity = _identity(ask_stat())
            if identity in self._seen_files:
                return None
            if is_detour:
                self._seen_files.add(identity)
        return _look_at(path, ask_stat)

    def _comes_under_its_own_name(self, link: str) -> bool:
        real = os.path.realpath(link)
        return os.path.exists(real) and _identity(os.stat(os.path.dirname(real))) in self._seen_folders


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _lost_since(path: str, identity: _Identity) -> OSError | None:
    """Return why the folder that was at `path` is there no longer, such as a disk that was taken out; None: it is."""
    try:
        same = _identity(os.stat(path)) == identity
    except OSError as error:
        return error
    return None if same else FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _lost_folder(path: str, error: OSError) -> PhotoError:
    remedy = "check its permissions" if isinstance(error, PermissionError) else "check the disk or the network it is on"
    return PhotoError(path, f"the folder cannot be read ({strerror(error)}); {remedy}")


def _as_photo_error(path: str, error: OSError | PhotoError) -> PhotoError:
    if isinstance(error, PhotoError):
        return error
    if os.path.islink(path):
        return PhotoError(path, f"it is a symbolic link that leads nowhere ({strerror(error)}); remove or correct it")
    return PhotoError(path, os_reason(error))


def _look_at(path: str, ask_stat: _Stat) -> WalkItem:
    """Say what the file at `path` is: by its suffix where that is known, else by its first bytes."""
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


@functools.cache
def reads_raw() -> bool:
    """Is rawpy there, which reads camera RAW files? That is not worth importing it."""
    return importlib.util.find_spec("rawpy") is not None


def _suffix(name: str) -> str:
    """Return what `PurePath.suffix` does of a file's name, in small letters."""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix.lower() if stem and suffix else ""


def _shot(name: str) -> str:
    """Return what the names of all files of one shot have in common."""
    return _PIXEL_PART.sub("", name.rpartition(".")[0].lower())


def _is_excluded_by_default(name: str) -> bool:
    folded = name.lower()
    return folded.startswith(".") or folded.endswith(DEFAULT_EXCLUDED_ENDINGS) or folded in DEFAULT_EXCLUDES


def _with_ignore_files(folder: _Folder, names: frozenset[str]) -> _Folder:
    """Return `folder` with the patterns of the ignore files in it put first."""
    own = [_read_ignore_file(folder.path, name) for name in IGNORE_FILES if name in names]
    return replace(folder, patterns=(*own, *folder.patterns)) if own else folder


def _patterns_above(root: str) -> Iterator[_Patterns]:
    """The patterns of the ignore files in the folders above `root`, the nearest first.

    Those that leave out `root` itself are left out here: who names a folder wants it.
    """
    for folder in map(str, Path(root).parents):
        for name in IGNORE_FILES:
            if os.path.isfile(os.path.join(folder, name)):
                patterns = _read_ignore_file(folder, name)
                if not patterns.decide(root, is_folder=True):
                    yield patterns


def _read_ignore_file(folder: str, name: str) -> _Patterns:
    """Return the patterns in the ignore file `name` of `folder`."""
    path = os.path.join(folder, name)
    try:
        if not os.path.isfile(path):  # a pipe would never end
            raise PhotoError(folder, f"it is left out, because {name} in it is no file; remove that")
        with open(path, "rb") as file:
            data = file.read(MAX_IGNORE_FILE + 1)
        if len(data) > MAX_IGNORE_FILE:
            raise PhotoError(folder, f"it is left out, because {name} in it has more than a megabyte; shorten it")
        lines = data.decode("utf-8-sig", "surrogateescape").splitlines()
        return _compile_patterns(lines, path, folder)
    except OSError as error:
        raise PhotoError(folder, f"it is left out, because {name} in it cannot be read ({strerror(error)})") from None
    except ConfigError as error:
        # Whoever wrote it wanted something left alone; what, cannot be told.
        raise PhotoError(folder, f"it is left out: {error}") from None


_NOTHING = r"(?!)"


def _compile_patterns(patterns: Sequence[str], source: str, base: str) -> _Patterns:
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
            compiled = pathspec.GitIgnoreSpec.from_lines(patterns)
            regexes = (one.regex.pattern for one in compiled.patterns if one.regex is not None)
            nameless = (re.sub(r"\(\?P<\w+>", "(?:", regex) for regex in regexes)  # a name may stand but once
            some = re.compile("|".join(f"(?:{regex})" for regex in nameless) or _NOTHING)
            return _Patterns(base, compiled, some)
    except (ValueError, re.error) as error:
        raise ConfigError(f"a pattern of {source} is not in gitignore syntax ({error}); correct it") from None


def _ignored(folder: _Folder, path: str, is_folder: bool) -> bool:
    decisions = (patterns.decide(path, is_folder) for patterns in folder.patterns)
    return next((decision for decision in decisions if decision is not None), False)


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
# Pillow's names of the formats that phototag reads.
READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "HEIF", "AVIF")
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


def open_at_once(path: str, flags: int) -> int:
    """Open a file that was one when it was found; should it be a pipe by now, do not wait for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
