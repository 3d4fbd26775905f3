"""From the outputs of an object detector to boxes, and their stored form."""

from __future__ import annotations

import json
import math
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.analysis.detector import MOST_BOXES, DetectorAnalyzer, boxes_key, boxes_of, pack, unpack
from phototag.core import BOXES, Box, ScoreLine, best_score
from phototag.engines.convert import disagreement_of_boxes
from phototag.engines.load import open_runner
from phototag.errors import LabelMismatch, ModelError, SignatureMismatch
from phototag.images.decode import read_picture
from phototag.models.card import ModelCard
from phototag.models.coco import KINDS, names_by_id
from phototag.models.detector import Detector, find_detector, is_detector
from phototag.models.find import find_model
from phototag.models.saved_model import read_saved_model
from tests.helpers.pictures import rectangles
from tests.helpers.toys import export, export_detector, means

NUMBERS = {name: number for number, name in enumerate(KINDS)}
PERSON = Box("person", 0.75, 0.25, 0.125, 0.5, 1.0)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_detector(tmp_path_factory.mktemp("detector") / "api")


@pytest.fixture(scope="session")
def centernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_detector(tmp_path_factory.mktemp("detector") / "centernet", form="centernet", dtype="float32")


def outputs(boxes: Any, scores: Any, classes: Any, count: Any = None) -> dict[str, np.ndarray]:
    """Return the outputs of the Object Detection API for one image."""
    given = {"detection_scores": scores, "detection_boxes": boxes, "detection_classes": classes}
    if count is not None:
        given["num_detections"] = count
    return {name: np.array([values], np.float32) for name, values in given.items()}


def detections(*rows: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Return CenterNet's output for one image."""
    return {"detections": np.array([rows], np.float32).reshape(1, -1, 6)}


def found(directory: Path, given: dict[str, np.ndarray]) -> tuple[Box, ...]:
    (boxes,) = boxes_of(given, find_detector(str(directory)))
    return boxes


# --- From outputs to boxes --------------------------------------------------------------------------------------------


def test_the_boxes_of_the_api_are_top_left_bottom_right_with_kinds_from_1(api: Path) -> None:
    (box,) = found(api, outputs([[0.25, 0.5, 0.75, 1.0]], [0.5], [90.0], 1))
    assert (box.name, box.score) == ("toothbrush", 0.5)
    assert astuple(box)[2:] == pytest.approx((0.5, 0.25, 1.0, 0.75), abs=1e-4)


def test_the_boxes_of_centernet_are_pixels_with_kinds_from_0(centernet: Path) -> None:
    (box,) = found(centernet, detections((8, 16, 24, 32, 0.5, 79)))
    assert (box.name, box.score) == ("toothbrush", 0.5)
    assert astuple(box)[2:] == pytest.approx((0.25, 0.5, 0.75, 1.0), abs=1e-4)


def test_boxes_are_clipped_to_the_photo_and_come_surest_first(centernet: Path) -> None:
    boxes = found(centernet, detections((-5, -5, 99, 16, 0.2, 0), (0, 0, 32, 32, 0.9, 1), (0, 0, 32, 32, 0.9, 2)))
    assert [box.name for box in boxes] == ["bicycle", "car", "person"]
    assert astuple(boxes[2])[2:] == pytest.approx((0.0, 0.0, 1.0, 0.5), abs=1e-4)


@pytest.mark.parametrize(
    "row",
    [
        (0, 0, 32, 32, 0.099, 0),
        (math.nan, 0, 32, 32, 0.9, 0),
        (0, 0, math.inf, 32, 0.9, 0),
        (0, 0, 32, 32, math.nan, 0),
        (0, 0, 32, 32, 0.9, math.nan),
        (20, 0, 10, 32, 0.9, 0),
        (0, 32, 32, 0, 0.9, 0),
        (5, 0, 5, 32, 0.9, 0),
        (40, 0, 50, 32, 0.9, 0),
        (5, 0, 5 + 1e-5, 32, 0.9, 0),
    ],
)
def test_boxes_that_mean_nothing_are_left_out(centernet: Path, row: tuple[float, ...]) -> None:
    sound = (0.0, 0.0, 32.0, 32.0, 0.5, 0.0)
    assert [box.score for box in found(centernet, detections(row, sound))] == [0.5]


def test_rows_behind_the_last_box_only_fill_up(api: Path) -> None:
    boxes = [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert len(found(api, outputs(boxes, [0.9, 0.8, 0.7], [1, 2, 3], 2))) == 2
    assert len(found(api, outputs(boxes, [0.9, 0.8, 0.7], [1, 2, 3]))) == 3
    assert found(api, outputs(np.zeros((0, 4)), [], [], 0)) == ()


def test_a_number_that_coco_does_not_use_is_left_out(api: Path) -> None:
    assert [box.name for box in found(api, outputs([[0, 0, 1, 1]] * 2, [0.9, 0.8], [12, 13], 2))] == ["stop sign"]
    assert len(set(names_by_id())) == 81
    assert (names_by_id()[1], names_by_id()[44], names_by_id()[90]) == ("person", "bottle", "toothbrush")


def test_at_most_a_hundred_boxes_are_kept(centernet: Path) -> None:
    boxes = found(centernet, detections(*((0, 0, 32, 32, 0.2 + number / 1000, 0) for number in range(300))))
    assert len(boxes) == MOST_BOXES
    assert boxes[0].score == pytest.approx(0.499, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (outputs([[0, 0, 1, 1]], [0.9], [91], 1), LabelMismatch, "finds the kind 91, but .* the kinds up to 90"),
        (outputs([[0, 0, 1, 1]], [0.9], [-1], 1), LabelMismatch, "finds the kind -1"),
        (outputs([[0, 0, 1, 1]], [7.5], [1], 1), SignatureMismatch, "it gives a score of 7.5; .* scores of 0 to 1"),
        (outputs([[0, 0, 1, 1]], [0.9, 0.8], [1], 1), SignatureMismatch, "1 boxes, 2 scores and 1 kinds"),
        (outputs([[0, 0, 1]], [0.9], [1], 1), SignatureMismatch, r"detection_boxes has the shape \[1, 1, 3\]"),
        (outputs([[0, 0, 1, 1]], [[0.9]], [1], 1), SignatureMismatch, r"detection_scores has the shape \[1, 1, 1\]"),
        (outputs([[0, 0, 1, 1]], [0.9], [1], [1, 2]), SignatureMismatch, r"num_detections has the shape \[1, 2\]"),
    ],
)
def test_outputs_that_are_not_boxes_are_an_error_that_names_the_model(
    api: Path, given: dict[str, np.ndarray], error: type[ModelError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        found(api, given)
    assert str(api) in str(raised.value)


# --- The stored form --------------------------------------------------------------------------------------------------


def test_boxes_come_back_to_the_nearest_step() -> None:
    boxes = (PERSON, Box("toothbrush", 0.123456, 0.0, 0.1, 0.3, 0.7))
    packed = pack(boxes, NUMBERS)
    assert len(packed) == 2 + 2 * 12
    back = unpack(packed, KINDS)
    assert [box.name for box in back] == ["person", "toothbrush"]
    for one, other in zip(back, boxes, strict=True):
        assert astuple(one)[1:] == pytest.approx(astuple(other)[1:], abs=0.5 / 65535 + 1e-9)
    assert pack(back, NUMBERS) == packed
    assert unpack(pack((), NUMBERS), KINDS) == ()


def test_what_the_analyzer_gives_is_what_the_index_gives_back(api: Path) -> None:
    (box,) = found(api, outputs([[0.1, 0.2, 0.3, 0.4]], [0.7], [1], 1))
    (back,) = unpack(pack((box,), NUMBERS), KINDS)
    assert astuple(back)[2:] == astuple(box)[2:]


WHOLE = pack([PERSON], NUMBERS)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "unknown version"),
        (b"\x01", "unknown version"),
        (b"\x02" + WHOLE[1:], "unknown version"),
        (b"p" + WHOLE, "unknown version"),
        (WHOLE[:-1], "cut off"),
        (WHOLE + b"\0", "cut off"),
        (b"\x01\x02" + WHOLE[2:], "cut off"),
        (b"\x01\xff" + WHOLE[2:] * 255, "cut off"),
        (b"\x01\x01\xff\xff" + WHOLE[4:], "no detector gives"),
        (b"\x01\x01" + WHOLE[2:6] + b"\xff\xff" + WHOLE[8:], "no detector gives"),
    ],
)
def test_bytes_from_elsewhere_are_an_error(packed: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack(packed, KINDS)


# --- What a score says ------------------------------------------------------------------------------------------------


def test_the_best_score_is_that_of_the_surest_box_of_the_kind() -> None:
    boxes = (PERSON, Box("person", 0.9, 0, 0, 1, 1), Box("cat", 0.95, 0, 0, 1, 1))
    assert (best_score(boxes, "person"), best_score(boxes, "cat"), best_score(boxes, "dog")) == (0.9, 0.95, 0.0)


def test_a_score_moves_the_log_odds_of_a_word() -> None:
    line = ScoreLine()
    assert line.log_odds(0.5) == pytest.approx(1.7)
    assert line.log_odds(0.8) == pytest.approx(3 * math.log(4) + 1.7)
    assert line.log_odds(0.0) == line.log_odds(0.15) == pytest.approx(3 * math.log(0.15 / 0.85) + 1.7)
    assert math.isfinite(line.log_odds(1.0))


# --- Finding a detector -----------------------------------------------------------------------------------------------


def test_a_detector_needs_no_card(api: Path, centernet: Path) -> None:
    detector = find_detector(str(api))
    assert (detector.form, detector.kinds, detector.names[1]) == ("api", 80, "person")
    assert (detector.preprocessing.height, detector.preprocessing.resize) == (32, "squash")
    assert detector.preprocessing.interpolation == "bilinear"
    assert detector.line == ScoreLine()
    other = find_detector(str(centernet))
    assert (other.form, other.names, other.preprocessing.std) == ("centernet", KINDS, (1, 1, 1))
    assert boxes_key(detector) != boxes_key(other)


def test_a_detector_of_any_size_takes_640_pixels_or_what_its_card_says(tmp_path: Path) -> None:
    directory = export_detector(tmp_path / "any", side=None, batch=None)
    assert find_detector(str(directory)).preprocessing.shortest_side == 640
    card = {"name": "any", "input": {"height": 48, "width": 64}, "detector": {"slope": 2, "floor": 0.2}}
    (directory / "phototag.json").write_text(json.dumps(card))
    detector = find_detector(str(directory))
    assert (detector.preprocessing.height, detector.preprocessing.width) == (48, 64)
    assert detector.line == ScoreLine(2, 1.7, 0.2)
    with pytest.raises(ModelError, match=r"is not a classifier: it is an object detector; name it with detect="):
        find_model(str(directory))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("cat\ndog\n", ["", "cat", "dog"]),
        ("background\ncat\ndog\n", ["", "cat", "dog"]),
        ("???\ncat\n???\ndog\n", ["", "cat", "", "dog"]),
    ],
)
def test_a_label_file_names_the_kinds(tmp_path: Path, labels: str, names: list[str]) -> None:
    directory = export_detector(tmp_path / "named")
    plain = find_detector(str(directory))
    (directory / "kinds.txt").write_text(labels)
    (directory / "phototag.json").write_text('{"name": "named", "labels": "kinds.txt"}')
    detector = find_detector(str(directory))
    assert list(detector.names) == names
    assert boxes_key(detector) != boxes_key(plain)


def test_a_label_file_without_a_name_is_an_error(tmp_path: Path) -> None:
    directory = export_detector(tmp_path / "unnamed")
    (directory / "kinds.txt").write_text("???\n???\n")
    (directory / "phototag.json").write_text('{"name": "unnamed", "labels": "kinds.txt"}')
    with pytest.raises(LabelMismatch, match="names 0 kinds of objects; name another"):
        find_detector(str(directory))


def as_texts(numbers: Any) -> Any:
    import tensorflow as tf

    return tf.strings.as_string(numbers)


def test_what_is_not_a_detector_is_one_sentence_that_names_its_outputs(tmp_path: Path) -> None:
    directory = export(tmp_path / "classifier", means)
    with pytest.raises(SignatureMismatch, match=r"is not an object detector: its outputs are \w+; name a SavedModel"):
        find_detector(str(directory))
    assert not is_detector(read_saved_model(directory)[0], ModelCard("toy"), directory)
    wrong = export_detector(tmp_path / "wrong", detection_boxes=lambda given: given["detection_boxes"][:, :, :3])
    with pytest.raises(SignatureMismatch, match=r"detection_boxes has the shape \[.*3\]; .*\[N, M, 4\]"):
        find_detector(str(wrong))
    texts = export_detector(tmp_path / "texts", detection_classes=lambda given: as_texts(given["detection_classes"]))
    with pytest.raises(SignatureMismatch, match="its output detection_classes is string; export it again with numbers"):
        find_detector(str(texts))
    without = export_detector(tmp_path / "without", detection_classes=None)
    with pytest.raises(SignatureMismatch, match="detection_boxes, detection_scores, num_detections; name"):
        find_detector(str(without))
    with pytest.raises(ModelError, match="neither a directory nor an installed model"):
        find_detector(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"detector": {"slope": -1}}, "detector.slope must be from 0 to 20"),
        ({"detector": {"floor": 0}}, "detector.floor must be from 0.001 to 0.999"),
        ({"detector": {"x": 0}}, "there is no key 'x'"),
        ({"input": {"resize": "pad"}}, "squashed; correct the card"),
        ({"input": {"height": 64, "width": 64}}, "takes images of height 32, not 64"),
    ],
)
def test_a_wrong_card_is_one_sentence(api: Path, tmp_path: Path, card: dict[str, Any], message: str) -> None:
    directory = tmp_path / "model"
    directory.symlink_to(api)
    try:
        (api / "phototag.json").write_text(json.dumps({"name": "toy", **card}))
        with pytest.raises(ModelError, match=message):
            find_detector(str(directory))
    finally:
        (api / "phototag.json").unlink()


# --- The analyzer -----------------------------------------------------------------------------------------------------


def analyzer_of(detector: Detector) -> DetectorAnalyzer:
    return DetectorAnalyzer(detector, lambda: open_runner(detector, "tensorflow", lambda _: None, 1))


@pytest.mark.parametrize("batch", [1, None, 3])
@pytest.mark.parametrize("form", ["api", "centernet"])
def test_the_analyzer_finds_the_red_rectangle(tmp_path: Path, form: str, batch: int | None) -> None:
    detector = find_detector(str(export_detector(tmp_path / "toy", form=form, batch=batch)))
    analyzer = analyzer_of(detector)
    pictures = [rectangles((64, 64), red=(16 * number, 0, 16 * number + 16, 32)) for number in range(4)]
    prepared = [analyzer.prepare(read_picture(picture, analyzer.shortest_side)) for picture in pictures]
    for number, results in enumerate(analyzer.analyse(prepared, [{}] * 4)):
        (box,) = results[BOXES]
        assert (box.name, box.score) == ("person", 1.0)
        assert astuple(box)[2:] == pytest.approx((number / 4, 0, (number + 1) / 4, 0.5), abs=1e-4)


def test_the_order_of_equal_boxes_does_not_count_when_engines_are_compared() -> None:
    rows = ((0, 0, 10, 10, 0.5, 1), (10, 10, 20, 20, 0.5, 2), (0, 0, 32, 32, 0.01, 3))
    theirs, turned = detections(*rows), detections(rows[1], rows[0], (5, 5, 6, 6, 0.01, 4))
    assert disagreement_of_boxes(theirs, turned, 32, 32) is None
    moved = detections(rows[0], (12, 10, 20, 20, 0.5, 2), rows[2])
    assert disagreement_of_boxes(theirs, moved, 32, 32) == "LiteRT finds other boxes than TensorFlow"
    surer = detections((0, 0, 10, 10, 0.6, 1), *rows[1:])
    assert (
        disagreement_of_boxes(theirs, surer, 32, 32) == "LiteRT's best score of a box differs from TensorFlow's by 0.1"
    )
    fewer = disagreement_of_boxes(theirs, detections(rows[0]), 32, 32)
    assert fewer == "LiteRT finds other boxes than TensorFlow"


def test_a_million_boxes_are_not_compared_one_by_one() -> None:
    many = {"detections": np.full((1, 1_000_000, 6), 0.5, np.float32)}
    assert "more than 1,000 boxes" in str(disagreement_of_boxes(many, many, 32, 32))
    unlikely = {"detections": np.full((1, 1_000_000, 6), 0.05, np.float32)}
    assert disagreement_of_boxes(unlikely, unlikely, 32, 32) is None
