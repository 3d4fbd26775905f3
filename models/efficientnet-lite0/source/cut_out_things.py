"""Cut things out of COCO's photos by their outlines and put them on white or grey.

    python models/efficientnet-lite0/source/cut_out_things.py INSTANCES.json PHOTOS FOLDER [--count 135] [--seed 0]

Without such pictures, the head gives `outdoor` to a motorcycle on white, because it knows where motorcycles are usually
found. INSTANCES.json is COCO's file of outlines, PHOTOS a folder with photos of it. A file's name begins with what it
shows. The source `cutouts` of labels.tsv was made in this way, though not by this script: run again, it gives other
pictures, which need labels of their own.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

BACKGROUNDS = (255, 255, 255, 245, 230, 190, 128)
# The share of a photo that a thing must cover to be recognised when it is alone.
LEAST_AREA = 0.04


class Thing(NamedTuple):
    """A thing in a photo. `polygons` are flat lists of x and y, `box` is left, top, width and height, all in pixels."""

    kind: str
    photo: Path
    polygons: list[list[float]]
    box: tuple[float, float, float, float]


def things(instances: Path, photos: Path) -> Iterator[Thing]:
    """Yield the large things of the photos in the folder `photos` that COCO's file outlines one by one."""
    data: dict[str, list[dict[str, Any]]] = json.loads(instances.read_text(encoding="utf-8"))
    kinds = {kind["id"]: str(kind["name"]) for kind in data["categories"]}
    images = {image["id"]: image for image in data["images"]}
    for thing in data["annotations"]:
        image = images[thing["image_id"]]
        photo = photos / str(image["file_name"])
        large = thing["area"] >= LEAST_AREA * image["width"] * image["height"]
        if large and not thing["iscrowd"] and photo.is_file():
            yield Thing(kinds[thing["category_id"]], photo, thing["segmentation"], tuple(thing["bbox"]))


def cut_out(thing: Thing, numbers: random.Random) -> Image.Image:
    """Return the thing alone, with some space around it. `numbers` choose the background and the space."""
    with Image.open(thing.photo) as opened:
        photo = opened.convert("RGB")
    mask = Image.new("L", photo.size)
    for polygon in thing.polygons:
        ImageDraw.Draw(mask).polygon(polygon, fill=255)
    left, top, width, height = (round(value) for value in thing.box)
    box = (left, top, left + width, top + height)
    longest = max(width, height)
    size = (round(longest * numbers.uniform(1.05, 1.7)), round(longest * numbers.uniform(1.05, 1.7)))
    grey = numbers.choice(BACKGROUNDS)
    picture = Image.new("RGB", size, (grey, grey, grey))
    place = ((size[0] - width) // 2, (size[1] - height) // 2)
    picture.paste(photo.crop(box), place, mask.crop(box))
    return picture


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("instances", type=Path, metavar="INSTANCES.json")
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=135, help="how many pictures (default: 135)")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other pictures (default: 0)")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    numbers = random.Random(given.seed)
    found = sorted(things(given.instances, given.photos))
    numbers.shuffle(found)
    for number, thing in enumerate(found[: given.count]):
        picture = cut_out(thing, numbers)
        picture.save(given.folder / f"{thing.kind.replace(' ', '_')}-{number:04d}.jpg", quality=numbers.randint(70, 95))


if __name__ == "__main__":
    main()
