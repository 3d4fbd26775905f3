"""Runs that are killed while they write into photos."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from phototag.index import Index, open_index
from phototag.metadata import embed
from phototag.metadata.embed import EmbedWriter
from phototag.photos.find import find_photos
from phototag.photos.kinds import UNFINISHED_PREFIX
from tests.helpers.faults import STAMP, unfinished
from tests.helpers.files import contents
from tests.helpers.program import lines, phototag
from tests.helpers.stages import ToyNetwork, make_pipeline

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals, pipes and modes as POSIX has them")


PHOTOS = 200
KILLS = 50


def embed_library(library: Path, index_path: Path, begin: Callable[[], object] = lambda: None) -> None:
    """What `phototag scan --write embed` does, with a date that can be foretold, and without TensorFlow.

    `begin` is called when the first photo is about to be written.
    """

    def load_network() -> ToyNetwork:
        begin()
        return ToyNetwork()

    setattr(embed, "stamp_now", lambda model_name, recipe: STAMP)  # noqa: B010
    with open_index(index_path) as index, index.run({}):
        pipeline = make_pipeline(
            index, load_network=load_network, writer=EmbedWriter("toy", index), jobs=1, batch_size=3
        )
        for _ in pipeline.run(find_photos([library]), lambda: False):
            pass


def embed_library_until_killed(library: Path, index_path: Path, steps: Any) -> None:
    """Embed, and report when the first photo is about to be written, and each photo that is in its place."""
    real = os.replace

    def reported(*given: Any, **options: Any) -> None:
        real(*given, **options)
        steps.send_bytes(b"replaced")

    os.replace = reported
    embed_library(library, index_path, lambda: steps.send_bytes(b"begun"))


def embed_library_until(library: Path, index_path: Path, function: str, calls: int) -> None:
    """Embed, and die at a call of `function`, before it does anything."""
    owner: Any = Index if function == "note_change" else os
    real, left = getattr(owner, function), calls

    def deadly(*given: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **options)

    setattr(owner, function, deadly)
    embed_library(library, index_path)


@pytest.fixture(scope="module")
def processes() -> Any:
    """Makes processes by forking one that has loaded all that is needed, and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture
def library(make_photo: Callable[..., Path]) -> Path:
    for number in range(PHOTOS):
        # Of each size there is one, so that no two photos have one content.
        make_photo(f"{number:03}.jpg", ["red", "lime", "blue"][number % 3], size=(8 + number, 8))
    return make_photo("000.jpg").parent


@pytest.fixture
def expected(library: Path, tmp_path: Path) -> dict[str, bytes]:
    """What each photo of the library is to become."""
    copy, index_path = tmp_path / "copy", tmp_path / "copy.sqlite3"
    shutil.copytree(library, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "stamp_now", lambda model_name, recipe: STAMP)
        embed_library(copy, index_path)
    return contents(copy)


def check_old_or_new(library: Path, before: dict[str, bytes], expected: dict[str, bytes]) -> int:
    """Check that each photo is whole, and return how many have their tags."""
    now = {name: data for name, data in contents(library).items() if not name.startswith(UNFINISHED_PREFIX)}
    assert now.keys() == before.keys()
    assert [name for name, data in now.items() if data not in (before[name], expected[name])] == []
    return sum(data == expected[name] for name, data in now.items())


def check_all_is_well_in_the_end(scan: Callable[..., Result], library: Path, index_path: Path) -> None:
    """A whole run after the dead ones, then one with nothing to do."""
    result = scan(library, "--write", "embed")
    assert (result.exit_code, unfinished(library)) == (0, []), result.stderr
    with closing(sqlite3.connect(index_path)) as connection:
        known = {
            os.fsdecode(path): facts for path, *facts in connection.execute("SELECT path, size, mtime_ns FROM photos")
        }
    assert known == {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in library.iterdir()}
    again = scan(library, "--write", "embed", "--format", "json")
    assert {one["status"] for one in lines(again)} == {"unchanged"}


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_harms_no_photo(
    scan: Callable[..., Result], library: Path, expected: dict[str, bytes], tmp_path: Path, processes: Any
) -> None:
    before, index_path, moments = contents(library), tmp_path / "index.sqlite3", random.Random(9)
    times = {name: (library / name).stat().st_mtime_ns for name in before}
    tagged = [0]
    for _ in range(KILLS):
        if tagged[-1] == PHOTOS:  # a fast disk: once more from the beginning
            for name, data in before.items():
                (library / name).write_bytes(data)
                os.utime(library / name, ns=(times[name], times[name]))
            tagged.append(0)
        steps, theirs = processes.Pipe(duplex=False)
        process = processes.Process(target=embed_library_until_killed, args=(library, index_path, theirs))
        process.start()
        theirs.close()
        assert steps.recv_bytes() == b"begun"
        # The work that is done is counted, for on a busy machine time alone says nothing. The moment is still any.
        wanted = min(moments.randrange(6), PHOTOS - tagged[-1])
        for _ in range(wanted):
            assert steps.recv_bytes() == b"replaced"
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.join()
        steps.close()
        now = check_old_or_new(library, before, expected)
        assert now >= tagged[-1] + wanted
        tagged.append(now)
    assert len(set(tagged)) > 5, "the kills came before any work, or after all of it"
    check_all_is_well_in_the_end(scan, library, index_path)
    assert {name: (library / name).stat().st_mtime_ns for name in before} == times
    assert phototag("untag", "--index", index_path, library).exit_code == 0
    assert contents(library) == before


@pytest.mark.parametrize(
    ("function", "calls"),
    # Of each photo's file, and then of the folder once for all of them.
    [(one, 1) for one in ("chmod", "note_change", "utime", "replace")] + [("fsync", number) for number in range(4)],
)
def test_a_run_that_is_killed_at_each_step_harms_no_photo(
    scan: Callable[..., Result],
    make_photo: Callable[..., Path],
    tmp_path: Path,
    processes: Any,
    function: str,
    calls: int,
) -> None:
    library, index_path = make_photo("a.jpg").parent, tmp_path / "index.sqlite3"
    make_photo("b.jpg", "lime")
    make_photo("c.jpg", "blue")
    before = contents(library)
    process = processes.Process(target=embed_library_until, args=(library, index_path, function, calls))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    changed = sorted(name for name, data in before.items() if (library / name).read_bytes() != data)
    assert changed == ["a.jpg", "b.jpg", "c.jpg"][:calls]
    # Before the photo is in its place there is another file, and from then on there is none.
    assert len(unfinished(library)) == ((function, calls) != ("fsync", 3))
    check_all_is_well_in_the_end(scan, library, index_path)
    assert phototag("untag", "--index", index_path, library).exit_code == 0
    assert contents(library) == before


def test_what_a_living_run_is_writing_is_not_removed(
    scan: Callable[..., Result], make_photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo("a.jpg")
    real = os.fsync
    seen = []

    def while_another_run_begins(descriptor: int) -> None:
        if temporary := unfinished(photo.parent):
            assert phototag("untag", "--index", photo.parent.parent / "other.sqlite3", photo.parent).exit_code == 0
            seen.append(unfinished(photo.parent) == temporary)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", while_another_run_begins)
    assert scan(photo, "--write", "embed").exit_code == 0
    assert seen == [True]
