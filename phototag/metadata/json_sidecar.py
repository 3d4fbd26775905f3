"""`photo.jpg.phototag.json`: tags beside a photo, for programs.

Never `photo.jpg.json` or `*.supplemental-metadata.json`: those belong to Google Takeout, osxphotos and PhotoPrism.
"""

from __future__ import annotations

import datetime
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import phototag
from phototag.errors import PhotoError
from phototag.metadata.files import Written, os_fault, write_file
from phototag.photos import OWN_SUFFIX, Photo
from phototag.taxonomy import Prediction, Tag

MAX_SIDECAR = 1 << 20  # bytes; one of ours has a few thousand


@dataclass(frozen=True)
class JsonSidecarWriter:
    """Writes the tags that one model gave into sidecars."""

    model_name: str
    model_digest: str

    name = "json"

    def standing(self, photo: Photo) -> None:
        """Nothing yet."""

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Make the sidecar of `photo` say `tags`, and return the files that now hold them: the sidecar or none.

        Without tags there is no sidecar, and an earlier one of phototag's is removed. One that says the same already
        is left as it is. What is written appears whole or not at all.

        Raises `PhotoError` where the folder cannot be written or another program's file has the sidecar's name.
        """
        sidecar = sidecar_path(photo.path)
        try:
            existing = _read(photo.path, sidecar)
            if not tags:
                if existing is not None:
                    sidecar.unlink()
                return Written((), photo)
            content = self._content(tags, predictions)
            if existing is None or _without_date(existing) != _without_date(content):
                # A sidecar is as public as its photo, but its owner can always write it.
                mode = photo.path.stat().st_mode & 0o666 | 0o200
                text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
                write_file(sidecar, [text.encode("utf-8", "surrogateescape")], mode=mode)
            return Written((sidecar,), photo)
        except OSError as error:
            raise PhotoError(photo.path, os_fault(f"its sidecar {sidecar.name} cannot be written", error)) from None

    def _content(self, tags: Sequence[Tag], predictions: Sequence[Prediction]) -> dict[str, Any]:
        return {
            "phototag": phototag.__version__,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "model": {"name": self.model_name, "digest": self.model_digest},
            "tags": [{**asdict(tag), "path": list(tag.path), "synonyms": list(tag.synonyms)} for tag in tags],
            "predictions": [{**asdict(prediction.label), "score": prediction.score} for prediction in predictions],
        }


def sidecar_path(photo: Path) -> Path:
    """The JSON sidecar that belongs to `photo`."""
    return photo.with_name(photo.name + OWN_SUFFIX)


def read_tags(photo: Path) -> tuple[tuple[str, float], ...]:
    """Return name and confidence of each tag in the JSON sidecar of `photo`. Raises `PhotoError`."""
    sidecar = sidecar_path(photo)
    try:
        content = _read(photo, sidecar)
        return tuple((str(tag["name"]), float(tag["confidence"])) for tag in content["tags"]) if content else ()
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be read ({error.strerror}); check its permissions") from None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise PhotoError(photo, f"{sidecar.name} beside it is damaged; remove it") from None


def remove_sidecar(photo: Path, *, dry_run: bool = False) -> bool:
    """Remove the JSON sidecar of `photo`, and say whether there was one of phototag's. Raises `PhotoError`."""
    sidecar = sidecar_path(photo)
    try:
        if not os.path.exists(sidecar) or _read(photo, sidecar) is None:
            return False
        if not dry_run:
            sidecar.unlink()
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be removed ({error.strerror}); check the permissions") from None
    except PhotoError:
        return False  # another program's
    return True


def _without_date(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "date"}


def _read(photo: Path, sidecar: Path) -> dict[str, Any] | None:
    """The content of an existing sidecar of ours, or None where there is no file."""
    try:
        if not stat.S_ISREG(sidecar.stat().st_mode):  # a pipe would never end
            raise PhotoError(photo, f"{sidecar.name} beside it is no regular file; move it away")
        with sidecar.open("rb") as file:
            content = json.loads(file.read(MAX_SIDECAR))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or "phototag" not in content:
        raise PhotoError(photo, f"{sidecar.name} beside it was not written by phototag; move that file away")
    return content
