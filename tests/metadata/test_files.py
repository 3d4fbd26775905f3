"""Files that appear whole or not at all, and what a dead run left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phototag.metadata.files import folders_synced_once, remove_unfinished, sync_postponed, write_file
from phototag.metadata.keywords import Unwritable
from phototag.photos.kinds import UNFINISHED_PREFIX, UNFINISHED_SUFFIX
from tests.helpers import PROJECT

PIECES: list[bytes | memoryview] = [b"one", memoryview(b"two"), b"", b"three"]
CONTENT = b"onetwothree"

# Writes a file, says so when half of it is there, and waits.
WRITER = """
import sys
from pathlib import Path
from phototag.metadata.files import write_file

def pieces():
    yield b"half"
    print("half", flush=True)
    sys.stdin.read()

write_file(Path(sys.argv[1]), pieces())
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"as it was")
    return path


@pytest.fixture
def writer(photo: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the midst of writing `photo`."""
    command = [sys.executable, "-c", WRITER, str(photo)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        try:
            yield process
        finally:
            process.kill()


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(f"{UNFINISHED_PREFIX}*{UNFINISHED_SUFFIX}"))


def is_as_it_was(photo: Path) -> bool:
    return photo.read_bytes() == b"as it was" and list(photo.parent.iterdir()) == [photo]


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file cannot be removed in any case")
def test_what_is_being_written_is_not_removed_and_what_a_dead_process_left_is(
    photo: Path, writer: subprocess.Popen[str]
) -> None:
    (temporary,) = unfinished(photo.parent)
    remove_unfinished(temporary)
    assert unfinished(photo.parent) == [temporary]
    writer.kill()
    writer.wait()
    assert unfinished(photo.parent) == [temporary]
    remove_unfinished(temporary)
    assert is_as_it_was(photo)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and symbolic links in folders")
def test_only_files_are_removed_as_unfinished(photo: Path) -> None:
    names = [photo.with_name(f"{UNFINISHED_PREFIX}{kind}{UNFINISHED_SUFFIX}") for kind in ("link", "pipe", "folder")]
    names[0].symlink_to(photo)
    os.mkfifo(names[1])
    names[2].mkdir()
    for name in names:
        remove_unfinished(name)
    remove_unfinished(photo.with_name("not there"))
    assert sorted(photo.parent.iterdir()) == sorted([photo, *names])


def test_a_new_file_has_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new.xmp"
    write_file(path, PIECES, mode=0o640)
    assert path.read_bytes() == CONTENT
    assert os.name == "nt" or path.stat().st_mode & 0o7777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="there files have no modes")
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o4755])
def test_mode_and_times_are_kept(photo: Path, mode: int) -> None:
    photo.chmod(mode)
    os.utime(photo, ns=(1_111_111_111_222_333_444, 1_222_222_222_333_444_555))
    before = photo.stat()
    write_file(photo, PIECES, like=before, times=(before.st_atime_ns, before.st_mtime_ns), read_back=True)
    after = photo.stat()
    assert photo.read_bytes() == CONTENT
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert after.st_ino != before.st_ino


def test_the_time_changes_where_it_is_not_to_be_kept(photo: Path) -> None:
    os.utime(photo, ns=(1, 1))
    write_file(photo, PIECES, like=photo.stat())
    assert photo.stat().st_mtime_ns > 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_is_kept_and_with_it_the_special_bits(photo: Path) -> None:
    os.chown(photo, 1234, 2345)
    photo.chmod(0o6750)
    before = photo.stat()
    write_file(photo, PIECES, like=before)
    after = photo.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (1234, 2345, before.st_mode)


@pytest.mark.skipif(os.name == "nt", reason="there files have no owner of this kind")
def test_a_file_whose_owner_cannot_be_kept_is_left_alone(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    like = os.stat_result((*photo.stat()[:4], 1234, 2345, *photo.stat()[6:]))
    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(Unwritable, match="it belongs to another user or group"):
        write_file(photo, PIECES, like=like)
    assert is_as_it_was(photo)


@pytest.fixture
def with_attributes(photo: Path) -> Path:
    try:
        os.setxattr(photo, "user.rating", b"five\0stars")
        os.setxattr(photo, "user.empty", b"")
    except (AttributeError, OSError):
        pytest.skip("the temporary folder's file system has no extended attributes")
    return photo


def test_extended_attributes_are_kept(with_attributes: Path) -> None:
    write_file(with_attributes, PIECES, like=with_attributes.stat())
    names = [name for name in os.listxattr(with_attributes) if name.startswith("user.")]
    assert {name: os.getxattr(with_attributes, name) for name in names} == {
        "user.rating": b"five\0stars",
        "user.empty": b"",
    }


def test_a_file_whose_attributes_cannot_be_kept_is_left_alone(
    with_attributes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(Unwritable, match=r"its extended attribute user\.\w+ cannot be kept"):
        write_file(with_attributes, PIECES, like=with_attributes.stat())
    assert is_as_it_was(with_attributes)


def test_what_is_on_the_disk_is_shown_before_the_rename(photo: Path) -> None:
    shown: list[bytes | None] = []

    def look(content: bytes | None) -> None:
        shown.append(content)
        assert photo.read_bytes() == b"as it was"

    write_file(photo, PIECES, before_rename=look, read_back=True)
    write_file(photo.with_name("b"), PIECES, before_rename=shown.append)
    assert shown == [CONTENT, None]


@pytest.mark.parametrize("error", [Unwritable("no"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_where_the_rename_is_refused(photo: Path, error: BaseException) -> None:
    def refuse(_: bytes | None) -> None:
        raise error

    with pytest.raises(type(error)):
        write_file(photo, PIECES, before_rename=refuse)
    assert is_as_it_was(photo)


@pytest.mark.parametrize("step", ["fsync", "utime", "replace", "chmod"])
def test_nothing_is_left_where_a_step_fails(photo: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_file(photo, PIECES, like=photo.stat(), times=(1, 1))
    assert is_as_it_was(photo)


def test_nothing_is_left_where_a_piece_cannot_be_made(photo: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("no such piece")

    with pytest.raises(ValueError, match="no such piece"):
        write_file(photo, pieces())
    assert is_as_it_was(photo)


def test_all_is_durable_before_the_rename_and_the_rename_after_it(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def noted(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def noting(*given: Any) -> None:
            steps.append(name)
            real(*given)

        return noting

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    write_file(photo, PIECES)
    assert steps == (["fsync", "replace", "fsync"] if os.name != "nt" else ["fsync", "replace"])


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that were made durable, in order."""
    names: list[str] = []
    real = os.fsync

    def noting(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            names.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    return names


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which folder it is")
def test_a_folder_is_made_durable_at_once_or_once_for_many_files(tmp_path: Path, synced: list[str]) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    write_file(folders[0] / "1", PIECES)
    assert synced == ["a"]
    with pytest.raises(KeyError), folders_synced_once():
        for number in range(3):
            write_file(folders[0] / f"{number}", PIECES)
        with folders_synced_once():
            write_file(folders[1] / "1", PIECES)
        assert synced == ["a"]
        other = threading.Thread(target=write_file, args=(folders[1] / "2", PIECES))
        other.start()
        other.join()
        assert synced == ["a", "b"]
        sync_postponed()
        assert sorted(synced) == ["a", "a", "b", "b"]
        write_file(folders[0] / "4", PIECES)
        raise KeyError
    assert sorted(synced) == ["a", "a", "a", "b", "b"]
