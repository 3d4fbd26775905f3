"""XPKeywords in an EXIF block: the keywords that Windows Explorer shows (Exif 2.3; Microsoft's tag 0x9C9E).

An EXIF block is a TIFF (Exif 2.3, 4.5.2). MakerNotes may address any data in the block, in ways that only the maker
knows. So nothing in the block moves; see `tiff.with_field`.
"""

from __future__ import annotations

from collections.abc import Sequence

from phototag.metadata import tiff
from phototag.metadata.edits import Data, Edits
from phototag.metadata.keywords import Unwritable

XP_KEYWORDS = 0x9C9E
SEPARATOR = ";"

_EXIF_IFD, _GPS_IFD, _INTEROPERABILITY_IFD, _SUB_IFDS = 0x8769, 0x8825, 0xA005, 0x014A
_POINTERS = (_EXIF_IFD, _GPS_IFD, _INTEROPERABILITY_IFD, _SUB_IFDS)
# Five are usual: IFD0, IFD1, Exif, GPS and interoperability.
_MAX_DIRECTORIES = 64


def read_xp_keywords(block: bytes) -> tuple[str, ...] | None:
    """Return the keywords in XPKeywords, each without surrounding spaces, or None if the field is missing.

    `block` begins with the byte order mark. Raises `Unwritable` if IFD0 or the field is malformed.
    """
    text = _read_text(block, _first(block))
    return None if text is None else _split(text)


def update_xp_keywords(block: bytes, keywords: Sequence[str] | None) -> Edits:
    """Return the edits of `block` after which `read_xp_keywords` returns `keywords`. None removes the field.

    Raises `Unwritable` if the block is malformed, addresses data outside itself, or cannot store a keyword (see
    `create`). Also raises it for None if XPKeywords is the only field: drop the block instead (see `is_bare`).
    """
    check(block)
    order, _ = tiff.read_header(block)
    first = _first(block)
    text = _read_text(block, first)
    if keywords is None:
        return () if text is None else tiff.without_field(block, order, first, XP_KEYWORDS)
    before = () if text is None else _split(text)
    if before == tuple(keywords):
        return ()
    value = _encoded(keywords)
    if text and before and before == tuple(keywords[: len(before)]):
        # Keep the user's text as it is, including spaces.
        value = _stored(text.rstrip(SEPARATOR) + SEPARATOR + SEPARATOR.join(keywords[len(before) :]))
    return tiff.with_field(block, order, first, XP_KEYWORDS, value)


def create(keywords: Sequence[str]) -> bytes:
    """Return a new EXIF block that holds only `keywords`.

    Raises `Unwritable` if a keyword is empty, begins or ends with a space, or holds `;`, NUL or half a surrogate pair.
    """
    value = _encoded(keywords)
    at = 8 + 2 + 12 + 4
    stored = at.to_bytes(4, "little") if len(value) > 4 else value.ljust(4, b"\0")
    entry = XP_KEYWORDS.to_bytes(2, "little") + b"\x01\0" + len(value).to_bytes(4, "little") + stored
    return b"II*\0\x08\0\0\0" + b"\x01\0" + entry + b"\0\0\0\0" + (value if len(value) > 4 else b"")


def is_bare(block: bytes) -> bool:
    """Return whether `block` holds only XPKeywords. Raises `Unwritable` if IFD0 is malformed."""
    first = _first(block)
    return first.next == 0 and [field.tag for field in first.fields] == [XP_KEYWORDS]


def check(block: Data) -> None:
    """Raise `Unwritable` if `block` is malformed, its IFDs loop, or one of them addresses data outside the block.

    The addresses in MakerNotes are unknown, and not checked.
    """
    order, first = tiff.read_header(block)
    pending, seen = [(first, True)], set[int]()
    while pending:
        at, is_chained = pending.pop()
        if at in seen or len(seen) == _MAX_DIRECTORIES:
            raise Unwritable("the IFDs of its EXIF block loop")
        seen.add(at)
        directory = tiff.read_directory(block, order, at)
        for field in directory.fields:
            tiff.check_inside(block, field.start, field.size)
            if field.tag in _POINTERS:
                pending.extend((pointer, False) for pointer in _pointers(block, order, field))
        for _ in tiff.data_ranges(block, order, directory):
            pass
        # Only IFD0 and IFD1 form a chain. Cameras leave arbitrary bytes after the other IFDs, and readers ignore them.
        if is_chained and directory.next:
            pending.append((directory.next, True))


def _pointers(block: Data, order: tiff.ByteOrder, field: tiff.Field) -> list[int]:
    if field.count > _MAX_DIRECTORIES:
        raise Unwritable("the IFDs of its EXIF block loop")
    return tiff.integers(block, order, field)


def _first(block: Data) -> tiff.Directory:
    order, at = tiff.read_header(block)
    return tiff.read_directory(block, order, at)


def _read_text(block: bytes, first: tiff.Directory) -> str | None:
    """Return the text of XPKeywords up to its terminating NUL."""
    field = first.find(XP_KEYWORDS)
    if field is None:
        return None
    if field.type != tiff.BYTE:
        raise Unwritable("its XPKeywords have an unusual type")
    tiff.check_inside(block, field.start, field.size)
    try:
        text = block[field.start : field.end].decode("utf-16-le")
    except UnicodeDecodeError:
        raise Unwritable("its XPKeywords are not UTF-16") from None
    text, _, rest = text.partition("\0")
    if rest.strip("\0"):
        raise Unwritable("its XPKeywords go on behind their end")
    return text


def _split(text: str) -> tuple[str, ...]:
    return tuple(stripped for piece in text.split(SEPARATOR) if (stripped := piece.strip()))


def _encoded(keywords: Sequence[str]) -> bytes:
    for keyword in keywords:
        if not keyword or keyword != keyword.strip() or SEPARATOR in keyword or "\0" in keyword:
            raise Unwritable(f"the keyword {keyword!r} does not fit into its XPKeywords")
    return _stored(SEPARATOR.join(keywords))


def _stored(text: str) -> bytes:
    try:
        return (text + "\0").encode("utf-16-le")
    except UnicodeEncodeError:
        raise Unwritable("a keyword holds half a surrogate pair") from None
