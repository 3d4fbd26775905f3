"""Options from the environment and the config file, and `phototag config`, which lists them.

Every option of every command is a setting, except those below. Flags override environment variables, which override the
config file, which overrides the defaults.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from phototag.cli.config_file import Kind, Table
from phototag.cli.model_options import model_card_options, model_fact_options
from phototag.cli.terminal import print_error, printable
from phototag.errors import ConfigError

_PREFIX = "PHOTOTAG_"
_CONFIG, _DATA_DIR = f"{_PREFIX}CONFIG", f"{_PREFIX}DATA_DIR"

# Options that belong to one run, by key. A line that the user wrote years ago must not leave photos untagged, tag them
# again every night, or name a model.
ONE_OFF = frozenset(
    {
        "all",
        "calibrate",
        "dry-run",
        "explain",
        "force",
        "forget-rejections",
        "json",
        "link",
        "list-ops",
        "name",
        "no-initial-scan",
        "probe",
        "remove",
        "run",
        "try-model",
        "verbose",
    }
)


def _spelled(option: click.Option) -> str:
    return next((name for name in option.opts if name.startswith("--")), option.opts[0])


def _key(option: click.Option) -> str:
    return _spelled(option).lstrip("-").replace("_", "-")


def _variable(option: click.Option) -> str:
    return _PREFIX + _key(option).upper().replace("-", "_")


@functools.cache
def _facts() -> frozenset[str]:
    """Return the keys of the facts about one model. Used for another model, they would silently cause wrong tags."""
    command = click.command()(model_card_options(model_fact_options(lambda: None)))
    return frozenset(_key(option) for option in command.params if isinstance(option, click.Option))


def _obstacle(option: click.Option) -> str | None:
    """Return why an option is not a setting, or None if it is one."""
    if _key(option) in ONE_OFF:
        return f"this is for one run only; pass {_spelled(option)} on the command line"
    if _key(option) in _facts():
        return "this is about one model; let phototag models add keep it with the model, and set the model by its name"
    return None


def _options(command: click.Command) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option) and option.expose_value]


def _settings(command: click.Command) -> list[click.Option]:
    return [option for option in _options(command) if _obstacle(option) is None]


def _commands(group: click.Group, table: Table = ()) -> Iterator[tuple[Table, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*table, name))
        else:
            yield (*table, name), command


def _kind(option: click.Option) -> Kind:
    if option.is_flag:
        return "flag"
    if isinstance(option.type, click.types.IntParamType):
        return "whole"
    if isinstance(option.type, click.types.FloatParamType):
        return "number"
    return "text" if isinstance(option.type, click.Choice | click.Path | click.types.StringParamType) else "any"


def _is_path(option: click.Option, text: str) -> bool:
    """Return whether the value `text` of an option is a path. If the option also takes names, a path has a slash."""
    if isinstance(option.type, click.Path):
        return not (text == "-" and option.type.allow_dash)
    alternatives = (option.metavar or "").split("|")
    is_separated = "/" in text or os.sep in text or text.startswith("~")
    return not {"FILE", "DIR"}.isdisjoint(alternatives) and (len(alternatives) == 1 or is_separated)


@dataclass(frozen=True)
class _Value:
    """A value of an option, as the command line spells it (a flag: a boolean) and converted, with its source."""

    spelled: Any
    where: str
    source: ParameterSource
    converted: Any


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # it may exist; reading it reports the error
        return True
    return True


class Settings:
    """The settings in the environment and the config file.

    Raises `ConfigError`, which names the file or the variable: at once for an unknown key or table, and from `find` for
    an invalid value.
    """

    def __init__(self, ctx: click.Context) -> None:
        from phototag.cli.config_file import default_config_path, parse_config, read_config

        root = ctx.find_root()
        self.commands = list(_commands(cast(click.Group, root.command)))
        named = os.environ.get(_CONFIG)
        self.path_from = "--config" if root.params.get("config") else _CONFIG if named else None
        self.path: Path = root.params.get("config") or (
            Path(os.path.expanduser(named)) if named else default_config_path()
        )
        self.is_there = str(self.path) != os.devnull and (self.path_from is not None or _exists(self.path))
        self._tables: Mapping[Table, Mapping[str, Any]] = {}
        if self.is_there:
            text = read_config(self.path)
            self._tables = parse_config(text, str(self.path), self._known(), self._refused())

    def _known(self) -> dict[Table, set[str]]:
        known = {table: {_key(option) for option in _settings(command)} for table, command in self.commands}
        return {(): set().union(*known.values()), **{table: keys for table, keys in known.items() if keys}}

    def _refused(self) -> dict[str, str]:
        options = [option for _, command in self.commands for option in _options(command)]
        return {_key(option): obstacle for option in options if (obstacle := _obstacle(option)) is not None}

    def find(self, ctx: click.Context, table: Table, option: click.Option) -> _Value | None:
        """Return the value of an option from the environment, or else from the file, or None if neither has one.

        `ctx` and `table` are those of the option's command.
        """
        found = self._in_environment(option) or self._in_file(table, option)
        if found is None:
            return None
        spelled, where, source = found
        try:
            return _Value(spelled, where, source, option.process_value(ctx, spelled))
        except click.UsageError as error:
            raise ConfigError(f"{where}: {error.message}") from None

    def _in_environment(self, option: click.Option) -> tuple[Any, str, ParameterSource] | None:
        variable = _variable(option)
        text = os.environ.get(variable)
        if not text:  # Click also treats an empty variable as unset
            return None
        texts = option.type.split_envvar_value(text) if option.multiple else [text]
        spelled = [os.path.expanduser(one) if _is_path(option, one) else one for one in texts]
        return spelled if option.multiple else spelled[0], variable, ParameterSource.ENVIRONMENT

    def _in_file(self, table: Table, option: click.Option) -> tuple[Any, str, ParameterSource] | None:
        from phototag.cli.config_file import setting_text, where_of

        key = _key(option)
        for each in (table, ()):
            if key in self._tables.get(each, {}):
                value, where = self._tables[each][key], where_of(str(self.path), each, key)
                break
        else:
            return None
        if option.multiple and not isinstance(value, list):
            raise ConfigError(f"{where} must be an array, such as {key} = [...]")
        texts = [setting_text(one, _kind(option), where) for one in (value if option.multiple else [value])]
        spelled = [self._beside_file(option, one, where) if isinstance(one, str) else one for one in texts]
        return spelled if option.multiple else spelled[0], where, ParameterSource.DEFAULT_MAP

    def _beside_file(self, option: click.Option, text: str, where: str) -> str:
        """Return a path in the file relative to the file's folder. The current folder is another one under cron."""
        if not _is_path(option, text):
            return text
        if not text:
            raise ConfigError(f"{where}: a path is empty; leave the line out")
        return os.path.join(os.path.dirname(os.path.abspath(self.path)), os.path.expanduser(text))


def apply_settings(group: click.Group) -> None:
    """Let all commands of `group` read the options missing on the command line from the environment and config file.

    They do so when they run: --help, --version and completion read nothing, and a wrong option is reported first.
    """
    for table, command in _commands(group):
        if _settings(command) and command.callback is not None:
            command.callback = _with_settings(table, command, command.callback)


def _with_settings(table: Table, command: click.Command, callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def run(*args: Any, **kwargs: Any) -> Any:
        ctx = click.get_current_context()
        settings = Settings(ctx)
        for option in _options(command):
            obstacle = _obstacle(option)
            if obstacle is not None and os.environ.get(_variable(option)):
                # A user who sets PHOTOTAG_DRY_RUN does not expect phototag to write photos.
                raise ConfigError(f"{_variable(option)}: {obstacle}, and unset the variable")
        for option in _settings(command):
            name = str(option.name)
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                continue
            found = settings.find(ctx, table, option)
            if found is not None:
                kwargs[name] = ctx.params[name] = found.converted
                ctx.set_parameter_source(name, found.source)
        return callback(*args, **kwargs)

    return run


_STRENGTH = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)


def drop_weaker(options: dict[str, Any], *rivals: tuple[str, str]) -> None:
    """If two options of the running command contradict each other, unset the one from the weaker source.

    The config file must not forbid an option of the command line. Two options from the same source both stay; a later
    check reports them.
    """
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return
    strength = {
        name: _STRENGTH.index(source)
        for name in options
        if (source := ctx.get_parameter_source(name)) in _STRENGTH and not _is_unset(options[name])
    }
    for pair in rivals:
        if strength.keys() >= set(pair) and strength[pair[0]] != strength[pair[1]]:
            weaker = max(pair, key=lambda name: strength[name])
            options[weaker] = False if options[weaker] is True else None
            del strength[weaker]


def _is_unset(value: Any) -> bool:
    return value is None or value is False  # 0 is a value


def is_on_command_line(name: str) -> bool:
    """Return whether the parameter `name` comes from the command line. True if no command is running."""
    ctx = click.get_current_context(silent=True)
    return ctx is None or ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


# --- phototag config --------------------------------------------------------------------------------------------------


@click.command()
@click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="As a config file that would say the same, or as data.",
)
@click.pass_context
def config(ctx: click.Context, /, format: str) -> None:
    """Print the settings: what holds where the command line says nothing, and where it comes from.

    The text is a config file. What is not set is a comment, with what is built in.
    """
    from phototag.paths import data_directory

    settings = Settings(ctx)
    rows = [row for table, command in settings.commands for row in _rows(ctx, settings, table, command)]
    for line in _unknown_variables(settings):
        print_error(line)
    moved = _DATA_DIR if os.environ.get(_DATA_DIR) else None
    if format == "json":
        data = {
            "config_file": {"path": str(settings.path), "from": settings.path_from, "read": settings.is_there},
            "data_directory": {"path": str(data_directory()), "from": moved},
            "settings": [row.as_data() for row in rows],
        }
        click.echo(json.dumps(data))
        return
    there = (
        "" if settings.is_there else ", which is not there" if settings.path_from is None else ", so that there is none"
    )
    click.echo(printable(f"# config file: {settings.path}{there}{_from(settings.path_from)}"))
    click.echo(printable(f"# data directory: {data_directory()}{_from(moved)}"))
    for line in _toml_lines(rows):
        click.echo(printable(line))


def _from(variable: str | None) -> str:
    return "" if variable is None else f"  (from {variable})"


@dataclass(frozen=True)
class _Row:
    """An option of a command, its value, and the value's source: None for a default."""

    table: Table
    option: click.Option
    value: Any
    where: str | None

    def as_data(self) -> dict[str, Any]:
        return {
            "command": " ".join(self.table),
            "key": _key(self.option),
            "variable": _variable(self.option),
            "value": self.value,
            "from": self.where,
        }

    def as_toml(self) -> str:
        if self.where is None and self.value is None:
            said = re.search(r"\[default: (.+)\]", self.option.help or "")
            if said is not None and re.fullmatch(r"[\d.]+", said[1]):
                return f"# {_key(self.option)} = {said[1]}"
            return f"# {_key(self.option)} is not set{f': {said[1]}' if said else ''}"
        line = f"{_key(self.option)} = {json.dumps(self.value, ensure_ascii=False)}"  # JSON values are TOML too
        return f"# {line}" if self.where is None else f"{line}  # {self.where}"


def _rows(ctx: click.Context, settings: Settings, table: Table, command: click.Command) -> Iterator[_Row]:
    # Resilient parsing does not ask for required arguments, and runs no callbacks.
    with command.make_context(" ".join(table), [], resilient_parsing=True) as built_in:
        for option in _settings(command):
            name = str(option.name)
            found = settings.find(built_in, table, option)
            if command is ctx.command and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                yield _Row(table, option, ctx.params[name], _spelled(option))
            elif found is None:
                yield _Row(table, option, _plain(option, built_in.params[name]), None)
            else:
                is_toml = _kind(option) in ("flag", "whole", "number") and not option.multiple
                yield _Row(table, option, found.converted if is_toml else found.spelled, found.where)


def _plain(option: click.Option, value: Any) -> Any:
    """Return a default as a value of JSON and TOML."""
    if option.multiple:
        return [_plain_one(one) for one in value or ()]
    return _plain_one(value)


def _plain_one(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _toml_lines(rows: list[_Row]) -> Iterator[str]:
    table: Table = ()
    for row in rows:
        if row.table != table:
            table = row.table
            yield ""
            yield f"[{'.'.join(table)}]"
        yield row.as_toml()


def _unknown_variables(settings: Settings) -> Iterator[str]:
    """Yield a message for each variable that starts with phototag's prefix but is not a setting."""
    from phototag.cli.config_file import nearest

    options = [option for _, command in settings.commands for option in _options(command)]
    refused = {_variable(option): obstacle for option in options if (obstacle := _obstacle(option)) is not None}
    known = {_CONFIG, _DATA_DIR, *(_variable(option) for option in options)} - refused.keys()
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in known:
            why = refused.get(name) or f"there is no such setting; {nearest(name, known)}"
            yield f"phototag: {name}: {why}"
