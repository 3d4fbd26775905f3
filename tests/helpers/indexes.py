"""A record for an index, and a program that holds an index."""

from __future__ import annotations

import os
from pathlib import Path

from phototag.core import Label, Photo, Prediction, Tag
from phototag.index import Record

PHOTO = Photo(Path("/p/" + os.fsdecode(b"\xff\n.jpg")), 1234, 1_700_000_000_123_456_789)
RECORD = Record(
    PHOTO,
    "recipe",
    (Tag("dog", 0.9, ("animal", "dog"), "n02084071"),),
    (Prediction(Label("pug", "n02110958"), 0.5),),
    (Path("/p/a.json"),),
    digest=b"digest",
    seen=b"digest",
    results={"model": b"scores"},
    names={"model": "objects"},
    rejected=("cat",),
)

# Holds the index that its argument names until its input ends.
HOLD = """
import pathlib, sys
from phototag.index import open_index
with open_index(pathlib.Path(sys.argv[1])) as index, index.run({}):
    print("held", flush=True)
    sys.stdin.read()
"""
