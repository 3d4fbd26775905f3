"""The head of everyday words and the projection for likeness, as they are shipped beside the default model's card."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phototag.models.find import DEFAULT_MODEL, imagenet_taxonomy
from phototag.paths import shipped_directory

MODEL = shipped_directory() / DEFAULT_MODEL
FEATURES, CLASSES, NUMBERS = 1280, 1000, 128
RULE = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@pytest.fixture(scope="module")
def card() -> Any:
    return json.loads((MODEL / "phototag.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def head(card: Any) -> dict[str, NDArray[Any]]:
    with np.load(MODEL / card["head"]["file"], allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize("part", ["head", "look"])
def test_the_card_names_the_file_and_its_digest(card: Any, part: str) -> None:
    content = (MODEL / card[part]["file"]).read_bytes()
    assert card[part]["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_both_files_together_are_small(card: Any) -> None:
    assert sum((MODEL / card[part]["file"]).stat().st_size for part in ("head", "look")) <= 500_000


def test_each_word_is_in_the_tree_once(head: dict[str, NDArray[Any]]) -> None:
    words = head["words"].tolist()
    assert len(set(words)) == len(words)
    names = {node.name: node for node in imagenet_taxonomy().nodes.values()}
    assert {word for word in words if word not in names or names[word].state != "tag"} == set()


def test_words_for_training_only_are_left_out(head: dict[str, NDArray[Any]]) -> None:
    assert not {"close up", "studio", "black and white"} & set(head["words"].tolist())


def test_the_arrays_belong_together(head: dict[str, NDArray[Any]]) -> None:
    count = len(head["words"])
    shapes = {name: (array.shape, array.dtype.name) for name, array in head.items() if name != "words"}
    assert shapes == {
        "weights": ((count, FEATURES), "float16"),
        "bias": ((count,), "float32"),
        "mass_weight": ((count,), "float32"),
        "classes": ((count, CLASSES), "bool"),
        "temperature": ((), "float32"),
    }


def test_all_numbers_are_finite(head: dict[str, NDArray[Any]]) -> None:
    for name in ("weights", "bias", "mass_weight", "temperature"):
        assert np.isfinite(head[name]).all()
    assert head["weights"].any(axis=1).all()


def test_a_word_without_classes_has_no_use_for_their_mass(head: dict[str, NDArray[Any]]) -> None:
    assert not head["mass_weight"][~head["classes"].any(axis=1)].any()


def test_a_word_that_may_be_written_has_a_threshold_of_the_rule(card: Any, head: dict[str, NDArray[Any]]) -> None:
    thresholds = card["head"]["thresholds"]
    assert thresholds.keys() <= set(head["words"].tolist())
    assert len(thresholds) >= 23
    assert set(thresholds.values()) <= set(RULE)


def test_the_head_uses_the_temperature_of_the_card(card: Any, head: dict[str, NDArray[Any]]) -> None:
    assert float(head["temperature"]) == pytest.approx(card["temperature"])


def test_the_projection_keeps_distances_and_has_settled_signs(card: Any) -> None:
    with np.load(MODEL / card["look"]["file"], allow_pickle=False) as arrays:
        assert arrays.files == ["projection"]
        projection = arrays["projection"]
    assert projection.shape == (FEATURES, NUMBERS)
    assert projection.dtype == np.float16
    exact = projection.astype(np.float64)
    np.testing.assert_allclose(exact.T @ exact, np.eye(NUMBERS), atol=2e-3)
    assert (exact[np.abs(exact).argmax(axis=0), np.arange(NUMBERS)] > 0).all()
