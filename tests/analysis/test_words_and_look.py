"""Words and likeness vectors: further results of the pass that gives the scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phototag.analysis.classifier import Classifier
from phototag.analysis.objects import ObjectAnalyzer
from phototag.core import Photo
from phototag.engines.load import _Kept
from phototag.engines.runner import Runner
from phototag.errors import OutOfMemory, SignatureMismatch
from phototag.images.decode import prepare_photo
from phototag.index import open_index
from phototag.models.find import Model, find_model, settled_card
from phototag.models.head import Head
from phototag.models.labels import format_labels
from phototag.photos.find import find_photos
from phototag.run.session import Session
from phototag.run.settings import Settings
from phototag.zoo.build import add_model
from tests.helpers.heads import WORDS, arrays_of_look, export_with_heads, without_heads
from tests.helpers.toys import RED


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_with_heads(tmp_path_factory.mktemp("heads") / "toy")


def colours(count: int) -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (count, 8, 8, 3), np.uint8)


def words_of(head: Head, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of the words by the formula of `Head`, in float64."""
    scaled = logits.astype(np.float64) / head.temperature
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    masses = (shares / shares.sum(axis=1, keepdims=True)) @ head.classes.T
    odds = np.clip(np.log((masses + 0.001) / (1.001 - masses)), -6, 6)
    sums = np.sqrt(features.astype(np.float64)) @ head.weights.T + head.bias + head.mass_weight * odds
    return np.asarray(1 / (1 + np.exp(-sums)))


# --- A toy that can be computed by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["litert", "tensorflow"])
def test_one_pass_gives_scores_words_and_look(toy: Path, engine: Any) -> None:
    model = find_model(str(toy))
    classifier, images = Classifier(model, engine), colours(5)
    features = images.mean(axis=(1, 2)) / 255
    for kind, scores in (("probabilities", classifier.predict(images)), ("logits", classifier.logits(images))):
        results = classifier.results(images, kind)  # type: ignore[arg-type]
        assert list(results) == ["objects", "words", "look"]
        np.testing.assert_array_equal(results["objects"], scores)
        assert model.head is not None
        np.testing.assert_allclose(results["words"], words_of(model.head, features, features * 30), atol=1e-5)
        np.testing.assert_allclose(results["look"], features @ arrays_of_look()["projection"], atol=1e-5)


def test_without_a_tree_there_is_a_look_but_no_words(toy: Path) -> None:
    results = Classifier(find_model(str(toy), given={"taxonomy": "none"})).results(colours(1), "probabilities")
    assert list(results) == ["objects", "look"]


def test_a_model_without_heads_gives_its_scores_alone(toy_model: Path) -> None:
    model = find_model(str(toy_model))
    assert list(Classifier(model).results(colours(2), "logits")) == ["objects"]
    assert [kind.name for kind in ObjectAnalyzer(model, lambda: Classifier(model)).results] == ["objects"]


def test_words_of_another_number_or_outside_0_to_1_are_an_error(toy: Path) -> None:
    model = find_model(str(toy))
    assert model.head is not None
    fewer = replace(model, head=replace(model.head, words=WORDS[:2]))
    with pytest.raises(SignatureMismatch, match=r"gives words of shape \(4,\), not \(2,\)"):
        Classifier(fewer).results(colours(1), "logits")
    swapped = replace(model, interface=replace(model.interface, output="words", also=("logits", "look")))
    classifier = Classifier(replace(swapped, labels=(*model.labels, model.labels[0])))
    run_all = classifier._runner.run_all
    classifier._runner.run_all = lambda images: {**run_all(images), "words": run_all(images)["logits"][:, [0, 1, 2, 0]]}  # type: ignore[method-assign]
    with pytest.raises(SignatureMismatch, match="outside 0 to 1, but its card says they are probabilities of words"):
        classifier.results(np.full((1, 8, 8, 3), RED, np.uint8), "logits")


def test_several_crops_give_their_mean(toy: Path) -> None:
    model = find_model(str(toy))
    classifier = Classifier(model)
    analyzer = ObjectAnalyzer(model, lambda: classifier, crops=2)
    images = colours(6)
    found = analyzer.analyse([images[:2], images[2:4], images[4:]], [{}, {}, {}])
    whole = classifier.results(images, "probabilities")
    for name, rows in whole.items():
        for number, results in enumerate(found):
            np.testing.assert_allclose(results[name], rows[2 * number : 2 * number + 2].mean(axis=0), rtol=1e-5)


def test_a_batch_that_is_too_large_for_memory_is_split(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = find_model(str(toy))
    classifier, images = Classifier(model), colours(5)
    expected = classifier.results(images, "probabilities")
    real = Runner.run_all

    def run_all(self: Runner, images: np.ndarray) -> Any:
        if len(images) > 2:
            raise OutOfMemory("too many")
        return real(self, images)

    monkeypatch.setattr(Runner, "run_all", run_all)
    found = ObjectAnalyzer(model, lambda: classifier).analyse([image[np.newaxis] for image in images], [{}] * 5)
    for name, rows in expected.items():
        np.testing.assert_array_equal(np.stack([results[name] for results in found]), rows)


def test_each_result_has_a_key_of_its_own(toy: Path, tmp_path: Path) -> None:
    def keys(model: Model, **options: Any) -> dict[str, str]:
        analyzer = ObjectAnalyzer(model, lambda: pytest.fail("the model is not needed"), **options)
        return {kind.name: kind.key for kind in analyzer.results}

    model = find_model(str(toy))
    usual = keys(model)
    assert list(usual) == ["objects", "words", "look"]
    assert len(set(usual.values())) == 3
    assert not set(usual.values()) & set(keys(model, crops=2).values())
    as_logits = keys(model, kind="logits")
    assert as_logits["objects"] != usual["objects"]
    assert (as_logits["words"], as_logits["look"]) == (usual["words"], usual["look"])
    assert model.head is not None
    assert model.card.head is not None
    other = "sha256:other"
    card = replace(model.card, head=replace(model.card.head, digest=other))
    retrained = replace(model, card=card, head=replace(model.head, digest=other))
    assert {name for name, key in keys(retrained).items() if key != usual[name]} == {"words"}
    softer = find_model(str(toy), given={"temperature": 2.0})
    assert {name for name, key in keys(softer).items() if key != usual[name]} == {"objects"}
    recipes = [
        ObjectAnalyzer(each, lambda: pytest.fail("the model is not needed")).recipe
        for each in (model, retrained, without_heads(model), find_model(str(toy), given={"taxonomy": "none"}))
    ]
    assert len(set(recipes)) == 3
    assert recipes[3] == recipes[0]  # as with labels in place of the words of the tree


def test_results_are_stored_and_read_again(toy: Path) -> None:
    model = find_model(str(toy))
    classifier = Classifier(model)
    analyzer = ObjectAnalyzer(model, lambda: classifier)
    (results,) = analyzer.analyse([colours(1)], [{}])
    sizes = {}
    for kind in analyzer.results:
        packed = kind.pack(results[kind.name])
        sizes[kind.name] = len(packed)
        np.testing.assert_allclose(kind.unpack(packed), results[kind.name], atol=0.01)
        with pytest.raises(ValueError):
            kind.unpack(packed[:-1])
    assert (sizes["words"], sizes["look"]) == (2 * 4, 2 + 4)


# --- Installing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [False, True])
def test_an_installed_model_keeps_its_heads(toy: Path, link: bool) -> None:
    model = find_model(str(toy))
    card = settled_card(model, "logits")
    add_model("mine", replace(model, card=card), format_labels(model.labels), link=link)
    mine = find_model("mine")
    assert mine.directory != model.directory
    assert mine.head_words == model.head_words
    assert mine.head_thresholds == model.head_thresholds
    results = [Classifier(each).results(colours(2), "logits") for each in (model, mine)]
    for name, rows in results[0].items():
        np.testing.assert_array_equal(results[1][name], rows)


def test_a_model_installed_without_a_tree_keeps_no_head(toy: Path) -> None:
    model = find_model(str(toy), given={"taxonomy": "none"})
    directory = add_model("mine", replace(model, card=settled_card(model, "logits")), '["a", "b", "c"]', link=False)
    assert not (directory / "head.npz").exists()
    mine = find_model("mine")
    assert (mine.head, mine.interface.also) == (None, ("look",))


def test_a_conversion_with_other_outputs_takes_the_place_of_the_last(toy: Path, data_directory: Path) -> None:
    (data_directory / "converted").unlink()
    model = find_model(str(toy))
    alone = without_heads(model)
    assert _Kept.of(alone).use == _Kept.of(model).use
    for each in (alone, model):
        Classifier(each, "litert")
    assert len(list((data_directory / "converted").glob("*.tflite"))) == 1


# --- The default model ------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(shared: Path) -> list[Path]:
    return sorted((shared / "photos/coco128").glob("**/*.jpg"))[:24]


@pytest.mark.slow
def test_the_default_model_gives_the_same_words_in_both_engines(default_model: Model, photos: list[Path]) -> None:
    images = np.concatenate([prepare_photo(path, default_model.preprocessing) for path in photos])
    ours, theirs = (Classifier(default_model, engine).results(images, "logits") for engine in ("litert", "tensorflow"))
    assert list(ours) == list(theirs) == ["objects", "words", "look"]
    np.testing.assert_allclose(ours["words"], theirs["words"], atol=1e-4)
    np.testing.assert_allclose(ours["look"], theirs["look"], atol=1e-4 * np.abs(theirs["look"]).max())


@pytest.mark.slow
def test_the_graph_computes_what_the_head_says(default_model: Model, shared: Path) -> None:
    """The features were stored as float16, so a probability may differ by .002. They come from whole decodes."""
    stored = np.load(shared / "heads/features.npz", allow_pickle=False)
    rows = np.flatnonzero(stored["source"] == "coco128")[::4]
    by_name = {path.stem: path for path in (shared / "photos/coco128").glob("**/*.jpg")}
    whole = [Image.open(by_name[Path(str(name)).stem]).convert("RGB") for name in stored["photo"][rows]]
    images = np.stack([default_model.preprocessing.prepare(image) for image in whole])
    results = Classifier(default_model).results(images, "logits")
    features, logits = (stored[name][rows].astype(np.float64) for name in ("pooled", "logits"))
    assert default_model.head is not None
    assert default_model.look is not None
    np.testing.assert_allclose(results["words"], words_of(default_model.head, features, logits), atol=0.002)
    look = features @ default_model.look.projection
    np.testing.assert_allclose(results["look"], look, atol=0.002 * np.abs(look).max())


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of images of all passes for photos. Checks of conversions are not for photos."""
    counted: list[int] = []
    real = Classifier.results

    def results(self: Classifier, images: np.ndarray, kind: Any) -> Any:
        counted.append(len(images))
        return real(self, images, kind)

    monkeypatch.setattr(Classifier, "results", results)
    yield counted


def scan(library: Path, index: Path, model: str | Path, *, alone: bool = False) -> Session:
    """Scan `library`, with the scores `alone` as results if that is wanted."""
    session = Session(Settings(model=str(model), index=index, write="none", jobs=1))
    if alone:
        session.model = without_heads(session.model)
    assert {outcome.status for outcome in session.scan([library])} <= {"tagged", "untagged", "unchanged"}
    return session


@pytest.mark.slow
def test_a_library_with_scores_alone_gets_the_other_results_in_one_pass(
    default_model: Model, photos: list[Path], tmp_path: Path, passes: list[int]
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for path in photos[:5]:
        shutil.copyfile(path, library / path.name)
    index = tmp_path / "index.sqlite3"
    scan(library, index, "efficientnet-lite0", alone=True)
    assert sum(passes) == 5
    kinds = scan(library, index, "efficientnet-lite0").analyzers[0].results
    assert sum(passes) == 10
    scan(library, index, "efficientnet-lite0")
    assert sum(passes) == 10
    with open_index(index) as opened, opened.run({}):
        for photo in find_photos([library]):
            assert isinstance(photo, Photo)
            known = opened.known(photo)
            assert known is not None
            stored = opened.results(known, [kind.key for kind in kinds])
            assert stored.keys() == {kind.key for kind in kinds}
            assert [len(kind.unpack(stored[kind.key])) for kind in kinds[1:]] == [len(default_model.head_words), 128]


@pytest.mark.slow
def test_two_models_that_alternate_run_once_for_each_photo(
    default_model: Model, toy: Path, photos: list[Path], tmp_path: Path, passes: list[int]
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for path in photos[:3]:
        shutil.copyfile(path, library / path.name)
    for model, expected in ((toy, 3), ("efficientnet-lite0", 6), (toy, 6), ("efficientnet-lite0", 6)):
        scan(library, tmp_path / "index.sqlite3", model)
        assert sum(passes) == expected
