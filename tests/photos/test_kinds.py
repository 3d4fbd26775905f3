"""The table of formats, held to Pillow and to what phototag writes into."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phototag.errors import ConfigError
from phototag.metadata import containers
from phototag.metadata.keywords import Unwritable
from phototag.photos.find import find_photos
from phototag.photos.kinds import (
    FORMATS,
    OTHER_SUFFIXES,
    RAW_SUFFIXES,
    READABLE_SUFFIXES,
    SNIFF_BYTES,
    UNREADABLE,
    Kind,
    sniff,
)

READABLE = [kind for kind in FORMATS if kind.readable]


def sample(kind: Kind) -> bytes:
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, kind.pillow)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
def test_a_readable_kind_is_recognized_by_its_first_bytes(kind: Kind) -> None:
    data = sample(kind)
    assert sniff(data[:SNIFF_BYTES]) == kind.name
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == kind.pillow


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
def test_the_table_says_which_kinds_are_written_into(kind: Kind) -> None:
    try:
        containers.check_kind(sample(kind))
        is_writable = True
    except Unwritable:
        is_writable = False
    assert is_writable == kind.writable


def test_a_suffix_belongs_to_one_kind() -> None:
    suffixes = [suffix for kind in FORMATS for suffix in kind.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert OTHER_SUFFIXES.isdisjoint(suffixes)
    assert set(suffixes) == READABLE_SUFFIXES | set(UNREADABLE)
    assert set(UNREADABLE) == RAW_SUFFIXES | {".jxl"}


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheis", "HEIC"),
        (b"\n\0\0\x18ftypmsf1", "HEIC"),  # `.` has to match a line feed too
        (b"\0\0\0\x18ftypavis", "AVIF"),
        (b"\0\0\0\x18ftypqt  ", "video"),
        (b"\x1aE\xdf\xa3", "video"),
        (b"MM\0+", "TIFF"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"BM and so the text begins", None),
        (b"RIFF1234AVI ", None),
        (b"", None),
    ],
)
def test_other_heads(head: bytes, kind: str | None) -> None:
    assert sniff(head) == kind


@given(st.binary(max_size=SNIFF_BYTES))
def test_any_bytes_have_a_kind_or_none(head: bytes) -> None:
    assert sniff(head) in {None, *(kind.name for kind in FORMATS)}


def test_a_pattern_names_the_setting_as_the_front_end_spells_it() -> None:
    with pytest.raises(ConfigError) as caught:
        find_photos([], exclude=["!"])
    assert str(caught.value).startswith("a pattern of exclude= is not in gitignore syntax (")
    assert caught.value.text("--{}".format).startswith("a pattern of --exclude is not in gitignore syntax (")
    assert str(caught.value).endswith("; correct it")
