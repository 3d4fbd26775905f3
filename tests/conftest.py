"""The fixtures for tests of all packages, and the effects of marks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from click.testing import Result
from PIL import Image

from phototag import Classifier
from phototag.models.find import Model, find_model
from phototag.zoo.build import ensure_built
from tests.helpers import SHARED
from tests.helpers.program import phototag
from tests.helpers.toys import export_toy

# Use the same examples in every run, without a time limit, because the machine may be busy.
hypothesis.settings.register_profile("phototag", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("phototag")

MARK_OF_FIXTURE = {"shared": pytest.mark.needs_shared, "exiftool": pytest.mark.needs_exiftool}


@pytest.hookimpl(tryfirst=True)  # runs before pytest selects tests by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a fixture with needs beyond the project."""
    for item in items:
        for fixture in MARK_OF_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARK_OF_FIXTURE[fixture])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test if something that its marks name is missing."""
    if item.get_closest_marker("needs_shared") and not SHARED.is_dir():
        pytest.skip("needs the real photos and models of ../shared, which are not part of the project")
    for mark in item.iter_markers("needs_exiftool"):
        for tool in mark.args or ("exiftool",):
            if shutil.which(tool) is None:
                pytest.skip(f"needs {tool}")


@pytest.fixture(scope="session")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of models converted for LiteRT. All tests share it, because a conversion takes seconds."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(autouse=True)
def data_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, conversions: Path
) -> Path:
    """Give every test its own folder for models and the index, and no settings, so that none touches the user's."""
    path = tmp_path_factory.mktemp("data")
    (path / "converted").symlink_to(conversions)
    for name in [name for name in os.environ if name.startswith("PHOTOTAG_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # which loading TensorFlow in this process sets
    monkeypatch.setenv("PHOTOTAG_CONFIG", os.devnull)
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of the real photos and models. Tests that use it are marked as `needs_shared`."""
    return SHARED


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory, conversions: Path) -> Path:
    """Return the directory of a model that calls a red photo red. It is already converted."""
    directory = export_toy(tmp_path_factory.mktemp("toy") / "model")
    home = tmp_path_factory.mktemp("data")
    (home / "converted").symlink_to(conversions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOTAG_DATA_DIR", str(home))
        Classifier(find_model(str(directory)))
    return directory


@pytest.fixture(scope="session")
def default_model_home(tmp_path_factory: pytest.TempPathFactory, conversions: Path) -> Path:
    """Return a data directory with the default model, already built."""
    path = tmp_path_factory.mktemp("built")
    (path / "converted").symlink_to(conversions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOTAG_DATA_DIR", str(path))
        ensure_built(find_model("efficientnet-lite0"), lambda _: None)
    return path


@pytest.fixture
def default_model(default_model_home: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(default_model_home))
    return find_model("efficientnet-lite0")


@pytest.fixture
def make_photo(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a photo of one colour below `tmp_path/photos`."""

    def make(
        name: str | bytes, colour: Any = "red", size: tuple[int, int] = (32, 24), mode: str = "RGB", **save: Any
    ) -> Path:
        path = tmp_path / "photos" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            Image.new(mode, size, colour).save(file, save.pop("format", "JPEG"), **save)
        return path

    return make


@pytest.fixture
def scan(toy_model: Path, tmp_path: Path) -> Callable[..., Result]:
    """Return a function that runs `phototag scan` with the toy model and the test's own index."""

    def run(*arguments: Any, model: str | Path = toy_model) -> Result:
        return phototag("scan", "--model", model, "--index", tmp_path / "index.sqlite3", *arguments)

    return run


@pytest.fixture(scope="session")
def exiftool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs exiftool. Tests that use it are marked as `needs_exiftool`."""

    def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
        command = ["exiftool", "-config", "", *map(os.fspath, arguments)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")

    return run
