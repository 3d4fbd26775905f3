"""Sidecars without their photos, through the session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from phototag.errors import ConfigError, PhotoError
from phototag.run.session import Session
from phototag.run.settings import Settings


def test_orphans_are_listed_and_removed(toy_model: Path, make_photo: Callable[..., Path], tmp_path: Path) -> None:
    photos = [make_photo("a.jpg"), make_photo("b.jpg")]
    with Session(Settings(model=str(toy_model), index=tmp_path / "index.sqlite3")) as session:
        assert len(list(session.scan([photos[0].parent]))) == 2
        photos[0].unlink()
        orphan = photos[0].with_name("a.jpg.phototag.json")
        assert list(session.orphans([tmp_path])) == [orphan]
        assert orphan.exists()
        assert list(session.orphans([tmp_path], lambda: True)) == []
        assert list(session.orphans([tmp_path], remove=True)) == [orphan]
        assert list(session.orphans([tmp_path])) == []
    assert photos[1].with_name("b.jpg.phototag.json").exists()


def test_a_path_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Session().orphans([tmp_path / "nowhere"])


def test_a_folder_that_cannot_be_read_is_yielded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = PhotoError(tmp_path, "the folder cannot be read")
    monkeypatch.setattr("phototag.run.untag.find_sidecars", lambda _: iter([error]))
    assert list(Session().orphans([tmp_path])) == [error]
