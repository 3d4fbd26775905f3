"""Read the keywords of photos that phototag does not write into, with Pillow."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from PIL import ExifTags, Image, IptcImagePlugin

from phototag.photos.kinds import READABLE_FORMATS, open_at_once


def embedded_keywords(path: Path) -> tuple[bytes | None, tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the XMP packet in the photo at `path`, its IPTC keywords and its XPKeywords, as far as they can be read.

    For reading alone, of any kind of photo; nothing tells where they stand, or whether they are well-formed.
    """
    _prepare_pillow()
    try:
        with (
            open(path, "rb", opener=open_at_once) as file,
            Image.open(file, formats=READABLE_FORMATS) as image,
        ):
            packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
            in_exif = image.getexif().get(ExifTags.Base.XPKeywords)
            in_iptc = (IptcImagePlugin.getiptcinfo(image) or {}).get((2, 25))
    except Exception:  # noqa: BLE001  # decoders of hostile input raise whatever comes
        return None, None, None
    datasets = in_iptc if isinstance(in_iptc, list) else [in_iptc] if in_iptc else []
    text = bytes(in_exif).decode("utf-16-le", "replace").rstrip("\0") if isinstance(in_exif, bytes | tuple) else ""
    return (
        packet.encode("utf-8", "replace") if isinstance(packet, str) else packet,
        tuple(value.decode("utf-8", "replace") for value in datasets) or None,
        tuple(filter(None, text.split(";"))) or None,
    )


@functools.cache
def _prepare_pillow() -> None:
    """Let Pillow read HEIC, keep its log quiet, and lift its size limit: nothing is decoded here."""
    import pillow_heif

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None
