"""Remove what phototag wrote: from photos and their sidecars, all changes of one run, or sidecars without a photo."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phototag.core import Photo, SkippedFile, WalkItem
from phototag.errors import ConfigError, PhotoError
from phototag.index import Change, Index, open_index
from phototag.metadata.files import remove_unfinished
from phototag.metadata.sidecars import is_orphan, remove_orphan
from phototag.metadata.untag import take_back, untag
from phototag.photos.find import find_sidecars


@dataclass(frozen=True, slots=True)
class Untagged:
    """The result of untagging one photo, or of undoing one change of a run.

    `files`: those that were changed, or that would be in a dry run. `errors`: what failed. After an error, other files
    of the same shot are still untagged.
    """

    path: Path
    files: tuple[Path, ...] = ()
    errors: tuple[PhotoError, ...] = ()


def untag_photos(
    found: Iterable[WalkItem],
    named: Sequence[Path],
    index_path: Path,
    should_stop: Callable[[], bool],
    *,
    dry_run: bool,
) -> Iterator[Untagged]:
    """Untag each photo in `found`, including those that phototag cannot read, and every file that the user `named`.

    Files that a killed run left behind are removed. Raises `IndexBusy` and `IndexUnusable`.
    """
    paths = {os.path.abspath(path) for path in named}
    with open_index(index_path, read_only=dry_run) as index:
        for one in found:
            if should_stop():
                return
            if isinstance(one, PhotoError):
                yield Untagged(Path(one.path), errors=(one,))
            elif isinstance(one, Photo) or _is_wanted(one, paths):
                yield _untag(one, index, dry_run=dry_run)
            elif one.kind == "unfinished" and not dry_run:
                remove_unfinished(one.path)


def _is_wanted(file: SkippedFile, named: set[str]) -> bool:
    # If the user names a file that is not a photo, it may have been the companion of one.
    return file.kind == "unreadable" or (file.kind == "other" and os.path.abspath(file) in named)


def _untag(one: Photo | SkippedFile, index: Index, *, dry_run: bool) -> Untagged:
    files: list[Path] = []
    errors: list[PhotoError] = []
    for path in (one.path, *(one.companions if isinstance(one, Photo) else ())):
        try:
            files += untag(path, index, dry_run=dry_run)
        except PhotoError as error:
            errors.append(error)
    if not (errors or dry_run):
        index.untagged(one.path, forget_rejections=True)
    return Untagged(one.path, tuple(files), tuple(errors))


def untag_run(run: int, index_path: Path, should_stop: Callable[[], bool], *, dry_run: bool) -> Iterator[Untagged]:
    """Undo each change of a run, the last first.

    Raises `ConfigError` if the index knows no such run, `IndexBusy` and `IndexUnusable`.
    """
    with open_index(index_path, read_only=dry_run) as index:
        if not index.has_run(run):
            remedy = "{command:status} tells the numbers of the last ones"
            raise ConfigError(f"the index knows no run {run}", remedy)
        photos = index.written_in(run)
        for change in index.changes(run):
            if should_stop():
                return
            # The photo may have been moved since.
            moved = () if change.path.exists() else index.paths_of(change.digest)
            path = next((path for path in moved if path.exists()), change.path)
            yield _take_back(path, photos.get(path, path), change, index, dry_run=dry_run)


def _take_back(path: Path, photo: Path, change: Change, index: Index, *, dry_run: bool) -> Untagged:
    try:
        is_changed = take_back(path, change.digest, change.undo, dry_run=dry_run)
    except PhotoError as error:
        return Untagged(path, errors=(error,))
    if is_changed and not dry_run:
        index.untagged(photo)
    return Untagged(path, (path,) if is_changed else ())


def find_orphans(
    paths: Sequence[Path], should_stop: Callable[[], bool], *, remove: bool
) -> Iterator[Path | PhotoError]:
    """Yield phototag's sidecars at and below `paths` whose photos are gone, and errors. With `remove`, remove them.

    Raises `ConfigError` if a path does not exist.
    """
    return _orphans(find_sidecars(paths), should_stop, remove=remove)


def _orphans(
    found: Iterable[Path | PhotoError], should_stop: Callable[[], bool], *, remove: bool
) -> Iterator[Path | PhotoError]:
    for one in found:
        if should_stop():
            return
        if isinstance(one, PhotoError):
            yield one
            continue
        try:
            if is_orphan(one):
                if remove:
                    remove_orphan(one)
                yield one
        except PhotoError as error:
            yield error
