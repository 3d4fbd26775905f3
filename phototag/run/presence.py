"""The photos that a walk has seen, to tell a deleted photo from one on a disk that is not mounted."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from phototag.core import Photo, WalkItem
from phototag.errors import PhotoError

# If a walk could not read more places than this, a disk is probably missing, and no photo is forgotten.
_MOST_UNSEEN = 10_000
_PAGE = 4096  # bytes
# A folder and those above it: photos of a folder may alternate with those of its subfolders.
_FOLDERS_LISTED = 16


class Presence:
    """The photos and folders that a walk has seen."""

    def __init__(self) -> None:
        # One bit per photo number: a set of a million numbers would take 60 MB. In pages, because a damaged index may
        # hold any number.
        self._seen: collections.defaultdict[int, bytearray] = collections.defaultdict(lambda: bytearray(_PAGE))
        self._with_photos: set[str] = set()
        self._names: dict[bytes, frozenset[bytes]] = {}
        self._unseen: set[str] = set()  # files and folders that exist but could not be read
        self._living: set[str] | None = None

    def note(self, found: Iterable[WalkItem]) -> Iterator[WalkItem]:
        """Yield the items of `found`, and note the photos' folders and the places that could not be read."""
        last = None
        for one in found:
            if isinstance(one, Photo):
                folder = os.fspath(one).rpartition(os.sep)[0] or os.sep
                if folder != last:
                    self._with_photos.add(folder)
                    last = folder
            elif isinstance(one, PhotoError) and len(self._unseen) <= _MOST_UNSEEN:
                self._unseen.add(one.path)
            yield one

    def is_there(self, folder: bytes, name: bytes) -> bool:
        """Return whether the folder of the current photo holds a file of that name. Lists each folder once."""
        names = self._names.pop(folder, None)
        if names is None:
            try:
                names = frozenset(os.listdir(folder))
            except OSError:  # the walk reports it
                names = frozenset()
            if len(self._names) >= _FOLDERS_LISTED:
                del self._names[next(iter(self._names))]
        self._names[folder] = names  # the folder used last is evicted last
        return name in names

    def see(self, number: int) -> None:
        """Note that the walk met the photo with that number in the index."""
        page, at = divmod(number >> 3, _PAGE)
        self._seen[page][at] |= 1 << (number & 7)

    def has_seen(self, number: int) -> bool:
        """Return whether the walk met the photo with that number."""
        page, at = divmod(number >> 3, _PAGE)
        return page in self._seen and bool(self._seen[page][at] & 1 << (number & 7))

    def lost(self, path: Path) -> bool:
        """Return whether the photo was deleted. False if its folder or disk cannot be read.

        Also False if the nearest folder that still exists holds no photo at all: it is an empty mount point, or a disk
        is not plugged in.
        """
        if self._is_hidden(path):
            return False
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return self._is_alive(os.path.dirname(path))
        except OSError:
            pass
        return False

    def has_settled(self, path: Path) -> bool:
        """Return whether this walk met `path`, which failed in an earlier run, or `path` was deleted."""
        return not self._is_hidden(path) and (os.path.lexists(path) or self.lost(path))

    def is_empty(self, root: Path) -> bool:
        """Return whether `root` is a folder that could be read and holds no photo."""
        return os.path.isdir(root) and not self._is_hidden(root) and str(root) not in self._folders_above_photos()

    def _is_hidden(self, path: Path) -> bool:
        if len(self._unseen) > _MOST_UNSEEN:
            return True
        return bool(self._unseen) and not self._unseen.isdisjoint(map(str, (path, *path.parents)))

    def _folders_above_photos(self) -> set[str]:
        if self._living is None:
            self._living = set()
            for each in self._with_photos:
                while each not in self._living:
                    self._living.add(each)
                    each = os.path.dirname(each)
        return self._living

    def _is_alive(self, folder: str) -> bool:
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        return folder in self._folders_above_photos()
