"""Read the metadata of photos that phototag does not write into, with Pillow."""

from __future__ import annotations

import functools
import io
import logging
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image, IptcImagePlugin

from phototag.photos.kinds import READABLE_FORMATS, open_at_once


def embedded_keywords(path: Path) -> tuple[bytes | None, tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the XMP packet, the IPTC keywords and the XPKeywords of the photo at `path`, each None if not readable.

    This is for reading only, and works for any kind of photo. It does not check that the metadata is well-formed.
    """
    _prepare_pillow()
    try:
        with (
            open(path, "rb", opener=open_at_once) as file,
            Image.open(file, formats=READABLE_FORMATS) as image,
        ):
            packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
            exif = image.getexif()
            text = _xp_text(exif.get(ExifTags.Base.XPKeywords), "big" if exif.endian == ">" else "little")
            in_iptc = (IptcImagePlugin.getiptcinfo(image) or {}).get((2, 25))
    except Exception:  # noqa: BLE001  # decoders raise anything for hostile input
        return None, None, None
    datasets = in_iptc if isinstance(in_iptc, list) else [in_iptc] if in_iptc else []
    return (
        packet.encode("utf-8", "replace") if isinstance(packet, str) else packet,
        tuple(value.decode("utf-8", "replace") for value in datasets) or None,
        tuple(filter(None, text.split(";"))) or None,
    )


def _xp_text(value: object, order: Literal["big", "little"]) -> str:
    """Return the text of XPKeywords. Their type is BYTE, but SHORT occurs, in the byte `order` of the block."""
    if isinstance(value, tuple):
        try:
            value = b"".join(int.to_bytes(number, 2, order) for number in value)
        except (TypeError, OverflowError):  # fractions, negative numbers and others
            return ""
    return value.decode("utf-16-le", "replace").rstrip("\0") if isinstance(value, bytes) else ""


def embedded_exif(photo: Path | bytes) -> bytes | None:
    """Return the EXIF block of a photo, given as a path or as its content, or None if Pillow finds none."""
    _prepare_pillow()
    try:
        with (
            io.BytesIO(photo) if isinstance(photo, bytes) else open(photo, "rb", opener=open_at_once) as file,
            Image.open(file, formats=READABLE_FORMATS) as image,
        ):
            block = image.info.get("exif")
    except Exception:  # noqa: BLE001  # decoders raise anything for hostile input
        return None
    return block if isinstance(block, bytes) else None


@functools.cache
def _prepare_pillow() -> None:
    """Let Pillow read HEIC, silence its log, and lift its size limit. Nothing is decoded here."""
    import pillow_heif

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None
