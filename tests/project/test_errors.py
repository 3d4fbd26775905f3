"""Errors carry facts, survive pickling, and say their remedy in the words of the front end."""

from __future__ import annotations

import pickle

import pytest

from phototag.errors import ConfigError, PhototagError, python_spelling

REMEDY = "name another by {index}, or see {command:models list}"


def test_a_remedy_is_spelled_as_the_front_end_spells_it() -> None:
    error = ConfigError("a.toml is damaged", REMEDY)
    assert str(error) == "a.toml is damaged; name another by index=, or see phototag models list"
    assert (
        error.text(lambda name: f"<{name}>")
        == "a.toml is damaged; name another by <index>, or see <command:models list>"
    )
    assert (python_spelling("top"), python_spelling("command:scan")) == ("top=", "phototag scan")


@pytest.mark.parametrize(("remedy", "ending"), [("", ""), ("(see {index})", " (see index=)"), ("wait", "; wait")])
def test_a_remedy_follows_what_failed(remedy: str, ending: str) -> None:
    assert str(PhototagError("it failed", remedy)) == f"it failed{ending}"


def test_a_pickle_keeps_the_facts() -> None:
    error = ConfigError("a.toml is damaged", REMEDY, path="a.toml", line=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ConfigError
    assert (again.what, again.remedy, again.facts) == (error.what, REMEDY, {"path": "a.toml", "line": 3})
    assert (str(again), again.args, again.code) == (str(error), error.args, "config")
