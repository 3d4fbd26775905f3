"""`photo.jpg.phototag.json`: tags beside a photo, for programs.

Never `photo.jpg.json` or `*.supplemental-metadata.json`: those belong to Google Takeout, osxphotos and PhotoPrism.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import phototag
from phototag.errors import PhotoError
from phototag.photos import OWN_SUFFIX
from phototag.taxonomy import Prediction, Tag

MAX_SIDECAR = 1 << 20  # bytes; one of ours has a few thousand


@dataclass(frozen=True)
class JsonSidecarWriter:
    """Writes the tags that one model gave into sidecars."""

    model_name: str
    model_digest: str

    name = "json"

    def write(self, photo: Path, tags: Sequence[Tag], predictions: Sequence[Prediction]) -> tuple[Path, ...]:
        """Make the sidecar of `photo` say `tags`, and return the files that now hold them: the sidecar or none.

        Without tags there is no sidecar, and an earlier one of phototag's is removed. One that says the same already
        is left as it is. What is written appears whole or not at all.

        Raises `PhotoError` where the folder cannot be written or another program's file has the sidecar's name.
        """
        sidecar = sidecar_path(photo)
        try:
            existing = _read(photo, sidecar)
            if not tags:
                if existing is not None:
                    sidecar.unlink()
                return ()
            content = self._content(tags, predictions)
            if existing is None or _without_date(existing) != _without_date(content):
                # A sidecar is as public as its photo, but its owner can always write it.
                mode = photo.stat().st_mode & 0o666 | 0o200
                _write_atomically(sidecar, json.dumps(content, ensure_ascii=False, indent=2) + "\n", mode)
            return (sidecar,)
        except OSError as error:
            hint = "check the folder's permissions and the room on the disk"
            if error.errno == errno.ENAMETOOLONG:
                hint = "shorten the photo's name"
            raise PhotoError(
                photo, f"its sidecar {sidecar.name} cannot be written ({error.strerror}); {hint}"
            ) from None

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


def read_sidecar(photo: Path) -> dict[str, Any] | None:
    """Return what the JSON sidecar of `photo` says, or None where there is none. Raises `PhotoError`."""
    try:
        return _read(photo, sidecar_path(photo))
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be read ({error.strerror}); check its permissions") from None


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


def _write_atomically(path: Path, text: str, mode: int) -> None:
    """Write `text` into a new file in the same directory, make it durable, and rename it to `path`."""
    # The name is short, so that a long photo name does not become too long; hidden, so that no gallery shows it.
    descriptor, temporary = tempfile.mkstemp(prefix=".phototag-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # not every mount has modes
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
