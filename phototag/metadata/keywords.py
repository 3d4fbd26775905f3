"""Keywords: the lists of them that a photo can hold, and what those lists should say. Pure."""

from __future__ import annotations

from dataclasses import dataclass


class Unwritable(Exception):
    """A photo, or a block of one, that must not be written into; the text says why, as the rest of a sentence."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What phototag noted in a photo about its own doing.

    `tags`: name and confidence (0 to 1) of each keyword that it added and that was in none of the lists before.
    `created`: which of the lists (by their names in `Keywords`) were not there before, and "packet" for the XMP packet.
    `model`, `version`, `date` (ISO 8601): by what and when.
    """

    tags: tuple[tuple[str, float], ...]
    created: tuple[str, ...]
    model: str
    version: str
    date: str


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
