"""Small edits of a photo's bytes, as values: they can be applied, checked, inverted and stored."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# A photo's bytes, either read or mapped into memory.
Data: TypeAlias = "bytes | memoryview"

# Limits in bytes for packed edits: their inflated size, and the size of the list of places in it. A change by phototag
# removes at most a few XMP packets and has a few edits for each keyword.
MAX_UNPACKED = 1 << 26
MAX_PLACES = 1 << 20
# Bytes that are compared at once. The copy of one side stays in the processor's cache. A memoryview compares byte by
# byte; `bytes.startswith` compares with any buffer at the speed of the memory.
_COMPARED = 1 << 17


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `removed`, the bytes at `offset` before the edit, by `inserted`."""

    offset: int
    removed: bytes
    inserted: bytes


# Sorted by offset, without overlaps.
Edits: TypeAlias = tuple[Edit, ...]


def ordered(edits: Iterable[Edit]) -> Edits:
    """Return `edits` sorted by offset. Edits at the same offset keep their order. Raises ValueError if two overlap."""
    result = tuple(sorted(edits, key=lambda edit: edit.offset))
    for one, following in itertools.pairwise(result):
        if one.offset + len(one.removed) > following.offset:
            raise ValueError(f"edits overlap at {following.offset}")
    return result


def shifted(edits: Sequence[Edit], by: int) -> Edits:
    """Return `edits` of a block as edits of the data that holds the block at offset `by`."""
    return tuple(Edit(edit.offset + by, edit.removed, edit.inserted) for edit in edits)


def growth(edits: Sequence[Edit]) -> int:
    """Return how many bytes `edits` add. The number is negative if they remove more."""
    return sum(len(edit.inserted) - len(edit.removed) for edit in edits)


def pieces(data: Data, edits: Sequence[Edit]) -> Iterator[Data]:
    """Yield the consecutive parts of the result, without copying unchanged bytes.

    Raises ValueError if the bytes that an edit removes are not in `data` at its offset.
    """
    at = 0
    for edit in edits:
        end = edit.offset + len(edit.removed)
        if data[edit.offset : end] != edit.removed:
            raise ValueError(f"the bytes at {edit.offset} are not those that the edit removes")
        yield data[at : edit.offset]
        yield edit.inserted
        at = end
    yield data[at:]


def applied(data: Data, edits: Sequence[Edit]) -> bytes:
    """Return `data` with `edits` applied. Raises ValueError as `pieces` does."""
    return b"".join(pieces(data, edits))


def leads_to(edits: Sequence[Edit], before: Data, after: bytes) -> bool:
    """Return whether `after` is exactly `before` with `edits` applied."""
    old = memoryview(before)
    at, moved = 0, 0
    for edit in (*edits, Edit(len(before), b"", b"")):
        end = edit.offset + len(edit.removed)
        # Compared in place: a copy of a whole photo costs more than the comparison.
        if not after.startswith(old[at : edit.offset], at + moved) or old[edit.offset : end] != edit.removed:
            return False
        if not after.startswith(edit.inserted, edit.offset + moved):
            return False
        at, moved = end, moved + len(edit.inserted) - len(edit.removed)
    return len(after) == len(before) + moved


def is_same(one: Data, other: Data) -> bool:
    """Return whether `one` and `other` hold the same bytes."""
    return len(one) == len(other) and all(
        bytes(one[at : at + _COMPARED]).startswith(other[at : at + _COMPARED]) for at in range(0, len(one), _COMPARED)
    )


def inverse(edits: Sequence[Edit]) -> Edits:
    """Return the edits that undo `edits`. They apply to the result of `edits`."""
    taken_back: list[Edit] = []
    moved = 0
    for edit in edits:
        taken_back.append(Edit(edit.offset + moved, edit.inserted, edit.removed))
        moved += len(edit.inserted) - len(edit.removed)
    return tuple(taken_back)


def replacement(before: bytes, after: bytes) -> Edits:
    """Return one edit that turns `before` into `after`, without their common start and end."""
    if before == after:
        return ()
    start = len(os.path.commonprefix([before, after]))  # noqa: RUF071
    end = len(os.path.commonprefix([before[start:][::-1], after[start:][::-1]]))  # noqa: RUF071
    return (Edit(start, before[start : len(before) - end], after[start : len(after) - end]),)


def packed(edits: Sequence[Edit]) -> bytes:
    """Return `edits` as bytes for storage, without the bytes that they remove: those are in the data."""
    places = [(edit.offset, len(edit.removed), len(edit.inserted)) for edit in edits]
    return zlib.compress(json.dumps(places).encode() + b"\n" + b"".join(edit.inserted for edit in edits))


def unpacked(kept: bytes, data: Data) -> Edits:
    """Return the edits of `data` from their packed form. Raises ValueError if `kept` is damaged in any way."""
    with _damage_as_value_error():
        return _at_places(*_inflated(kept), data)


def already_back(kept: bytes, data: Data) -> bytes | None:
    """Return the bytes that packed edits insert, if `data` already holds all of them, otherwise None.

    `data` holds them if neither the change nor the edits that undo it were ever made. Raises ValueError as `unpacked`
    does.
    """
    with _damage_as_value_error():
        places, content = _inflated(kept)
        at = moved = 0
        for offset, removed, inserted in places:
            start = offset + moved
            if start < 0 or inserted < 0 or data[start : start + inserted] != content[at : at + inserted]:
                return None
            at, moved = at + inserted, moved + inserted - removed
        return content


@contextlib.contextmanager
def _damage_as_value_error() -> Iterator[None]:
    try:
        yield
    except (zlib.error, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _inflated(kept: bytes) -> tuple[Iterable[tuple[int, int, int]], bytes]:
    """Return the places of packed edits, and the bytes that they insert."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(kept, MAX_UNPACKED)
    places, _, content = inflated.partition(b"\n")
    if not inflater.eof or len(places) > MAX_PLACES:
        raise ValueError("it is cut short, or larger than any change")
    return json.loads(places), content


def _at_places(places: Iterable[tuple[int, int, int]], content: bytes, data: Data) -> Edits:
    edits: list[Edit] = []
    at = end = 0
    for offset, removed, inserted in places:
        # A slice accepts negative or too large offsets, and would return other bytes.
        if not end <= offset <= offset + removed <= len(data) or not 0 <= inserted <= len(content) - at:
            raise ValueError(f"no edit fits at {offset}")
        end = offset + removed
        edits.append(Edit(offset, bytes(data[offset:end]), content[at : at + inserted]))
        at += inserted
    if at != len(content):
        raise ValueError("it holds more than its edits")
    return tuple(edits)
