"""Make the projection for likeness: from the default network's 1280 pooled features to 128 numbers.

    python models/efficientnet-lite0/source/make_look.py [--check]

It needs no photos: it is the first 128 right singular vectors of the classifier's own dense layer, which are the
directions of the features that tell classes apart most. Singular vectors have no sign of their own, and machines differ
in it. So the largest component of each vector is made positive, and the result is kept as a file.

../look.npz gets `projection`, float16 [1280, 128]: a photo's numbers are projection^T @ pooled. ../phototag.json gets
the digest. With --check, nothing is written, and the exit status is 1 if the file or the digest is out of date.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from train_head import format_json
from words_data import MODEL

from phototag.zoo.checkpoint import read_checkpoint
from phototag.zoo.recipes import EFFICIENTNET_LITES

LOOK, CARD = MODEL / "look.npz", MODEL / "phototag.json"
NUMBERS = 128


def dense_layer() -> NDArray[np.float64]:
    """Return the weights of the classifier's dense layer, float64 [1000 classes, 1280 features]."""
    recipe = EFFICIENTNET_LITES["efficientnet-lite0"]
    package = importlib.util.find_spec(recipe.package)
    if package is None or not package.submodule_search_locations:
        raise SystemExit(f"the package {recipe.package} is not installed")
    weights = read_checkpoint(Path(package.submodule_search_locations[0]) / recipe.file, recipe.sha256)
    return weights["_fc.weight"].astype(np.float64)


def projection(layer: NDArray[np.float64]) -> NDArray[np.float16]:
    """Return the first right singular vectors of `layer`, float64 [classes, features], as float16 [features, 128]."""
    vectors = np.linalg.svd(layer, full_matrices=False)[2][:NUMBERS]
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    result: NDArray[np.float16] = (vectors * signs[:, np.newaxis]).T.astype(np.float16)
    return result


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the files are out of date")
    made, card = projection(dense_layer()), json.loads(CARD.read_text(encoding="utf-8"))
    if parser.parse_args().check:
        with np.load(LOOK, allow_pickle=False) as there:
            same = np.allclose(there["projection"].astype(np.float64), made.astype(np.float64), atol=1e-3)
        return 0 if same and card.get("look") == _entry() else 1
    np.savez_compressed(LOOK, projection=made)
    card["look"] = _entry()
    CARD.write_text(format_json(card) + "\n", encoding="utf-8")
    return 0


def _entry() -> dict[str, str]:
    return {"file": LOOK.name, "digest": f"sha256:{hashlib.sha256(LOOK.read_bytes()).hexdigest()}"}


if __name__ == "__main__":
    sys.exit(main())
