"""Check that one decode can serve several networks: that photos decoded larger get the same tags, and at what cost.

    python benchmarks/one_decode.py PHOTOS [--cost-only]

PHOTOS is a folder. The default model tags every photo decoded for that model alone, and decoded for 640 and for 1024
pixels and then reduced. Prints how many photos get the same tags, and how far the scores move.

Then photos like those of a 12-megapixel camera are decoded for 224, 640 and 1024 pixels in turn, and the model's view
is taken of each. Prints the medians of the processor time and their ratios. Ratios are only valid within one run.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from phototag.analysis.classifier import Classifier
from phototag.cli.event_messages import event_message
from phototag.core import Photo
from phototag.errors import PhotoError
from phototag.images.decode import read_picture
from phototag.images.preprocess import Preprocessing
from phototag.photos.find import find_photos
from phototag.run.session import Session

SIDES = (640, 1024)
SAME_TAGS = 0.995  # goal: share of photos, at least
MOVED = 0.01  # goal: 95th percentile of all photos' largest move of a probability, at most
COSTS = {640: 1.25, 1024: 1.4}  # goals: times the cost at 224, at most
ROUNDS = 40
SEED = 20240


def results_of(path: Path, side: int, preprocessing: Preprocessing, classifier: Classifier) -> dict[str, Any]:
    """Return the results for the photo at `path`, decoded for `side` pixels, by name: float32 [classes], [words]."""
    view = read_picture(path, max(side, preprocessing.shortest_side)).view(preprocessing)
    return {name: rows[0] for name, rows in classifier.results(view, "probabilities").items()}


def compare(photos: Sequence[Path], session: Session, side: int) -> tuple[list[bool], list[float]]:
    """Return for each photo whether its tags are the same when decoded for `side`, and the largest move of a score."""
    preprocessing, classifier, chooser = session.model.preprocessing, session.classifier(), session.chooser
    are_same, moves = [], []
    for path in photos:
        try:
            alone = results_of(path, 0, preprocessing, classifier)
        except PhotoError:
            continue
        shared = results_of(path, side, preprocessing, classifier)
        tags = [{tag.name for tag in chooser.choose(results)} for results in (alone, shared)]
        are_same.append(tags[0] == tags[1])
        moves.append(float(np.abs(alone["objects"] - shared["objects"]).max()))
    return are_same, moves


def camera_photo(seed: int) -> bytes:
    """Make a JPEG of 4000 x 3000 pixels with as many bytes as a camera's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).resize((4000, 3000), Image.Resampling.BICUBIC)
    noise = Image.fromarray(rng.normal(128, 24, (3000, 4000)).clip(0, 255).astype(np.uint8))
    noise = noise.filter(ImageFilter.GaussianBlur(0.7))
    buffer = io.BytesIO()
    Image.blend(coarse, noise.convert("RGB"), 0.3).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def costs(preprocessing: Preprocessing) -> dict[int, list[float]]:
    """Return the processor seconds for decoding for each side and taking the view, in interleaved rounds."""
    photos = [camera_photo(SEED + number) for number in range(4)]
    seconds: dict[int, list[float]] = {side: [] for side in (224, *SIDES)}
    for number in range(ROUNDS + 1):
        for side, spent in seconds.items():
            started = time.thread_time()
            read_picture(photos[number % len(photos)], side).view(preprocessing)
            spent.append(time.thread_time() - started)
    return {side: spent[1:] for side, spent in seconds.items()}  # the first round warms up


def print_tags(folder: Path) -> bool:
    """Print how tags and scores differ, and return whether the goals are met."""
    photos = [one.path for one in find_photos([folder]) if isinstance(one, Photo)]
    session = Session(on_event=lambda event: print(event_message(event) or "", end="", file=sys.stderr))
    are_met = []
    for side in SIDES:
        are_same, moves = compare(photos, session, side)
        share, p95 = sum(are_same) / len(are_same), float(np.percentile(moves, 95))
        are_met.append(share >= SAME_TAGS and p95 <= MOVED)
        print(
            f"decoded for {side}: same tags on {sum(are_same)} of {len(are_same)} photos ({share:.2%}); largest move of"
            f" a score: mean {np.mean(moves):.4f}, 95 % {p95:.4f}, most {max(moves):.4f}"
        )
    return all(are_met)


def print_costs() -> bool:
    """Print the costs, and return whether the goals are met."""
    medians = {side: statistics.median(spent) for side, spent in costs(Preprocessing(224, 224)).items()}
    ratios = {side: medians[side] / medians[224] for side in SIDES}
    print("12 MP: " + ", ".join(f"{side} pixels {1000 * median:.1f} ms" for side, median in medians.items()))
    print("ratios: " + ", ".join(f"{side}: {ratio:.2f}" for side, ratio in ratios.items()))
    return all(ratio <= COSTS[side] for side, ratio in ratios.items())


def main() -> int:
    """Measure, print the results, and return 1 if a goal is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cost-only", action="store_true")
    arguments = parser.parse_args()
    are_met = [print_costs(), arguments.cost_only or print_tags(arguments.photos)]
    return 0 if all(are_met) else 1


if __name__ == "__main__":
    sys.exit(main())
