"""Heads and projections as files, for toy models and for damage."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from phototag.models.find import Model
from tests.helpers.toys import export, means

WORDS = ("food", "bird", "mountain", "beach")


def arrays_of_head(words: tuple[str, ...] = WORDS, features: int = 3, classes: int = 3) -> dict[str, Any]:
    """Arrays of a sound head."""
    random = np.random.default_rng(4)
    of_classes = np.zeros((len(words), classes), bool)
    of_classes[0, :2] = True
    return {
        "words": np.array(words),
        "weights": random.normal(size=(len(words), features)).astype(np.float16),
        "bias": random.normal(size=len(words)).astype(np.float32),
        "mass_weight": np.where(of_classes.any(axis=1), 0.5, 0).astype(np.float32),
        "classes": of_classes,
        "temperature": np.float32(0.95),
    }


def arrays_of_look(features: int = 3, size: int = 2) -> dict[str, Any]:
    return {"projection": np.random.default_rng(5).normal(size=(features, size)).astype(np.float16)}


def write_arrays(path: Path, arrays: dict[str, Any]) -> str:
    """Write `arrays` as the file at `path`, and return its digest as a card has it."""
    np.savez_compressed(path, **arrays)
    return digest_of(path)


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def with_heads(images: Any) -> dict[str, Any]:
    """The outputs of a toy network whose features are the means of the colours, 0 to 1."""
    import tensorflow as tf

    head, features = arrays_of_head(), means(images, 1.0)
    logits = features * 30.0
    masses = tf.nn.softmax(logits / float(head["temperature"])) @ tf.constant(head["classes"].T.astype(np.float32))
    odds = tf.clip_by_value(tf.math.log((masses + 0.001) / (1.001 - masses)), -6.0, 6.0)
    linear = tf.sqrt(features) @ tf.constant(head["weights"].T.astype(np.float32))
    words = tf.sigmoid(linear + head["bias"] + head["mass_weight"] * odds)
    look = features @ tf.constant(arrays_of_look()["projection"].astype(np.float32))
    return {"logits": logits, "words": words, "look": look}


LABELS = "n07873807 pizza\nn01558993 robin\nn02084071 dog\n"


def export_with_heads(directory: Path, labels: str = LABELS, **card: Any) -> Path:
    """Export a toy model with a head and a projection, whose labels are in the tree. `card`: other entries of it."""
    export(directory, with_heads, labels=labels)
    facts = {
        "name": "toy",
        "input": {"range": "0..1"},
        "output": {"scores": "logits"},
        "labels": "labels.txt",
        "taxonomy": "imagenet",
        "head": {
            "file": "head.npz",
            "digest": write_arrays(directory / "head.npz", arrays_of_head()),
            "thresholds": {"food": 0.7, "bird": 0.75},
        },
        "look": {"file": "look.npz", "digest": write_arrays(directory / "look.npz", arrays_of_look())},
    }
    (directory / "phototag.json").write_text(json.dumps({**facts, **card}))
    return directory


def without_heads(model: Model) -> Model:
    """Return `model` as it was before it had a head and a look."""
    card, interface = replace(model.card, head=None, look=None), replace(model.interface, also=())
    return replace(model, card=card, interface=interface, head=None, look=None)


def change_card(directory: Path, **changes: Any) -> None:
    """Replace entries of the card in `directory`."""
    path = directory / "phototag.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_head(directory: Path, content: bytes) -> None:
    """Put `content` in place of the head, and its digest into the card."""
    (directory / "head.npz").write_bytes(content)
    change_card(directory, head={"file": "head.npz", "digest": digest_of(directory / "head.npz")})
