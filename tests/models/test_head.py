"""The files of a head and of a projection: what they hold, and every kind of damage."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.errors import ModelError, SignatureMismatch
from phototag.models import head as heads
from phototag.models.find import find_model
from phototag.models.head import Head, read_head, read_look
from tests.helpers.heads import (
    WORDS,
    arrays_of_head,
    arrays_of_look,
    change_card,
    digest_of,
    export_with_heads,
    replace_head,
    write_arrays,
)

KNOWN = {*WORDS, "person"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_with_heads(tmp_path_factory.mktemp("heads") / "toy")


@pytest.fixture
def directory(toy: Path, tmp_path: Path) -> Path:
    """Return a toy model whose files other than the SavedModel can be changed."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("phototag.json", "labels.txt", "head.npz", "look.npz", "saved_model.pb"):
        (copy / name).write_bytes((toy / name).read_bytes())
    (copy / "variables").symlink_to(toy / "variables")
    return copy


def read(path: Path) -> Head:
    return read_head(path, digest_of(path), KNOWN, 3)


def archive(**arrays: Any) -> bytes:
    """Return an archive of arrays, and of bytes as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            file.writestr(f"{name}.npy", array if isinstance(array, bytes) else npy(array))
    return buffer.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def with_header(text: str, content: bytes = b"") -> bytes:
    """Return an array's file with a header of any text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + content


def sound(**changes: Any) -> bytes:
    return archive(**{**arrays_of_head(), **changes})


# --- What they hold ---------------------------------------------------------------------------------------------------


def test_a_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    arrays = arrays_of_head()
    digest = write_arrays(tmp_path / "head.npz", arrays)
    head = read_head(tmp_path / "head.npz", digest, KNOWN, 3)
    assert (head.words, head.digest) == (WORDS, digest)
    assert head.temperature == pytest.approx(0.95)
    assert head.weights.dtype == np.float16
    assert head.bias.dtype == head.mass_weight.dtype == np.float32
    for name in ("weights", "bias", "mass_weight", "classes"):
        np.testing.assert_array_equal(getattr(head, name), arrays[name])


def test_a_head_in_columns_or_without_compression_is_the_same(tmp_path: Path) -> None:
    arrays = arrays_of_head()
    np.savez(tmp_path / "head.npz", **{**arrays, "weights": np.asfortranarray(arrays["weights"])})
    np.testing.assert_array_equal(read(tmp_path / "head.npz").weights, arrays["weights"])


def test_a_projection_is_read_as_it_was_written(tmp_path: Path) -> None:
    arrays = arrays_of_look(7, 5)
    look = read_look(tmp_path / "look.npz", write_arrays(tmp_path / "look.npz", arrays))
    assert look.projection.dtype == np.float16
    assert look.projection.shape == (7, 5)
    np.testing.assert_array_equal(look.projection, arrays["projection"])


# --- Damage -----------------------------------------------------------------------------------------------------------


def several(count: int) -> np.ndarray:
    return np.array([f"w{number}" for number in range(count)])


DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "File is not a zip file"),
    "no archive": (lambda: b"weights" * 100, "File is not a zip file"),
    "truncated": (lambda: sound()[:-300], "File is not a zip file"),
    "a byte changed": (lambda: flipped(sound()), "cannot be used: "),
    "an array missing": (lambda: without("bias"), "it must hold the arrays words, weights, bias, .* and no others"),
    "an array too many": (lambda: sound(more=np.zeros(3)), "and no others"),
    "an array twice": (lambda: twice(), "and no others"),
    "a path": (lambda: archive(**{"../words": np.zeros(3)}), "and no others"),
    "a pickle": (lambda: sound(words=npy(np.array(["a", 1], object), allow_pickle=True)), "words is object, not text"),
    "pickled weights": (
        lambda: sound(weights=npy(np.array([{}]), allow_pickle=True)),
        "weights is object, not float16",
    ),
    "no array": (lambda: sound(bias=b"hello"), "cannot be used: "),
    "a later format": (lambda: sound(bias=b"\x93NUMPY\x03\x00" + bytes(20)), "bias has an unknown format"),
    "a header of any text": (lambda: sound(bias=with_header("(" * 4000)), "bias has a damaged header"),
    "a header of Python 2": (
        lambda: sound(bias=with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4L,), }") + bytes(16)),
        "bias has a damaged header",
    ),
    "a huge shape": (
        lambda: sound(bias=with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }")),
        r"bias does not fill its shape \(1000000000000,\)",
    ),
    "a negative shape": (
        lambda: sound(bias=with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }")),
        r"bias has the shape \(-1,\)",
    ),
    "more than its shape": (
        lambda: sound(bias=npy(np.zeros(4, np.float32)) + b"more"),
        "bias does not fill its shape",
    ),
    "a bomb": (lambda: sound(bias=npy(np.zeros(1 << 24, np.float32))), "bias is larger than 32 MB"),
    "other types": (lambda: sound(bias=np.zeros(4)), "bias is float64, not float32"),
    "the other byte order": (lambda: sound(bias=np.zeros(4, ">f4")), "bias is >f4, not float32"),
    "bytes for words": (lambda: sound(words=np.array(list(WORDS), "S")), "words is .*, not text"),
    "another shape": (lambda: sound(bias=np.zeros(5, np.float32)), r"bias has the shape \(5,\), not \(4,\)"),
    "other dimensions": (lambda: sound(bias=np.zeros((4, 1), np.float32)), r"bias has the shape \(4, 1\)"),
    "fewer words": (lambda: sound(words=np.array(WORDS[:3])), r"weights has the shape \(4, 3\), not \(3, 3\)"),
    "no words": (lambda: sound(words=np.array([], "U4")), r"words has the shape \(0,\)"),
    "other classes": (lambda: sound(classes=np.zeros((4, 5), bool)), r"classes has the shape \(4, 5\), not \(4, 3\)"),
    "half true": (lambda: sound(classes=half_true()), "classes has values that are neither true nor false"),
    "NaN": (lambda: sound(bias=np.array([0, np.nan, 0, 0], np.float32)), "bias has values that are not numbers"),
    "infinite": (lambda: sound(weights=np.full((4, 3), np.inf, np.float16)), "weights has values that are not numbers"),
    "far too large": (lambda: sound(bias=np.full(4, 1e30, np.float32)), "bias has values .* above 10000"),
    "temperature 0": (lambda: sound(temperature=np.float32(0)), "temperature must be from 0.01 to 100, not 0.0"),
    "temperature 1000": (lambda: sound(temperature=np.float32(1000)), "temperature must be from 0.01 to 100, not"),
    "a word twice": (lambda: sound(words=np.array(["food", "bird", "food", "beach"])), "it has the word 'food' twice"),
    "an unknown word": (lambda: sound(words=np.array(["food", "bird", "x", "beach"])), "the tree has no word 'x'"),
    "an empty word": (lambda: sound(words=np.array(["food", "bird", "", "beach"])), "'' cannot be a word"),
    "a line break": (lambda: sound(words=np.array(["food", "b\nd", "x", "beach"])), "cannot be a word"),
    "a long word": (lambda: sound(words=np.array(["food", "b" * 200, "x", "beach"])), "words is <U200, not text"),
    "no characters": (lambda: sound(words=no_characters()), "cannot be used: "),
}


def flipped(data: bytes) -> bytes:
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def without(name: str) -> bytes:
    return archive(**{key: array for key, array in arrays_of_head().items() if key != name})


def twice() -> bytes:
    buffer = io.BytesIO(sound())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(buffer, "a") as file:
        file.writestr("bias.npy", npy(np.zeros(4, np.float32)))
    return buffer.getvalue()


def half_true() -> bytes:
    whole = npy(np.zeros((4, 3), bool))
    return whole[:-1] + b"\x02"


def no_characters() -> bytes:
    whole = npy(np.array(WORDS))
    return whole[:-4] + b"\xff\xff\xff\x7f"


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_head_is_one_sentence_with_its_name_and_fault(tmp_path: Path, damage: str) -> None:
    make, fault = DAMAGED[damage]
    path = tmp_path / "head.npz"
    path.write_bytes(make())
    with pytest.raises(ModelError, match=fault) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} cannot be used: ")
    assert str(caught.value).endswith("; put back the file that came with the model")
    assert "\n" not in str(caught.value)


def test_a_head_of_another_digest_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    digest = write_arrays(path, arrays_of_head())
    path.write_bytes(sound(bias=np.ones(4, np.float32)))
    with pytest.raises(ModelError, match=r"head.npz is not the file that the model's card names; put back"):
        read_head(path, digest, KNOWN, 3)


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    for name, message in (("none.npz", "cannot be read"), ("pipe.npz", "is not a regular file")):
        with pytest.raises(ModelError, match=message):
            read_look(tmp_path / name, "sha256:0")
    monkeypatch.setattr(heads, "MAX_FILE", 1000)
    (tmp_path / "large.npz").write_bytes(bytes(1001))
    with pytest.raises(ModelError, match="it is larger than"):
        read_look(tmp_path / "large.npz", "sha256:0")


# --- With a model -----------------------------------------------------------------------------------------------------


def test_a_model_has_the_head_and_the_look_of_its_card(toy: Path) -> None:
    model = find_model(str(toy))
    assert model.interface.also == ("words", "look")
    assert model.head is not None
    assert model.head.words == WORDS
    assert model.taxonomy is not None
    names = [model.taxonomy.nodes[node].name for node in model.head_words]
    assert names == list(WORDS)
    food, bird, *_ = model.head_words
    assert model.head_thresholds == {food: 0.7, bird: 0.75}
    assert model.look is not None
    assert model.look.projection.shape == (3, 2)


def test_heads_change_no_digest_of_the_scores(toy: Path, directory: Path) -> None:
    change_card(directory, head=None, look=None, output={"scores": "logits", "name": "logits"})
    plain = find_model(str(directory))
    assert (plain.head, plain.look, plain.interface.also, plain.head_words, plain.head_thresholds) == (
        (None, None, (), (), {})
    )
    change_card(directory, head={"file": "head.npz", "digest": digest_of(directory / "head.npz")})
    assert find_model(str(directory)).digest == plain.digest


def test_without_a_tree_a_model_has_no_words(directory: Path) -> None:
    for changes in ({"taxonomy": "none"}, {"output": {"scores": "independent"}}):
        change_card(directory, **changes)
        model = find_model(str(directory))
        assert (model.head, model.head_words, model.head_thresholds) == (None, (), {})
        assert model.look is not None
        assert model.interface.also == ("words", "look")  # so that it is the same conversion


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": {"file": "none.npz", "digest": "d"}}, "none.npz cannot be read .No such file"),
        ({"head": {"file": "head.npz", "digest": "d"}}, "head.npz is not the file that the model's card names"),
        ({"look": {"file": "look.npz", "digest": "d"}}, "look.npz is not the file that the model's card names"),
    ],
)
def test_a_file_that_is_missing_or_another_is_named(directory: Path, changes: dict[str, Any], message: str) -> None:
    change_card(directory, **changes)
    with pytest.raises(ModelError, match=message):
        find_model(str(directory))


def test_a_threshold_of_a_word_that_the_head_lacks_names_the_card(directory: Path) -> None:
    entry = {"file": "head.npz", "digest": digest_of(directory / "head.npz"), "thresholds": {"person": 0.7}}
    change_card(directory, head=entry)
    with pytest.raises(
        ModelError, match=r"phototag.json: head.thresholds has 'person', a word that head.npz does not have"
    ):
        find_model(str(directory))


def test_a_head_outside_of_the_model_is_refused(directory: Path, tmp_path: Path) -> None:
    (directory / "head.npz").rename(tmp_path / "head.npz")
    (directory / "head.npz").symlink_to(tmp_path / "head.npz")
    with pytest.raises(ModelError, match="leads out of its directory"):
        find_model(str(directory))


def test_a_head_that_does_not_fit_the_network_is_named(directory: Path) -> None:
    replace_head(directory, archive(**arrays_of_head(("food", "bird"))))
    with pytest.raises(SignatureMismatch, match=r"gives 4 words, but .*head.npz has 2; put back"):
        find_model(str(directory))
    replace_head(directory, archive(**arrays_of_head()))
    wider = write_arrays(directory / "look.npz", arrays_of_look(size=5))
    change_card(directory, look={"file": "look.npz", "digest": wider})
    with pytest.raises(
        SignatureMismatch, match=r"gives 2 numbers of a likeness vector, but .*look.npz has 5; put back"
    ):
        find_model(str(directory))
    sound = write_arrays(directory / "look.npz", arrays_of_look())
    change_card(directory, look={"file": "look.npz", "digest": sound})
    replace_head(directory, archive(**arrays_of_head(features=4)))
    with pytest.raises(ModelError, match="its head and its look are for 4 and 3 features"):
        find_model(str(directory))


def test_a_signature_without_the_outputs_of_the_card_is_named(toy_model: Path, directory: Path, tmp_path: Path) -> None:
    for part in ("saved_model.pb", "phototag.json", "head.npz", "labels.txt"):
        source = toy_model if part == "saved_model.pb" else directory
        (tmp_path / part).write_bytes((source / part).read_bytes())
    with pytest.raises(SignatureMismatch, match=r"has no output 'words' .*take 'head' out of the card"):
        find_model(str(tmp_path))
    operations = {"input": {"name": "operation", "range": "0..1"}, "output": {"name": "logits"}}
    with pytest.raises(SignatureMismatch, match=r"only a signature gives .*; leave out input_op= and output_op="):
        find_model(str(tmp_path), given=operations)
