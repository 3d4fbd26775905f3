from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.analysis.classifier import Classifier
from phototag.errors import LabelMismatch, ModelError, SignatureMismatch
from phototag.models.find import find_model
from tests.helpers.toys import export_toy


def solid(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in colours])


def load(directory: Path) -> Classifier:
    return Classifier(find_model(str(directory)))


def test_scores_are_the_softmax_of_the_logits(toy_model: Path) -> None:
    (row,) = load(toy_model).predict(solid((255, 51, 0)))
    logits = np.array([30.0, 6.0, 0.0])
    np.testing.assert_allclose(row, np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)


def test_a_batch_of_any_size_keeps_its_order(toy_model: Path) -> None:
    classifier = load(toy_model)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)] * 3
    for count in (1, 2, 9):
        scores = classifier.predict(solid(*colours[:count]))
        assert scores.shape == (count, 3)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
        assert scores.argmax(axis=1).tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2][:count]


def test_the_temperature_softens(tmp_path: Path) -> None:
    (row,) = load(export_toy(tmp_path / "m", temperature=30.0)).predict(solid((255, 0, 0)))
    np.testing.assert_allclose(row, np.exp([1, 0, 0]) / (np.e + 2), rtol=1e-5)


def test_probabilities_are_taken_as_they_are(tmp_path: Path) -> None:
    directory = export_toy(tmp_path / "m", factor=0.5, output={"scores": "probabilities"})
    (row,) = load(directory).predict(solid((255, 204, 51)))
    np.testing.assert_allclose(row, [0.5, 0.4, 0.1], rtol=1e-4)


def test_large_logits_do_not_overflow(tmp_path: Path) -> None:
    (row,) = load(export_toy(tmp_path / "m", factor=1e30)).predict(solid((255, 0, 0)))
    assert row.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": "red\ngreen\n"}, LabelMismatch, "has 3 classes, but there are 2 labels"),
        ({"classes": 2}, LabelMismatch, "has 2 classes, but there are 3 labels"),
        (
            {"signature": "predict"},
            SignatureMismatch,
            "no signature 'predict' with inputs and outputs; it has: serving",
        ),
        ({"input": {"range": "0..1", "height": 9}}, SignatureMismatch, "takes images of height 8, not 9"),
        ({"input": {"range": "0..1", "layout": "NCHW"}}, SignatureMismatch, "takes images of 8 channels, not 3"),
    ],
)
def test_a_model_unlike_its_card_is_refused(
    tmp_path: Path, options: dict[str, Any], error: type[ModelError], message: str
) -> None:
    with pytest.raises(error) as caught:
        load(export_toy(tmp_path / "m", **options))
    assert message in str(caught.value)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error(tmp_path: Path, factor: float) -> None:
    with pytest.raises(ModelError, match="not numbers"):
        load(export_toy(tmp_path / "m", factor=factor)).predict(solid((255, 1, 1)))


def test_logits_that_are_said_to_be_probabilities_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SignatureMismatch, match="outside 0 to 1"):
        load(export_toy(tmp_path / "m", output={"scores": "probabilities"})).predict(solid((255, 0, 0)))
