"""Take features from photos: what the default network knows of a photo before it decides between classes.

    python models/efficientnet-lite0/source/extract_features.py OUT.npz SOURCE=FOLDER... [--compare FEATURES.npz]

Photos are read and prepared exactly as phototag does for a scan, in TensorFlow. The default model must be installed
(phototag builds it at its first scan). OUT.npz holds one row per photo, in the order of the folders and of their files:

    source  text [N], the name given before the folder
    photo   text [N], the path of the file below its folder, with / between its parts
    pooled  float16 [N, 1280], the mean over the picture of the network's last convolution, 0 to 6
    logits  float16 [N, 1000], the scores of the classes, before temperature and softmax

With --compare, rows of the same source and photo in another file of features are compared instead. A name there may
leave out the suffix of the file. The exit status is 1 if more than a tenth differ by more than float16 explains. The
others are large JPEGs that another version of phototag decoded at another fraction of their size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phototag.engines._tensorflow import import_tensorflow
from phototag.errors import PhotoError
from phototag.images.decode import prepare_photo
from phototag.images.preprocess import Preprocessing
from phototag.models.find import DEFAULT_MODEL, find_model

FEATURES, CLASSES = 1280, 1000
# Engines add up in different orders, and float16 has steps of .004 to .016 for the largest values.
MAY_DIFFER, MOST_OTHERS = 0.02, 0.1


class Row(NamedTuple):
    """One row of the result: `pooled` float16 [1280] and `logits` float16 [1000]."""

    source: str
    photo: str
    pooled: NDArray[np.float16]
    logits: NDArray[np.float16]


class Network:
    """The installed default model, with the pooled features as a second output."""

    def __init__(self) -> None:
        model = find_model(DEFAULT_MODEL)
        self.preprocessing: Preprocessing = model.preprocessing
        self._tensorflow = import_tensorflow()
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        loaded = self._tensorflow.saved_model.load(str(model.directory))
        # The frozen graph has all operations in one function, so that their outputs can be named.
        frozen = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
        means = [node.outputs[0] for node in frozen.graph.get_operations() if node.type == "Mean"]
        (pooled,) = (mean for mean in means if mean.shape[-1] == FEATURES)
        (logits,) = (tensor for tensor in frozen.outputs if tensor.shape[-1] == CLASSES)
        self._function: Any = frozen.prune(frozen.inputs[0], [pooled, logits])

    def features(self, photo: Path) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Return the pooled features and the logits of a photo. Raises `PhotoError` if it cannot be read."""
        pixels = prepare_photo(photo, self.preprocessing).astype(np.float32)
        mean, std = (np.array(value, np.float32) for value in (self.preprocessing.mean, self.preprocessing.std))
        images = (pixels - mean) / std
        pooled, logits = self._function(self._tensorflow.constant(images))
        return pooled.numpy()[0].astype(np.float16), logits.numpy()[0].astype(np.float16)


def extract(network: Network, source: str, folder: Path) -> Iterator[Row]:
    """Yield a row for each photo below `folder`, sorted by path. Files that are not photos are reported and skipped."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                yield Row(source, path.relative_to(folder).as_posix(), *network.features(path))
            except PhotoError as error:
                print(error, file=sys.stderr)


def compare(rows: list[Row], features: Path) -> bool:
    """Print how far `rows` are from the same photos in the file `features`. Return whether float16 explains it."""
    with np.load(features, allow_pickle=False) as data:
        known = {(str(s), _stem(str(p))): n for n, (s, p) in enumerate(zip(data["source"], data["photo"], strict=True))}
        pairs = [(row, known[row.source, _stem(row.photo)]) for row in rows if (row.source, _stem(row.photo)) in known]
        pooled, logits = data["pooled"], data["logits"]
    if not pairs:
        print("none of the photos is in the file")
        return False
    apart = np.array([max(_apart(row.pooled, pooled[n]), _apart(row.logits, logits[n])) for row, n in pairs])
    others = int((apart > MAY_DIFFER).sum())
    print(f"{len(pairs) - others} of {len(pairs)} photos have the same features within {MAY_DIFFER}")
    return others <= MOST_OTHERS * len(pairs)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    parser.add_argument("sources", nargs="+", metavar="SOURCE=FOLDER")
    parser.add_argument("--compare", type=Path, metavar="FEATURES.npz", help="compare with these; write nothing")
    given = parser.parse_args()
    network = Network()
    folders = [text.partition("=") for text in given.sources]
    rows = [row for source, _, folder in folders for row in extract(network, source, Path(folder))]
    if given.compare:
        return 0 if compare(rows, given.compare) else 1
    np.savez_compressed(
        given.out,
        source=np.array([row.source for row in rows]),
        photo=np.array([row.photo for row in rows]),
        pooled=np.array([row.pooled for row in rows]),
        logits=np.array([row.logits for row in rows]),
    )
    return 0


def _apart(one: NDArray[np.float16], other: NDArray[np.float16]) -> float:
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).max())


def _stem(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.rpartition('.')[0] or file}"


if __name__ == "__main__":
    sys.exit(main())
