"""The lists of keywords in a photo, and the plan for new ones. Pure.

Applications read different lists, and many read only the first one that is not empty. So a keyword goes into every
existing list. A new list begins with the keywords of the other lists. Otherwise it would hide them. Next to the lists,
phototag records what it added (`Provenance`). It never removes anything else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from phototag.core import Tag
from phototag.errors import python_spelling, spelled


class Unwritable(Exception):
    """phototag must not write into a photo or one of its blocks.

    `reason` says why, as the rest of a sentence about the photo: "it is read-only". `remedy` is what to do about it,
    with placeholders as in `errors`, or empty.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; {spelled(self.remedy, python_spelling)}" if self.remedy else self.reason


@dataclass(frozen=True, slots=True)
class Provenance:
    """phototag's record in a photo of what it wrote there.

    `tags` holds the name and confidence (0 to 1) of each keyword that phototag added and that was in none of the lists
    before. It also holds each added path with a level that is not such a name, with a leading `|`:
    `|animal|bird|toucan`. If a recorded name is in none of the lists any more, the user removed it, and the record
    stays. With the confidence `REMOVED`, a name that is in the lists again is the user's own.

    `created` names the lists that did not exist before, as in `Keywords`, and "packet" for the XMP packet. `model`,
    `version`, `date` (ISO 8601) and `recipe` say how and when the tags were made.
    """

    tags: tuple[tuple[str, float], ...]
    created: tuple[str, ...]
    model: str
    version: str
    date: str
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Knowledge about earlier runs that is not recorded with the keywords themselves.

    `written` are names that phototag wrote there; they only count if the record is gone. `rejected` are names that the
    user removed in another place: from the photo's sidecar, or from the sidecar's photo. With `forget`, names that the
    user removed are written again.
    """

    written: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    forget: bool = False


NOTHING = Memory()


@dataclass(frozen=True, slots=True)
class Keywords:
    """The lists of keywords in one photo, in order. None if the photo does not have the list.

    `subject` is dc:subject. `hierarchical` is lr:hierarchicalSubject, with levels separated by `|`. `tags_list` is
    digiKam:TagsList, with levels separated by `/`. `last_keyword` is MicrosoftPhoto:LastKeywordXMP, with levels
    separated by `/`. `iptc` is IPTC's Keywords (2:25). `xp` is EXIF's XPKeywords, separated by `;`.
    """

    subject: tuple[str, ...] | None = None
    hierarchical: tuple[str, ...] | None = None
    tags_list: tuple[str, ...] | None = None
    last_keyword: tuple[str, ...] | None = None
    iptc: tuple[str, ...] | None = None
    xp: tuple[str, ...] | None = None
    provenance: Provenance | None = None


# The names of the lists for users.
FIELDS = {
    "subject": "dc:subject",
    "hierarchical": "lr:hierarchicalSubject",
    "tags_list": "digiKam:TagsList",
    "last_keyword": "MicrosoftPhoto:LastKeywordXMP",
    "iptc": "IPTC",
    "xp": "XPKeywords",
}
LISTS = ("subject", "hierarchical", "tags_list", "last_keyword", "iptc", "xp")
MAX_IPTC_KEYWORD = 64  # bytes (IIM 4.2, 2:25)
REMOVED = 0.0
# The recorded confidence of a tag with a score of 0, which `top` may ask for.
_LEAST = 1e-9
# The separators of a keyword's levels, in the lists that have levels.
_SEPARATORS = {"hierarchical": "|", "tags_list": "/", "last_keyword": "/"}
# The first character of paths in `Provenance.tags`. Paths are recorded if one of their levels is not a tag, for example
# `animal`, which `max_tags` cut off. Otherwise they would look like `places|toucan`, a path of the user's.
_PATH = "|"


@dataclass(frozen=True, slots=True)
class Plan:
    """The planned lists of a photo.

    `keywords` equals the existing lists if they need no change. `left_out` holds (list, keyword) for each keyword that
    a list cannot hold; the list is "" if no list can. `rejected` are the names that the user removed, which are not
    written.
    """

    keywords: Keywords
    left_out: tuple[tuple[str, str], ...]
    rejected: tuple[str, ...] = ()


def key(keyword: str) -> str:
    """Return the form in which equal keywords compare equal: NFC (Unicode's composed form), casefolded and stripped."""
    return _nfc(_nfc(keyword.strip()).casefold())


def same(one: str, other: str) -> bool:
    """Return whether users would see `one` and `other` as the same keyword."""
    return key(one) == key(other)


def noted_names(provenance: Provenance) -> tuple[tuple[str, float], ...]:
    """Return the names in `provenance.tags` with their confidence, without the paths."""
    return tuple((name, confidence) for name, confidence in provenance.tags if not name.startswith(_PATH))


def rejected_names(found: Keywords, written: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names that phototag wrote and the user removed: recorded names that are in none of the lists.

    XPKeywords do not count if there is a record. phototag adds them to JPEGs. Photo applications leave them unchanged
    when the user removes a keyword. Windows writes them, but also updates dc:subject.

    `written` are names that phototag wrote there. They count if the record is gone, because another program dropped it.
    Then the missing names count as removed, but only if at least one name is left. Otherwise the photo was restored or
    stripped of all metadata.
    """
    if found.provenance is not None:
        kept = present_keys(replace(found, xp=None))
        return tuple(name for name, _ in noted_names(found.provenance) if key(name) not in kept)
    there = present_keys(found)
    if there.isdisjoint(map(key, written)):
        return ()
    return tuple(name for name in written if key(name) not in there)


def present_keys(found: Keywords) -> set[str]:
    """Return the `key` of each keyword in the lists and of each of its upper levels."""
    return {key(level) for path in all_paths(found) for level in path}


def noted_tags(found: Keywords) -> tuple[Tag, ...]:
    """Return the recorded tags that are still in the lists, each with phototag's longest path for it."""
    if found.provenance is None:
        return ()
    ours, rejected = _OwnEntries(found.provenance), set(map(key, rejected_names(found)))
    paths: dict[str, tuple[str, ...]] = {}
    for name, entries in _existing(found):
        for entry in entries:
            levels = _levels(name, entry) if ours.has(name, entry) else ()
            for depth, level in enumerate(map(_nfc, levels), 1):
                if depth > len(paths.get(level, ())):
                    paths[level] = levels[:depth]
    return tuple(
        Tag(name, confidence, paths.get(_nfc(name), (name,)), None)
        for name, confidence in noted_names(found.provenance)
        if confidence != REMOVED and key(name) not in rejected
    )


def wanted_keywords(
    found: Keywords,
    tags: Sequence[Tag],
    *,
    model: str,
    version: str,
    date: str,
    recipe: str = "",
    memory: Memory = NOTHING,
    has_packet: bool,
    has_iptc: bool,
    can_hold_xp: bool,
) -> Plan:
    """Plan the lists of a photo that has `found` and should have `tags`.

    `model`, `version`, `date` and `recipe` go into the provenance. `has_packet` says whether there is an XMP packet.
    `has_iptc` says whether there is a writable IPTC block, with or without keywords. `can_hold_xp` says whether the
    container can hold XPKeywords.

    The user's keywords stay as they are; phototag neither repeats nor claims them. A keyword that the user removed is
    not written again, neither alone nor as an upper level. Tags of an earlier run are removed if they are not wanted
    any more. Wanted ones keep their places, and new ones follow. A new confidence, model, date or recipe alone changes
    nothing. Without tags, the plan is `without_ours`, but the record of removed names stays.
    """
    ours = _OwnEntries(found.provenance)
    rejected = _rejected(found, memory)
    chosen, left_out = _own_tags(found, ours, _without(tags, rejected))
    notes = () if memory.forget else _notes_of(found, rejected)
    stamp = Provenance((), (), model, version, date, recipe)
    if not chosen:
        return Plan(_without_tags(found, ours, replace(stamp, tags=notes)), left_out, rejected)
    lists: dict[str, tuple[str, ...] | None] = {}
    for name in LISTS:
        existing: tuple[str, ...] | None = getattr(found, name)
        if existing is None and not _is_created(name, found, has_iptc=has_iptc, can_hold_xp=can_hold_xp):
            lists[name] = None
            continue
        entries, too_much = _entries(name, chosen)
        kept = {_nfc(entry) for entry in entries}
        if existing is None:
            stays, more = _seeds(name, found, ours)
            too_much = (*more, *too_much)
        else:
            stays = tuple(entry for entry in existing if not ours.has(name, entry) or _nfc(entry) in kept)
        there = {_nfc(entry) for entry in stays}
        lists[name] = (*stays, *(entry for entry in entries if _nfc(entry) not in there))
        left_out += tuple((name, keyword) for keyword in too_much)
    claimed = (*_claimed(found, ours, chosen), *notes)
    if ours.is_all(claimed) and all(lists[name] == getattr(found, name) for name in LISTS):
        return Plan(found, left_out, rejected)
    before = found.provenance.created if found.provenance is not None else ()
    created = [name for name in LISTS if lists[name] is not None and (getattr(found, name) is None or name in before)]
    if not has_packet or "packet" in before:
        created.append("packet")
    provenance = replace(stamp, tags=claimed, created=tuple(created))
    return Plan(Keywords(**lists, provenance=provenance), left_out, rejected)


def _without_tags(found: Keywords, ours: _OwnEntries, provenance: Provenance) -> Keywords:
    """Return `without_ours`, with the record `provenance` of removed names if the photo had a record."""
    left = without_ours(found)
    if found.provenance is None or not provenance.tags:
        return left
    if ours.is_all(provenance.tags) and left == replace(found, provenance=None):
        return found
    created = (name for name in found.provenance.created if name == "packet" or getattr(left, name, None) is not None)
    return replace(left, provenance=replace(provenance, created=tuple(created)))


def without_ours(found: Keywords) -> Keywords:
    """Return the lists without what phototag recorded as its own. The `provenance` is None.

    A list that phototag created is removed as a whole. It stays if it holds a keyword that is in none of the remaining
    lists, because only the user can have added that.
    """
    if found.provenance is None:
        return found
    ours = _OwnEntries(found.provenance)
    left: dict[str, tuple[str, ...]] = {}
    for name, existing in _existing(found):
        left[name] = tuple(entry for entry in existing if not ours.has(name, entry))
    paths = {
        tuple(map(key, _levels(name, entry)))
        for name, entries in left.items()
        if name not in found.provenance.created
        for entry in entries
    }
    # Lists without levels hold the last level of such a keyword.
    paths |= {path[-1:] for path in paths}
    kept = {
        name: entries
        for name, entries in left.items()
        if name not in found.provenance.created
        or not all(tuple(map(key, _levels(name, entry))) in paths for entry in entries)
    }
    return Keywords(**kept, provenance=None)


def all_paths(keywords: Keywords) -> Iterator[tuple[str, ...]]:
    """Yield each keyword of each list as a tuple of levels from the top."""
    return (_levels(name, entry) for name, entries in _existing(keywords) for entry in entries)


def confidence_of(provenance: Provenance | None, name: str, entry: str) -> float | None:
    """Return phototag's confidence in `entry` of the list `name`, or None if the user wrote the entry."""
    if provenance is None or not _OwnEntries(provenance).has(name, entry):
        return None
    noted = {_nfc(noted): confidence for noted, confidence in provenance.tags}
    levels = tuple(map(_nfc, _levels(name, entry)))
    return noted.get(levels[-1], noted.get(_noted_path(levels)))


class _OwnEntries:
    """The entries that phototag wrote, told by their exact names. An entry with another case is the user's."""

    def __init__(self, provenance: Provenance | None) -> None:
        tags = provenance.tags if provenance is not None else ()
        self._noted = {_nfc(name) for name, _ in tags}
        written = {_nfc(name) for name, confidence in tags if confidence != REMOVED}
        self._paths = {name for name in written if name.startswith(_PATH)}
        self.names = written - self._paths

    def has(self, name: str, entry: str) -> bool:
        """Return whether phototag wrote `entry` of the list `name`: a name, a path of names, or a recorded path.

        `places|animal` is the user's, even if `animal` is phototag's.
        """
        levels = tuple(map(_nfc, _levels(name, entry)))
        return self.names.issuperset(levels) or (len(levels) > 1 and _noted_path(levels) in self._paths)

    def is_all(self, claimed: Iterable[tuple[str, float]]) -> bool:
        """Return whether `claimed` has exactly the recorded names."""
        return self._noted == {_nfc(name) for name, _ in claimed}


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _levels(name: str, entry: str) -> tuple[str, ...]:
    separator = _SEPARATORS.get(name)
    return tuple(entry.split(separator)) if separator is not None else (entry,)


def _noted_path(levels: Iterable[str]) -> str:
    return _PATH + "|".join(levels)


def _existing(found: Keywords) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in LISTS:
        entries: tuple[str, ...] | None = getattr(found, name)
        if entries is not None:
            yield name, entries


def _users_paths(found: Keywords, ours: _OwnEntries) -> list[tuple[str, ...]]:
    """Return the user's keywords in `found`, as levels from the top."""
    return [
        _levels(name, entry) for name, entries in _existing(found) for entry in entries if not ours.has(name, entry)
    ]


def _rejected(found: Keywords, memory: Memory) -> tuple[str, ...]:
    """Return the names that the user removed, from `found` and `memory`, each once."""
    if memory.forget:
        return ()
    there = present_keys(found)
    elsewhere = (name for name in memory.rejected if key(name) not in there)
    names = (*rejected_names(found, memory.written), *elsewhere)
    return tuple({key(name): name for name in reversed(names)}.values())[::-1]


def _without(tags: Sequence[Tag], rejected: Iterable[str]) -> list[Tag]:
    gone = set(map(key, rejected))
    return [
        replace(tag, path=tuple(level for level in tag.path if key(level) not in gone) or (tag.name,))
        for tag in tags
        if key(tag.name) not in gone
    ]


def _notes_of(found: Keywords, rejected: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """Return the record of removed names. It includes names that the user has put back since."""
    noted = found.provenance.tags if found.provenance is not None else ()
    back = [name for name, confidence in noted if confidence == REMOVED]
    gone = {key(name): name for name in (*back, *rejected)}
    paths = [name for name, _ in noted if name.startswith(_PATH) and key(name.split(_PATH)[-1]) in gone]
    return tuple((name, REMOVED) for name in (*gone.values(), *paths))


def _own_tags(
    found: Keywords, ours: _OwnEntries, tags: Sequence[Tag]
) -> tuple[dict[str, Tag], tuple[tuple[str, str], ...]]:
    """Return the tags that phototag should write, by their names in NFC, and what no list can hold."""
    humans = _users_paths(found, ours)
    taken = {key(path[-1]) for path in humans if _nfc(path[-1]) not in ours.names}
    chosen: dict[str, Tag] = {}
    left_out: list[tuple[str, str]] = []
    for tag in tags:
        if key(tag.name) in taken:
            continue
        taken.add(key(tag.name))
        if not _is_clean(tag.name) or tag.name != tag.name.strip() or tag.name.startswith(_PATH):
            left_out.append(("", tag.name))
        else:
            chosen[_nfc(tag.name)] = tag
    # A user's path that consists only of names in `chosen` would look like phototag's. So its last level stays the
    # user's.
    for path in humans:
        if all(_nfc(level) in chosen for level in path):
            del chosen[_nfc(path[-1])]
    return chosen, tuple(left_out)


def _is_created(name: str, found: Keywords, *, has_iptc: bool, can_hold_xp: bool) -> bool:
    """Return whether phototag creates the missing list `name`."""
    if name == "hierarchical":  # one of the three lists that Immich reads
        return found.tags_list is None and not found.iptc and not has_iptc
    return {"subject": True, "iptc": has_iptc, "xp": can_hold_xp}.get(name, False)


def _entries(name: str, chosen: dict[str, Tag]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the entries of the list `name` for `chosen`, and the names that the list cannot hold."""
    held = {tag.name: _form(name, tag) for tag in chosen.values() if _fits(name, _form(name, tag))}
    left_out = tuple(tag.name for tag in chosen.values() if tag.name not in held)
    # A path implies its upper levels.
    above = {path[:depth] for path in held.values() for depth in range(1, len(path))}
    separator = _SEPARATORS.get(name, "")
    return tuple(separator.join(path) for path in dict.fromkeys(held.values()) if path not in above), left_out


def _form(name: str, tag: Tag) -> tuple[str, ...]:
    """Return the levels of `tag` in the list `name`."""
    return tag.path if name in _SEPARATORS else (tag.name,)


def _seeds(name: str, found: Keywords, ours: _OwnEntries) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the user's keywords with which a new list `name` begins, and those that it cannot hold."""
    humans = _users_paths(found, ours)
    if name in _SEPARATORS:
        # Paths first, so that a keyword that also exists without levels is not listed twice.
        humans.sort(key=lambda path: len(path) == 1)
    else:
        humans = [path[-1:] for path in humans]
    seeds: list[str] = []
    left_out: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for path in humans:
        folded = tuple(map(key, path))
        if folded in seen:
            continue
        seen |= {folded, folded[-1:]}
        if _fits(name, path):
            seeds.append(_SEPARATORS.get(name, "").join(path))
        else:
            left_out.append(path[-1])
    return tuple(seeds), tuple(left_out)


def _fits(name: str, levels: tuple[str, ...]) -> bool:
    """Return whether the list `name` can hold a keyword with these levels."""
    if not all(map(_is_clean, levels)):
        return False
    if name == "iptc":
        return len(levels[-1].encode()) <= MAX_IPTC_KEYWORD
    parting = ";" if name == "xp" else _SEPARATORS.get(name)
    return parting is None or not any(parting in level for level in levels)


def _is_clean(text: str) -> bool:
    """Return whether every list can hold `text`: not empty, only characters of XML 1.0, no control characters."""
    return bool(text.strip()) and not any(
        unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff" for character in text
    )


def _claimed(found: Keywords, ours: _OwnEntries, chosen: dict[str, Tag]) -> tuple[tuple[str, float], ...]:
    """Return the provenance for `chosen`: the names, and the paths that are not made of such names."""
    claimed = [(tag.name, max(tag.confidence, _LEAST)) for tag in chosen.values()]
    theirs = {tuple(map(_nfc, path)) for path in _users_paths(found, ours)}
    for tag in chosen.values():
        path = tuple(map(_nfc, tag.path))
        if not all(level in chosen for level in path) and path not in theirs:
            claimed.append((_noted_path(tag.path), max(tag.confidence, _LEAST)))
    return tuple(claimed)
