"""`phototag show` as a user sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.program import lines, phototag


def shown(path: Path) -> dict[str, dict[str, Any]]:
    result = phototag("show", "--format", "json", path)
    assert result.exit_code == 0, result.output
    (one,) = lines(result)
    assert one["path"] == str(path)
    return {keyword["name"]: keyword for keyword in one["keywords"]}


@pytest.mark.parametrize("way", ["embed", "xmp"])
def test_show_says_who_wrote_which_keyword(way: str, make_photo: Any, scan: Any, exiftool: Any) -> None:
    path = make_photo("IMG_1.jpg")
    exiftool("-overwrite_original", "-xmp-dc:subject=holiday", path)
    assert shown(path)["holiday"]["by"] == "a person"
    assert scan("--write", way, path).exit_code == 0
    file = path if way == "embed" else path.with_name("IMG_1.jpg.xmp")
    keywords = shown(path)
    assert keywords.keys() == {"holiday", "red"}
    red = keywords["red"]
    assert (red["by"], red["file"]) == ("phototag", str(file))
    assert red["confidence"] > 0.9
    assert "dc:subject" in red["fields"]
    assert keywords["holiday"]["by"] == "a person"
    assert keywords["holiday"]["confidence"] is None
    text = phototag("show", path).stdout.splitlines()
    assert text[0] == str(path)
    by_name = {line.split()[0]: line for line in text[1:]}
    assert "a person" in by_name["holiday"]
    assert "phototag 1.00" in by_name["red"]
    assert by_name["red"].endswith("in IMG_1.jpg.xmp") == (way == "xmp")


def test_show_reads_json_sidecars_and_says_when_there_is_nothing(make_photo: Any, scan: Any) -> None:
    path = make_photo("IMG_1.jpg")
    assert phototag("show", path).stdout == f"{path}\n  no keywords\n"
    assert scan(path).exit_code == 0
    red = shown(path)["red"]
    assert (red["by"], red["fields"], red["file"]) == ("phototag", ["tags"], f"{path}.phototag.json")
    assert "phototag 1.00" in phototag("show", path).stdout


def test_what_cannot_be_shown_or_untagged_is_one_sentence(make_photo: Any, tmp_path: Path) -> None:
    good, missing = make_photo("good.jpg"), tmp_path / "missing.jpg"
    damaged = make_photo("damaged.jpg")
    damaged.with_name("damaged.jpg.xmp").write_bytes(b"<x>")
    text = make_photo("text.jpg")
    text.write_text("no photo")
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (missing, damaged, tmp_path / "pipe.jpg", tmp_path):
        result = phototag("show", path, good)
        assert result.exit_code == 1, path
        assert result.stderr.startswith(f"phototag: {path}"), path
        assert result.stderr.count("\n") == 1
        assert str(good) in result.stdout
    assert phototag("show", text).exit_code == 0
    result = phototag("untag", "--index", tmp_path / "index", missing)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert phototag("untag", "--index", tmp_path / "index", damaged, text).exit_code == 0
    assert damaged.with_name("damaged.jpg.xmp").read_bytes() == b"<x>"
