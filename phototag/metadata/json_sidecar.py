"""`photo.jpg.phototag.json`: tags beside a photo, for programs.

Never `photo.jpg.json` or `*.supplemental-metadata.json`: those belong to Google Takeout, osxphotos and PhotoPrism.
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
from phototag.metadata.files import NO_FILE, EarlierTags, Written, moment, now, os_fault, sync_folder, write_file
from phototag.metadata.keywords import key
from phototag.photos.digest import content_digest
from phototag.photos.kinds import OWN_SUFFIX

MAX_SIDECAR = 1 << 20  # bytes; one of ours has a few thousand


@dataclass(frozen=True)
class JsonSidecarWriter:
    """Writes the tags that one model gave into sidecars.

    `journal`: told of each change before it is made. `recipe`: what `standing` knows its own work by.
    `forget_rejections`: tags that a person has removed from a sidecar are written again.
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
        """Make the sidecar of `photo` say `tags`, and return the files that now hold them: the sidecar or none.

        Without tags there is no sidecar, and an earlier one of phototag's is removed. One that says the same already
        is left as it is. What is written appears whole or not at all.

        `previous`: the names that were written there before. Those that a person has removed from it since are not
        written again, and are remembered there, also in one that has no tags left.

        Raises `PhotoError` where the folder cannot be written or another program's file has the sidecar's name.
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
            raise PhotoError(path, os_fault(f"its sidecar {sidecar.name} cannot be written", error)) from None

    def standing(self, photo: Photo) -> EarlierTags | None:
        """Return what an earlier run of the same recipe left, if `photo` has not changed since; None otherwise."""
        if not os.path.lexists(os.fspath(photo) + OWN_SUFFIX):  # as with nearly all that are looked at
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
            # A sidecar is as public as its photo, but its owner can always write it.
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
    """The JSON sidecar that belongs to `photo`."""
    return photo.with_name(photo.name + OWN_SUFFIX)


def read_tags(photo: Path) -> tuple[tuple[str, float], ...]:
    """Return name and confidence of each tag in the JSON sidecar of `photo`. Raises `PhotoError`."""
    sidecar = sidecar_path(photo)
    try:
        existing = _read(photo, sidecar)
        tags = existing.content["tags"] if existing is not None else ()
        return tuple((str(tag["name"]), float(tag["confidence"])) for tag in tags)
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be read ({error.strerror}); check its permissions") from None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise PhotoError(photo, f"{sidecar.name} beside it is damaged; remove it") from None


def read_rejected(photo: Path) -> tuple[str, ...]:
    """Return the names of tags that a person has removed, as the JSON sidecar of `photo` has them.

    Raises `PhotoError`.
    """
    sidecar = sidecar_path(photo)
    try:
        existing = _read(photo, sidecar)
    except OSError as error:
        raise PhotoError(photo, f"its sidecar cannot be read ({error.strerror}); check its permissions") from None
    return tuple(_rejected_in(existing.content)) if existing is not None else ()


def removed_by_people(photo: Path, previous: Sequence[str], journal: Journal) -> tuple[str, ...]:
    """Return the names that a person has removed from the JSON sidecar of `photo`, into which `previous` were written.

    Raises `PhotoError` and `OSError`.
    """
    return _rejected(_read(photo, sidecar_path(photo)), previous, journal)


def is_ours(data: bytes) -> bool:
    """Is `data` the content of a JSON sidecar of phototag's?"""
    return _parsed(data) is not None


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


_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each call


def _dumped(content: dict[str, Any]) -> str:
    """`content`, whose names are plain ASCII, as JSON with a line for each tag.

    The library's own indentation is slower than all else here.
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
    """The names that a person has removed from the sidecar, each once; none where it is gone."""
    tags = existing.content.get("tags") if existing is not None else None
    if existing is None or not isinstance(tags, list):
        return ()
    there = {key(tag["name"]) for tag in tags if isinstance(tag, dict) and isinstance(tag.get("name"), str)}
    names = [*_rejected_in(existing.content)]
    # As phototag left it, whatever the index says: a run may have died before it could say so.
    if journal.undo_of(content_digest(existing.data)) is None:
        names += previous
    return tuple({key(name): name for name in reversed(names) if key(name) not in there}.values())[::-1]


def _rejected_in(content: dict[str, Any]) -> Iterator[str]:
    names = content.get("rejected")
    for name in names if isinstance(names, list) else ():
        with contextlib.suppress(ValueError):
            yield _text(name)


def _tag(said: dict[str, Any]) -> Tag:
    """A tag as `asdict` wrote it. Raises ValueError, KeyError and TypeError where that has been changed."""
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
        raise ValueError("it is no text")
    value.encode()  # half of a surrogate pair can be neither kept nor shown
    return value


def _share(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("it is no number from 0 to 1")
    return float(value)


@dataclass(frozen=True, slots=True)
class _Existing:
    """A sidecar of ours as it is there: its bytes, and what they say."""

    data: bytes
    content: dict[str, Any]


def _read(photo: Path, sidecar: Path) -> _Existing | None:
    """An existing sidecar of ours, or None where there is no file."""
    try:
        if not stat.S_ISREG(sidecar.stat().st_mode):  # a pipe would never end
            raise PhotoError(photo, f"{sidecar.name} beside it is no regular file; move it away")
        with sidecar.open("rb") as file:
            data = file.read(MAX_SIDECAR)
    except FileNotFoundError:
        return None
    content = _parsed(data)
    if content is None:
        raise PhotoError(photo, f"{sidecar.name} beside it was not written by phototag; move that file away")
    return _Existing(data, content)


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and "phototag" in content else None
