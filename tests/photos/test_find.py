from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from phototag.core import Photo, SkippedFile
from phototag.errors import ConfigError, PhotoError
from phototag.photos.find import find_photos
from tests.helpers.finding import JPEG, photos
from tests.helpers.program import powerless


def test_folders_are_searched_in_order_of_names(tree: Callable[..., Path]) -> None:
    root = tree("b/2.jpg", "b/10.jpg", "a.JPG", "c.heic", "b/deep/er/x.png", "empty/")
    assert photos(find_photos([root]), root) == ["a.JPG", "b/10.jpg", "b/2.jpg", "b/deep/er/x.png", "c.heic"]


def test_a_photo_comes_with_its_size_and_mtime(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg")
    os.utime(root / "a.jpg", ns=(1, 1_700_000_000_123_456_789))
    (photo,) = find_photos([root])
    assert photo == Photo(root / "a.jpg", len(JPEG), 1_700_000_000_123_456_789)


def test_a_photo_is_a_path_to_what_takes_one(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg")
    (photo,) = find_photos([root])
    assert isinstance(photo, Photo)
    assert os.fsencode(photo) == os.fsencode(root / "a.jpg")
    assert Path(photo) == photo.path == root / "a.jpg"
    assert Path(photo).read_bytes() == JPEG
    assert {photo, Photo(root / "a.jpg", photo.size, photo.mtime_ns)} == {photo}
    assert photo != Photo(path=root / "a.jpg", size=photo.size, mtime_ns=photo.mtime_ns + 1)
    assert replace(photo, path=root / "b.jpg").path == root / "b.jpg"
    assert "a.jpg" in repr(photo)
    with pytest.raises(FrozenInstanceError):
        photo.size = 1  # type: ignore[misc]
    assert not hasattr(photo, "__dict__")


def test_paths_are_absolute_whatever_is_given(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("sub/a.jpg")
    monkeypatch.chdir(root)
    for given in ("sub", "./sub/", "sub/../sub", "sub/a.jpg"):
        assert [one.path for one in find_photos([Path(given)]) if isinstance(one, Photo)] == [root / "sub/a.jpg"]


@pytest.mark.parametrize(
    ("content", "is_photo"),
    [
        (b"\xff\xd8\xff\xe0....", True),
        (b"\x89PNG\r\n\x1a\n....", True),
        (b"RIFF....WEBPVP8 ", True),
        (b"\0\0\0\x18ftypheic....", True),
        (b"BM....\0\0\0\0....\x28\0\0\0", True),
        (b"BMW is a car of many letters", False),
        (b"\0\0\0\x18ftypqt  ....", False),
        (b"plain text", False),
        (b"", False),
    ],
)
@pytest.mark.parametrize("name", ["IMG_0001", "photo.unheard-of"])
def test_a_name_without_a_known_suffix_is_judged_by_content(
    tree: Callable[..., Path], content: bytes, is_photo: bool, name: str
) -> None:
    (found,) = find_photos([tree(name, content=content)])
    assert isinstance(found, Photo) == is_photo


def test_what_is_no_photo_is_passed_over(tree: Callable[..., Path]) -> None:
    root = tree("labels.json", "film.mp4", "a.jpg.xmp", "notes.txt")
    assert [(one.kind, one.path.name) for one in find_photos([root]) if isinstance(one, SkippedFile)] == [
        ("sidecar", "a.jpg.xmp"),
        ("other", "film.mp4"),
        ("other", "labels.json"),
        ("other", "notes.txt"),
    ]


def test_own_sidecars_are_not_worth_a_word(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "a.jpg.phototag.json")
    assert [one.path.name for one in find_photos([root]) if not isinstance(one, PhotoError)] == ["a.jpg"]


def test_photos_that_cannot_be_read_are_told_apart(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phototag.photos.find.reads_raw", lambda: False)
    root = tree("a.CR2", "b.jxl", "c.dng")
    found = list(find_photos([root]))
    assert [one.kind for one in found if isinstance(one, SkippedFile)] == ["unreadable"] * 3
    assert "RAW" in str(found[0])
    assert "JPEG XL" in str(found[1])


def test_every_photo_comes_once(tree: Callable[..., Path]) -> None:
    root = tree("a/1.jpg", "a/b/2.jpg", "c.jpg")
    given = [root / "a/b", root, root / "a", root / "c.jpg", root / "a/../c.jpg", root]
    assert sorted(photos(find_photos(given), root)) == ["a/1.jpg", "a/b/2.jpg", "c.jpg"]


def test_links_are_followed_on_request_only_and_loops_end(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree("a/1.jpg")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "2.jpg").write_bytes(JPEG)
    (root / "a/loop").symlink_to(root)
    (root / "b").symlink_to(elsewhere)
    (root / "c").symlink_to(elsewhere)
    (root / "0.jpg").symlink_to(root / "a/1.jpg")
    (root / "z.jpg").symlink_to(elsewhere / "2.jpg")
    assert photos(find_photos([root]), root) == ["a/1.jpg"]
    assert photos(find_photos([root], follow_symlinks=True), root) == ["0.jpg", "b/2.jpg"]


def test_a_path_that_is_given_may_be_a_link(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree("1.jpg")
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "link.jpg").symlink_to(root / "1.jpg")
    assert photos(find_photos([tmp_path / "link"]), tmp_path) == ["link/1.jpg"]
    assert photos(find_photos([tmp_path / "link.jpg"]), tmp_path) == ["link.jpg"]


def test_a_dangling_link_inside_is_a_failure_not_an_end(tree: Callable[..., Path]) -> None:
    root = tree("z.jpg")
    (root / "a.jpg").symlink_to("nowhere.jpg")
    error, photo = find_photos([root], follow_symlinks=True)
    assert isinstance(error, PhotoError)
    assert "a symbolic link that leads nowhere" in error.reason
    assert isinstance(photo, Photo)


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/a.jpg",
        ".thumbnails/a.jpg",
        "._a.jpg",
        ".hidden.jpg",
        "Lightroom Previews.lrdata/a.jpg",
        "Photos Library.photoslibrary/originals/a.jpg",
        "#recycle/a.jpg",
        "$Recycle.Bin/a.jpg",
        "a.jpg_original",
        "a.jpg~",
    ],
)
def test_what_programs_keep_for_themselves_is_left_out_by_default(tree: Callable[..., Path], name: str) -> None:
    root = tree(name, "b.jpg")
    assert photos(find_photos([root]), root) == ["b.jpg"]
    assert len(photos(find_photos([root], default_excludes=False), root)) == 2


def test_a_path_that_is_given_is_never_excluded(tree: Callable[..., Path]) -> None:
    root = tree(".hidden/a.jpg", ".b.jpg")
    assert photos(find_photos([root / ".hidden", root / ".b.jpg", root]), root) == [".b.jpg", ".hidden/a.jpg"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.png"], ["a.jpg", "trip/b.jpg", "trip/raw/d.jpg"]),
        (["raw/"], ["a.jpg", "trip/b.jpg", "trip/c.png"]),
        (["/trip"], ["a.jpg"]),
        (["trip/*", "!trip/b.jpg"], ["a.jpg", "trip/b.jpg"]),
        (["b.jpg", "*.png"], ["a.jpg", "trip/raw/d.jpg"]),
    ],
)
def test_exclude_takes_gitignore_patterns(tree: Callable[..., Path], patterns: list[str], expected: list[str]) -> None:
    root = tree("a.jpg", "trip/b.jpg", "trip/c.png", "trip/raw/d.jpg")
    assert photos(find_photos([root], exclude=patterns), root) == expected


def test_patterns_mean_what_they_mean_to_git(tree: Callable[..., Path]) -> None:
    """Each file is held against all patterns at once first, which must not change what comes out."""
    names = [
        f"{folder}{name}" for folder in ("", "a/", "a/b/", "keep/", "[x]/") for name in ("1.jpg", "b.png", "a b.gif")
    ]
    root = tree(*names)
    lines = [
        "*.gif",
        "!a b.gif",
        "a/b",
        "/b.png",
        "**/keep/*.p?g",
        "!keep/1.jpg",
        "[[]x]/",
        "[(?P<x>]",
        "# all",
        "",
        "nothing/",
    ]
    for count in range(1, len(lines) + 1):
        subprocess.run(["git", "init", "-q", root], check=True)
        (root / ".git/info/exclude").write_text("\n".join(lines[:count]) + "\n")
        ignored = subprocess.run(
            ["git", "-C", root, "check-ignore", "--no-index", *names], capture_output=True, text=True
        ).stdout.splitlines()
        assert set(photos(find_photos([root], exclude=lines[:count]), root)) == set(names) - set(ignored)


@pytest.mark.parametrize("name", [".phototagignore", ".ppignore"])
def test_ignore_files_hold_for_their_folder_the_inner_one_last(tree: Callable[..., Path], name: str) -> None:
    root = tree("a.jpg", "trip/a.jpg", "trip/b.jpg", "trip/raw/a.jpg", "trip/raw/c.jpg")
    (root / "trip" / name).write_text("a.jpg\n# a comment\n\n/raw/c.jpg\r\n")
    (root / "trip/raw" / name).write_text("!c.jpg\n")
    assert photos(find_photos([root]), root) == ["a.jpg", "trip/b.jpg", "trip/raw/c.jpg"]


@pytest.mark.parametrize("name", [".nomedia", ".noimage"])
def test_a_stop_file_leaves_out_the_folder_and_all_below(tree: Callable[..., Path], name: str) -> None:
    root = tree("a.jpg", f"private/{name}", "private/b.jpg", "private/deep/c.jpg")
    assert photos(find_photos([root]), root) == ["a.jpg"]
    assert photos(find_photos([root], default_excludes=False), root) == ["a.jpg"]


def test_a_malformed_ignore_file_leaves_its_folder_out_and_says_so(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "trip/b.jpg")
    (root / "trip/.phototagignore").write_text("!\n")
    photo, error = find_photos([root])
    assert isinstance(photo, Photo)
    assert isinstance(error, PhotoError)
    assert ".phototagignore" in error.reason


def test_a_malformed_exclude_is_known_before_the_walk(tree: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="exclude="):
        find_photos([tree("a.jpg")], exclude=["!"])


def test_a_missing_path_is_known_before_the_walk(tree: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing does not exist"):
        find_photos([tree("a.jpg"), tmp_path / "missing"])
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="link to nothing"):
        find_photos([tmp_path / "dangling"])


def test_a_shells_star_may_name_what_is_no_photo(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "a.jpg.phototag.json", "notes.txt")
    photo, other = find_photos(sorted(root.iterdir()))
    assert isinstance(photo, Photo)
    assert isinstance(other, SkippedFile)
    assert other.kind == "other"


def test_links_that_lead_nowhere_are_failures_and_the_walk_goes_on(tree: Callable[..., Path]) -> None:
    root = tree("z.jpg")
    (root / "a").symlink_to("a")
    (root / "b.jpg").symlink_to("b.jpg")
    (root / "c.jpg.phototag.json").symlink_to("c.jpg.phototag.json")
    *broken, photo = find_photos([root], follow_symlinks=True)
    assert [type(one) for one in broken] == [PhotoError] * 3
    assert isinstance(photo, Photo)
    assert [one.path.name for one in find_photos([root]) if isinstance(one, Photo)] == ["z.jpg"]


def test_a_folder_of_two_names_is_walked_once(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree("a.jpg")
    (tmp_path / "again").symlink_to(root)
    assert photos(find_photos([root, tmp_path / "again"]), root) == ["a.jpg"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_an_ignore_file_that_is_no_file_leaves_its_folder_out(
    tree: Callable[..., Path], make: Callable[[Path], None]
) -> None:
    root = tree("a.jpg", "trip/b.jpg")
    make(root / "trip/.phototagignore")
    photo, error = find_photos([root])
    assert isinstance(photo, Photo)
    assert isinstance(error, PhotoError)
    assert ".phototagignore in it is not a file" in error.reason


def test_ignore_files_above_what_is_given_hold_too(tree: Callable[..., Path]) -> None:
    root = tree("up/down/a.jpg", "up/down/b.jpg", "up/down/c/d.jpg")
    (root / ".phototagignore").write_text("a.jpg\n")
    (root / "up/.phototagignore").write_text("down/c/\n")
    assert photos(find_photos([root / "up/down"]), root) == ["up/down/b.jpg"]
    (root / "up/.phototagignore").write_text("down/\n")
    assert photos(find_photos([root]), root) == []
    assert photos(find_photos([root / "up/down"]), root) == ["up/down/b.jpg", "up/down/c/d.jpg"]


def test_a_folder_that_is_given_is_walked_also_with_a_stop_file(tree: Callable[..., Path]) -> None:
    root = tree("private/.nomedia", "private/b.jpg", "private/deep/.nomedia", "private/deep/c.jpg")
    assert photos(find_photos([root / "private"]), root) == ["private/b.jpg"]


def test_pipes_are_never_opened(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg")
    os.mkfifo(root / "pipe.jpg")
    os.mkfifo(root / "pipe")
    assert photos(find_photos([root]), root) == ["a.jpg"]


@pytest.mark.parametrize(
    "name", [b"with space.jpg", "Größe 日本.jpg".encode(), b"two\nlines.jpg", b"-dash.jpg", b"\xff\xfe.jpg"]
)
def test_any_name_is_found(tree: Callable[..., Path], name: bytes) -> None:
    root = tree(name)
    (found,) = find_photos([root])
    assert isinstance(found, Photo)
    assert os.fsencode(found.path.name) == name


def test_a_tree_deeper_than_pythons_stack_is_walked(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 200
    folder = tmp_path
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
        folder = folder / "d"
    with os.fdopen(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor), "wb") as file:
        file.write(JPEG)
    os.close(descriptor)
    try:
        assert [one.path for one in find_photos([tmp_path]) if isinstance(one, Photo)] == [folder / "a.jpg"]
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # pytest's own clean-up is recursive


def test_an_unreadable_folder_is_a_failure_and_the_walk_goes_on(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "locked/b.jpg", "z.jpg")
    (root / "locked").chmod(0)
    script = (
        "import sys, pathlib, phototag.photos.find as photos\n"
        "print(*photos.find_photos([pathlib.Path(sys.argv[1])]), sep='\\n')"
    )
    command = powerless(sys.executable, "-c", script, root)
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        (root / "locked").chmod(0o755)
    first, second, third = result.stdout.splitlines()
    assert "a.jpg" in first
    assert second.endswith("locked: the folder cannot be read (permission denied); check its permissions")
    assert "z.jpg" in third


@pytest.mark.parametrize("pattern", ["[z-a]", "*a*a*a*a*a*a*a*a*a*b", "[a-z]*" * 1000, "**/**/**/**/a"])
def test_a_hostile_pattern_leaves_its_folder_out_and_nothing_hangs(tree: Callable[..., Path], pattern: str) -> None:
    root = tree("z.jpg", f"trip/{'a' * 240}.jpg")
    (root / "trip/.phototagignore").write_text(pattern + "\n")
    error, photo = find_photos([root])
    assert isinstance(error, PhotoError)
    assert isinstance(photo, Photo)
    with pytest.raises(ConfigError, match="exclude="):
        find_photos([root], exclude=[pattern])


def test_an_ignore_file_that_is_too_long_is_not_cut(tree: Callable[..., Path]) -> None:
    root = tree("trip/a.jpg")
    (root / "trip/.phototagignore").write_text("# comment\n" * 120_000 + "*.jpg\n")
    (error,) = find_photos([root])
    assert isinstance(error, PhotoError)
    assert "more than a megabyte" in error.reason


def test_a_folder_that_is_named_like_a_sidecar_is_walked(tree: Callable[..., Path]) -> None:
    root = tree("x.phototag.json/a.jpg")
    assert photos(find_photos([root]), root) == ["x.phototag.json/a.jpg"]


def test_a_current_folder_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match=r"the current folder, .* is gone"):
        find_photos([Path(".")])
    monkeypatch.chdir(tmp_path)


def test_a_starry_comment_in_an_ignore_file_is_only_a_comment(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "b.png")
    (root / ".phototagignore").write_text("# ***** what is left out *****\n*.png\n")
    assert photos(find_photos([root]), root) == ["a.jpg"]


def test_a_folder_that_goes_before_its_turn_is_a_failure_and_the_walk_goes_on(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "gone/b.jpg", "z.jpg")
    found = find_photos([root])
    first = next(found)
    shutil.rmtree(root / "gone")
    error, last = found
    assert isinstance(error, PhotoError)
    assert error.path == str(root / "gone")
    assert error.reason == (
        "the folder cannot be read (no such file or directory); check the disk or the network it is on"
    )
    assert photos([first, last], root) == ["a.jpg", "z.jpg"]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_goes_while_it_is_walked_is_one_failure_not_one_for_each_photo(
    tree: Callable[..., Path], is_replaced: bool
) -> None:
    root = tree(*(f"gone/{number:04}.jpg" for number in range(1000)), "z.jpg")
    found = find_photos([root])
    assert photos([next(found), next(found)], root) == ["gone/0000.jpg", "gone/0001.jpg"]
    (root / "gone").rename(root.parent / "elsewhere")
    if is_replaced:  # as the empty folder on which a disk was mounted
        (root / "gone").mkdir()
    error, last = found
    assert isinstance(error, PhotoError)
    assert error.path == str(root / "gone")
    assert photos([last], root) == ["z.jpg"]


def test_a_photo_that_goes_while_its_folder_stays_is_a_failure_of_its_own(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "b.jpg", "c.jpg")
    found = find_photos([root])
    first = next(found)
    (root / "b.jpg").unlink()
    error, last = found
    assert isinstance(error, PhotoError)
    assert (error.path, error.reason) == (str(root / "b.jpg"), "it is gone, or was never there")
    assert photos([first, last], root) == ["a.jpg", "c.jpg"]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
@pytest.mark.parametrize("after", [0, 2])
def test_a_network_folder_that_fails_while_it_is_listed_is_a_failure_and_the_walk_goes_on(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, number: int, after: int
) -> None:
    """No such folder can be made here, so the system's call is made to fail; 0: at once, 2: after two entries."""
    root = tree("a.jpg", "far/1.jpg", "far/2.jpg", "far/3.jpg", "z.jpg")
    scandir = os.scandir

    @contextlib.contextmanager
    def failing(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        def entries() -> Iterator[os.DirEntry[str]]:
            with scandir(path) as found:
                for count, entry in enumerate(found):
                    if count == after and path.endswith("far"):
                        raise OSError(number, os.strerror(number))
                    yield entry

        yield entries()

    monkeypatch.setattr(os, "scandir", failing)
    first, error, last = find_photos([root])
    assert isinstance(error, PhotoError)
    assert error.path == str(root / "far")
    assert os.strerror(number).lower() in error.reason
    assert photos([first, last], root) == ["a.jpg", "z.jpg"]
