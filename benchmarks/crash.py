"""Kill phototag at random moments with kill -9, and check that a normal run then gives the result of a single run.

    python benchmarks/crash.py [--kills N] [--photos N] [--seed N]

For `--write json` and `--write embed`, this tags copies of some photos in one run. It tags other copies with N scans
that it kills at random moments, and then with one normal run. Between the scans it also kills runs of `untag`, so that
there is always work. It compares all files except for dates, and the rows of the index. Then it lets `untag` undo
everything, and compares the result with the original photos.

A toy of a few lines replaces the model. Otherwise loading TensorFlow would take nearly all the time, and most kills
would hit it. Everything else is the real program.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phototag.core import Photo
from phototag.index import open_index
from phototag.photos.digest import content_digest
from phototag.photos.find import find_photos

# The program, with a model that calls a red photo red.
PROGRAM = """
import sys
import numpy as np
import phototag.analysis.classifier

class Toy:
    by_image = True
    scores = "probabilities"

    def __init__(self, *_, **__):
        pass

    def results(self, images, kind):
        sums = np.exp(30 * images.mean(axis=(1, 2), dtype=np.float64) / 255)
        return {"objects": (sums / sums.sum(axis=1, keepdims=True)).astype(np.float32)}

phototag.analysis.classifier.Classifier = Toy
from phototag.cli import main
main()
"""
DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")
# The options of the killed scans. A photo records its history, so other tags would leave it with different bytes than a
# single run does.
OPTIONS = {"json": (["--top", "1"], ["--top", "2"], ["--force"], []), "embed": (["--force"], [])}
COLOURS = ("red", "lime", "blue", "white")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the program."""
    command = [sys.executable, "-c", PROGRAM, *(os.fspath(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_a_line(process: subprocess.Popen[str]) -> float:
    """Wait until the program has printed a line or ended, and return how many seconds it took."""
    started = time.monotonic()
    assert process.stdout is not None
    process.stdout.readline()
    return time.monotonic() - started


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for the program, and return its exit code."""
    _, errors = process.communicate()
    if process.returncode > 0:
        print(errors, file=sys.stderr)
    return process.returncode


def make_photos(folder: Path, count: int, seed: int) -> dict[str, bytes]:
    """Make distinct photos below `folder`, and return them by their names."""
    noise = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"{number % 7}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.array(Image.new("RGB", (64, 48), COLOURS[number % len(COLOURS)]))
        image[:8] = noise.integers(0, 256, (8, 64, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG")
        path.write_bytes(file.getvalue())
        os.utime(path, ns=(0, 1_700_000_000_000_000_000 + number))
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below `folder` by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def looks(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and time of each file below `folder`, which differ once it is written again."""
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def without_dates(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files with a placeholder for each date."""
    return {name: DATE.sub(b"DATE", data) for name, data in files.items()}


def rows(index_path: Path, folder: Path, model: str) -> dict[str, Any]:
    """Return the row of each photo below `folder` in the index, without the run that wrote it."""
    known_of: dict[str, Any] = {}
    with open_index(index_path) as index:
        for one in find_photos([folder]):
            if not isinstance(one, Photo):
                continue
            known, name = index.known(one), os.path.relpath(one, folder)
            if known is None or not known.is_of(one):
                raise SystemExit(f"{name} is not known as it is")
            digest = content_digest(one.path.read_bytes())
            if index.digest(known) not in (digest, None):
                raise SystemExit(f"{name} is known with another content than it has")
            files = sorted(os.path.relpath(path, folder) for path in known.written)
            scores = index.results(known, [model]).get(model)
            known_of[name] = (one.mtime_ns, known.recipe, files, index.tags(known), scores)
        known_of["photos in all"] = index.count()
        known_of["failures"] = index.failures()
    return known_of


class Library:
    """Photos, their index, and the runs of the program on them."""

    def __init__(self, folder: Path, model: Path, write: str, photos: int, seed: int) -> None:
        self.folder = folder / "photos"
        self.index = folder / "index.sqlite3"
        self._model = model
        self._write = write
        self.originals = make_photos(self.folder, photos, seed)

    def scan(self, *more: str) -> subprocess.Popen[str]:
        """Start a scan with one photo per batch, so that kills hit many different states."""
        options: list[str | Path] = [
            "--model",
            self._model,
            "--index",
            self.index,
            "--write",
            self._write,
            "--batch-size",
            "1",
        ]
        return start("scan", *options, *more, self.folder)

    def untag(self) -> subprocess.Popen[str]:
        """Start a run that removes all tags."""
        return start("untag", "--index", self.index, self.folder)

    def state(self) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Return the files without dates, and the rows of the index."""
        return without_dates(contents(self.folder)), rows(self.index, self.folder, scores_name(self._model))


def scores_name(model: Path) -> str:
    """Return the key under which the index stores the scores of the model in that directory."""
    from phototag.analysis.objects import scores_key
    from phototag.models.find import find_model

    return scores_key(find_model(os.fspath(model)), 1, "probabilities")


def compare(place: Path, model: Path, write: str, *, kills: int, photos: int, seed: int) -> tuple[int, int]:
    """Return how many of the `kills` hit a running program, and how many of those hit it after its first write.

    Raises `SystemExit` if the result is not that of a single run.
    """
    alone = Library(place / f"{write}-alone", model, write, photos, seed)
    process = alone.scan()
    until_first = wait_for_a_line(process)
    started = time.monotonic()
    if finish(process) != 0:
        raise SystemExit("the run that is not killed failed")
    seconds = time.monotonic() - started
    killed = Library(place / f"{write}-killed", model, write, photos, seed)
    chance = random.Random(seed)
    hits = writing = 0
    for _ in range(kills):
        before = looks(killed.folder)
        is_scan = chance.random() < 0.7
        process = killed.scan(*chance.choice(OPTIONS[write])) if is_scan else killed.untag()
        if chance.random() < 0.2:  # while it starts
            time.sleep(chance.uniform(0, until_first))
        else:
            wait_for_a_line(process)
            time.sleep(chance.uniform(0, seconds))
        process.kill()
        hits += finish(process) < 0
        writing += looks(killed.folder) != before
    if finish(killed.scan()) != 0:
        raise SystemExit(f"--write {write}: the run after {kills} kills failed")
    check("files", alone.state()[0], killed.state()[0])
    check("rows", alone.state()[1], killed.state()[1])
    if finish(killed.untag()) != 0:
        raise SystemExit(f"--write {write}: untag failed")
    check("files once untagged", killed.originals, contents(killed.folder))
    return hits, writing


def check(what: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise `SystemExit` naming the first item of `found` that differs from `expected`."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise SystemExit(f"{what}: {name} is {found.get(name)!r:.500} and should be {expected.get(name)!r:.500}")


def export_model(directory: Path) -> Path:
    """Export a SavedModel with the toy's input and output, a card and labels, so that the program finds it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    def serve(images: Any) -> Any:
        return {"logits": tf.reduce_mean(images, axis=[1, 2]) * 30}

    images = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")
    module = tf.Module()
    tf.saved_model.save(module, str(directory), signatures=tf.function(serve, input_signature=[images]))
    (directory / "labels.txt").write_text("red\ngreen\nblue\n")
    card = {"name": "toy", "input": {"range": "0..1"}, "output": {"scores": "logits"}, "labels": "labels.txt"}
    (directory / "phototag.json").write_text(json.dumps(card))
    return directory


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill the program, compare the results, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--photos", type=int, default=150)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = export_model(place / "model")
        for write in ("json", "embed"):
            hits, writing = compare(place, model, write, kills=given.kills, photos=given.photos, seed=given.seed)
            print(
                f"--write {write:5}  {given.photos} photos, {hits} of {given.kills} kills hit a run, {writing} of them "
                "changed something: the end is that of one run alone, and untag gives the photos back"
            )


if __name__ == "__main__":
    main()
