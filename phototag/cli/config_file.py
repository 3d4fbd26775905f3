"""The config file: TOML to settings by name. Unknown keys are refused. Only `read_config` reads a file.

write = "embed"         # for every command that has the option
exclude = ["scans/"]

[scan]                  # for one command; overrides the same key at the top
max-tags = 5
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from phototag.errors import ConfigError

MAX_CONFIG = 1 << 16  # bytes; far more than all settings need
_MAX_WHOLE = 1 << 63  # TOML guarantees 64-bit integers only

# The names of a table, outermost first: () is the top of the file, ("models", "list") is [models.list].
Table = tuple[str, ...]
# The type of value that TOML must have for an option. "any" is a string or a number.
Kind = Literal["flag", "whole", "number", "text", "any"]

_KINDS: Mapping[Kind, tuple[tuple[type, ...], str]] = {
    "flag": ((bool,), "true or false"),
    "whole": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "text": ((str,), "a text in quotation marks"),
    "any": ((str, int, float), "a text in quotation marks, or a number"),
}


def default_config_path() -> Path:
    """Return the path of the config file in the user's config directory, which holds unless the user names another."""
    import platformdirs

    return platformdirs.user_config_path("phototag", appauthor=False) / "config.toml"


def read_config(path: Path) -> str:
    """Return the text of a config file.

    Raises `ConfigError` if it is missing, not a regular file, too large, or not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise ConfigError(f"{path} is not a regular file; name a TOML file")
        if status.st_size > MAX_CONFIG:
            raise ConfigError(f"{path} is larger than {MAX_CONFIG >> 10} KB, which no config file is; check the path")
        with path.open("rb") as file:
            return file.read(MAX_CONFIG).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: the path holds a zero byte
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read ({reason}); check the path and its permissions") from None


def parse_config(
    text: str, source: str, known: Mapping[Table, Collection[str]], refused: Mapping[str, str]
) -> dict[Table, dict[str, Any]]:
    """Return the settings of each table, with their TOML values.

    `known` holds the valid keys of each table. `refused` gives the reason why an option is not a setting, by its key.
    Raises `ConfigError` for an unknown key or table; the error names `source`, the key and the nearest valid one.
    """
    try:
        document = tomllib.loads(text)
    # ValueError: invalid TOML, or an integer with thousands of digits. RecursionError: deep nesting.
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f'{source} is not TOML ({error}); correct that line (text needs quotation marks: write = "embed")'
        ) from None
    settings: dict[Table, dict[str, Any]] = {}
    _collect(document, (), source, known, refused, settings)
    return settings


def _collect(
    found: Mapping[str, Any],
    table: Table,
    source: str,
    known: Mapping[Table, Collection[str]],
    refused: Mapping[str, str],
    settings: dict[Table, dict[str, Any]],
) -> None:
    inner = {each[len(table)] for each in known if len(each) > len(table) and each[: len(table)] == table}
    for key, value in found.items():
        if key in known.get(table, ()) and not (key in inner and isinstance(value, dict)):
            settings.setdefault(table, {})[key] = value
        elif key in inner:
            if not isinstance(value, dict):
                raise ConfigError(f"{where_of(source, table, key)} is a command; write its settings below [{key}]")
            _collect(value, (*table, key), source, known, refused, settings)
        elif (hyphened := key.replace("_", "-")) in refused:
            raise ConfigError(f"{where_of(source, table, key)}: {refused[hyphened]}")
        else:
            what = "there is no table" if isinstance(value, dict) else "there is no setting"
            name = f"{what} {key[:80]!r}" + (f" of {' '.join(table)}" if table else "")
            raise ConfigError(f"{source}: {name}; {nearest(key, {*known.get(table, ()), *inner})}")


def where_of(source: str, table: Table, key: str) -> str:
    """Return `FILE: [scan] max-tags`."""
    return f"{source}: [{'.'.join(table)}] {key}" if table else f"{source}: {key}"


def nearest(name: str, names: Collection[str]) -> str:
    """Return a sentence that suggests the one of `names` closest to `name`."""
    import difflib

    close = difflib.get_close_matches(name[:80], sorted(names), 1)
    return f"did you mean {close[0]}?" if close else "phototag config lists those that there are"


def setting_text(value: object, kind: Kind, where: str) -> str | bool:
    """Return a value as the command line would spell it; a flag as a boolean.

    Raises `ConfigError` if the value is not of this kind. The message names `where`.
    """
    types, expected = _KINDS[kind]
    # In Python, bool is a subclass of int; in TOML, it is not.
    if not isinstance(value, types) or isinstance(value, bool) != (kind == "flag"):
        raise ConfigError(f"{where} must be {expected}, not {_shown(value)}")
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and not -_MAX_WHOLE <= value < _MAX_WHOLE:
        raise ConfigError(f"{where} is a number beyond all bounds; give a smaller one")
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{where} holds a zero byte; remove it")
    return str(value)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | float):
        return repr(value)[:80]
    return {dict: "a table", list: "an array", int: "a number"}.get(type(value), "a date")
