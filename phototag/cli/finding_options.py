"""The options that say which photos, and which index knows them; for every command that walks a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from phototag.core import WalkItem


class NamedPath(click.Path):
    """A path that is not empty: an empty one would be the current folder, which nobody means by an unset variable."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail("a path is empty; is a variable unset?", param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True)
class Finding:
    """The options of `finding_options`."""

    exclude: tuple[str, ...]
    no_default_excludes: bool
    follow_symlinks: bool

    def find(self, paths: Sequence[Path]) -> Iterator[WalkItem]:
        """Find what there is at and below `paths`. Raises `ConfigError` where a path or a pattern is wrong."""
        from phototag.photos.find import find_photos

        return find_photos(
            paths,
            exclude=self.exclude,
            default_excludes=not self.no_default_excludes,
            follow_symlinks=self.follow_symlinks,
        )


def finding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which photos."""
    for option in (
        click.option("--follow-symlinks", is_flag=True, help="Follow symbolic links inside the folders."),
        click.option(
            "--no-default-excludes",
            is_flag=True,
            help="Look into hidden folders too, and those where programs keep thumbnails, previews and deleted photos.",
        ),
        click.option(
            "--exclude",
            metavar="GLOB",
            multiple=True,
            help="Leave out what matches, in .gitignore syntax; may be given several times.",
        ),
    ):
        command = option(command)
    return command


def take_finding(options: dict[str, Any]) -> Finding:
    """Take the options of `finding_options` out of a command's parameters."""
    return Finding(**{name: options.pop(name) for name in Finding.__dataclass_fields__})


index_option = click.option(
    "--index",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to remember what is done. [default: in the user's data directory]",
)


def default_index() -> Path:
    """Where the index is unless the user names a place."""
    from phototag.paths import data_directory

    return data_directory() / "index.sqlite3"
