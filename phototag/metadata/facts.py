"""The facts of a photo's origin in its EXIF block: time, place and camera (Exif 2.32). Nothing is written.

A block is hostile until proven otherwise. piexif trusts every count in a block. So it only gets an excerpt with the
needed fields, each of a plausible size.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import piexif

from phototag.metadata import containers, foreign, tiff
from phototag.metadata.edits import Data
from phototag.metadata.keywords import Unwritable
from phototag.metadata.source import Source

MAX_TEXT = 200  # characters
_MAX_VALUE = 1 << 10  # bytes; the longest value that facts need is a name

_EXIF_POINTER, _GPS_POINTER = piexif.ImageIFD.ExifTag, piexif.ImageIFD.GPSTag
_POINTERS = (_EXIF_POINTER, _GPS_POINTER)
_WANTED = frozenset({piexif.ImageIFD.Make, piexif.ImageIFD.Model, *_POINTERS})
# The time when the photo was taken, or else when it was digitized, each with its time zone.
_TIMES = (
    (piexif.ExifIFD.DateTimeOriginal, piexif.ExifIFD.OffsetTimeOriginal),
    (piexif.ExifIFD.DateTimeDigitized, piexif.ExifIFD.OffsetTimeDigitized),
)
_WANTED_EXIF = frozenset({piexif.ExifIFD.LensModel, *(tag for pair in _TIMES for tag in pair)})
_LATITUDE = (piexif.GPSIFD.GPSLatitude, piexif.GPSIFD.GPSLatitudeRef)
_LONGITUDE = (piexif.GPSIFD.GPSLongitude, piexif.GPSIFD.GPSLongitudeRef)
_WANTED_GPS = frozenset({*_LATITUDE, *_LONGITUDE})
_ASCII = 2

_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
_WESTMOST, _EASTMOST = datetime.timedelta(hours=-12), datetime.timedelta(hours=14)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts in a photo's EXIF block, each None if it is missing or implausible.

    `taken` is the local time in seconds, without a time zone; `zone` is its time zone. `latitude` (-90 to 90, north is
    positive) and `longitude` (-180 to 180, east is positive) are in degrees. Either both are known or neither. `camera`
    is make and model. `lens` is the model of the lens.
    """

    taken: datetime.datetime | None = None
    zone: datetime.timezone | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    lens: str | None = None


class _Value(NamedTuple):
    """A field's type, the number of its values, and their bytes."""

    type: int
    number: int
    stored: bytes


def read_facts(photo: Path | bytes) -> Facts | None:
    """Return the facts in the EXIF block of a photo, given as a path or as its content. None without a readable block.

    Reads JPEG, TIFF, TIFF-based RAW, PNG and WebP itself, and other kinds with Pillow. Never raises an error because of
    the photo's content.
    """
    try:
        block = _block(photo)
        if block is None:
            return None
        exif = piexif.load(b"Exif\0\0" + _excerpt(block))
        return _facts(exif["0th"], exif["Exif"], exif["GPS"])
    except Exception:  # noqa: BLE001  # piexif raises anything for hostile input
        return None


def _block(photo: Path | bytes) -> Data | None:
    """Return the EXIF block of a photo from its byte order mark on. For a TIFF file, return the whole file."""
    try:
        data = photo if isinstance(photo, bytes) else Source.read(photo).data
        block = containers.read_exif(memoryview(data))  # a block may be as large as the file, and is not copied
    except Unwritable:
        block = foreign.embedded_exif(photo)
    return block[6:] if block is not None and bytes(block[:6]) == b"Exif\0\0" else block


def _excerpt(block: Data) -> bytes:
    """Return a small EXIF block with the needed fields of `block`. Raises `Unwritable` if its header is malformed."""
    order, at = tiff.read_header(block)
    first = _values(block, order, at, _WANTED)
    pointers = [int.from_bytes(first.pop(tag).stored, order) if tag in first else None for tag in _POINTERS]
    directories = [
        _values(block, order, pointer, wanted) if pointer is not None else {}
        for pointer, wanted in zip(pointers, (_WANTED_EXIF, _WANTED_GPS), strict=True)
    ]
    mark = "<" if order == "little" else ">"
    start = 8 + len(_directory(mark, 8, {**first, **dict.fromkeys(_POINTERS, _long(mark, 0))}))
    exif = _directory(mark, start, directories[0])
    gps = _directory(mark, start + len(exif), directories[1])
    first |= {_EXIF_POINTER: _long(mark, start), _GPS_POINTER: _long(mark, start + len(exif))}
    return bytes(block[:4]) + struct.pack(mark + "I", 8) + _directory(mark, 8, first) + exif + gps


def _long(mark: str, value: int) -> _Value:
    return _Value(tiff.LONG, 1, struct.pack(mark + "I", value))


def _values(block: Data, order: tiff.ByteOrder, at: int, wanted: Collection[int]) -> dict[int, _Value]:
    """Return the `wanted` fields of the IFD at `at`. Malformed and too large fields are left out."""
    end = at + 2 + 12 * int.from_bytes(block[at : at + 2], order)
    found: dict[int, _Value] = {}
    for entry in range(at + 2, min(end, len(block) - 11), 12):
        tag = int.from_bytes(block[entry : entry + 2], order)
        if tag in wanted and tag not in found:
            with contextlib.suppress(Unwritable):
                field = tiff.read_field(block, order, entry)
                if 0 < field.size <= _MAX_VALUE and field.end <= len(block):
                    found[tag] = _Value(field.type, field.count, bytes(block[field.start : field.end]))
    return found


def _directory(mark: str, at: int, values: Mapping[int, _Value]) -> bytes:
    """Return an IFD for offset `at`, followed by the values that do not fit into its entries."""
    entries, behind = b"", b""
    start = at + 2 + 12 * len(values) + 4
    for tag, (kind, count, stored) in sorted(values.items()):
        if kind == _ASCII and not stored.endswith(b"\0"):  # piexif always cuts off the last byte
            count, stored = count + 1, stored + b"\0"
        place = stored.ljust(4, b"\0")
        if len(stored) > 4:
            place = struct.pack(mark + "I", start + len(behind))
            behind += stored + b"\0" * (len(stored) % 2)
        entries += struct.pack(mark + "HHI", tag, kind, count) + place
    return struct.pack(mark + "H", len(values)) + entries + b"\0\0\0\0" + behind


# --- The facts in piexif's values -------------------------------------------------------------------------------------


def _facts(first: Mapping[int, Any], exif: Mapping[int, Any], gps: Mapping[int, Any]) -> Facts:
    taken, zone = _taken(exif)
    latitude = _coordinate(gps, _LATITUDE, "NS", 90)
    longitude = _coordinate(gps, _LONGITUDE, "EW", 180)
    # Cameras without a fix write zeros. The place 0, 0 lies in the open Atlantic.
    if latitude is None or longitude is None or latitude == longitude == 0:
        latitude = longitude = None
    camera = _camera(_text(first.get(piexif.ImageIFD.Make)), _text(first.get(piexif.ImageIFD.Model)))
    return Facts(taken, zone, latitude, longitude, camera, _text(exif.get(piexif.ExifIFD.LensModel)))


def _taken(exif: Mapping[int, Any]) -> tuple[datetime.datetime | None, datetime.timezone | None]:
    for time, offset in _TIMES:
        match = _DATE.match(_text(exif.get(time)) or "")
        if match is not None:
            year, month, day, hour, minute, second = map(int, match.groups())
            with contextlib.suppress(ValueError):  # 0000:00:00, or February 30
                taken = datetime.datetime(year, month, day, hour, minute, second)
                return taken, _zone(_text(exif.get(offset)))
    return None, None


def _zone(text: str | None) -> datetime.timezone | None:
    match = _ZONE.fullmatch(text or "")
    if match is None:
        return datetime.timezone.utc if text == "Z" else None
    offset = datetime.timedelta(hours=int(match[2]), minutes=int(match[3])) * (-1 if match[1] == "-" else 1)
    return datetime.timezone(offset) if _WESTMOST <= offset <= _EASTMOST else None


def _coordinate(gps: Mapping[int, Any], tags: tuple[int, int], sides: str, most: int) -> float | None:
    """Return a latitude or longitude in degrees. `sides` holds the letters for positive and negative values."""
    value, side = gps.get(tags[0]), (_text(gps.get(tags[1])) or "?")[0].upper()
    if not isinstance(value, tuple) or side not in sides:
        return None
    parts = value if isinstance(value[0], tuple) else (value,)
    # The parts are degrees, minutes and seconds, each a fraction.
    if len(parts) > 3 or any(denominator == 0 for _, denominator in parts):
        return None
    degrees = sum(numerator / denominator / 60**depth for depth, (numerator, denominator) in enumerate(parts))
    if not 0 <= degrees <= most:
        return None
    return float(-degrees if side == sides[1] else degrees)


def _camera(make: str | None, model: str | None) -> str | None:
    """Return "Canon EOS 80D" for "Canon" and "Canon EOS 80D", and "Apple iPhone 12" for "Apple" and "iPhone 12"."""
    if make is None or model is None:
        return model or make
    # "NIKON CORPORATION" and "NIKON D70", or "EASTMAN KODAK COMPANY" and "KODAK DC210 ZOOM".
    is_repeated = model.split()[0].casefold() in make.casefold().split()
    return model if is_repeated else f"{make} {model}"


def _text(value: object) -> str | None:
    """Return `value` as text on one line, or None if it is empty. EXIF text is ASCII, but UTF-8 and Latin-1 occur."""
    if not isinstance(value, bytes):
        return None
    stored = value.partition(b"\0")[0]
    try:
        text = stored.decode()
    except UnicodeDecodeError:
        text = stored.decode("latin-1")
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAX_TEXT] or None
