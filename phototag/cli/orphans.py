"""`phototag orphans`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phototag.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED
from phototag.cli.finding_options import NamedPath
from phototag.cli.messages import photo_reason, plural
from phototag.cli.terminal import Console, interruptible, name_of, printable, verbose_option
from phototag.errors import PhotoError


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=NamedPath(path_type=Path))
@click.option("--remove", is_flag=True, help="Remove them.")
@click.option("--quiet", "-q", is_flag=True, help="Print failures only.")
@verbose_option()
@click.pass_context
def orphans(ctx: click.Context, /, paths: tuple[Path, ...], remove: bool, quiet: bool, **_: Any) -> None:
    """List phototag's sidecars whose photos are gone from beside them.

    Those are PHOTO.phototag.json, and PHOTO.xmp if phototag made it and no other program has written into it.
    """
    from phototag.run.session import Session

    console = Console(quiet=quiet)
    relative = not any(path.is_absolute() for path in paths)
    count = failed = 0
    with interruptible(quiet=quiet) as should_stop:
        for one in Session().orphans(paths, should_stop, remove=remove):
            if isinstance(one, PhotoError):
                failed += 1
                name = name_of(Path(one.path), relative=relative)
                console.failure(f"phototag: {name}: {printable(photo_reason(one))}")
                continue
            count += 1
            if not quiet:
                console.result(name_of(one, relative=relative))
        interrupted = should_stop()
    is_one = count == 1
    alone = f"without {'its photo' if is_one else 'their photos'} (--remove removes {'it' if is_one else 'them'})"
    did = "removed" if remove else alone
    console.message(f"{plural(count, 'sidecar')} {did}{f', {failed} failed' if failed else ''}.")
    ctx.exit(EXIT_INTERRUPTED if interrupted else EXIT_PHOTOS_FAILED if failed else 0)
