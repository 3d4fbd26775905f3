"""`photo.jpg.phototag.json`: a sidecar with the tags of a photo, for programs.

The names `photo.jpg.json` and `*.supplemental-metadata.json` belong to Google Takeout, osxphotos and PhotoPrism.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phototag._version import __version__
from phototag.core import Journal, Label, Photo, Prediction, Tag
from phototag.errors import PhotoError
from phototag.metadata.edits import packed, replacement
from phototag.metadata.files import NO_FILE, moment, now, os_fault, sync_folder, write_file
from phototag.metadata.keywords import key
from phototag.metadata.writer import EarlierTags, Written
from phototag.photos.digest import content_digest
from phototag.photos.kinds import OWN_SUFFIX

MAX_SIDECAR = 1 << 20  # bytes; phototag writes a few thousand


@dataclass(frozen=True)
class JsonSidecarWriter:
    """The writer of JSON sidecars, for the tags of one model.

    `journal` records each change before it is made. `earlier_tags` accepts only sidecars with the same `recipe`. With
    `forget_rejections`, tags that the user removed from a sidecar are written again.
    """

    model_name: str
    model_digest: str
    journal: Journal
    recipe: str = ""
    forget_rejections: bool = False

    name = "json"

    def write(
        self, photo: Photo, tags: Sequence[Tag], predictions: Sequence[Prediction], previous: Sequence[str] = ()
    ) -> Written:
        """Write `tags` to the sidecar of `photo`, and return the files that now hold them: the sidecar or none.

        Without tags, phototag removes its earlier sidecar. A sidecar with equal content stays unchanged. Writing is
        atomic.

        `previous` are the names that phototag wrote there before. If the user has removed some of them, they are not
        written again. The sidecar records them, even if it has no tags left.

        Raises `PhotoError` if the folder cannot be written to, or if another program's file has the sidecar's name.
        """
        path = photo.path
        sidecar = sidecar_path(path)
        try:
            existing = _read(path, sidecar)
            rejected = _rejected(existing, previous, self.journal) if not self.forget_rejections else ()
            gone = set(map(key, rejected))
            tags = [tag for tag in tags if key(tag.name) not in gone] if gone else tags
            if tags or rejected:
                self._write(path, sidecar, existing, self._content(tags, predictions, rejected))
            elif existing is not None:
                self.journal.note_change(sidecar, NO_FILE, packed(replacement(b"", existing.data)))
                sidecar.unlink()
                sync_folder(sidecar.parent)
            return Written((sidecar,) if tags else (), photo, rejected=rejected)
        except OSError as error:
            raise os_fault(path, f"its sidecar {sidecar.name} cannot be written", error) from None

    def earlier_tags(self, photo: Photo) -> EarlierTags | None:
        """Return the tags of an earlier run with the same recipe, or None. None if `photo` has changed since."""
        if not os.path.lexists(os.fspath(photo) + OWN_SUFFIX):  # true for nearly all photos that get here
            return None
        sidecar = sidecar_path(photo.path)
        try:
            existing = _read(photo.path, sidecar)
            content: dict[str, Any] = existing.content if existing is not None else {}
            if not self.recipe or content.get("recipe") != self.recipe or photo.mtime_ns > moment(content["date"]):
                return None
            tags = tuple(map(_tag, content["tags"]))
            predictions = tuple(map(_prediction, content["predictions"]))
        except (PhotoError, OSError, KeyError, TypeError, ValueError, OverflowError):
            return None
        return EarlierTags(tags, predictions, (sidecar,) if tags else (), tuple(_rejected_in(content)))

    def _write(self, photo: Path, sidecar: Path, existing: _Existing | None, content: dict[str, Any]) -> None:
        if existing is not None and _without_date(existing.content) == _without_date(content):
            return
        data = _dumped(content).encode("utf-8", "surrogateescape")
        undo = packed(replacement(data, existing.data)) if existing is not None else None
        write_file(
            sidecar,
            [data],
            # A sidecar is as readable as its photo, but its owner can always write it.
            mode=photo.stat().st_mode & 0o666 | 0o200,
            before_rename=lambda _: self.journal.note_change(sidecar, content_digest(data), undo),
        )

    def _content(
        self, tags: Sequence[Tag], predictions: Sequence[Prediction], rejected: Sequence[str]
    ) -> dict[str, Any]:
        return {
            "phototag": __version__,
            "date": now(),
            "recipe": self.recipe,
            "model": {"name": self.model_name, "digest": self.model_digest},
            "tags": [
                {
                    "name": tag.name,
                    "confidence": tag.confidence,
                    "path": list(tag.path),
                    "synset": tag.synset,
                    "synonyms": list(tag.synonyms),
                }
                for tag in tags
            ],
            "predictions": [
                {"name": one.label.name, "synset": one.label.synset, "score": one.score} for one in predictions
            ],
            **({"rejected": list(rejected)} if rejected else {}),
        }


def sidecar_path(photo: Path) -> Path:
    """Return the path of the JSON sidecar of `photo`."""
    return photo.with_name(photo.name + OWN_SUFFIX)


def read_tags(photo: Path) -> tuple[tuple[str, float], ...]:
    """Return the name and confidence (0 to 1) of each tag in the JSON sidecar of `photo`. Raises `PhotoError`."""
    sidecar = sidecar_path(photo)
    try:
        existing = _read(photo, sidecar)
        tags = existing.content["tags"] if existing is not None else ()
        return tuple((str(tag["name"]), float(tag["confidence"])) for tag in tags)
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be read ({error.strerror})", "check its permissions") from None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise PhotoError(photo, f"{sidecar.name} beside it is damaged", "remove it") from None


def read_rejected(photo: Path) -> tuple[str, ...]:
    """Return the names of removed tags that the JSON sidecar of `photo` records. Raises `PhotoError`."""
    sidecar = sidecar_path(photo)
    try:
        existing = _read(photo, sidecar)
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be read ({error.strerror})", "check its permissions") from None
    return tuple(_rejected_in(existing.content)) if existing is not None else ()


def removed_by_user(photo: Path, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    """Return the names that the user removed from the JSON sidecar of `photo` after phototag wrote `previous`.

    Raises `PhotoError` and `OSError`.
    """
    return _rejected(_read(photo, sidecar_path(photo)), previous, journal)


def is_ours(data: bytes) -> bool:
    """Return whether `data` is the content of a JSON sidecar that phototag wrote."""
    return _parsed(data) is not None


def remove_sidecar(photo: Path, *, dry_run: bool = False) -> bool:
    """Remove phototag's JSON sidecar of `photo`, and return whether there was one. Raises `PhotoError`."""
    sidecar = sidecar_path(photo)
    try:
        if not os.path.exists(sidecar) or _read(photo, sidecar) is None:
            return False
        if not dry_run:
            sidecar.unlink()
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be removed ({error.strerror})", "check the permissions") from None
    except PhotoError:
        return False  # another program's file
    return True


_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would create an encoder for each call


def _dumped(content: dict[str, Any]) -> str:
    """Return `content` as JSON with one line for each tag. Its keys are plain ASCII.

    The indentation of the standard library takes longer than the rest of the work.
    """
    members = []
    for name, value in content.items():
        if isinstance(value, list) and value:
            text = ",\n    ".join(map(_ENCODE, value))
            text = f"[\n    {text}\n  ]"
        else:
            text = _ENCODE(value)
        members.append(f'  "{name}": {text}')
    return "{\n" + ",\n".join(members) + "\n}\n"


def _without_date(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "date"}


def _rejected(existing: _Existing | None, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    """Return the names that the user removed from the sidecar, each once. Empty if the sidecar is missing."""
    tags = existing.content.get("tags") if existing is not None else None
    if existing is None or not isinstance(tags, list):
        return ()
    there = {key(tag["name"]) for tag in tags if isinstance(tag, dict) and isinstance(tag.get("name"), str)}
    names = [*_rejected_in(existing.content)]
    # The sidecar is as phototag left it, even if the index disagrees: a run may have died before updating the index.
    if journal.undo_of(content_digest(existing.data)) is None:
        names += previous
    return tuple({key(name): name for name in reversed(names) if key(name) not in there}.values())[::-1]


def _rejected_in(content: dict[str, Any]) -> Iterator[str]:
    names = content.get("rejected")
    for name in names if isinstance(names, list) else ():
        with contextlib.suppress(ValueError):
            yield _text(name)


def _tag(said: dict[str, Any]) -> Tag:
    """Return a tag from its `asdict` form. Raises ValueError, KeyError or TypeError if another program changed it."""
    path, synonyms = (tuple(map(_text, said[field])) for field in ("path", "synonyms"))
    synset = said["synset"]
    return Tag(
        _text(said["name"]), _share(said["confidence"]), path, synset if synset is None else _text(synset), synonyms
    )


def _prediction(said: dict[str, Any]) -> Prediction:
    synset = said["synset"]
    return Prediction(Label(_text(said["name"]), synset if synset is None else _text(synset)), _share(said["score"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it is not text")
    value.encode()  # half a surrogate pair can be neither stored nor printed
    return value


def _share(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("it is not a number from 0 to 1")
    return float(value)


@dataclass(frozen=True, slots=True)
class _Existing:
    """An existing sidecar of phototag's: its bytes and its parsed content."""

    data: bytes
    content: dict[str, Any]


def _read(photo: Path, sidecar: Path) -> _Existing | None:
    """Return phototag's existing sidecar, or None if the file is missing."""
    try:
        if not stat.S_ISREG(sidecar.stat().st_mode):  # reading a pipe would block
            raise PhotoError(photo, f"{sidecar.name} beside it is not a regular file", "move it away")
        with sidecar.open("rb") as file:
            data = file.read(MAX_SIDECAR)
    except FileNotFoundError:
        return None
    content = _parsed(data)
    if content is None:
        raise PhotoError(photo, f"{sidecar.name} beside it was not written by phototag", "move that file away")
    return _Existing(data, content)


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and "phototag" in content else None
