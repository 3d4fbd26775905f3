"""Measure how often a model is right: top-1 and top-5 on photos named after their WordNet synset (n01440764_tench.jpg).

    python benchmarks/accuracy.py PHOTOS [--model NAME|DIR] [--labels FILE] [--facts JSON]

PHOTOS is a folder of such photos, for example samples of ImageNet. They are decoded and prepared as by `phototag scan`.
FACTS are facts of a model card: '{"input": {"range": "0..1"}}'. If the model was trained on these photos, the figures
only tell whether it was built correctly and gets correct input. They do not tell how accurate it is on new photos.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

from phototag.analysis.classifier import Classifier
from phototag.cli.event_messages import event_message
from phototag.core import Photo
from phototag.images.decode import prepare_photo
from phototag.models.find import DEFAULT_MODEL, Model, find_model
from phototag.photos.find import find_photos
from phototag.zoo.build import ensure_built

BATCH_SIZE = 32


def measure(photos: list[Path], model: Model) -> dict[str, float]:
    """Return the shares of `photos` whose synset is the likeliest label, and among the five likeliest."""
    ensure_built(model, lambda event: print(event_message(event), file=sys.stderr))
    classifier = Classifier(model)
    number_of = {label.synset: number for number, label in enumerate(model.labels)}
    ranks: list[int] = []
    for start in range(0, len(photos), BATCH_SIZE):
        batch = photos[start : start + BATCH_SIZE]
        images = [prepare_photo(path, model.preprocessing) for path in batch]
        for path, scores in zip(batch, classifier.predict(np.concatenate(images)), strict=True):
            right = scores[number_of[synset_in(path)]]
            ranks.append(int((scores > right).sum()))
    return {
        "photos": len(ranks),
        "top1": round(float(np.mean([rank < 1 for rank in ranks])), 4),
        "top5": round(float(np.mean([rank < 5 for rank in ranks])), 4),
    }


def synset_in(path: Path) -> str:
    """Return the synset id in a photo's name."""
    found = re.search(r"n\d{8}", path.name)
    if found is None:
        raise SystemExit(f"{path}: the name holds no synset id such as n01440764")
    return found[0]


def main() -> None:
    """Measure the model, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--facts", type=json.loads, default={})
    arguments = parser.parse_args()
    photos = [one.path for one in find_photos([arguments.photos]) if isinstance(one, Photo)]
    if not photos:
        raise SystemExit(f"no photos in {arguments.photos}")
    model = find_model(arguments.model, labels=arguments.labels, given=arguments.facts)
    print(json.dumps({"model": model.card.name, **measure(photos, model)}))


if __name__ == "__main__":
    main()
