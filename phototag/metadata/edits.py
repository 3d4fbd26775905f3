"""What is done to the bytes of a photo: a list of small edits, which can be applied, proven and taken back."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# What a photo's bytes may be held in: read whole, or mapped into memory.
Data: TypeAlias = "bytes | memoryview"

# What packed edits may inflate to, and the list of their places in it, in bytes. A change that phototag makes removes
# a few packets of XMP at most, and has a few edits for each keyword.
MAX_UNPACKED = 1 << 26
MAX_PLACES = 1 << 20
# Bytes that are compared at once, in a copy of one side that stays in the processor's cache. A memoryview compares one
# byte after the other; `bytes.startswith` compares with any buffer, as fast as the memory can be read.
_COMPARED = 1 << 17


@dataclass(frozen=True, slots=True)
class Edit:
    """At `offset` of the bytes as they are before, `removed` stands; it goes, and `inserted` comes in its place."""

    offset: int
    removed: bytes
    inserted: bytes


# In the order of their offsets, and none reaches into the next.
Edits: TypeAlias = tuple[Edit, ...]


def ordered(edits: Iterable[Edit]) -> Edits:
    """Return `edits` by offset, those at one offset in the order given. Raises ValueError where two overlap."""
    result = tuple(sorted(edits, key=lambda edit: edit.offset))
    for one, following in itertools.pairwise(result):
        if one.offset + len(one.removed) > following.offset:
            raise ValueError(f"edits overlap at {following.offset}")
    return result


def shifted(edits: Sequence[Edit], by: int) -> Edits:
    """Return `edits` of a block as edits of what the block begins in at offset `by`."""
    return tuple(Edit(edit.offset + by, edit.removed, edit.inserted) for edit in edits)


def growth(edits: Sequence[Edit]) -> int:
    """How many bytes longer the result is."""
    return sum(len(edit.inserted) - len(edit.removed) for edit in edits)


def pieces(data: Data, edits: Sequence[Edit]) -> Iterator[Data]:
    """Yield the parts of the result, one after the other, without copying what stays.

    Raises ValueError where what an edit removes is not what stands there.
    """
    at = 0
    for edit in edits:
        end = edit.offset + len(edit.removed)
        if data[edit.offset : end] != edit.removed:
            raise ValueError(f"what is to go is not what stands at {edit.offset}")
        yield data[at : edit.offset]
        yield edit.inserted
        at = end
    yield data[at:]


def applied(data: Data, edits: Sequence[Edit]) -> bytes:
    """Return the result of `edits`. Raises ValueError where what an edit removes is not what stands there."""
    return b"".join(pieces(data, edits))


def leads_to(edits: Sequence[Edit], before: Data, after: bytes) -> bool:
    """Is `after` what `edits` make of `before`, and nothing else?"""
    old = memoryview(before)
    at, moved = 0, 0
    for edit in (*edits, Edit(len(before), b"", b"")):
        end = edit.offset + len(edit.removed)
        # Compared in place: of a whole photo, a copy costs more than the comparison.
        if not after.startswith(old[at : edit.offset], at + moved) or old[edit.offset : end] != edit.removed:
            return False
        if not after.startswith(edit.inserted, edit.offset + moved):
            return False
        at, moved = end, moved + len(edit.inserted) - len(edit.removed)
    return len(after) == len(before) + moved


def is_same(one: Data, other: Data) -> bool:
    """Are they the same bytes?"""
    return len(one) == len(other) and all(
        bytes(one[at : at + _COMPARED]).startswith(other[at : at + _COMPARED]) for at in range(0, len(one), _COMPARED)
    )


def inverse(edits: Sequence[Edit]) -> Edits:
    """Return the edits that take `edits` back: of the result, to what was before."""
    taken_back: list[Edit] = []
    moved = 0
    for edit in edits:
        taken_back.append(Edit(edit.offset + moved, edit.inserted, edit.removed))
        moved += len(edit.inserted) - len(edit.removed)
    return tuple(taken_back)


def replacement(before: bytes, after: bytes) -> Edits:
    """Return one edit that makes `after` of `before`, without what both begin and end with."""
    if before == after:
        return ()
    start = len(os.path.commonprefix([before, after]))  # noqa: RUF071
    end = len(os.path.commonprefix([before[start:][::-1], after[start:][::-1]]))  # noqa: RUF071
    return (Edit(start, before[start : len(before) - end], after[start : len(after) - end]),)


def packed(edits: Sequence[Edit]) -> bytes:
    """Return `edits` as bytes to be kept, without what they remove: that is in the data they belong to."""
    places = [(edit.offset, len(edit.removed), len(edit.inserted)) for edit in edits]
    return zlib.compress(json.dumps(places).encode() + b"\n" + b"".join(edit.inserted for edit in edits))


def unpacked(kept: bytes, data: Data) -> Edits:
    """Return the edits of `data` that were `packed`. Raises ValueError where `kept` is damaged, whatever is in it."""
    with _damage_told():
        return _at_places(*_inflated(kept), data)


def already_back(kept: bytes, data: Data) -> bytes | None:
    """Return what the edits that were `packed` put in, if all of it stands in `data` as after them; None otherwise.

    So it is where a change and the edits that take it back were never made. Raises ValueError as `unpacked` does.
    """
    with _damage_told():
        places, content = _inflated(kept)
        at = moved = 0
        for offset, removed, inserted in places:
            start = offset + moved
            if start < 0 or inserted < 0 or data[start : start + inserted] != content[at : at + inserted]:
                return None
            at, moved = at + inserted, moved + inserted - removed
        return content


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except (zlib.error, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _inflated(kept: bytes) -> tuple[Iterable[tuple[int, int, int]], bytes]:
    """The places of packed edits, and what they insert."""
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
        # A slice would take what is negative or too large, and mean something else.
        if not end <= offset <= offset + removed <= len(data) or not 0 <= inserted <= len(content) - at:
            raise ValueError(f"no edit fits at {offset}")
        end = offset + removed
        edits.append(Edit(offset, bytes(data[offset:end]), content[at : at + inserted]))
        at += inserted
    if at != len(content):
        raise ValueError("it holds more than its edits")
    return tuple(edits)
