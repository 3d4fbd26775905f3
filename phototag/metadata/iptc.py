"""IPTC keywords in Photoshop image resources (IPTC IIM 4.2; Adobe Photoshop File Formats, "Image Resource Blocks").

Only an existing block is updated. A resource is a signature, an id, a name, a length and the data. Name and data are
padded to an even length. Resource 0x0404 is a sequence of datasets: 0x1C, record, number, length, value.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from phototag.metadata.edits import Edit, Edits, growth, ordered, shifted
from phototag.metadata.edits import applied as applied_edits
from phototag.metadata.keywords import Unwritable

MAX_KEYWORD = 64  # bytes, IIM 2:25
UTF_8 = b"\x1b%G"  # the ISO 2022 name of UTF-8 in 1:90

_IPTC, _DIGEST = 0x0404, 0x0425
_SIGNATURES = (b"8BIM", b"PHUT", b"AgHg", b"DCSR", b"MeSa")
_CHARACTER_SET = (1, 90)
_KEYWORDS = (2, 25)
# Record version, rasterized caption, and the object preview's format, version and data.
_BINARY = frozenset({(2, 0), (2, 125), (2, 200), (2, 201), (2, 202)})


@dataclass(frozen=True, slots=True)
class _Resource:
    """An image resource with its data at `start`. `stored_end` is the end of the padding, if there is any."""

    id: int
    start: int
    end: int
    stored_end: int


@dataclass(frozen=True, slots=True)
class _Dataset:
    """A dataset from `at` to `end`. `kind` is its record and number."""

    kind: tuple[int, int]
    at: int
    end: int
    value: bytes


def read_keywords(irb: bytes) -> tuple[str, ...] | None:
    """Return the keywords (2:25) in the image resources `irb`, or None without an IPTC block.

    Text without a character set (1:90) is read as UTF-8, or else as Windows-1252. Raises `Unwritable` if the resources
    or the datasets are malformed.
    """
    blocks = [irb[resource.start : resource.end] for resource in _resources(irb) if resource.id == _IPTC]
    if not blocks:
        return None
    found: list[str] = []
    for block in blocks:
        datasets = _datasets(block)
        found += [_decoded(dataset.value) for dataset in datasets if dataset.kind == _KEYWORDS and dataset.value]
    return tuple(found)


def update_keywords(irb: bytes, keywords: Sequence[str]) -> tuple[Edits, tuple[str, ...]]:
    """Return the edits of `irb` that make its keywords `keywords`, and the keywords that cannot be stored.

    Existing keywords that are wanted keep their places. New ones follow the last. A keyword of more than 64 bytes
    cannot be stored. A keyword that is not ASCII cannot be stored if the existing text is neither marked as UTF-8 nor
    ASCII. Photoshop's digest is updated if it was current.

    Raises `Unwritable` unless there is exactly one IPTC block. Also raises it if a part is malformed, or extended
    (longer than 32,767 bytes).
    """
    resources = _resources(irb)
    found = [resource for resource in resources if resource.id == _IPTC]
    if len(found) != 1:
        raise Unwritable("it has no IPTC block, or several")
    (resource,) = found
    block = irb[resource.start : resource.end]
    edits, left_out = _update_datasets(block, keywords)
    if not edits:
        return (), left_out
    length = resource.end - resource.start + growth(edits)
    padding = irb[resource.end : resource.stored_end]
    outer = [
        Edit(resource.start - 4, irb[resource.start - 4 : resource.start], length.to_bytes(4, "big")),
        *shifted(edits, resource.start),
        Edit(resource.end, padding, (padding or b"\0") if length % 2 else b""),
        *_digest_edits(irb, resources, block, edits),
    ]
    return ordered(edit for edit in outer if edit.removed != edit.inserted), left_out


def _digest_edits(irb: bytes, resources: list[_Resource], block: bytes, edits: Edits) -> Edits:
    """Return the edits that update Photoshop's MD5 of the IPTC block. A wrong MD5 stays wrong."""
    before, after = _md5(block), _md5(applied_edits(block, edits))
    return tuple(
        Edit(resource.start, before, after)
        for resource in resources
        if resource.id == _DIGEST and irb[resource.start : resource.end] == before
    )


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


# --- Datasets --------------------------------------------------------------------------------------------------------


def _update_datasets(block: bytes, keywords: Sequence[str]) -> tuple[Edits, tuple[str, ...]]:
    datasets = _datasets(block)
    wanted = Counter(keywords)
    edits: list[Edit] = []
    for dataset in datasets:
        # An empty dataset is not a keyword, but it stays: its removal was not requested.
        if dataset.kind == _KEYWORDS and dataset.value:
            keyword = _decoded(dataset.value)
            if wanted[keyword]:
                wanted[keyword] -= 1
            else:
                edits.append(Edit(dataset.at, block[dataset.at : dataset.end], b""))
    new = [keyword for keyword in dict.fromkeys(keywords) for _ in range(wanted[keyword])]
    storable = [keyword for keyword in new if _is_storable(keyword, datasets)]
    left_out = tuple(keyword for keyword in new if keyword not in storable)
    if storable:
        added = b"".join(_dataset(_KEYWORDS, keyword.encode()) for keyword in storable)
        edits.append(Edit(_place_for_keywords(datasets), b"", added))
    if not all(keyword.isascii() for keyword in storable) and not _is_utf_8(datasets):
        # Put this edit before others at its place: the character set must precede all text, including new keywords.
        edits.insert(0, Edit(_place_for_character_set(datasets), b"", _dataset(_CHARACTER_SET, UTF_8)))
    return ordered(edits), left_out


def _is_storable(keyword: str, datasets: list[_Dataset]) -> bool:
    try:
        stored = keyword.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(stored) <= MAX_KEYWORD and (keyword.isascii() or _is_utf_8(datasets) or _is_ascii(datasets))


def _is_utf_8(datasets: list[_Dataset]) -> bool:
    return any(dataset.kind == _CHARACTER_SET and dataset.value == UTF_8 for dataset in datasets)


def _is_ascii(datasets: list[_Dataset]) -> bool:
    """Return whether marking the text as UTF-8 would not change its meaning."""
    return not any(dataset.kind == _CHARACTER_SET for dataset in datasets) and all(
        dataset.value.isascii() for dataset in datasets if dataset.kind not in _BINARY
    )


def _place_for_keywords(datasets: list[_Dataset]) -> int:
    """Return the place after the last keyword, or else the end of record 2.

    Records ascend, but the order within record 2 is free (IIM 1.5).
    """
    keywords = [dataset.end for dataset in datasets if dataset.kind == _KEYWORDS]
    return keywords[-1] if keywords else max((d.end for d in datasets if d.kind[0] <= _KEYWORDS[0]), default=0)


def _place_for_character_set(datasets: list[_Dataset]) -> int:
    """Return the place that keeps record 1 ascending and precedes all text."""
    end = datasets[-1].end if datasets else 0
    return next((dataset.at for dataset in datasets if dataset.kind > _CHARACTER_SET), end)


def _dataset(kind: tuple[int, int], value: bytes) -> bytes:
    return b"\x1c" + bytes(kind) + len(value).to_bytes(2, "big") + value


def _decoded(value: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return value.decode(encoding)
        except UnicodeDecodeError:
            continue
    return value.decode("latin-1")


def _datasets(block: bytes) -> list[_Dataset]:
    found: list[_Dataset] = []
    at = 0
    while at < len(block):
        if block[at] == 0 and not block[at:].strip(b"\0"):
            break  # some programs pad the block and include the padding in its length
        if block[at] != 0x1C or at + 5 > len(block):
            raise Unwritable("its IPTC block is malformed")
        length = int.from_bytes(block[at + 3 : at + 5], "big")
        end = at + 5 + length
        if length > 0x7FFF:
            raise Unwritable("its IPTC block has an extended dataset")
        if end > len(block):
            raise Unwritable("its IPTC block is truncated")
        found.append(_Dataset((block[at + 1], block[at + 2]), at, end, block[at + 5 : end]))
        at = end
    if len({dataset.value for dataset in found if dataset.kind == _CHARACTER_SET}) > 1:
        raise Unwritable("its IPTC block names several character sets")
    return found


# --- Image resources -------------------------------------------------------------------------------------------------


def _resources(irb: bytes) -> list[_Resource]:
    found: list[_Resource] = []
    at = 0
    while at < len(irb):
        if irb[at : at + 4] not in _SIGNATURES or at + 7 > len(irb):
            raise Unwritable("its Photoshop resources are malformed")
        identity = int.from_bytes(irb[at + 4 : at + 6], "big")
        name_size = 1 + irb[at + 6]
        start = at + 6 + name_size + name_size % 2 + 4
        end = start + int.from_bytes(irb[start - 4 : start], "big")
        if start > len(irb) or end > len(irb):
            raise Unwritable("its Photoshop resources are truncated")
        # Some programs omit the padding of the last resource.
        at = min(end + (end - start) % 2, len(irb))
        found.append(_Resource(identity, start, end, at))
    return found
