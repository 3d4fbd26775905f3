"""Put tags into the bytes of a photo or an XMP sidecar, and take them out again. Pure: bytes in, edits out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from phototag.core import Tag
from phototag.metadata import containers, exif, iptc, xmp
from phototag.metadata.blocks import DROP, Blocks, BlockUnwritable, Change, Changes
from phototag.metadata.edits import Data, Edits, applied, growth, leads_to
from phototag.metadata.keywords import (
    NOTHING,
    Keywords,
    Memory,
    Unwritable,
    all_paths,
    key,
    noted_names,
    noted_tags,
    present_keys,
    rejected_names,
    wanted_keywords,
    without_ours,
)
from phototag.metadata.stamp import Stamp

_Block = Literal["exif", "iptc"]


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The change of a photo: `edits` of the file, which make `changes` to its `blocks`.

    `left_out` holds (list, keyword) for each keyword that a list cannot hold, with the list names of `Keywords`.
    `rejected` are the names that the user removed, which are not written. `own_tags` are the names of phototag's own
    tags.
    """

    edits: Edits
    changes: Changes
    blocks: Blocks
    left_out: tuple[tuple[str, str], ...] = ()
    rejected: tuple[str, ...] = ()
    own_tags: tuple[str, ...] = ()


def read_keywords(data: Data) -> Keywords:
    """Return all keywords in the photo `data`. Raises `Unwritable` if phototag does not write into it."""
    return _read(containers.read_blocks(data))


def with_tags(data: Data, tags: Sequence[Tag], stamp: Stamp, memory: Memory = NOTHING) -> Rewriting:
    """Return the change that makes `tags` phototag's only tags in the photo `data`, next to the user's keywords.

    Names that the user removed are left out; the photo and `memory` record them. The edits are empty if the photo
    already has the tags. A list does not get keywords that it cannot hold. XPKeywords and IPTC stay unchanged if they
    cannot be changed. Raises `Unwritable` if phototag must not write into the photo.
    """
    blocks = containers.read_blocks(data)
    found = _read(blocks)
    skipped: set[_Block] = set()
    while True:
        plan = wanted_keywords(
            found,
            tags,
            model=stamp.model,
            version=stamp.version,
            date=stamp.date,
            recipe=stamp.recipe,
            memory=memory,
            has_packet=blocks.xmp is not None,
            has_iptc=found.iptc is not None and "iptc" not in skipped,
            can_hold_xp="exif" not in skipped and (blocks.exif is not None or blocks.can_create_exif),
        )
        try:
            changes, not_in_iptc = _changes(blocks, found, plan.keywords, skipped)
            left_out = (*plan.left_out, *not_in_iptc)
            noted = tuple(tag.name for tag in noted_tags(plan.keywords))
            return replace(_rewriting(data, blocks, changes), left_out=left_out, rejected=plan.rejected, own_tags=noted)
        except BlockUnwritable as error:
            if error.block in skipped:
                raise
            skipped.add(error.block)


def without_tags(data: Data) -> Rewriting:
    """Return the change that removes everything that phototag recorded as its own in the photo `data`.

    It has no edits if there is nothing to remove. Raises `Unwritable` if phototag cannot remove it.
    """
    blocks = containers.read_blocks(data)
    found = _read(blocks)
    changes, _ = _changes(blocks, found, without_ours(found), set())
    return _rewriting(data, blocks, changes)


def sidecar_with_tags(
    packet: bytes | None, held: Keywords, tags: Sequence[Tag], stamp: Stamp, memory: Memory = NOTHING
) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the XMP sidecar with `tags`, made from the existing `packet` or as a new one, and the rejected names.

    The rejected names are those that the user removed, as recorded in `packet`, the photo and `memory`. They are not
    written.

    `held` are the keywords in the photo itself. A new list begins with the user's keywords from there, so that programs
    which read only the sidecar lose nothing. The sidecar is None if it would be empty. Raises `Unwritable` if phototag
    must not write into `packet`.
    """
    found = xmp.read(packet) if packet is not None else Keywords()
    if present_keys(found).isdisjoint(map(key, memory.written)):  # names in the photo may be the user's
        memory = replace(memory, written=())
    plan = wanted_keywords(
        replace(found, xp=_seeds(found, without_ours(held))),
        tags,
        model=stamp.model,
        version=stamp.version,
        date=stamp.date,
        recipe=stamp.recipe,
        memory=replace(memory, rejected=(*memory.rejected, *rejected_names(held))),
        has_packet=packet is not None,
        has_iptc=False,
        can_hold_xp=False,
    )
    wanted = plan.keywords
    if packet is None:
        return xmp.create(wanted, sidecar=True) if wanted.provenance is not None else None, plan.rejected
    return _unless_bare(applied(packet, xmp.update(packet, wanted)), found), plan.rejected


def _seeds(found: Keywords, held: Keywords) -> tuple[str, ...] | None:
    """Return the user's keywords of the photo as one more list of its sidecar, with phototag's names in dc:subject."""
    written = [keyword for keywords in (held.subject, held.iptc, held.xp) for keyword in keywords or ()]
    if not written:
        return None
    noted = noted_names(found.provenance) if found.provenance is not None else ()
    return (*dict.fromkeys(written), *(name for name, _ in noted if name in (found.subject or ())))


def sidecar_without_tags(packet: bytes, held: Keywords) -> bytes | None:
    """Return the XMP sidecar `packet` without phototag's tags, or None if phototag created it and nothing is left.

    `held` are the keywords in the photo itself. A list that phototag created with them need not stay because of them.
    """
    found = xmp.read(packet)
    left = without_ours(replace(found, xp=_seeds(found, without_ours(held))))
    return _unless_bare(applied(packet, xmp.update(packet, left)), found)


def prove(before: Data, after: bytes, rewriting: Rewriting) -> None:
    """Check that `after`, read back from the disk, is `before` without any loss. Raises `Unwritable` if it is not.

    There are two proofs, which share no code. First, undoing the edits gives `before` byte for byte. Second, after
    rereading, only the intended blocks have changed, and they have the intended content.
    """
    if not leads_to(rewriting.edits, before, after):
        raise Unwritable("what was written does not prove to be the photo with keywords added")
    containers.verify(before, after, rewriting.changes, rewriting.blocks)


def is_photo_before(before: bytes | None, now: bytes) -> bool:
    """Return whether phototag could have made the photo `now` from `before`: same except metadata, no keyword lost."""
    try:
        if before is None or not containers.is_same_around(before, now):
            return False
        there = {key(entry) for entry in _last_levels(read_keywords(before))}
        return there.issuperset(key(entry) for entry in _last_levels(without_ours(read_keywords(now))))
    except Unwritable:
        return False


def is_sidecar_before(before: bytes | None, now: bytes) -> bool:
    """Return whether phototag could have made the sidecar `now` from `before`, or as a new one if that is None."""
    try:
        provenance = xmp.read(now).provenance
        if provenance is None:
            return False
        return xmp.is_same_around(before, now) if before is not None else "packet" in provenance.created
    except Unwritable:
        return False


def is_sidecar_after_removal(before: bytes, now: bytes) -> bool:
    """Return whether phototag could have made the sidecar `now` from `before` by removing its own tags."""
    try:
        found, there = xmp.read(before), {key(entry) for entry in _last_levels(xmp.read(before))}
        is_kept = there.issuperset(key(entry) for entry in _last_levels(xmp.read(now)))
        return is_kept and found.provenance is not None and xmp.is_same_around(before, now)
    except Unwritable:
        return False


def _last_levels(keywords: Keywords) -> Iterator[str]:
    return (path[-1] for path in all_paths(keywords))


def _unless_bare(packet: bytes, found: Keywords) -> bytes | None:
    is_ours = found.provenance is not None and "packet" in found.provenance.created
    return None if is_ours and xmp.is_bare(packet) else packet


def _read(blocks: Blocks) -> Keywords:
    found = xmp.read(blocks.xmp) if blocks.xmp is not None else Keywords()
    # New lists might hide IPTC keywords that phototag cannot read. So this refuses the photo.
    in_iptc = iptc.read_keywords(blocks.iptc) if blocks.iptc is not None else None
    return replace(found, iptc=in_iptc, xp=_read_xp(blocks))


def _read_xp(blocks: Blocks) -> tuple[str, ...] | None:
    try:
        return exif.read_xp_keywords(blocks.exif) if blocks.exif is not None else None
    except Unwritable:  # Windows reads dc:subject as well
        return None


def _changes(
    blocks: Blocks, found: Keywords, wanted: Keywords, skipped: set[_Block]
) -> tuple[Changes, tuple[tuple[str, str], ...]]:
    """Return the changes to the blocks, and the keywords that IPTC cannot hold as in `Rewriting.left_out`."""
    if wanted == found:
        return Changes(), ()
    in_exif = _exif_change(blocks.exif, found, wanted) if "exif" not in skipped else None
    in_iptc, left_out = _iptc_change(blocks.iptc, found, wanted) if "iptc" not in skipped else (None, ())
    if in_exif is None and in_iptc is None and _says_the_same(found, wanted):
        return Changes(), ()  # the other lists cannot be changed, and a new date alone does not justify writing
    not_in_iptc = tuple(("iptc", keyword) for keyword in left_out)
    return Changes(_xmp_change(blocks.xmp, found, wanted), in_exif, in_iptc), not_in_iptc


def _says_the_same(found: Keywords, wanted: Keywords) -> bool:
    """Return whether both packets hold the same keywords and record the same tags."""
    one, other = replace(found, iptc=None, xp=None), replace(wanted, iptc=None, xp=None)
    if one.provenance is None or other.provenance is None:
        return one == other
    noted = [{name for name, _ in each.tags} for each in (one.provenance, other.provenance)]
    return noted[0] == noted[1] and replace(one, provenance=None) == replace(other, provenance=None)


def _xmp_change(packet: bytes | None, found: Keywords, wanted: Keywords) -> Change:
    if packet is None:
        return xmp.create(wanted) if wanted.provenance is not None else None
    edits = xmp.update(packet, wanted)
    if wanted.provenance is None and _unless_bare(applied(packet, edits), found) is None:
        return DROP
    return edits or None


def _exif_change(block: bytes | None, found: Keywords, wanted: Keywords) -> Change:
    if wanted.xp == found.xp:
        return None
    try:
        if block is None:
            return exif.create(wanted.xp) if wanted.xp else None
        if wanted.xp is None and exif.is_bare(block):
            return DROP
        return exif.update_xp_keywords(block, wanted.xp) or None
    except Unwritable as error:
        raise BlockUnwritable("exif", error.reason) from None


def _iptc_change(block: bytes | None, found: Keywords, wanted: Keywords) -> tuple[Edits | None, tuple[str, ...]]:
    """Return the edits of the IPTC block, and the keywords that it cannot hold."""
    if block is None or wanted.iptc is None or wanted.iptc == found.iptc:
        return None, ()
    try:
        edits, left_out = iptc.update_keywords(block, wanted.iptc)
    except Unwritable as error:
        raise BlockUnwritable("iptc", error.reason) from None
    return edits or None, left_out


def _rewriting(data: Data, blocks: Blocks, changes: Changes) -> Rewriting:
    if changes == Changes():
        return Rewriting((), changes, blocks)
    try:
        return Rewriting(containers.rewrite(data, changes, blocks), changes, blocks)
    except BlockUnwritable:
        raise
    except Unwritable:
        # If nothing after the packet may move, a shorter packet can be padded.
        if blocks.xmp is None or not isinstance(changes.xmp, tuple) or growth(changes.xmp) >= 0:
            raise
        changes = replace(changes, xmp=xmp.refilled(blocks.xmp, changes.xmp))
        return Rewriting(containers.rewrite(data, changes, blocks), changes, blocks)
