"""Measure how fast phototag writes tags into photos, in turn with exiftool, which writes the same keywords.

    python benchmarks/embed_speed.py [--photos N] [--folder FOLDER]

Makes JPEGs of about 3 MB with EXIF in a temporary folder (in FOLDER, to measure its disk). Writes three keywords into
copies of each: with `EmbedWriter`, with and without waiting for the disk; with one exiftool process per photo; and with
one exiftool process for all. Prints the median and the 90th percentile of the time for one photo, and the ratios.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import ExifTags, Image

from phototag.core import Photo, Tag
from phototag.index import Index, open_index
from phototag.metadata.embed import EmbedWriter

KEYWORDS = ("toucan", "Vögel", "日本")
TAGS = tuple(Tag(name, 0.9, (name,), None) for name in KEYWORDS)
# The fields that EmbedWriter writes into a photo without IPTC.
ARGUMENTS = [
    *(f"-XMP-dc:Subject+={name}" for name in KEYWORDS),
    *(f"-XMP-lr:HierarchicalSubject+={name}" for name in KEYWORDS),
    f"-EXIF:XPKeywords={';'.join(KEYWORDS)}",
    "-overwrite_original",
    "-preserve",
]


def make_photo(seed: int) -> bytes:
    """Return a JPEG of about 3 MB, with as much EXIF as a camera writes."""
    noise = np.random.default_rng(seed)
    # Noise in the lower half of a pixel's bits, so that 12 megapixels take as many bytes as in a camera's photo.
    pixels = noise.integers(96, 160, (3000, 4000, 3), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Model] = "Model 1"
    exif[ExifTags.Base.Orientation] = 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = "2026:11:20 12:00:00"
    details[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + b"." * 20_000
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75, exif=exif)
    return file.getvalue()


class Exiftool:
    """One exiftool process that takes one photo after another."""

    def __init__(self) -> None:
        command = ["exiftool", "-stay_open", "True", "-@", "-"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def write(self, path: Path) -> None:
        """Write the keywords into the photo at `path`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n".join([*ARGUMENTS, os.fspath(path), "-execute\n"]))
        self._process.stdin.flush()
        answer = list(iter(self._process.stdout.readline, "{ready}\n"))
        if not any("1 image files updated" in line for line in answer):
            raise SystemExit(f"exiftool failed: {''.join(answer)}")

    def close(self) -> None:
        """End the process."""
        self._process.communicate("-stay_open\nFalse\n")


def by_one_exiftool(path: Path) -> None:
    """Write the keywords into the photo at `path` with a new exiftool process."""
    subprocess.run(["exiftool", "-q", *ARGUMENTS, path], check=True)


def embed(index: Index, path: Path) -> None:
    """Write the keywords into the photo at `path` as `phototag scan --write embed` does."""
    status = path.stat()
    written = EmbedWriter("model", index).write(Photo(path, status.st_size, status.st_mtime_ns), TAGS, ())
    if written.files != (path,):
        raise SystemExit(f"{path} was not written into: {written.note}")


def embed_without_waiting(index: Index, path: Path) -> None:
    """Write like `embed`, but without waiting for the disk."""
    with mock.patch("os.fsync"):
        embed(index, path)


def measure(folder: Path, photos: int, writers: dict[str, Callable[[Path], None]]) -> dict[str, list[float]]:
    """Let each of `writers` write into a copy of each photo in turn, and return the seconds that each took."""
    times: dict[str, list[float]] = {name: [] for name in writers}
    for number in range(photos + 1):
        photo = make_photo(number)
        for name, write in writers.items():
            path = folder / f"{number}.jpg"
            path.write_bytes(photo)
            os.sync()  # no writer should wait for the writes of another
            started = time.perf_counter()
            write(path)
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
            path.unlink()
    return times


def main() -> None:
    """Measure the writers, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if shutil.which("exiftool") is None:
        raise SystemExit("exiftool is not installed; it is what phototag is measured against")
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        open_index(Path(folder) / "index.sqlite3") as index,
        index.run({}),
    ):
        exiftool = Exiftool()
        try:
            writers: dict[str, Callable[[Path], None]] = {
                "phototag": lambda path: embed(index, path),
                "phototag, without fsync": lambda path: embed_without_waiting(index, path),
                "exiftool, one for all (no fsync)": exiftool.write,
                "exiftool, one a photo (no fsync)": by_one_exiftool,
            }
            times = measure(Path(folder), arguments.photos, writers)
        finally:
            exiftool.close()
    reference = statistics.median(times["phototag"])
    print(f"{'milliseconds a photo':36}{'median':>9}{'90th %':>9}{'of phototag':>13}")
    for name, seconds in times.items():
        median, late = statistics.median(seconds), statistics.quantiles(seconds, n=10)[-1]
        print(f"{name:36}{median * 1e3:9.1f}{late * 1e3:9.1f}{median / reference:13.1f}")


if __name__ == "__main__":
    main()
