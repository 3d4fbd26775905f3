"""The options that choose the photos and the index. Every command that walks a library has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class NamedPath(click.Path):
    """A path that is not empty. An empty path would mean the current folder, and comes from an unset variable."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail("a path is empty; is a variable unset?", param, ctx)
        return super().convert(value, param, ctx)


def finding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the photos to `command`."""
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


FINDING_SETTINGS = ("exclude", "no_default_excludes", "follow_symlinks")


def take(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Take the options of these names out of a command's parameters."""
    return {name: options.pop(name) for name in names}


index_option = click.option(
    "--index",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to remember what is done. [default: in the user's data directory]",
)
