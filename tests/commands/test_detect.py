"""`--detect` as a user sees it, with SavedModels whose boxes can be computed by hand."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from phototag.core import Box, best_score
from tests.helpers import PROJECT
from tests.helpers.pictures import rectangles
from tests.helpers.program import lines, phototag
from tests.helpers.toys import export_detector, export_toy

Scan = Callable[..., Result]
MakePhoto = Callable[..., Path]

# CenterNet as a SavedModel (`python benchmarks/tfjs_model.py` makes it). Nothing of it is part of the project.
CENTERNET = Path(os.environ.get("CENTERNET", PROJECT / "build" / "centernet"))


@pytest.fixture(scope="session", params=["api", "centernet"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dtype = "uint8" if request.param == "api" else "float32"
    return export_detector(tmp_path_factory.mktemp("detector") / "toy", form=request.param, dtype=dtype)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_detector(tmp_path_factory.mktemp("detector") / "api")


@pytest.fixture(scope="session")
def imagenet_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a toy model with a tree: what is red is a toucan to it."""
    labels = "n01843383 toucan\nn02504458 African elephant\nn03792782 mountain bike\n"
    return export_toy(tmp_path_factory.mktemp("toy") / "imagenet", labels=labels)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Return a photo with a red rectangle in the lower right quarter and a green one at the top."""
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    path.write_bytes(rectangles((128, 64), red=(64, 32, 128, 64), lime=(0, 0, 32, 16)))
    return path


PERSON = {"name": "person", "score": 1.0, "left": 0.5, "top": 0.5, "right": 1.0, "bottom": 1.0}
BICYCLE = {"name": "bicycle", "score": 1.0, "left": 0.0, "top": 0.0, "right": 0.25, "bottom": 0.25}


def boxes_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    (line,) = lines(result)
    return line["boxes"]


def test_scan_prints_the_boxes_of_a_photo_as_json(scan: Scan, photo: Path, detector: Path) -> None:
    boxes = boxes_of(scan(photo, "--detect", detector, "--format", "json"))
    assert [box["name"] for box in boxes] == ["person", "bicycle"]
    for box, wanted in zip(boxes, (PERSON, BICYCLE), strict=True):
        assert box == pytest.approx(wanted, abs=1e-3)


def test_it_is_off_by_default(scan: Scan, photo: Path) -> None:
    result = scan(photo, "--format", "json")
    assert "boxes" not in lines(result)[0]
    assert "boxes" not in json.loads(phototag("show", "--format", "json", photo).stdout)


def test_boxes_are_those_of_the_upright_photo(scan: Scan, make_photo: MakePhoto, api: Path, exiftool: Any) -> None:
    path = make_photo("turned.jpg", "black", size=(128, 64), quality=95)
    path.write_bytes(_as_jpeg(rectangles((128, 64), red=(64, 32, 128, 64))))
    exiftool("-overwrite_original", "-n", "-Orientation=6", path)  # to be turned clockwise
    (box,) = boxes_of(scan(path, "--detect", api, "--format", "json"))
    assert box == pytest.approx({**PERSON, "left": 0.0, "right": 0.5}, abs=0.04)


def _as_jpeg(png: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def test_an_unchanged_photo_shows_boxes_without_the_model(scan: Scan, photo: Path, api: Path, tmp_path: Path) -> None:
    model = shutil.copytree(api, tmp_path / "model")
    first = boxes_of(scan(photo, "--detect", model, "--format", "json"))
    weights = next((model / "variables").glob("*.data*"))
    card = {"name": "toy", "digest": "sha256:0"}  # so that only loading the model reads the weights
    (model / "phototag.json").write_text(json.dumps(card))
    assert boxes_of(scan(photo, "--detect", model, "--format", "json")) == first
    weights.unlink()
    (again,) = lines(scan(photo, "--detect", model, "--format", "json"))
    assert (again["status"], again["boxes"]) == ("unchanged", first)


def test_a_photo_without_objects_has_an_empty_list_and_one_that_fails_has_none(
    scan: Scan, make_photo: MakePhoto, api: Path
) -> None:
    folder = make_photo("a.jpg", "blue").parent
    (folder / "b.jpg").write_bytes(b"not a photo")
    found = {
        Path(line["path"]).name: line["boxes"] for line in lines(scan(folder, "--detect", api, "--format", "json"))
    }
    assert found == {"a.jpg": [], "b.jpg": None}


def test_a_second_scan_runs_nothing_and_turning_it_on_runs_only_the_detector(
    scan: Scan, photo: Path, api: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phototag.analysis.detector import DetectorAnalyzer
    from phototag.analysis.objects import ObjectAnalyzer

    ran: list[str] = []
    for analyzer in (ObjectAnalyzer, DetectorAnalyzer):

        def noting(self: Any, *rest: Any, real: Any = analyzer.analyse, name: str = analyzer.__name__) -> Any:
            ran.append(name)
            return real(self, *rest)

        monkeypatch.setattr(analyzer, "analyse", noting)
    plain = lines(scan(photo, "--format", "json"))[0]
    assert ran == ["ObjectAnalyzer"]
    both = lines(scan(photo, "--detect", api, "--format", "json"))[0]
    assert ran == ["ObjectAnalyzer", "DetectorAnalyzer"]
    assert (both["tags"], both["predictions"]) == (plain["tags"], plain["predictions"])
    again = lines(scan(photo, "--detect", api, "--format", "json"))[0]
    assert (again["status"], again["boxes"]) == ("unchanged", both["boxes"])
    assert lines(scan(photo, "--format", "json"))[0]["tags"] == plain["tags"]
    assert lines(scan(photo, "--detect", api, "--format", "json"))[0]["boxes"] == both["boxes"]
    assert len(ran) == 2


def test_a_box_that_is_not_a_number_is_left_out_and_the_scan_goes_on(scan: Scan, photo: Path, tmp_path: Path) -> None:
    nan = export_detector(tmp_path / "nan", detection_boxes=lambda all: all["detection_boxes"] * [[[1.0], [math.nan]]])
    assert [box["name"] for box in boxes_of(scan(photo, "--detect", nan, "--format", "json"))] == ["person"]


def test_a_dry_run_prints_boxes_and_remembers_none(scan: Scan, photo: Path, api: Path, tmp_path: Path) -> None:
    assert len(boxes_of(scan(photo, "--dry-run", "--detect", api, "--format", "json"))) == 2
    assert not (tmp_path / "index.sqlite3").exists()


def test_a_person_that_the_detector_finds_is_a_tag(
    scan: Scan, photo: Path, make_photo: MakePhoto, api: Path, imagenet_toy: Path
) -> None:
    make_photo("b.png", "blue", format="PNG")
    options = ("--model", imagenet_toy, "--format", "json")
    for detect, wanted in (((), [False, False]), (("--detect", api), [True, False]), ((), [False, False])):
        outcomes = lines(scan(photo.parent, *options, *detect))
        assert [any(tag["name"] == "person" for tag in one["tags"]) for one in outcomes] == wanted


def test_show_explain_lists_the_objects(photo: Path, make_photo: MakePhoto, api: Path, imagenet_toy: Path) -> None:
    other = make_photo("b.png", "blue", format="PNG")
    result = phototag("show", "--explain", "--model", imagenet_toy, "--detect", api, photo, other)
    assert result.exit_code == 0, result.output
    one, two = result.stdout.split(str(other))
    assert "  objects\n" in one
    tags, objects = one.split("  objects\n")
    (tag,) = (line for line in tags.splitlines() if line.startswith("    person "))
    assert "needed 0.70  (detector 1.00)" in tag
    (person,) = (line for line in objects.splitlines() if line.startswith("    person"))
    assert person.split()[1:] == ["1.00", "x", "50", "to", "100", "%,", "y", "50", "to", "100", "%"]
    assert "  no objects\n" in two
    as_json = phototag("show", "--explain", "--model", imagenet_toy, "--detect", api, "--format", "json", photo)
    assert lines(as_json)[0]["boxes"][0] == pytest.approx(PERSON, abs=1e-3)
    without = phototag("show", "--explain", "--model", imagenet_toy, "--format", "json", photo)
    assert lines(without)[0].keys() == {"path", "words"}


def test_show_without_explain_refuses_it(photo: Path, api: Path) -> None:
    result = phototag("show", "--detect", api, photo)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--detect only counts with --explain" in result.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, toy: path / "missing", "neither a directory nor an installed model"),
        (lambda path, toy: path, "holds no saved_model.pb"),
        (
            lambda path, toy: toy,
            "is not an object detector: its outputs are logits; name a SavedModel that has the outputs",
        ),
        (
            lambda path, toy: export_detector(path / "x", detection_boxes=lambda all: all["detection_boxes"][..., :2]),
            "its output detection_boxes has the shape [1, 2, 2]; export it again with detection_boxes [N, M, 4]",
        ),
        (
            lambda path, toy: export_detector(path / "x", kind=400.0),
            "finds the kind 400, but there are only names for the kinds up to 90; put a label file beside it",
        ),
        (
            lambda path, toy: export_detector(path / "x", detection_scores=lambda all: all["detection_scores"] * 100),
            "it gives a score of 100; export it again with scores of 0 to 1",
        ),
    ],
)
def test_what_is_not_a_detector_is_one_sentence(
    scan: Scan, photo: Path, tmp_path: Path, toy_model: Path, make: Any, message: str
) -> None:
    result = scan(photo, "--detect", make(tmp_path, toy_model))
    assert result.exit_code == 3, result.output
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("phototag: "))
    assert message in error
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_a_missing_detector_is_known_before_any_work(scan: Scan, photo: Path, tmp_path: Path) -> None:
    assert scan(photo, "--detect", tmp_path / "missing").exit_code == 3
    assert not (tmp_path / "index.sqlite3").exists()


def test_a_detector_is_installed_under_a_name(
    scan: Scan, photo: Path, detector: Path, tmp_path: Path, data_directory: Path
) -> None:
    added = phototag("models", "add", detector, "--name", "finder")
    assert added.exit_code == 0, added.output
    place = data_directory / "models" / "finder"
    assert added.stdout == (
        f"finder: an object detector for --detect, images of 32x32, 80 kinds of objects; installed in {place}\n"
    )
    assert "finder: an object detector" in phototag("models", "list").stdout
    by_name = boxes_of(scan(photo, "--detect", "finder", "--format", "json"))
    assert [box["name"] for box in by_name] == ["person", "bicycle"]
    wrong = scan(photo, "--model", "finder", model="finder")
    assert wrong.exit_code == 3
    assert f"{place} is not a classifier: it is an object detector; name it with --detect" in wrong.stderr
    assert phototag("models", "remove", "finder").exit_code == 0
    assert "neither a directory nor an installed model" in scan(photo, "--detect", "finder").stderr


def test_inspect_says_what_a_detector_is_for(api: Path) -> None:
    assert phototag("models", "add", api, "--name", "finder").exit_code == 0
    for name in (str(api), "finder"):
        result = phototag("inspect", name)
        assert result.exit_code == 0, result.output
        assert "  why      it is an object detector; name it with --detect\n" in result.stdout
        assert "detection_boxes: float32 [1, 2, 4]" in result.stdout
    wrong = phototag("scan", "--model", api, "photo.jpg")
    assert wrong.exit_code == 2


def test_its_kinds_can_have_other_names(scan: Scan, photo: Path, api: Path, tmp_path: Path) -> None:
    (tmp_path / "kinds.txt").write_text("hero\nhorse\n")
    added = phototag("models", "add", api, "--name", "own", "--labels", tmp_path / "kinds.txt", "--link")
    assert added.exit_code == 0, added.output
    assert "2 kinds of objects" in added.stdout
    boxes = boxes_of(scan(photo, "--detect", "own", "--format", "json"))
    assert [box["name"] for box in boxes] == ["hero", "horse"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibrate", "."], "is an object detector, for which --calibrate means nothing; leave it out"),
        (["--output", "logits"], "is an object detector, for which --output means nothing; leave it out"),
        (["--input-size", "64"], "takes images of height 32, not 64"),
    ],
)
def test_what_says_nothing_about_a_detector_is_refused(
    api: Path, data_directory: Path, options: list[str], message: str
) -> None:
    result = phototag("models", "add", api, "--name", "x", *options)
    assert result.exit_code in (2, 3)
    assert message in result.stderr
    assert not (data_directory / "models" / "x").exists()


def test_a_detector_that_does_not_give_boxes_is_not_installed(tmp_path: Path, data_directory: Path) -> None:
    directory = export_detector(tmp_path / "odd", detection_scores=lambda all: all["detection_scores"] + 50)
    result = phototag("models", "add", directory)
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert "it gives a score of 50" in result.stderr
    assert not (data_directory / "models" / "odd").exists()


def test_it_is_a_setting(scan: Scan, photo: Path, api: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'detect = "{api}"\n')
    monkeypatch.setenv("PHOTOTAG_CONFIG", str(config))
    assert len(boxes_of(scan(photo, "--format", "json"))) == 2
    monkeypatch.setenv("PHOTOTAG_DETECT", str(tmp_path / "missing"))
    assert "missing is neither a directory nor an installed model" in scan(photo).stderr


def test_the_shell_completes_installed_detectors(api: Path, toy_model: Path) -> None:
    from phototag.cli.model_options import complete_detector, complete_model

    assert phototag("models", "add", api, "--name", "finder").exit_code == 0
    assert phototag("models", "add", toy_model, "--name", "fine").exit_code == 0
    arguments: tuple[Any, Any] = (None, None)
    assert [item.value for item in complete_detector(*arguments, "fin")] == ["finder"]
    assert [item.value for item in complete_model(*arguments, "fin")] == ["fine"]


def test_a_run_without_it_does_not_import_it(photo: Path, toy_model: Path, tmp_path: Path) -> None:
    arguments = ["scan", "--model", str(toy_model), "--index", str(tmp_path / "i"), str(photo)]
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*(name for name in sys.modules if name.startswith('phototag.'))))\n"
        f"sys.argv = ['phototag', *{arguments!r}]\n"
        "from phototag.cli import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    imported = result.stdout.split()
    assert "phototag.engines.litert_runner" in imported, result.stderr  # it has looked at the photo
    assert not [name for name in imported if "detector" in name or "coco" in name]


@pytest.mark.slow
@pytest.mark.skipif(not CENTERNET.is_dir(), reason=f"needs CenterNet as a SavedModel in {CENTERNET}, or CENTERNET=DIR")
def test_centernet_finds_persons(scan: Scan, shared: Path) -> None:
    """On coco128, on which it was trained: so this shows only that it is fed and read rightly."""
    photos = shared / "photos" / "coco128"
    truth = json.loads((photos / "labels.json").read_text())
    result = scan(photos, "--write", "none", "--detect", CENTERNET, "--format", "json")
    assert result.exit_code == 0, result.output
    assert "TensorFlow" not in result.stderr  # its conversion agrees
    boxes = {Path(line["path"]).name: [Box(**box) for box in line["boxes"]] for line in lines(result)}
    said = {name for name, found in boxes.items() if best_score(found, "person") >= 0.5}
    assert len(said) >= 38
    assert all("person" in truth[name] for name in said)
    kinds = [(box.name in truth[name]) for name, found in boxes.items() for box in found if box.score >= 0.4]
    assert sum(kinds) / len(kinds) >= 0.95
