"""The benchmarks of tags on real photos."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.models.find import Model

WORDS = {"outdoor": 0.7, "indoor": 0.7, "grass": 0.7, "tree": 0.8}  # classes feed outdoor alone


@pytest.fixture
def run(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a benchmark in this process and returns what it prints."""

    def of(name: str, *arguments: object) -> str:
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        benchmark(name).main()
        return capsys.readouterr().out

    return of


def test_everyday_tags_are_judged_without_the_model(run: Callable[..., str], shared: Path, tmp_path: Path) -> None:
    """The counts are those that ../shared/heads gives for its own head."""
    with np.load(shared / "heads/head.npz") as file:
        rows = [file["words"].tolist().index(word) for word in WORDS]
        np.savez(
            tmp_path / "head.npz",
            words=np.array(list(WORDS)),
            weights=file["weights"][rows].astype(np.float16),
            bias=file["bias"][rows].astype(np.float32),
            mass_weight=np.zeros(len(rows), np.float32),
            classes=np.zeros((len(rows), 1000), bool),
            temperature=np.float32(0.95),
        )
    (tmp_path / "thresholds.json").write_text(json.dumps(WORDS))
    head = ["--head", tmp_path / "head.npz", "--thresholds", tmp_path / "thresholds.json"]
    files = [shared / "heads/features.npz", shared / "heads/cross.npz"]
    output = run("everyday", *files, *head, "--coco128", shared / "photos/coco128", "--list")
    for counts in ("grass | 0.7 | 40/42", "indoor | 0.7 | 142/146", "tree | 0.8 | 18/18"):
        assert f"| {counts}" in output
    assert "| bsds, head alone: precision | >= 0.98 | 0.9" in output
    assert "coco128/000000000636.jpg: wrong outdoor; right bathroom" in output
    figures = [float(cell) for cell in row_of(output, "| coco128 | 128 | without the head |")]
    assert figures[1:3] == pytest.approx([0.96, 0.711], abs=0.02)
    assert "4 words have a threshold: the goal of 23 is missed" in output


@pytest.mark.slow
def test_the_head_meets_its_goals_on_photos_that_it_never_saw(run: Callable[..., str], shared: Path) -> None:
    output = run("everyday", shared / "heads/features.npz", shared / "heads/cross.npz")
    goals = [line for line in output.splitlines() if line.startswith(("| bsds, head alone", "| camera, head alone"))]
    assert len(goals) == 6
    assert all(goal.endswith("| met |") for goal in goals), goals
    assert "23 words have a threshold: the goal of 23 is met" in output


def test_a_head_needs_thresholds_to_be_judged(run: Callable[..., str], shared: Path, tmp_path: Path) -> None:
    files = [shared / "heads/features.npz", shared / "heads/cross.npz"]
    with pytest.raises(SystemExit, match="--head needs --thresholds"):
        run("everyday", *files, "--head", tmp_path / "head.npz")


@pytest.mark.slow
def test_leaves_earned_what_they_need(default_model: Model, run: Callable[..., str], shared: Path) -> None:
    photos = shared / "photos"
    output = run("leaves", photos / "caltech", photos / "coco128", shared / "heads/features.npz")
    right, covered, with_leaf, _ = figures_of(output, "all evidence:")
    assert right >= 0.975
    assert covered >= 0.87
    assert with_leaf >= 0.25
    for which in ("categories", "photos"):
        right, covered, with_leaf, _ = figures_of(output, f"half of the {which} by the other half:")
        assert right >= 0.97
        assert covered >= 0.87
        assert with_leaf >= 0.24


def row_of(output: str, start: str) -> list[str]:
    (row,) = (line for line in output.splitlines() if line.startswith(start))
    return row[len(start) :].strip(" |").split(" | ")


def figures_of(output: str, start: str) -> list[float]:
    (line,) = (line for line in output.splitlines() if line.startswith(start))
    return [float(number) for number in re.findall(r"\d\.\d+", line)]
