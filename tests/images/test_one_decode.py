"""A photo is read and decoded once for all networks, and a network's view does not depend on the others."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phototag.analysis.classifier import Classifier
from phototag.core import Photo
from phototag.errors import PhotoError
from phototag.images import decode
from phototag.images.decode import Picture, prepare_photo, read_picture
from phototag.images.limits import MAX_IN_MEMORY
from phototag.images.preprocess import Preprocessing
from phototag.models.find import Model
from phototag.photos.digest import content_digest
from phototag.photos.find import find_photos
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.evidence import words_of_tree
from phototag.vocabulary.tree_rule import TreeRule
from tests.helpers.photo_parts import dng

NETWORK = Preprocessing(224, 224, crop_fraction=0.875, interpolation="lanczos")
SMALL = Preprocessing(16, 24)


def noise(width: int, height: int) -> Image.Image:
    """A picture with coarse detail, so that a shifted view of it differs."""
    rng = np.random.default_rng(width * height)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [MAX_IN_MEMORY, 1000])
def test_a_photo_is_read_from_a_path_bytes_or_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(decode, "MAX_IN_MEMORY", limit)
    path, data = tmp_path / "a.jpg", encoded(noise(640, 480))
    path.write_bytes(data)
    expected = prepare_photo(path, SMALL)
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 100, os.SEEK_SET)  # wherever it stands
    try:
        for source in (path, data, descriptor):
            picture = read_picture(source, SMALL.shortest_side)
            assert picture.digest == content_digest(data)
            assert (picture.view(SMALL) == expected).all()
        os.fstat(descriptor)  # still open
    finally:
        os.close(descriptor)


def test_a_photo_is_read_once_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(noise(1600, 1200)))
    decoded: list[int] = []
    original = decode._decode

    def counting(file: Any, name: Any, side: int) -> Any:
        decoded.append(side)
        return original(file, name, side)

    monkeypatch.setattr(decode, "_decode", counting)
    picture = read_picture(path, 640)
    path.unlink()
    assert decoded == []
    picture.view(NETWORK)
    picture.view(NETWORK, 2)
    picture.view(SMALL)
    picture.region((0.2, 0.2, 0.4, 0.4), SMALL)
    assert decoded == [640]


@pytest.mark.parametrize("name", [None, "posted.jpg"])
def test_an_error_names_the_photo(name: str | None) -> None:
    picture = read_picture(b"just text", SMALL.shortest_side, name)
    with pytest.raises(PhotoError, match=f"^{name or 'photo'}: it is not a photo of a kind"):
        picture.view(SMALL)


def test_a_closed_descriptor_is_an_error_of_the_photo() -> None:
    read, write = os.pipe()
    with pytest.raises(PhotoError, match="it cannot be read"):
        read_picture(read, 16, "pipe")
    os.close(read)
    os.close(write)
    with pytest.raises(PhotoError, match=r"^gone\.jpg: it cannot be read \(bad file descriptor\)"):
        read_picture(read, 16, "gone.jpg")


def test_a_view_is_kept_and_cannot_be_changed() -> None:
    picture = read_picture(encoded(noise(64, 48)), 24)
    view = picture.view(SMALL)
    assert picture.view(SMALL) is view
    assert picture.view(SMALL, 2) is not view
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0, 0] = 1


def test_a_view_larger_than_what_was_decoded_is_refused() -> None:
    with pytest.raises(ValueError, match="a view needs 256 pixels, and the photo is decoded for 224"):
        read_picture(encoded(noise(640, 480)), 224).view(NETWORK)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_photo(orientation: int) -> None:
    exif = piexif.dump({"0th": {piexif.ImageIFD.Orientation: orientation}})
    size = read_picture(encoded(noise(1600, 1200), exif=exif), 100).size
    assert size == ((1200, 1600) if orientation >= 5 else (1600, 1200))


# --- Views ------------------------------------------------------------------------------------------------------------


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    side=st.integers(1, 300),
    larger=st.integers(0, 600),
    kind=st.sampled_from(["JPEG", "PNG", "GIF"]),
)
def test_a_photo_is_reduced_to_the_size_that_decoding_it_alone_gives(
    width: int, height: int, side: int, larger: int, kind: str
) -> None:
    data = encoded(Image.new("RGB", (width, height)), kind)
    alone, shared = read_picture(data, side), read_picture(data, side + larger)
    assert shared._image_for(side).size == alone.image.size
    assert min(alone.image.size) >= min(side, width, height)


@pytest.mark.parametrize("size", [(1600, 1200), (799, 599), (4033, 3023), (333, 500)])
@pytest.mark.parametrize("kind", ["JPEG", "BMP", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_view_hardly_depends_on_what_others_need(size: tuple[int, int], kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 92, "exif": exif}, "PNG": {"compress_level": 1, "exif": exif}, "BMP": {}}
    data = encoded(noise(*size), kind, **options[kind])
    alone = read_picture(data, NETWORK.shortest_side).view(NETWORK)
    for side in (300, 640, 1024):
        assert difference(read_picture(data, side).view(NETWORK), alone) < 1


def test_a_raw_that_was_developed_still_shows_its_preview_to_a_small_network() -> None:
    pytest.importorskip("rawpy")
    data = dng(Image.new("RGB", (400, 300), "red"), encoded(Image.new("RGB", (120, 90), "blue")))
    picture = read_picture(data, 150, "a.dng")
    assert picture.image.size == (200, 150)  # developed
    red: Any = picture.image.getpixel((100, 75))
    assert red[0] > 100
    assert picture.size == (400, 300)
    alone = read_picture(data, SMALL.shortest_side, "a.dng")
    assert (picture.view(SMALL) == alone.view(SMALL)).all()
    assert picture.view(SMALL)[0, 8, 12, 2] > 200


@pytest.mark.parametrize("side", [256, 640, 1024])
def test_a_heic_with_a_thumbnail_shows_it_to_a_small_network(shared: Path, side: int) -> None:
    path = shared / "photos/formats/samsung-one-ui-6.heic"  # with a thumbnail of 512 x 384
    assert (read_picture(path, side).view(NETWORK) == prepare_photo(path, NETWORK)).all()
    assert read_picture(path, side).size == (3000, 4000)


def reference(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """What phototag 0.1.0 does to a JPEG."""
    side = preprocessing.shortest_side
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        orientation = image.getexif().get(0x0112, 1)
        factor = min(image.size) // (2 * side)
        rgb = (image.reduce(factor) if factor > 1 else image).convert("RGB")
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return preprocessing.crops(rgb if turn is None else rgb.transpose(turn), 2)


def test_one_network_alone_sees_what_it_saw_in_0_1_0(shared: Path) -> None:
    paths = [*(shared / "photos/orientation").glob("*.jpg"), *sorted((shared / "photos/coco128").glob("*.jpg"))]
    assert len(paths) > 100
    for path in paths:
        assert (prepare_photo(path, NETWORK, 2) == reference(path, NETWORK)).all(), path


def test_other_networks_do_not_change_the_tags(shared: Path, default_model: Model) -> None:
    """A sample; benchmarks/one_decode.py takes all photos."""
    assert default_model.taxonomy is not None
    classifier = Classifier(default_model)
    rule = TreeRule(default_model.labels, default_model.taxonomy, levels=default_model.card.thresholds, max_tags=12)
    chooser = Chooser(rule, words_of_tree(default_model.taxonomy), 12)
    photos = [one.path for one in find_photos([shared / "photos"]) if isinstance(one, Photo)]
    moves = []
    for path in photos[::15]:
        alone = classifier.predict(prepare_photo(path, default_model.preprocessing))[0]
        beside = classifier.predict(read_picture(path, 640).view(default_model.preprocessing))[0]
        moves.append(float(np.abs(alone - beside).max()))
        tags = [{tag.name for tag in chooser.choose({"objects": scores})} for scores in (alone, beside)]
        assert tags[0] == tags[1], path
    assert np.mean(moves) < 0.01
    assert np.percentile(moves, 95) < 0.01


# --- Regions ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quarters() -> Picture:
    image = Image.new("RGB", (200, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    return read_picture(encoded(image, "PNG"), 64)


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_a_region_is_a_part_of_the_upright_photo(quarters: Picture, resize: Any) -> None:
    network = Preprocessing(10, 10, resize=resize, interpolation="nearest")
    assert (quarters.region((0.0, 0.0, 0.5, 1.0), network) == (255, 0, 0)).all()
    assert (quarters.region((0.5, 0.0, 1.0, 1.0), network) == (0, 0, 255)).all()
    assert (quarters.region((-1, -0.5, 0.25, 0.5), network)[4] == (255, 0, 0)).all()  # clipped


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (0.6, 0, 0.4, 1), (1.0, 0, 1.5, 1), (0, -2, 1, -1)])
def test_a_region_without_area_is_refused(quarters: Picture, box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="has no area inside the photo"):
        quarters.region(box, SMALL)


def test_all_of_a_photo_is_a_region_too() -> None:
    picture = read_picture(encoded(noise(640, 480)), SMALL.shortest_side)
    assert (picture.region((0, 0, 1, 1), SMALL) == picture.view(SMALL)[0]).all()


@given(
    corner=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    extent=st.tuples(st.floats(1e-9, 1), st.floats(1e-9, 1)),
    resize=st.sampled_from(["crop", "squash", "pad"]),
)
def test_any_region_with_an_area_can_be_taken(
    corner: tuple[float, float], extent: tuple[float, float], resize: Any
) -> None:
    network = Preprocessing(7, 5, resize=resize, crop_fraction=0.875)
    box = (*corner, corner[0] + extent[0], corner[1] + extent[1])
    assert read_picture(PHOTO, 16).region(box, network).shape == (7, 5, 3)


PHOTO = encoded(noise(60, 40))


def test_too_little_memory_is_an_error_of_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    picture = read_picture(PHOTO, 24)
    monkeypatch.setattr(Preprocessing, "prepare", fail)
    for use in (lambda: picture.view(SMALL), lambda: picture.region((0, 0, 1, 1), SMALL)):
        with pytest.raises(PhotoError, match="it needs more memory than this machine has"):
            use()
