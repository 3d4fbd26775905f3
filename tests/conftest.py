"""What the tests share: toy models that can be computed by hand, odd photos, and a way to run commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from phototag import Classifier
from phototag.cli import cli
from phototag.models.find import Model, find_model
from phototag.zoo.build import ensure_built

SHARED = Path(__file__).parent.parent.parent / "shared"

TOY_CARD: dict[str, Any] = {
    "name": "toy",
    "input": {"range": "0..1"},
    "output": {"scores": "logits"},
    "labels": "labels.txt",
}


@pytest.fixture(scope="session")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models that are converted for LiteRT are kept: for all tests together, since it takes seconds."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(autouse=True)
def data_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, conversions: Path
) -> Path:
    """Every test has its own place for models and the index, and no settings; none touches the user's."""
    path = tmp_path_factory.mktemp("data")
    (path / "converted").symlink_to(conversions)
    for name in [name for name in os.environ if name.startswith("PHOTOTAG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PHOTOTAG_CONFIG", os.devnull)
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs the real photos and models of ../shared, which are not part of the project")
    return SHARED


def export_toy(
    directory: Path,
    *,
    factor: float = 30.0,
    classes: int = 3,
    labels: str = "red\ngreen\nblue\n",
    bare: bool = False,
    **card: Any,
) -> Path:
    """Export a SavedModel whose logits are `factor` times the mean of each colour channel, which is 0 to 1.

    `bare`: without card and labels.
    """
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    images = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")

    def serve(images: Any) -> Any:
        return {"logits": tf.reduce_mean(images, axis=[1, 2])[:, :classes] * factor}

    tf.saved_model.save(module, str(directory), signatures=tf.function(serve, input_signature=[images]))
    if not bare:
        (directory / "labels.txt").write_text(labels)
        (directory / "phototag.json").write_text(json.dumps({**TOY_CARD, **card}))
    return directory


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory, conversions: Path) -> Path:
    """The directory of a model that calls a red photo red, and that is converted already."""
    directory = export_toy(tmp_path_factory.mktemp("toy") / "model")
    home = tmp_path_factory.mktemp("data")
    (home / "converted").symlink_to(conversions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOTAG_DATA_DIR", str(home))
        Classifier(find_model(str(directory)))
    return directory


@pytest.fixture(scope="session")
def default_model_home(tmp_path_factory: pytest.TempPathFactory, conversions: Path) -> Path:
    """A data directory in which the default model is built."""
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
    """Makes a photo of one colour under `tmp_path/photos`."""

    def make(
        name: str | bytes, colour: Any = "red", size: tuple[int, int] = (32, 24), mode: str = "RGB", **save: Any
    ) -> Path:
        path = tmp_path / "photos" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            Image.new(mode, size, colour).save(file, save.pop("format", "JPEG"), **save)
        return path

    return make


def phototag(*arguments: str | Path) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, [os.fspath(argument) for argument in arguments])


@pytest.fixture
def scan(toy_model: Path, tmp_path: Path) -> Callable[..., Result]:
    """Runs `phototag scan` with the toy model and an index of the test's own."""

    def run(*arguments: str | Path, model: str | Path = toy_model) -> Result:
        return phototag("scan", "--model", model, "--index", tmp_path / "index.sqlite3", *arguments)

    return run


def powerless(*command: str | Path) -> list[str]:
    """`command` as somebody runs it who is not root: root may read and write all but where the kernel forgets that."""
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return [*prefix, *map(os.fspath, command)]


def lines(result: Result) -> list[dict[str, Any]]:
    """The objects that `--format json` printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]
