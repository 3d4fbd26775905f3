"""Measure the time and memory of `phototag scan` on a library without new photos.

    python benchmarks/library.py [--photos N] [--million] [--folder FOLDER]

Makes N small distinct files that begin like JPEGs, in folders of 500 in a temporary folder (in FOLDER, to measure its
disk). It does not run the first scan. Instead, it fills the index through `Index.add` with tags, predictions and scores
of 1000 classes for each photo, and makes empty sidecars for `--write json`. It measures the second run: the real
program with the default model, three times, in a new process each time. By then the system's cache holds its data about
the files. Prints the medians of the wall time and the processor time, and the most memory of any run.

Then gives the index the tables of phototag 0.1.0, and measures the scan that migrates it. The photos must be unchanged
in it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from old_index import make_old

from phototag.analysis.scores import pack
from phototag.core import Label, Photo, Prediction, Tag
from phototag.index import Record, open_index
from phototag.run.session import Session
from phototag.run.settings import Settings

FOLDER = 500  # photos in one
BATCH = 5000  # photos that are added to the index together
RUNS = 3
# Runs phototag, and tells at its end whether TensorFlow or LiteRT was imported.
PROGRAM = """
import atexit, sys
atexit.register(lambda: print("heavy:", *sorted({"tensorflow", "keras", "ai_edge_litert"} & sys.modules.keys())))
from phototag.cli import main
main()
"""


def make_photos(root: Path, count: int, *, sidecars: bool) -> Iterator[Photo]:
    """Make photos, and their sidecars, in folders below `root`."""
    for number in range(count):
        folder = root / f"{number // FOLDER:05}"
        if number % FOLDER == 0:
            folder.mkdir(parents=True)
        path = f"{folder}/IMG_{number:07}.jpg"
        with open(path, "wb") as file:
            file.write(b"\xff\xd8\xff\xe0" + number.to_bytes(8, "big"))
        if sidecars:
            open(f"{path}.phototag.json", "wb").close()
        status = os.stat(path)
        yield Photo(path, status.st_size, status.st_mtime_ns)


def fill(index_path: Path, photos: Iterator[Photo], write: str) -> None:
    """Fill an index as a scan with `--write` would have done."""
    session = Session(Settings(write=write))
    recipe = session.recipe
    key = session.analyzers[0].results[0].key
    tags = (Tag("dog", 0.93, ("animal", "dog"), "n02084071"), Tag("animal", 0.97, ("animal",), "n00015388"))
    predictions = tuple(Prediction(Label(f"breed {n}", f"n0208407{n}"), 0.1 * n) for n in range(5))
    noise = np.random.default_rng(1)
    powers = np.exp(noise.normal(0, 5, (64, 1000)))
    scores = [pack(row.astype(np.float32)) for row in powers / powers.sum(axis=1, keepdims=True)]
    with open_index(index_path) as index, index.run({}):
        records: list[Record] = []
        for number, photo in enumerate(photos):
            files = (Path(f"{photo.path}.phototag.json") if write == "json" else photo.path,)
            digest = number.to_bytes(16, "big")
            results = {key: scores[number % len(scores)]}
            record = Record(photo, recipe, tags, predictions, files, digest, digest, results, {key: "objects"})
            records.append(replace(record, write=write, own_tags=("dog", "animal")))
            if len(records) == BATCH:
                index.add(records)
                records.clear()
        index.add(records)


def measure(root: Path, index_path: Path, write: str, count: int) -> tuple[float, float, float]:
    """Run a scan without new photos. Return its wall time and processor time in seconds, and its peak memory in MB."""
    arguments = ["scan", "--write", write, "--index", str(index_path), str(root)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or f"{count} unchanged" not in errors or output != "heavy:\n":
        raise SystemExit(f"that was no run with nothing to do: {output}{errors}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6


def main() -> None:
    """Measure the runs, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--million", action="store_true", help="also a library of 1,000,000")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    columns = f"{'seconds':>8}{'of CPU':>8}{'MB':>8}{'index, MB':>11}"
    print(f"{'photos':>10}  {'--write':8}{columns}{'from 0.1.0':>12}   (TensorFlow is never imported)")
    for count in (given.photos, *([1_000_000] if given.million else [])):
        for write in ("json", "embed"):
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                root, index_path = Path(folder) / "photos", Path(folder) / "index.sqlite3"
                fill(index_path, make_photos(root, count, sidecars=write == "json"), write)
                runs = [measure(root, index_path, write, count) for _ in range(RUNS)]
                seconds, computed = (statistics.median(run[column] for run in runs) for column in (0, 1))
                memory = max(run[2] for run in runs)
                size = index_path.stat().st_size / 1e6
                make_old(index_path)
                migrating = measure(root, index_path, write, count)[0]
                line = f"{count:10,}  {write:8}{seconds:8.2f}{computed:8.2f}{memory:8.0f}{size:11.0f}{migrating:12.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
