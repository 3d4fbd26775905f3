"""What `pip install .` installs."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers import PROJECT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, PROJECT], check=True)
    (built,) = folder.glob("phototag-*.whl")
    return built


def test_data_and_notices_are_inside(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "phototag/py.typed",
        "phototag/_data/efficientnet-lite0/phototag.json",
        "phototag/_data/efficientnet-lite0/labels.txt",
        "phototag/_data/efficientnet-lite0/NOTICE",
        "phototag/_data/taxonomies/imagenet.tsv",
        "phototag/_data/NOTICE-WordNet",
    ):
        assert needed in names
    lite0 = "phototag/_data/efficientnet-lite0/"
    shipped = {path.name for path in (PROJECT / "models/efficientnet-lite0").iterdir() if path.is_file()}
    assert {name.removeprefix(lite0) for name in names if name.startswith(lite0)} == shipped  # without sources
    licences = {name.rpartition("licenses/")[2] for name in names if "licenses/" in name}
    assert licences == {"LICENSE", "models/NOTICE-WordNet", "models/efficientnet-lite0/NOTICE"}
    assert not [name for name in names if not name.startswith(("phototag/", "phototag-"))]


def test_an_installed_copy_finds_its_data(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PHOTOTAG_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "phototag", "models", "list"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    described = "images of 224x224, 1000 classes, hierarchical tags, words for people and places; "
    assert result.stdout.startswith(f"efficientnet-lite0: {described}")
    where = [sys.executable, "-c", "import phototag; print(phototag.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(tmp_path / "site"))


def test_the_sdist_has_the_documents_and_all_that_the_tests_need(tmp_path: Path) -> None:
    sdist = pytest.importorskip("hatchling.builders.sdist")
    (built,) = sdist.SdistBuilder(str(PROJECT)).build(directory=str(tmp_path))
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "docs/architecture.md"):
        assert needed in names
    assert {name.partition("/")[0] for name in names} >= {"phototag", "models", "tests", "examples", "benchmarks"}
