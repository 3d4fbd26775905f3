"""The command line: options, output and exit codes. No other package knows any of these."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from phototag._version import __version__
from phototag.cli.config import apply_settings
from phototag.cli.config import config as config_command
from phototag.cli.doctor import doctor
from phototag.cli.exit_codes import EXIT_BUSY, EXIT_INTERRUPTED, EXIT_PHOTOS_FAILED, EXIT_UNUSABLE, EXIT_USAGE
from phototag.cli.finding_options import NamedPath
from phototag.cli.inspect import inspect
from phototag.cli.messages import error_message
from phototag.cli.models import models
from phototag.cli.orphans import orphans
from phototag.cli.scan import scan
from phototag.cli.show import show
from phototag.cli.status import status
from phototag.cli.terminal import is_verbose, keep_native_noise_out, print_error
from phototag.cli.untag import untag
from phototag.cli.watch import watch
from phototag.errors import ConfigError, IndexBusy, IndexUnusable, ModelError, OutputError, PhotoError, PhototagError

_EXIT_CODES: tuple[tuple[type[PhototagError], int], ...] = (
    (ConfigError, EXIT_USAGE),
    (ModelError, EXIT_UNUSABLE),
    (IndexUnusable, EXIT_UNUSABLE),
    (IndexBusy, EXIT_BUSY),
    (OutputError, EXIT_UNUSABLE),
    (PhotoError, EXIT_PHOTOS_FAILED),
)


class ErrorBoundary(click.Group):
    """A group that turns every exception of its commands into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn every exception into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except PhototagError as error:
            print_error(f"phototag: {error_message(error)}")
            ctx.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The program that read the results has ended, as `| head` does. Without this, the flush at exit would fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001
            if is_verbose(ctx):
                traceback.print_exc()
            what = f"{type(error).__name__}: {error}"
            hint = "" if is_verbose(ctx) else " Run it again with --verbose for the details to report."
            print_error(f"phototag: sorry, this is a bug in phototag ({what}).{hint}")
            ctx.exit(EXIT_UNUSABLE)


@click.group(cls=ErrorBoundary, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="phototag")
@click.option(
    "--config",
    type=NamedPath(path_type=Path),
    metavar="FILE",
    help="Settings, as TOML. [default: config.toml in the user's config directory]",
)
def cli(config: Path | None) -> None:
    """Tag photos with what they show."""
    del config  # commands read it from the context


cli.add_command(config_command)
cli.add_command(doctor)
cli.add_command(inspect)
cli.add_command(models)
cli.add_command(orphans)
cli.add_command(scan)
cli.add_command(show)
cli.add_command(status)
cli.add_command(untag)
cli.add_command(watch)
apply_settings(cli)


def main() -> None:
    """Run phototag on the command line's arguments."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not end a run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    keep_native_noise_out()
    # Pillow warns of odd metadata and palettes in photos that it reads nevertheless. The user cannot act on that.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        cli.main(prog_name="phototag")
    except OSError as error:  # from --help and --version, which Click prints outside `invoke`
        print_error(f"phototag: the results cannot be written ({error.strerror}); check where they are sent")
        sys.exit(EXIT_UNUSABLE)
