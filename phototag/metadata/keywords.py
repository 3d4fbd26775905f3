"""Keywords: the lists of them that a photo can hold, and what those lists should say. Pure.

Applications read different lists, and many read only the first that is not empty. So a keyword goes into every list
that is there, and a list that is created begins with the keywords that the other lists hold: else it would hide them.
What phototag added is noted beside the lists (`Provenance`), and only that is ever removed again.
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
    """What phototag noted in a photo about its own doing.

    `tags`: name and confidence (0 to 1) of each keyword that it added and that was in none of the lists before; and,
    led by `|`, each path that it added and that has a level which is no such name: `|animal|bird|toucan`. A name that
    stands in none of the lists any more was removed by a person, and stays noted; with the confidence `REMOVED`, it is
    the person's own where it stands again.
    `created`: which of the lists (by their names in `Keywords`) were not there before, and "packet" for the XMP packet.
    `model`, `version`, `date` (ISO 8601), `recipe`: by what and when.
    """

    tags: tuple[tuple[str, float], ...]
    created: tuple[str, ...]
    model: str
    version: str
    date: str
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of earlier runs beside what is noted where the keywords are.

    `written`: names that phototag wrote there; they count where the note is gone. `rejected`: names that a person has
    removed elsewhere, from a photo's sidecar or from the photo of a sidecar. `forget`: what a person has removed is
    written again.
    """

    written: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    forget: bool = False


NOTHING = Memory()


@dataclass(frozen=True, slots=True)
class Keywords:
    """The lists of keywords in one photo, in their order; None where the photo has no such list.

    `subject` is dc:subject; `hierarchical` lr:hierarchicalSubject, levels parted by `|`; `tags_list` digiKam:TagsList,
    levels parted by `/`; `last_keyword` MicrosoftPhoto:LastKeywordXMP, levels parted by `/`; `iptc` IPTC's Keywords
    (2:25); `xp` EXIF's XPKeywords, split at `;`.
    """

    subject: tuple[str, ...] | None = None
    hierarchical: tuple[str, ...] | None = None
    tags_list: tuple[str, ...] | None = None
    last_keyword: tuple[str, ...] | None = None
    iptc: tuple[str, ...] | None = None
    xp: tuple[str, ...] | None = None
    provenance: Provenance | None = None


# What the lists are called outside of phototag.
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
# What is noted of a tag of which the model is not sure at all, which `--top` can ask for.
_LEAST = 1e-9
# What parts the levels of one keyword in the lists that have levels.
_SEPARATORS = {"hierarchical": "|", "tags_list": "/", "last_keyword": "/"}
# Leads those of `Provenance.tags` that are no name but a path in the lists with levels. Without them, a path with a
# level that is no tag (`animal`, cut off by `--max-tags`) could not be told from `places|toucan`, which a person made.
_PATH = "|"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a photo's lists should say.

    `keywords` equals what was found where nothing is to be done. `left_out`: (list, keyword) for each keyword that the
    list cannot hold, in no list by a name of `LISTS` where it can be written nowhere: then the list is "".
    `rejected`: the names that a person has removed, which are not written.
    """

    keywords: Keywords
    left_out: tuple[tuple[str, str], ...]
    rejected: tuple[str, ...] = ()


def key(keyword: str) -> str:
    """What two keywords share that are one to a person: NFC (Unicode's composed form), without case and outer space."""
    return _nfc(_nfc(keyword.strip()).casefold())


def same(one: str, other: str) -> bool:
    """Are the two one keyword to a person?"""
    return key(one) == key(other)


def noted_names(provenance: Provenance) -> tuple[tuple[str, float], ...]:
    """Return the names in `provenance.tags` and how sure phototag was of each, without the paths."""
    return tuple((name, confidence) for name, confidence in provenance.tags if not name.startswith(_PATH))


def rejected_names(found: Keywords, written: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names that phototag wrote and a person has removed: those noted that stand in none of the lists.

    XPKeywords does not count where there is a note: phototag adds it to JPEGs, and photo applications leave it as it is
    when a keyword is removed, while what writes into it (Windows) writes dc:subject too.

    `written`: names that phototag wrote there. Where nothing is noted (a program has dropped what it does not know),
    those of them that are missing, if any still stands: else the photo was restored, or stripped of everything.
    """
    if found.provenance is not None:
        kept = present_keys(replace(found, xp=None))
        return tuple(name for name, _ in noted_names(found.provenance) if key(name) not in kept)
    there = present_keys(found)
    if there.isdisjoint(map(key, written)):
        return ()
    return tuple(name for name in written if key(name) not in there)


def present_keys(found: Keywords) -> set[str]:
    """Return the `key` of each keyword in the lists, and of all that is above it."""
    return {key(level) for path in all_paths(found) for level in path}


def noted_tags(found: Keywords) -> tuple[Tag, ...]:
    """Return the tags that phototag noted and that still stand, each with the longest path that is phototag's."""
    if found.provenance is None:
        return ()
    ours, rejected = _Ours(found.provenance), set(map(key, rejected_names(found)))
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
    """Plan the lists of a photo in which `found` stands and which should have `tags`.

    `model`, `version`, `date`, `recipe` go into the provenance. `has_packet`: there is an XMP packet; `has_iptc`: there
    is an IPTC block that can be written into, also if it holds no keywords; `can_hold_xp`: the container can hold
    XPKeywords.

    A keyword that a person wrote stays as it is, is not added again and not claimed; one that a person has removed is
    not written again, on its own or as a level above another. Tags of an earlier run that are no longer wanted go;
    those that are wanted stay where they stand, new ones come last. A new confidence, model, date or recipe alone
    changes nothing. Without tags to write, this is `without_ours`, save that what was removed stays noted.
    """
    ours = _Ours(found.provenance)
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


def _without_tags(found: Keywords, ours: _Ours, provenance: Provenance) -> Keywords:
    """`without_ours`, and what a person has removed noted as `provenance` says, where there was a note."""
    left = without_ours(found)
    if found.provenance is None or not provenance.tags:
        return left
    if ours.is_all(provenance.tags) and left == replace(found, provenance=None):
        return found
    created = (name for name in found.provenance.created if name == "packet" or getattr(left, name, None) is not None)
    return replace(left, provenance=replace(provenance, created=tuple(created)))


def without_ours(found: Keywords) -> Keywords:
    """Return the lists as they would be without phototag, by what it noted in the photo; `provenance` is None.

    A list that it created goes as a whole, unless it holds a keyword that none of the lists has that stay: a person
    has put that one in.
    """
    if found.provenance is None:
        return found
    ours = _Ours(found.provenance)
    left: dict[str, tuple[str, ...]] = {}
    for name, existing in _existing(found):
        left[name] = tuple(entry for entry in existing if not ours.has(name, entry))
    paths = {
        tuple(map(key, _levels(name, entry)))
        for name, entries in left.items()
        if name not in found.provenance.created
        for entry in entries
    }
    # A keyword with levels is also held by the lists without: by its last one.
    paths |= {path[-1:] for path in paths}
    kept = {
        name: entries
        for name, entries in left.items()
        if name not in found.provenance.created
        or not all(tuple(map(key, _levels(name, entry))) in paths for entry in entries)
    }
    return Keywords(**kept, provenance=None)


def all_paths(keywords: Keywords) -> Iterator[tuple[str, ...]]:
    """Yield each keyword of each list, as its levels from the top."""
    return (_levels(name, entry) for name, entries in _existing(keywords) for entry in entries)


def confidence_of(provenance: Provenance | None, name: str, entry: str) -> float | None:
    """Return how sure phototag was of `entry` in the list `name`; None where it is a person's."""
    if provenance is None or not _Ours(provenance).has(name, entry):
        return None
    noted = {_nfc(noted): confidence for noted, confidence in provenance.tags}
    levels = tuple(map(_nfc, _levels(name, entry)))
    return noted.get(levels[-1], noted.get(_noted_path(levels)))


class _Ours:
    """Which entries of the lists phototag wrote. By their exact names: one that a person re-cased is a person's."""

    def __init__(self, provenance: Provenance | None) -> None:
        tags = provenance.tags if provenance is not None else ()
        self._noted = {_nfc(name) for name, _ in tags}
        written = {_nfc(name) for name, confidence in tags if confidence != REMOVED}
        self._paths = {name for name in written if name.startswith(_PATH)}
        self.names = written - self._paths

    def has(self, name: str, entry: str) -> bool:
        """Is `entry` of the list `name` phototag's: a name of its own, or a path of which each level is one or it is?

        `places|animal` is a person's, also where `animal` is phototag's.
        """
        levels = tuple(map(_nfc, _levels(name, entry)))
        return self.names.issuperset(levels) or (len(levels) > 1 and _noted_path(levels) in self._paths)

    def is_all(self, claimed: Iterable[tuple[str, float]]) -> bool:
        """Has been noted what `claimed` says, and nothing else?"""
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


def _humans(found: Keywords, ours: _Ours) -> list[tuple[str, ...]]:
    """The keywords of `found` that are not phototag's, as their levels from the top."""
    return [
        _levels(name, entry) for name, entries in _existing(found) for entry in entries if not ours.has(name, entry)
    ]


def _rejected(found: Keywords, memory: Memory) -> tuple[str, ...]:
    """The names that a person has removed, by what stands in `found` and what is known beside; each once."""
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
    """What stays noted of what a person has removed: the names, also of what the person has put back since."""
    noted = found.provenance.tags if found.provenance is not None else ()
    back = [name for name, confidence in noted if confidence == REMOVED]
    gone = {key(name): name for name in (*back, *rejected)}
    paths = [name for name, _ in noted if name.startswith(_PATH) and key(name.split(_PATH)[-1]) in gone]
    return tuple((name, REMOVED) for name in (*gone.values(), *paths))


def _own_tags(found: Keywords, ours: _Ours, tags: Sequence[Tag]) -> tuple[dict[str, Tag], tuple[tuple[str, str], ...]]:
    """Those of `tags` that are phototag's to write, by their names in NFC; and what can be written nowhere."""
    humans = _humans(found, ours)
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
    # A path that a person made of names that are all to be phototag's would pass for phototag's: its end is theirs.
    for path in humans:
        if all(_nfc(level) in chosen for level in path):
            del chosen[_nfc(path[-1])]
    return chosen, tuple(left_out)


def _is_created(name: str, found: Keywords, *, has_iptc: bool, can_hold_xp: bool) -> bool:
    """Is the list `name`, which is not there, to be made?"""
    if name == "hierarchical":  # one of the three that Immich reads
        return found.tags_list is None and not found.iptc and not has_iptc
    return {"subject": True, "iptc": has_iptc, "xp": can_hold_xp}.get(name, False)


def _entries(name: str, chosen: dict[str, Tag]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the list `name` should hold of `chosen`, and the names of those it cannot hold."""
    held = {tag.name: _form(name, tag) for tag in chosen.values() if _fits(name, _form(name, tag))}
    left_out = tuple(tag.name for tag in chosen.values() if tag.name not in held)
    # A path says all that is above it.
    above = {path[:depth] for path in held.values() for depth in range(1, len(path))}
    separator = _SEPARATORS.get(name, "")
    return tuple(separator.join(path) for path in dict.fromkeys(held.values()) if path not in above), left_out


def _form(name: str, tag: Tag) -> tuple[str, ...]:
    """The levels of `tag` in the list `name`."""
    return tag.path if name in _SEPARATORS else (tag.name,)


def _seeds(name: str, found: Keywords, ours: _Ours) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The human keywords of `found` as the list `name` should begin with them, and those it cannot hold."""
    humans = _humans(found, ours)
    if name in _SEPARATORS:
        # With levels before without, so that one that has both is not listed twice.
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
    """Can the list `name` hold a keyword of these levels?"""
    if not all(map(_is_clean, levels)):
        return False
    if name == "iptc":
        return len(levels[-1].encode()) <= MAX_IPTC_KEYWORD
    parting = ";" if name == "xp" else _SEPARATORS.get(name)
    return parting is None or not any(parting in level for level in levels)


def _is_clean(text: str) -> bool:
    """Is `text` something that every list can hold: not empty, of characters that XML 1.0 knows, none of control?"""
    return bool(text.strip()) and not any(
        unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff" for character in text
    )


def _claimed(found: Keywords, ours: _Ours, chosen: dict[str, Tag]) -> tuple[tuple[str, float], ...]:
    """What provenance says of `chosen`: the names, and the paths that are not known by the names of their levels."""
    claimed = [(tag.name, max(tag.confidence, _LEAST)) for tag in chosen.values()]
    theirs = {tuple(map(_nfc, path)) for path in _humans(found, ours)}
    for tag in chosen.values():
        path = tuple(map(_nfc, tag.path))
        if not all(level in chosen for level in path) and path not in theirs:
            claimed.append((_noted_path(tag.path), max(tag.confidence, _LEAST)))
    return tuple(claimed)
