"""Settings: the config file, the environment, which stands above which, `phototag config`; and shell completion."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from phototag.cli import cli
from phototag.cli.config import ONE_OFF
from phototag.cli.config_file import MAX_CONFIG, parse_config
from phototag.cli.models import models
from phototag.errors import ConfigError
from tests.helpers import PROJECT
from tests.helpers.program import phototag

README = (PROJECT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], Path]:
    """Writes the config file that is looked for where none is named."""
    monkeypatch.delenv("PHOTOTAG_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def write(text: str | bytes) -> Path:
        path = tmp_path / "config" / "phototag" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def settings(*arguments: str | Path) -> dict[tuple[str, str], tuple[Any, str | None]]:
    """What `phototag config` says: the value and where it is from, by command and key."""
    result = phototag(*arguments, "config", "--format", "json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["settings"]
    return {(row["command"], row["key"]): (row["value"], row["from"]) for row in rows}


# --- Which stands above which -----------------------------------------------------------------------------------------


def test_a_flag_stands_above_the_environment_that_above_the_file_and_that_above_the_default(
    scan, make_photo, config_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("a.jpg")

    def written(*arguments: str) -> str:
        for path in photo.parent.iterdir():
            if path != photo:
                path.unlink()
        result = scan(*arguments, "--force", photo)
        assert result.exit_code == 0, result.stderr
        return ",".join(sorted(path.name for path in photo.parent.iterdir() if path != photo))

    assert written() == "a.jpg.phototag.json"
    config_file('write = "none"')
    assert written() == ""
    monkeypatch.setenv("PHOTOTAG_WRITE", "xmp")
    assert written() == "a.jpg.xmp"
    assert written("--write", "json") == "a.jpg.phototag.json"


def test_a_commands_own_table_stands_above_the_top_of_the_file(config_file) -> None:
    path = config_file('index = "all.sqlite3"\n[untag]\nindex = "own.sqlite3"\n')
    found = settings()
    assert found["scan", "index"] == (str(path.parent / "all.sqlite3"), f"{path}: index")
    assert found["untag", "index"] == (str(path.parent / "own.sqlite3"), f"{path}: [untag] index")


def test_the_file_is_named_by_the_option_or_else_by_the_variable_and_is_never_in_the_working_directory(
    config_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("config.toml", 1), ("phototag.toml", 1), ("option.toml", 2), ("variable.toml", 3)):
        Path(name).write_text(f"batch-size = {value}")
    assert settings()["scan", "batch-size"] == (16, None)
    config_file("batch-size = 4")
    assert settings()["scan", "batch-size"][0] == 4
    monkeypatch.setenv("PHOTOTAG_CONFIG", "variable.toml")
    assert settings()["scan", "batch-size"] == (3, "variable.toml: batch-size")
    assert settings("--config", "option.toml")["scan", "batch-size"] == (2, "option.toml: batch-size")
    assert settings("--config", os.devnull)["scan", "batch-size"] == (16, None)


def test_paths_of_the_file_are_beside_it_and_a_tilde_is_the_home_directory(
    config_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = config_file('index = "~/index.sqlite3"\nmodel = "models/own"\n[show]\nmodel = "efficientnet-lite1"\n')
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", "~/data")
    found = settings()
    assert found["scan", "index"][0] == str(tmp_path / "home/index.sqlite3")
    assert found["scan", "model"][0] == str(path.parent / "models/own")
    assert found["show", "model"][0] == "efficientnet-lite1"  # a name is a name
    monkeypatch.setenv("PHOTOTAG_INDEX", "~/other.sqlite3")
    assert settings()["scan", "index"] == (str(tmp_path / "home/other.sqlite3"), "PHOTOTAG_INDEX")
    assert f"# data directory: {tmp_path}/home/data  (from PHOTOTAG_DATA_DIR)" in phototag("config").stdout


def test_flags_and_lists(scan, make_photo, config_file, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, other = make_photo("a.jpg"), make_photo("b.jpg")
    config_file('exclude = ["a.jpg", "c*"]\nquiet = true')
    assert settings()["scan", "exclude"][0] == ["a.jpg", "c*"]
    assert scan(photo.parent).stderr == ""
    assert not Path(f"{photo}.phototag.json").exists() and Path(f"{other}.phototag.json").exists()
    monkeypatch.setenv("PHOTOTAG_EXCLUDE", "b.jpg d.jpg")
    monkeypatch.setenv("PHOTOTAG_QUIET", "no")
    assert settings()["scan", "exclude"] == (["b.jpg", "d.jpg"], "PHOTOTAG_EXCLUDE")
    assert "1 tagged" in scan(photo.parent).stderr
    monkeypatch.setenv("PHOTOTAG_QUIET", "")  # as if it were not there
    assert settings()["scan", "quiet"][0] is True


# --- What contradicts the command line gives way ----------------------------------------------------------------------


def test_what_the_file_says_forbids_nothing_that_the_command_line_says(scan, make_photo, config_file) -> None:
    photo = make_photo("a.jpg")
    config_file('max-tags = 1\nthreshold = 0.9\nlanguage = "de"')
    for options in (["--top", "2"], ["--logit-threshold", "0"], ["--raw-labels"], []):
        result = scan("--force", *options, photo)  # the toy model has no tree, and so no German
        assert result.exit_code == 0, result.stderr
    assert scan("--language", "de", photo).exit_code == 2


def test_the_environment_stands_above_the_file_in_what_they_contradict(
    scan, make_photo, config_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("a.jpg")
    path = config_file("max-tags = 1")
    monkeypatch.setenv("PHOTOTAG_TOP", "2")
    assert scan("--dry-run", photo).stdout.count(", ") == 1
    monkeypatch.delenv("PHOTOTAG_TOP")
    path.write_text("max-tags = 1\ntop = 2")
    result = scan(photo)
    assert result.exit_code == 2 and "contradict each other" in result.stderr


def test_show_does_not_mind_settings_about_tags(make_photo, config_file, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file('threshold = 0.5\nmodel = "nonsense"')
    monkeypatch.setenv("PHOTOTAG_MAX_TAGS", "3")
    result = phototag("show", make_photo("a.jpg"))
    assert result.exit_code == 0 and "no keywords" in result.stdout
    assert phototag("show", "--max-tags", "3", make_photo("a.jpg")).exit_code == 2


# --- What cannot be ---------------------------------------------------------------------------------------------------

MISTAKES = {
    "max-tgs = 1": "there is no setting 'max-tgs'; did you mean max-tags?",
    "[scan]\nmax_tags = 1": "there is no setting 'max_tags' of scan; did you mean max-tags?",
    "[untag]\nwrite = 'none'": "there is no setting 'write' of untag; phototag config lists those that there are",
    "[scna]\nwrite = 'none'": "there is no table 'scna'; did you mean scan?",
    "[models]\nlabels = 'x'": "there is no table 'models'",
    "scan = 1": "scan is a command; write its settings below [scan]",
    "[[scan]]": "scan is a command; write its settings below [scan]",
    "write = 'embd'": "write: 'embd' is not one of 'json', 'embed', 'xmp', 'none'",
    "[scan]\nmax-tags = 0": "[scan] max-tags: 0 is not in the range x>=1",
    "max-tags = '5'": "max-tags must be a whole number, not '5'",
    "max-tags = 5.5": "max-tags must be a whole number, not 5.5",
    "max-tags = true": "max-tags must be a whole number, not true",
    "quiet = 1": "quiet must be true or false",
    "language = 5": "language must be a text in quotation marks",
    "write = {to = 'json'}": "write must be a text in quotation marks, not a table",
    "jobs = 2026-01-01": "jobs must be a whole number, not a date",
    "threshold = nan": "threshold: it must be a number above 0, at most 1",
    "top = 99999999999999999999": "top is a number beyond all bounds",
    "top = 0x" + "f" * 5000: "top is a number beyond all bounds",
    "top = " + "9" * 5000: "is not TOML",
    "index = ''": "index: a path is empty; leave the line out",
    'index = "a\\u0000"': "index holds a zero byte",
    "exclude = '*.gif'": "exclude must be an array, such as exclude = [...]",
    "exclude = [1]": "exclude must be a text in quotation marks, not a number",
    "taxonomy = 'missing.yaml'": "missing.yaml' does not exist",
    "dry-run = true": "dry-run: this is for one run only; pass --dry-run on the command line",
    "[inspect]\nlist_ops = true": "[inspect] list_ops: this is for one run only",
    "input-range = '0..1'": "input-range: this is about one model; let phototag models add keep it with the model",
    "write =": "is not TOML (Invalid value (at end of document)); correct that line",
    "write = embed": '(at line 1, column 9)); correct that line (text needs quotation marks: write = "embed")',
    "a = " + "[" * 5000: "is not TOML",
    "a" * 5000 + " = 1": "there is no setting 'aaaa",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:30])
def test_a_mistake_in_the_file_is_one_sentence_with_the_file_and_exit_2(text: str, make_photo, config_file) -> None:
    path = config_file(text)
    photo = make_photo("a.jpg")
    result = phototag("scan", photo)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"phototag: {path}") and MISTAKES[text] in result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert list(photo.parent.iterdir()) == [photo]


def test_what_is_no_config_file(config_file, tmp_path: Path) -> None:
    def message(path: Path) -> str:
        result = phototag("--config", path, "config")
        assert result.exit_code == 2 and str(path) in result.stderr
        return result.stderr

    assert "cannot be read (No such file or directory)" in message(tmp_path / "missing.toml")
    assert "not a regular file" in message(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in message(tmp_path / "pipe")
    assert "larger than 64 KB" in message(config_file("#" * (MAX_CONFIG + 1)))
    assert "not UTF-8" in message(config_file(b"language = '\xff'"))
    assert phototag("--config", config_file(b"\xef\xbb\xbfmax-tags = 3"), "config").exit_code == 0  # Windows Notepad


def test_a_mistake_in_the_environment_names_the_variable(
    scan, make_photo, config_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("a.jpg")
    for variable, value, message in (
        ("PHOTOTAG_WRITE", "embd", "PHOTOTAG_WRITE: 'embd' is not one of 'json', 'embed', 'xmp', 'none'"),
        ("PHOTOTAG_QUIET", "perhaps", "PHOTOTAG_QUIET: 'perhaps' is not a valid boolean"),
        ("PHOTOTAG_DRY_RUN", "1", "PHOTOTAG_DRY_RUN: this is for one run only; pass --dry-run on the command line"),
        ("PHOTOTAG_LABELS", "x", "PHOTOTAG_LABELS: this is about one model"),
        ("PHOTOTAG_CONFIG", "missing.toml", "missing.toml cannot be read"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            result = scan(photo)
        assert result.exit_code == 2 and message in result.stderr
        assert list(photo.parent.iterdir()) == [photo]


def test_a_broken_file_keeps_nobody_from_help_or_from_a_usage_error(config_file) -> None:
    config_file("nonsense")
    assert phototag("scan", "--help").exit_code == phototag("--version").exit_code == 0
    assert "No such option" in phototag("scan", "--nonsense").stderr


# --- phototag config --------------------------------------------------------------------------------------------------


def test_config_prints_a_config_file_that_says_the_same(config_file, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file('write = "embed"\nexclude = ["a \\"b\\"", "\\\\c é"]\nquiet = true\n[scan]\nthreshold = 0.5\n')
    monkeypatch.setenv("PHOTOTAG_MAX_TAGS", "7")
    before = {key: value for key, (value, _) in settings().items()}
    text = phototag("config").stdout
    assert "max-tags = 7  # PHOTOTAG_MAX_TAGS" in text and "# batch-size = 16" in text
    assert "# index is not set: in the user's data directory\n" in text
    assert "# language is not set\n" in text
    monkeypatch.delenv("PHOTOTAG_MAX_TAGS")
    config_file(text)
    assert {key: value for key, (value, _) in settings().items()} == before


def test_each_setting_that_config_prints_as_a_comment_may_be_made_one(config_file) -> None:
    text = phototag("config").stdout
    assert "# threshold = 0.7\n" in text and "# max-tags = 12\n" in text
    config_file(re.sub(r"(?m)^# (?=[\w-]+ = )", "", text))
    assert phototag("config").exit_code == 0
    assert settings()["scan", "threshold"][0] == 0.7


def test_config_is_a_command_with_a_setting_itself(config_file) -> None:
    config_file('format = "json"')
    assert json.loads(phototag("config").stdout)["config_file"]["read"] is True
    assert 'format = "text"  # --format' in phototag("config", "--format", "text").stdout


def test_config_says_where_the_file_is_looked_for(config_file, tmp_path: Path) -> None:
    where = tmp_path / "config/phototag/config.toml"
    assert f"# config file: {where}, which is not there\n" in phototag("config").stdout
    config_file("")
    assert f"# config file: {where}\n" in phototag("config").stdout
    result = phototag("--config", where, "config")
    assert f"# config file: {where}  (from --config)\n" in result.stdout
    assert json.loads(phototag("config", "--format", "json").stdout)["config_file"] == {
        "path": str(where),
        "from": None,
        "read": True,
    }


def test_config_has_every_option_of_every_command_that_is_a_setting() -> None:
    listed = set(settings())
    facts = {key for key in keys(models.commands["add"]) if key not in ONE_OFF}
    for name, command in cli.commands.items():
        if not isinstance(command, click.Group):
            assert {key for command, key in listed if command == name} == keys(command) - ONE_OFF - facts
    assert not any(command.startswith("models") for command, _ in listed)


def keys(command: click.Command) -> set[str]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {option.opts[0].lstrip("-").replace("_", "-") for option in options}


def test_config_names_variables_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOTAG_MAX_TAG", "1")
    monkeypatch.setenv("PHOTOTAG_FORCE", "1")
    result = phototag("config")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "phototag: PHOTOTAG_FORCE: this is for one run only; pass --force on the command line",
        "phototag: PHOTOTAG_MAX_TAG: there is no such setting; did you mean PHOTOTAG_MAX_TAGS?",
    ]


def test_the_example_of_the_readme_is_a_config_file(config_file) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = config_file(example)
    (path.parent / "words.yaml").write_text("")
    assert {where for value, where in settings().values() if where is not None}


def test_the_readme_names_the_options_that_are_no_settings() -> None:
    named = set(re.findall(r"`--([a-z_-]+)`", README[README.index("<!-- one-off") :].partition(")")[0]))
    commands = [*cli.commands.values(), *models.commands.values()]
    assert {name.replace("_", "-") for name in named} == set().union(*map(keys, commands)) & ONE_OFF


def test_parsing_is_pure() -> None:
    known = {(): {"a", "scan"}, ("scan",): {"a"}, ("models", "add"): {"a"}}
    text = "a = 1\n[scan]\na = 2\n[models.add]\na = 3"
    assert parse_config(text, "f", known, {}) == {(): {"a": 1}, ("scan",): {"a": 2}, ("models", "add"): {"a": 3}}
    with pytest.raises(ConfigError, match=r"f: there is no setting 'b' of models add; phototag config lists"):
        parse_config("[models.add]\nb = 3", "f", known, {})


# --- Shell completion -------------------------------------------------------------------------------------------------


def completions(*words: str) -> list[str]:
    environment = {
        **os.environ,
        "_PHOTOTAG_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("phototag", *words)),
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-m", "phototag"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
def test_options_values_models_and_paths_complete_also_with_a_broken_config_file(
    config_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOTAG_CONFIG", str(config_file("nonsense")))
    assert completions("scan", "--max-t") == ["plain,--max-tags"]
    assert completions("scan", "--write", "e") == ["plain,embed"]
    assert completions("scan", "Pict") == ["file,Pict"]
    assert completions("scan", "--model", "eff") == ["plain,efficientnet-lite0"]
    assert completions("inspect", "./mod") == ["file,./mod"]
    assert "plain,untag" in completions("un")


SHELLS = {
    "bash": (
        'eval "$(_PHOTOTAG_COMPLETE=bash_source phototag)"\n'
        "COMP_WORDS=(phototag scan --max-t); COMP_CWORD=2; _phototag_completion phototag; echo ${COMPREPLY[@]}"
    ),
    "zsh": (
        "autoload -Uz compinit; compinit -u -D\n"
        'eval "$(_PHOTOTAG_COMPLETE=zsh_source phototag)"\n'
        "_describe() { print -rl -- ${(P)3} }\n"  # which needs a terminal
        "words=(phototag scan --max-t); CURRENT=3; _phototag_completion"
    ),
    "fish": "_PHOTOTAG_COMPLETE=fish_source phototag | source; complete -C 'phototag scan --max-t'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_the_readme_works_in_the_shell(shell: str, tmp_path: Path) -> None:
    assert f"_PHOTOTAG_COMPLETE={shell}_source phototag" in README
    program = tmp_path / "phototag"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m phototag "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = subprocess.run(
        [program], env={**environment, "_PHOTOTAG_COMPLETE": f"{shell}_source"}, capture_output=True, text=True
    )
    assert script.returncode == 0 and f"{shell}_complete" in script.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    plain = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    result = subprocess.run([shell, *plain, "-c", SHELLS[shell]], env=environment, capture_output=True, text=True)
    assert result.stdout.startswith("--max-tags"), result.stderr
