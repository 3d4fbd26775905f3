"""What a walk leaves out: default exclusions, ignore files, and patterns in gitignore syntax."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec

from phototag.errors import ConfigError, PhotoError, Spell, python_spelling
from phototag.photos.kinds import strerror

# Files and folders that other programs keep for themselves: thumbnails, previews, trash, backups and catalogs.
# Case is ignored. Hidden files are excluded too, such as the ._ companions that macOS leaves on foreign disks.
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
# A folder that holds one of these files is skipped together with its subfolders.
STOP_FILES = (".nomedia", ".noimage")
IGNORE_FILES = (".phototagignore", ".ppignore")
MAX_IGNORE_FILE = 1 << 20  # bytes
# Patterns become regular expressions. The time that these take grows exponentially with the number of stars.
MAX_PATTERN = 1000  # characters
MAX_STARS = 3  # between two slashes, and of `**`
_MATCHES_NOTHING = r"(?!)"


class PatternError(ConfigError):
    """A pattern cannot be used. `source` is the ignore file with the pattern, or None for the setting `exclude`."""

    def __init__(self, source: str | None, before: str, after: str, remedy: str) -> None:
        super().__init__(before, remedy, source=source)
        self._after = after

    def text(self, spell: Spell = python_spelling) -> str:
        """Return the message as one sentence, with the name of the setting as `spell` writes it."""
        return f"{self.what} of {self.facts['source'] or spell('exclude')} {self._after}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of one ignore file or of the settings, in gitignore syntax, relative to the folder `base`.

    `any_match` matches if at least one pattern does. Most paths match none, and trying each pattern is much slower.
    """

    base: str
    patterns: pathspec.GitIgnoreSpec
    any_match: re.Pattern[str]

    def decide(self, path: str, is_folder: bool) -> bool | None:
        """Return whether to ignore `path`, which is below the base, or None if no pattern matches it."""
        start = len(self.base) + (not self.base.endswith(os.sep))
        relative = path[start:].replace(os.sep, "/") + "/" * is_folder
        return None if self.any_match.search(relative) is None else self.patterns.check_file(relative).include


def compile_patterns(patterns: Sequence[str], source: str | None, base: str) -> Patterns:
    """Compile `patterns` relative to the folder `base`. Raises `PatternError`, which names `source`."""
    for pattern in patterns:
        if pattern.startswith("#"):  # a comment may hold any number of stars
            continue
        segments = pattern.split("/")
        stars = max(segment.replace("**", "").count("*") for segment in segments)
        if len(pattern) > MAX_PATTERN or stars > MAX_STARS or pattern.count("**") > MAX_STARS:
            what = f"the pattern {pattern[:40]!r}"
            raise PatternError(source, what, "is too long or has too many stars", "shorten it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # unusual brackets are valid
            compiled = pathspec.GitIgnoreSpec.from_lines(patterns)
            regexes = (one.regex.pattern for one in compiled.patterns if one.regex is not None)
            # A regular expression may define a group's name only once.
            nameless = (re.sub(r"\(\?P<\w+>", "(?:", regex) for regex in regexes)
            any_match = re.compile("|".join(f"(?:{regex})" for regex in nameless) or _MATCHES_NOTHING)
            return Patterns(base, compiled, any_match)
    except (ValueError, re.error) as error:
        raise PatternError(source, "a pattern", f"is not in gitignore syntax ({error})", "correct it") from None


def is_excluded_by_default(name: str) -> bool:
    """Return whether a file or folder called `name` is hidden or among the default exclusions."""
    folded = name.lower()
    return folded.startswith(".") or folded.endswith(DEFAULT_EXCLUDED_ENDINGS) or folded in DEFAULT_EXCLUDES


def is_ignored(all_patterns: Sequence[Patterns], path: str, is_folder: bool) -> bool:
    """Return whether to ignore `path`. The first of `all_patterns` that match it decide."""
    decisions = (patterns.decide(path, is_folder) for patterns in all_patterns)
    return next((decision for decision in decisions if decision is not None), False)


def patterns_in(folder: str, names: frozenset[str]) -> tuple[Patterns, ...]:
    """Return the patterns of those ignore files in `folder` that are among `names`. Raises `PhotoError`."""
    return tuple(_read_ignore_file(folder, name) for name in IGNORE_FILES if name in names)


def patterns_above(root: str) -> Iterator[Patterns]:
    """Yield the patterns of the ignore files in the folders above `root`, the nearest first. Raises `PhotoError`.

    Ignore files that exclude `root` itself are left out, because the user named `root`.
    """
    for folder in map(str, Path(root).parents):
        for name in IGNORE_FILES:
            if os.path.isfile(os.path.join(folder, name)):
                patterns = _read_ignore_file(folder, name)
                if not patterns.decide(root, is_folder=True):
                    yield patterns


def _read_ignore_file(folder: str, name: str) -> Patterns:
    path = os.path.join(folder, name)
    try:
        if not os.path.isfile(path):  # reading a pipe could take forever
            raise PhotoError(folder, f"it is left out, because {name} in it is not a file; remove that")
        with open(path, "rb") as file:
            data = file.read(MAX_IGNORE_FILE + 1)
        if len(data) > MAX_IGNORE_FILE:
            raise PhotoError(folder, f"it is left out, because {name} in it has more than a megabyte; shorten it")
        lines = data.decode("utf-8-sig", "surrogateescape").splitlines()
        return compile_patterns(lines, path, folder)
    except OSError as error:
        raise PhotoError(folder, f"it is left out, because {name} in it cannot be read ({strerror(error)})") from None
    except ConfigError as error:
        # The file was meant to exclude some photos, but phototag cannot tell which.
        raise PhotoError(folder, f"it is left out: {error}") from None
