"""The files of one shot: a photo and its companions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from phototag.core import Photo
from phototag.errors import PhotoError
from phototag.photos.find import find_photos


@pytest.mark.parametrize(
    ("photo", "companions"),
    [
        ("IMG_1.JPG", ["IMG_1.CR2"]),
        ("IMG_1.jpeg", ["img_1.nef"]),
        ("IMG_1.HEIC", ["IMG_1.DNG", "IMG_1.MOV"]),
        ("IMG_1.heic", ["IMG_1.mov"]),
        ("DSCF1.HIF", ["DSCF1.RAF"]),
        ("two.dots.jpg", ["two.dots.cr3"]),
        ("PXL_2.RAW-01.COVER.jpg", ["PXL_2.RAW-02.ORIGINAL.dng"]),
        ("PXL_2.RAW-01.MP.COVER.jpg", ["PXL_2.RAW-02.ORIGINAL.dng"]),
    ],
)
def test_the_files_of_one_shot_come_with_its_photo(
    tree: Callable[..., Path], photo: str, companions: list[str]
) -> None:
    root = tree(f"a/{photo}", *(f"a/{name}" for name in companions), "a/other.jpg")
    found = list(find_photos([root]))
    with_companions = {one.path: one.companions for one in found if isinstance(one, Photo)}
    assert with_companions == {
        root / "a" / photo: tuple(root / "a" / name for name in companions),
        root / "a/other.jpg": (),
    }
    assert len(found) == 2


@pytest.mark.parametrize(
    "names",
    [
        ("IMG_1.JPG", "IMG_2.CR2"),
        ("IMG_1.JPG", "raw/IMG_1.CR2"),
        ("IMG_1.JPG", "IMG_1.mp4"),
        ("IMG_1.JPG", "IMG_1.edited.dng"),
        ("IMG_E1234.JPG", "IMG_1234.MOV"),
        ("IMG_1-edited.JPG", "IMG_1.DNG"),
        ("IMG_1.png", "IMG_1.CR2"),  # an export: its pixels are its own
        ("DSCF1.HIF", "DSCF1.MOV"),
        ("IMG_1.JPG", "._IMG_1.CR2"),
        ("IMG_1.JPG", "IMG_1.CR2/"),
        ("PXL_1.RAW-01.COVER.jpg", "PXL_2.RAW-02.ORIGINAL.dng"),
    ],
)
def test_files_of_other_shots_are_no_companions(tree: Callable[..., Path], names: tuple[str, ...]) -> None:
    found = list(find_photos([tree(*names)]))
    assert [one.companions for one in found if isinstance(one, Photo) and one.path.name == names[0]] == [()]


def test_each_file_has_one_photo_it_goes_with_the_jpeg_first(tree: Callable[..., Path]) -> None:
    root = tree("IMG_1.HEIC", "IMG_1.JPG", "IMG_1.jpeg", "IMG_1.DNG", "IMG_1.MOV", "IMG_1.ORF")
    found = {one.path.name: one.companions for one in find_photos([root]) if isinstance(one, Photo)}
    assert found == {
        "IMG_1.HEIC": (),
        "IMG_1.JPG": (root / "IMG_1.DNG", root / "IMG_1.MOV", root / "IMG_1.ORF"),
        "IMG_1.jpeg": (),
    }


@pytest.mark.parametrize("left_out", ["IMG_1.CR2", "IMG_1.JPG"])
def test_what_is_left_out_is_no_companion_and_has_none(tree: Callable[..., Path], left_out: str) -> None:
    root = tree("IMG_1.JPG", "IMG_1.CR2")
    found = list(find_photos([root], exclude=[left_out]))
    assert [one.companions for one in found if isinstance(one, Photo)] in ([()], [])
    assert {one.path.name for one in found if not isinstance(one, PhotoError)} == {"IMG_1.JPG", "IMG_1.CR2"}


@pytest.mark.parametrize("follow_symlinks", [False, True])
def test_a_link_is_no_companion(tree: Callable[..., Path], tmp_path: Path, follow_symlinks: bool) -> None:
    root = tree("IMG_1.JPG")
    (tmp_path / "elsewhere.CR2").write_bytes(b"II*\0")
    (root / "IMG_1.CR2").symlink_to(tmp_path / "elsewhere.CR2")
    found = find_photos([root], follow_symlinks=follow_symlinks)
    assert [one.companions for one in found if isinstance(one, Photo) and one.path.suffix == ".JPG"] == [()]


def test_what_is_named_itself_has_no_companions_and_is_none(tree: Callable[..., Path]) -> None:
    root = tree("IMG_1.JPG", "IMG_1.CR2", "IMG_2.JPG", "IMG_2.CR2")
    for named in ("IMG_1.JPG", "IMG_1.CR2"):
        found = [one for one in find_photos([root, root / named]) if not isinstance(one, PhotoError)]
        assert sorted(one.path.name for one in found) == ["IMG_1.CR2", "IMG_1.JPG", "IMG_2.JPG"]
        assert {one.path.name: one.companions for one in found if isinstance(one, Photo)}["IMG_1.JPG"] == ()
