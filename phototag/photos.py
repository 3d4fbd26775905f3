"""Find the photos of a library, and open one upright and small."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import hashlib
import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
import pathspec
from numpy.typing import NDArray
from PIL import ExifTags, Image, IptcImagePlugin, UnidentifiedImageError

from phototag.errors import ConfigError, PhotoError
from phototag.preprocessing import Preprocessing

# Refused above: 268 megapixels, more than any camera takes in one shot (200), and about 1 GB once decoded.
MAX_PIXELS = 2**28

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
_JPEG_XL = "a JPEG XL file, which phototag cannot read"
UNREADABLE = dict.fromkeys(RAW_SUFFIXES, _RAW) | {".jxl": _JPEG_XL}
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

READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "HEIF", "AVIF")
KINDS = "JPEG, PNG, WebP, TIFF, GIF, BMP, HEIC and AVIF"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo's file as one stat saw it. `path` is absolute, `mtime_ns` in nanoseconds since 1970."""

    path: Path
    size: int
    mtime_ns: int
    companions: tuple[Path, ...] = ()


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
            yield PhotoError(folder.path, f"the folder cannot be read ({_strerror(error)}); check its permissions")
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
        return PhotoError(path, f"it is a symbolic link that leads nowhere ({_strerror(error)}); remove or correct it")
    return PhotoError(path, _os_reason(error))


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
                return PassedOver(path, "unreadable", _JPEG_XL)
            if kind not in _READABLE_KINDS:
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
        raise PhotoError(folder, f"it is left out, because {name} in it cannot be read ({_strerror(error)})") from None
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


# --- Opening ----------------------------------------------------------------------------------------------------------

SNIFF_BYTES = 32
MAX_META_BOX = 1 << 20  # bytes; a camera's has a few thousand
# Larger images (50 megapixels) are decoded one at a time: each takes hundreds of megabytes.
LARGE_PIXELS = 50 * 10**6
_LARGE_IMAGES = threading.Lock()

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
_READABLE_KINDS = {"JPEG", "PNG", "GIF", "TIFF", "WebP", "BMP", "HEIC", "AVIF"}


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


# What turns an image of each EXIF orientation upright (EXIF 2.32, 4.6.4 A, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(path: Path, shortest_side: int) -> Image.Image:
    """Return the photo at `path` as an upright RGB image, both sides at least `shortest_side` pixels if it has them.

    A JPEG is decoded at a fraction of its size where that suffices, which is several times faster. Transparency is
    laid over white; 16-bit samples are scaled to 8; of an animation or a file of several pages the first is taken.

    Raises `PhotoError` with the reason for anything that is wrong with the file. Thread-safe.
    """
    _prepare_pillow()
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            head = file.read(SNIFF_BYTES)
            file.seek(0)
            return _decode(file, path, shortest_side)
    except PhotoError:
        raise
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None
    # Decoders of hostile input raise whatever comes: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotoError(path, _os_reason(error)) from None
        raise PhotoError(path, _damage_reason(error, head)) from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file that was one when it was found; should it be a pipe by now, do not wait for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def embedded_keywords(path: Path) -> tuple[bytes | None, tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the XMP packet in the photo at `path`, its IPTC keywords and its XPKeywords, as far as they can be read.

    For reading alone, of any kind of photo; nothing tells where they stand, or whether they are well-formed.
    """
    _prepare_pillow()
    try:
        with (
            open(path, "rb", opener=_open_at_once) as file,
            Image.open(file, formats=READABLE_FORMATS) as image,
        ):
            packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
            in_exif = image.getexif().get(ExifTags.Base.XPKeywords)
            in_iptc = (IptcImagePlugin.getiptcinfo(image) or {}).get((2, 25))
    except Exception:  # noqa: BLE001  # decoders of hostile input raise whatever comes
        return None, None, None
    datasets = in_iptc if isinstance(in_iptc, list) else [in_iptc] if in_iptc else []
    text = bytes(in_exif).decode("utf-16-le", "replace").rstrip("\0") if isinstance(in_exif, bytes | tuple) else ""
    return (
        packet.encode("utf-8", "replace") if isinstance(packet, str) else packet,
        tuple(value.decode("utf-8", "replace") for value in datasets) or None,
        tuple(filter(None, text.split(";"))) or None,
    )


@dataclass(frozen=True, slots=True)
class Looked:
    """A photo as it was read: the SHA-256 of its content, and its pixels, where they were wanted."""

    digest: bytes
    pixels: NDArray[np.uint8] | None


def look_at(
    path: Path, preprocessing: Preprocessing, crops: int, is_known: Callable[[bytes], bool] = lambda _: False
) -> Looked:
    """Return the digest of the photo at `path`, and what `prepare_photo` gives unless `is_known` accepts the digest.

    Raises `PhotoError`.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            sha256 = hashlib.sha256()
            while chunk := file.read(1 << 20):
                sha256.update(chunk)
    except OSError as error:
        raise PhotoError(path, _os_reason(error)) from None
    digest = sha256.digest()
    if is_known(digest):
        return Looked(digest, None)
    return Looked(digest, prepare_photo(path, preprocessing, crops))


def prepare_photo(path: Path, preprocessing: Preprocessing, crops: int = 1) -> NDArray[np.uint8]:
    """Return the photo at `path` as `Preprocessing.crops` makes it: uint8 [crops, height, width, 3], RGB.

    Raises `PhotoError` with the reason for anything that is wrong with the file. Thread-safe.
    """
    image = open_image(path, preprocessing.shortest_side)
    try:
        return preprocessing.crops(image, crops)
    except MemoryError:
        raise PhotoError(path, NO_MEMORY) from None


NO_MEMORY = "it needs more memory than this machine has"


def _decode(file: BinaryIO, path: Path, shortest_side: int) -> Image.Image:
    with Image.open(file, formats=READABLE_FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PhotoError(
                path, f"it claims {width} x {height} pixels, over the limit of {MAX_PIXELS // 10**6} megapixels"
            )
        if image.format == "JPEG" and image.info.get("progressive"):
            _check_scans(file, path)
        image.draft("RGB", (shortest_side, shortest_side))
        with _LARGE_IMAGES if image.width * image.height > LARGE_PIXELS else contextlib.nullcontext():
            return _upright_rgb(image, file, shortest_side)


_REDUCIBLE_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F")


def _check_scans(file: BinaryIO, path: Path) -> None:
    """Refuse a progressive JPEG with absurdly many scans, each of which costs the time of the whole picture.

    Encoders write about ten; the limit is what libjpeg-turbo advises against such bombs (its report LJT-01-005).
    """
    at = file.tell()
    file.seek(0)
    scans, tail = 0, b""
    while chunk := file.read(1 << 20):
        # A start of scan, SOS; in the data of a scan every 0xFF is followed by another byte.
        scans += (tail + chunk).count(b"\xff\xda")
        tail = chunk[-1:]
    file.seek(at)
    if scans > MAX_SCANS:
        raise PhotoError(path, f"it has {scans} progressive scans, over the limit of {MAX_SCANS}")


MAX_SCANS = 500


def _upright_rgb(image: Image.Image, file: BinaryIO, shortest_side: int) -> Image.Image:
    image.load()
    orientation = _heif_orientation(image, file) if image.format == "HEIF" else _exif_orientation(image)
    factor = min(image.size) // (2 * shortest_side)
    small: Image.Image = image
    if factor > 1 and image.mode in _REDUCIBLE_MODES and "transparency" not in image.info:
        small = image.reduce(factor)  # before anything that would need memory for all the pixels once more
    rgb = _to_rgb(small)
    turn = _UPRIGHT.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8.

    Not `ImageOps.exif_transpose`: it writes the EXIF anew, and fails where any other value of it is malformed.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001
        return 1


def _heif_orientation(image: Image.Image, file: BinaryIO) -> int:
    """Return the EXIF orientation where it still has to be applied, else 1.

    A HEIF container has its own way to say how the image is turned (ISO/IEC 23008-12, `irot` and `imir`), and then EXIF
    is only a copy of that. Photos from which some program took the container's word are turned by EXIF alone.
    """
    original = image.info.get("original_orientation") or 1
    return 1 if original == 1 or _container_turns(file) else int(original)


def _container_turns(file: BinaryIO) -> bool:
    """Look for a turn or a flip among the properties in the container's `meta` box."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return False
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # the real length follows
            length = int.from_bytes(head[8:], "big")
        if head[4:8] == b"meta":
            meta = head[8:] + file.read(min(length, MAX_META_BOX))
            return b"irot" in meta or b"imir" in meta
        if length < 8:  # 0 means to the end of the file
            return False
        at += length


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey_to_rgb(image)
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Scale grey samples of 16 or 32 bits, or floating-point ones, to 8 bits; Pillow alone would clip them."""
    with np.errstate(all="ignore"):  # a photo may hold any floating-point number
        samples = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    top = float(samples.max(initial=0.0))
    if image.mode == "F":
        white = 1.0 if top <= 1.0 else 255.0 if top <= 255.0 else top
    else:
        white = 255.0 if image.mode == "I" and top <= 255.0 else max(65535.0, top)
    return Image.fromarray(np.clip(samples * (255.0 / white), 0, 255).astype(np.uint8)).convert("RGB")


@functools.cache
def _prepare_pillow() -> None:
    """Let Pillow read HEIC, and replace its limit of size, which refuses the 200 megapixels of today's phones."""
    import pillow_heif

    # What Pillow would log of a damaged file is in the reason that is given for it.
    logging.getLogger("PIL").addHandler(logging.NullHandler())

    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # open_image has its own limit, checked before anything is decoded


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is gone, or was never there"
    if isinstance(error, PermissionError):
        return "it may not be read; check its permissions"
    return f"it cannot be read ({_strerror(error)})"


def _strerror(error: OSError) -> str:
    return (error.strerror or errno.errorcode.get(error.errno or 0, str(error))).lower()


def _damage_reason(error: Exception, head: bytes) -> str:
    if not head:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        kind = sniff(head)
        if kind is None:
            return f"it is no photo of a kind that phototag reads ({KINDS})"
        if kind == "JPEG XL":
            return f"it is {_JPEG_XL}"
        if kind not in _READABLE_KINDS:
            return f"it is no photo, whatever its name says ({kind})"
        return f"it is damaged: it begins like a {kind} file, but its header cannot be read"
    text = str(error)
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "the file is truncated; restore it from a backup"
    return f"it is damaged and cannot be decoded ({text or type(error).__name__})"
