"""What runs leave behind, what the user removed, and what `phototag untag` takes back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.helpers.program import phototag
from tests.helpers.writing import keywords, remove, remove_red

Scan = Callable[..., Result]
MakePhoto = Callable[..., Path]


def test_sidecars_without_their_photos_are_listed_and_removed_only_on_request(scan: Scan, library: Path) -> None:
    scan(library)
    scan("--write", "xmp", library / "0.jpg", library / "1.jpg")
    (library / "2.jpg").rename(library / "gone")
    assert "\n1 sidecar without its photo (--remove removes it).\n" in f"\n{phototag('orphans', library).stderr}"
    (library / "gone").rename(library / "2.jpg")
    (library / "0.jpg").unlink()
    (library / "mine.jpg.phototag.json").write_text("mine")
    (library / "mine.xmp").write_text("<x/>")
    gone = [str(library / "0.jpg.phototag.json"), str(library / "0.jpg.xmp")]
    before = sorted(library.iterdir())
    result = phototag("orphans", library)
    assert (result.exit_code, result.stdout.splitlines()) == (0, gone)
    assert sorted(library.iterdir()) == before
    result = phototag("orphans", "--remove", library)
    assert (result.exit_code, result.stdout.splitlines()) == (0, gone)
    assert [str(path) for path in before if path not in library.iterdir()] == gone
    assert "0 sidecars" in phototag("orphans", library).stderr
    assert phototag("orphans", library / "nowhere").exit_code == 2


@pytest.mark.parametrize("write", ["json", "xmp", "embed"])
def test_one_run_is_taken_back_and_the_others_stay(scan: Scan, library: Path, tmp_path: Path, write: str) -> None:
    scan("--write", write, *(library / f"{number}.jpg" for number in (0, 1)))
    first = {path: path.read_bytes() for path in library.iterdir() if path.name[0] in "01"}
    scan("--write", write, library)
    index = ("--index", tmp_path / "index.sqlite3")
    result = phototag("untag", "--run", "2", "--dry-run", *index)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 4)
    result = phototag("untag", "--run", "2", *index)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 4)
    assert "4 changes: 4 untagged." in result.stderr
    assert {path: path.read_bytes() for path in library.iterdir() if path.name[0] in "01"} == first
    assert not list(library.glob("[2-5].jpg.*"))
    # The next scan writes them again, from the scores that it knows.
    assert "4 tagged, 3 unchanged" in scan("--write", write, library).stderr


def test_a_run_that_was_overtaken_is_named_file_by_file(scan: Scan, library: Path, tmp_path: Path) -> None:
    photo = library / "0.jpg"
    scan("--write", "embed", photo)
    edited = photo.read_bytes()
    photo.write_bytes(edited + b"more")
    result = phototag("untag", "--run", "1", "--index", tmp_path / "index.sqlite3")
    assert result.exit_code == 1
    assert "0.jpg: " in result.stderr
    assert photo.read_bytes() == edited + b"more"


@pytest.mark.parametrize("write", ["json", "xmp", "embed"])
def test_untag_leaves_nothing_beside_the_other_files_of_a_shot(
    scan: Scan, library: Path, tmp_path: Path, write: str
) -> None:
    index = ("--index", tmp_path / "index.sqlite3")
    others = [library / "0.CR2", library / "0.MOV"]
    for other in others:
        other.write_bytes(b"of the same shot")
    before = {path: path.read_bytes() for path in library.iterdir()}
    scan("--write", write, library)
    assert all(list(library.glob(f"{other.name}.*")) for other in others)
    result = phototag("untag", library, *index)
    assert (result.exit_code, "0.CR2" in result.stdout, "0.MOV" in result.stdout) == (0, True, True)
    assert {path: path.read_bytes() for path in library.iterdir()} == before


def test_a_sidecar_that_stays_does_not_keep_those_of_its_shot(scan: Scan, library: Path, tmp_path: Path) -> None:
    for name in ("0.CR2", "0.MOV"):
        (library / name).write_bytes(b"of the same shot")
    scan("--write", "xmp", library)
    for name in ("0.jpg.xmp", "0.CR2.xmp"):
        (library / name).write_bytes((library / name).read_bytes()[:-40])
    result = phototag("untag", library, "--index", tmp_path / "index.sqlite3")
    assert result.exit_code == 1
    assert all(name in result.stderr for name in ("0.jpg", "0.CR2", "1 failed"))
    assert not (library / "0.MOV.xmp").exists()


def test_untag_wants_paths_or_a_run_that_there_was(scan: Scan, library: Path, tmp_path: Path) -> None:
    index = ("--index", tmp_path / "index.sqlite3")
    scan(library)
    for arguments in ([], ["--run", "1", library], ["--run", "7"]):
        result = phototag("untag", *arguments, *index)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert len(list(library.glob("*.json"))) == 6


# --- What people removed, and an index that is lost -------------------------------------------------------------------


@pytest.mark.needs_exiftool
@pytest.mark.parametrize("write", ["json", "embed", "xmp"])
@pytest.mark.parametrize("index_is_lost", [False, True])
def test_a_tag_that_a_person_removed_does_not_come_back(
    scan: Scan, make_photo: MakePhoto, tmp_path: Path, write: str, index_is_lost: bool
) -> None:
    photo = make_photo("a.jpg", (200, 180, 10))
    options = ("--write", write, "--top", "2", photo)
    scan(*options)
    assert keywords(photo) == ["green", "red"]
    remove_red(photo, write)
    for number in range(2):
        # That a person has edited a JSON sidecar is not to be seen without the index; it is noted there from then on.
        if index_is_lost and (number or write != "json"):
            for file in tmp_path.glob("index.sqlite3*"):
                file.unlink()
        result = scan("--force", "--format", "json", *options)
        assert [tag["name"] for tag in json.loads(result.stdout)["tags"]] == ["green"]
        assert keywords(photo) == ["green"]
    scan("--forget-rejections", *options)
    assert keywords(photo) == ["green", "red"]


@pytest.mark.parametrize("write", ["json", "embed", "xmp"])
def test_without_its_index_a_scan_takes_over_what_stands_there(
    scan: Scan, library: Path, tmp_path: Path, write: str
) -> None:
    scan("--write", write, library)
    before = {path: path.read_bytes() for path in library.iterdir()}
    for file in tmp_path.glob("index.sqlite3*"):
        file.unlink()
    result = scan("--write", write, library)
    # What has no tags left nothing, and has to be looked at again.
    assert "6 unchanged, 1 failed" in result.stderr
    assert result.stdout.splitlines() == [f"{library / 'z.png'}: (nothing sure enough)"]
    assert {path: path.read_bytes() for path in library.iterdir()} == before
    assert "7 unchanged" in scan("--write", write, library).stderr
    # A photo that has changed since, or another threshold, is looked at.
    for file in tmp_path.glob("index.sqlite3*"):
        file.unlink()
    os.utime(library / "0.jpg", (4e9, 4e9))
    assert "0.jpg: red" in scan("--write", write, library).stdout


@pytest.mark.parametrize("write", ["json", "xmp", "embed"])
def test_all_files_of_a_shot_are_untagged(scan: Scan, make_photo: MakePhoto, tmp_path: Path, write: str) -> None:
    folder = make_photo("IMG_1.jpg").parent
    for name in ("IMG_1.CR2", "IMG_1.MOV"):
        (folder / name).write_bytes(b"of the same shot")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    scan("--write", write, folder)
    assert {f"{name}{'.phototag.json' if write == 'json' else '.xmp'}" for name in ("IMG_1.CR2", "IMG_1.MOV")} <= {
        path.name for path in folder.iterdir()
    }
    untag = ("untag", "--index", tmp_path / "index.sqlite3", folder)
    assert phototag(*untag, "--dry-run").stdout.count("IMG_1.MOV.") == 1
    result = phototag(*untag)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("write", ["json", "xmp", "embed"])
def test_what_the_user_names_is_untagged_whatever_it_is(
    scan: Scan, make_photo: MakePhoto, tmp_path: Path, write: str
) -> None:
    photo = make_photo("IMG_1.jpg")
    others = [photo.with_name(name) for name in ("IMG_1.CR2", "IMG_1.MOV")]
    for other in others:
        other.write_bytes(b"of the same shot")
    (photo.parent / "notes.txt").write_text("no photo")
    scan("--write", write, photo.parent)
    photo.unlink()
    assert phototag("untag", "-n", photo.parent, "--index", tmp_path / "index.sqlite3").stdout.count(".MOV") == 0
    named = sorted(photo.parent.iterdir())  # as a shell's `*` does: with sidecars and all
    result = phototag("untag", *named, "--index", tmp_path / "index.sqlite3")
    assert (result.exit_code, result.stderr) == (0, "3 photos: 2 untagged.\n")
    assert result.stdout.count(": untagged (") == 2
    assert not [path for path in photo.parent.iterdir() if path.name.startswith(("IMG_1.CR2.", "IMG_1.MOV."))]


@pytest.mark.parametrize("is_scanned_between", [True, False])
@pytest.mark.parametrize("write", ["json", "xmp"])
def test_what_was_removed_can_be_forgotten_also_after_the_index_is_lost(
    scan: Scan, library: Path, tmp_path: Path, status: Callable[..., Any], write: str, is_scanned_between: bool
) -> None:
    photo = library / "0.jpg"
    arguments = ("--write", write, photo)
    scan(*arguments)
    if write == "json":
        sidecar = photo.with_name("0.jpg.phototag.json")
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "tags": []}))
    else:
        remove(photo.with_name("0.jpg.xmp"), "red")
    assert "nothing sure enough" in scan("--force", *arguments).stdout
    for file in tmp_path.glob("index.sqlite3*"):
        file.unlink()
    if is_scanned_between:
        assert "1 unchanged" in scan(*arguments).stderr
        assert status("--format", "json")["rejected"] == 1
    assert f"{photo}: red" in scan("--forget-rejections", *arguments).stdout
