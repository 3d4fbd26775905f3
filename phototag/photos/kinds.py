"""The kinds of files in a library: one table of formats, and the functions that recognize them."""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    `magic` matches the first bytes of such a file. `pillow` is Pillow's name for the kind.

    `readable`: phototag can decode it. `writable`: phototag can embed tags in it. `raw`: a camera RAW file, which needs
    rawpy.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    magic: re.Pattern[bytes] | None = None
    pillow: str | None = None
    readable: bool = False
    writable: bool = False
    raw: bool = False


def _magic(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


# The order matters: Pillow tries its formats in it, and the first match names a file.
# fmt: off
FORMATS = (
    Kind("JPEG", (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"), _magic(rb"\xff\xd8\xff"), "JPEG", True, True),
    Kind("PNG", (".apng", ".png"), _magic(rb"\x89PNG\r\n\x1a\n"), "PNG", True, True),
    Kind("WebP", (".webp",), _magic(rb"RIFF.{4}WEBP"), "WEBP", True, True),
    # BigTIFF, with `+`, can be read but not written.
    Kind("TIFF", (".tif", ".tiff"), _magic(rb"II[*+]\0|MM\0[*+]"), "TIFF", True, True),
    Kind("GIF", (".gif",), _magic(rb"GIF8"), "GIF", True),
    # Many texts begin with "BM". The size of the second header (12, 40, 52, 56, 64, 108 or 124) identifies a BMP.
    Kind("BMP", (".bmp", ".dib"), _magic(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"), "BMP", True),
    Kind("HEIC", (".heic", ".heif", ".hif"), _magic(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"), "HEIF", True),
    Kind("AVIF", (".avif",), _magic(rb".{4}ftypavi[fs]"), "AVIF", True),
    Kind("RAW", (
        ".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq",
        ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".rwz",
        ".sr2", ".srf", ".srw", ".x3f",
    ), raw=True),
    Kind("JPEG XL", (".jxl",), _magic(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n")),
    Kind("XML", magic=_magic(rb"<\?xml")),
    Kind("HTML", magic=_magic(rb"<!DOCTYPE|<html")),
    Kind("PDF", magic=_magic(rb"%PDF")),
    Kind("Photoshop", magic=_magic(rb"8BPS")),
    Kind("video", magic=_magic(rb"\x1aE\xdf\xa3|.{4}ftyp")),
)
# Files with these suffixes are not photos. They are not opened to check.
OTHER_SUFFIXES = frozenset({
    ".3gp", ".aae", ".ai", ".avi", ".bz2", ".cfg", ".conf", ".csv", ".db", ".doc", ".docx", ".eps", ".gz", ".htm",
    ".html", ".ini", ".json", ".log", ".m2ts", ".m4a", ".m4v", ".md", ".mkv", ".mov", ".mp3", ".mp4", ".mpg", ".mts",
    ".npy", ".npz", ".ods", ".odt", ".pb", ".pbtxt", ".pdf", ".pp3", ".ps", ".psb", ".psd", ".py", ".sh", ".sqlite",
    ".svg", ".tar", ".tmp", ".toml", ".tsv", ".txt", ".wav", ".webm", ".wmv", ".xcf", ".xls", ".xlsx", ".xml", ".xmp",
    ".xz", ".yaml", ".yml", ".zip",
})
# fmt: on
READABLE_KINDS = tuple(kind.name for kind in FORMATS if kind.readable)
READABLE_SUFFIXES = frozenset(suffix for kind in FORMATS if kind.readable for suffix in kind.suffixes)
RAW_SUFFIXES = frozenset(suffix for kind in FORMATS if kind.raw for suffix in kind.suffixes)
# Pillow's names for the formats that phototag reads.
READABLE_FORMATS = tuple(kind.pillow for kind in FORMATS if kind.readable and kind.pillow is not None)

RAW = "a camera RAW file, which phototag reads with the help of rawpy: pip install 'phototag[raw]'"
JPEG_XL = "a JPEG XL file, which phototag cannot read"
# Why phototag skips photos with these suffixes. RAW files are skipped only if rawpy is missing.
UNREADABLE = {
    suffix: RAW if kind.raw else JPEG_XL
    for kind in FORMATS
    if kind.suffixes and not kind.readable
    for suffix in kind.suffixes
}

# The suffixes of phototag's own sidecars and of XMP sidecars.
OWN_SUFFIX = ".phototag.json"
XMP_SUFFIX = ".xmp"
XMP_SIDECAR = "an XMP sidecar"
# Temporary files of phototag. The name is short, because the photo's own name may already have the greatest length. It
# begins with a dot, so that galleries hide it.
UNFINISHED_PREFIX, UNFINISHED_SUFFIX = ".phototag-", ".tmp"
UNFINISHED = re.compile(re.escape(UNFINISHED_PREFIX) + r"\w+" + re.escape(UNFINISHED_SUFFIX))

SNIFF_BYTES = 32


def sniff(head: bytes) -> str | None:
    """Return the name of the kind of a file that begins with `head`, or None if the kind is unknown.

    `head` needs `SNIFF_BYTES` bytes.
    """
    return next((kind.name for kind in FORMATS if kind.magic is not None and kind.magic.match(head)), None)


@functools.cache
def reads_raw() -> bool:
    """Return whether rawpy, which reads camera RAW files, is installed. It is not imported."""
    return importlib.util.find_spec("rawpy") is not None


def os_reason(error: OSError) -> str:
    """Return why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "it is gone, or was never there"
    if isinstance(error, PermissionError):
        return "it may not be read; check its permissions"
    return f"it cannot be read ({strerror(error)})"


def strerror(error: OSError) -> str:
    """Return the system's description of `error`, in lower case."""
    return (error.strerror or errno.errorcode.get(error.errno or 0, str(error))).lower()


def open_at_once(path: str, flags: int) -> int:
    """Open a file and return its descriptor. Do not wait if a pipe has taken the file's place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
