"""Tags inside real photos: embedded, read by other programs, written once only, and taken back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from phototag.core import Photo, Tag
from phototag.index import open_index
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.untag import take_back
from tests.helpers import SHARED
from tests.helpers.program import lines, phototag
from tests.helpers.toys import export_toy

Tags = dict[str, Any]
TAGS = {"bird", "Ö", "日本"}
KEYWORD_FIELDS = (
    "XMP-dc:Subject",
    "XMP-lr:HierarchicalSubject",
    "XMP-digiKam:TagsList",
    "XMP-microsoft:LastKeywordXMP",
    "IPTC:Keywords",
)
JUDGE = SHARED / "checks" / "photo_damage.py"
# Its EXIF block loops; and may address what lies behind it, so that its IPTC must not move.
MALFORMED_EXIF = "camera/jpg/tests/30-type_error.jpg"


@pytest.fixture(scope="module")
def words_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy whose three labels are ASCII, Latin and neither; with `--top 3` every photo gets all of them."""
    return export_toy(tmp_path_factory.mktemp("words") / "model", labels="Ö\n日本\nbird\n")


def tags_below(exiftool: Callable[..., subprocess.CompletedProcess[str]], place: Path) -> dict[str, Tags]:
    """What exiftool reads of each photo below `place`, or of the photo there, but for facts of the file."""
    listed = exiftool("-json", "-G1", "-struct", "-a", "-r", "-ext", "*", "--ext", "xmp", place)
    found: dict[str, Tags] = {}
    for tags in json.loads(listed.stdout):
        name = os.path.relpath(tags["SourceFile"], place)
        found[name] = {key: value for key, value in tags.items() if not key.startswith(("System:", "Source", "File:"))}
    return found


def words(tags: Tags, field: str) -> set[str]:
    value = tags.get(field, [])
    return set(map(str, value if isinstance(value, list) else [value]))


def xp_keywords(tags: Tags) -> set[str]:
    return set(str(tags.get("IFD0:XPKeywords", "")).split(";"))


def all_keywords(tags: Tags) -> set[str]:
    return set().union(xp_keywords(tags), *(words(tags, field) for field in KEYWORD_FIELDS)) - {""}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Real photos ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """Real photos `before` and `after` their tags were embedded, with the `index` of that run and what it said."""

    before: Path
    after: Path
    index: Path
    outcomes: dict[str, dict[str, Any]]

    @property
    def embedded(self) -> list[str]:
        return [name for name, one in self.outcomes.items() if one["written"] == [str(self.after / name)]]


def chosen_photos(photos: Path) -> Iterator[Path]:
    for folder in ("camera", "formats", "orientation"):
        files = (path for path in sorted((photos / folder).rglob("*")) if path.is_file())
        yield from (path for path in files if path.name != "CanonRaw.cr2")  # of a camera that LibRaw does not know
    for folder in ("coco128", "caltech"):
        yield from sorted((photos / folder).rglob("*.jpg"))[:6]


@pytest.fixture(scope="module")
def library(shared: Path, words_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("library")
    for path in chosen_photos(shared / "photos"):
        copy = folder / "before" / path.relative_to(shared / "photos")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    shutil.copytree(folder / "before", folder / "after")
    result = embed(words_model, folder / "index.sqlite3", folder / "after", "--format", "json")
    assert result.exit_code == 0, result.output[-3000:]
    outcomes = {os.path.relpath(one["path"], folder / "after"): one for one in lines(result)}
    return Library(folder / "before", folder / "after", folder / "index.sqlite3", outcomes)


@pytest.fixture(scope="module")
def read(
    library: Library, exiftool: Callable[..., subprocess.CompletedProcess[str]]
) -> tuple[dict[str, Tags], dict[str, Tags]]:
    """What exiftool reads in the library before and after."""
    return tags_below(exiftool, library.before), tags_below(exiftool, library.after)


@pytest.fixture
def copied(library: Library, tmp_path: Path) -> tuple[Path, Path]:
    """The photos and the index after embedding, for a test to change."""
    return shutil.copytree(library.after, tmp_path / "photos"), shutil.copyfile(library.index, tmp_path / "index")


def embed(model: Path, index: Path, *arguments: str | Path) -> Result:
    return phototag("scan", "--model", model, "--index", index, "--write", "embed", "--top", "3", *arguments)


def is_jpeg(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg"))


@pytest.mark.slow
@pytest.mark.needs_exiftool
def test_the_judge_finds_no_damage(library: Library) -> None:
    judge: list[str | Path] = [sys.executable, JUDGE, library.before, library.after]
    run = subprocess.run(judge, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    summary = json.loads(run.stdout.splitlines()[-1])
    assert summary["damaged"] == 0
    assert summary["compared"] == len(library.outcomes)
    assert summary["rewritten"] == len(library.embedded) > 140


def test_nearly_every_jpeg_is_written_into_and_the_others_say_why(library: Library) -> None:
    jpegs = [name for name in library.outcomes if is_jpeg(name)]
    assert len(set(jpegs) & set(library.embedded)) >= 0.95 * len(jpegs)
    for name, one in library.outcomes.items():
        path = library.after / name
        assert one["error"] is None or one["status"] == "skipped"
        if name in library.embedded:
            assert one["note"] is None
            continue
        assert path.read_bytes() == (library.before / name).read_bytes()
        if one["status"] == "tagged":
            assert one["written"] == [f"{path}.xmp"]
            assert one["note"].startswith(f"its tags are in {path.name}.xmp: ")
            assert one["note"].removeprefix(f"its tags are in {path.name}.xmp: ")
        else:
            assert one["written"] == []
    sidecars = {path.name for path in library.after.rglob("*.xmp")}
    refused = [name for name, one in library.outcomes.items() if one["note"]]
    assert sidecars == {f"{Path(name).name}.xmp" for name in refused}


def test_exiftool_sees_every_keyword_in_every_field(
    library: Library, read: tuple[dict[str, Tags], dict[str, Tags]]
) -> None:
    before, after = read
    for name in library.embedded:
        old, new = before[name], after[name]
        assert words(new, "XMP-dc:Subject") >= TAGS, name
        if is_jpeg(name) and name != MALFORMED_EXIF and any(key.startswith("IFD0:") for key in old):
            assert xp_keywords(new) >= TAGS, name
        # An IPTC block without a dataset shows by its digest alone.
        has_iptc = any(key.startswith("IPTC:") for key in new)
        assert has_iptc == any(key.startswith(("IPTC:", "Photoshop:IPTCDigest")) for key in old), name
        if has_iptc and name != MALFORMED_EXIF:
            assert words(new, "IPTC:Keywords") >= TAGS, name
        if (not has_iptc or name == MALFORMED_EXIF) and "XMP-digiKam:TagsList" not in old:
            assert words(new, "XMP-lr:HierarchicalSubject") >= TAGS, name


def test_every_human_keyword_is_still_there_and_in_the_lists_that_are_new(
    library: Library, read: tuple[dict[str, Tags], dict[str, Tags]]
) -> None:
    before, after = read
    humans = {name: all_keywords(before[name]) for name in library.embedded}
    assert sum(map(bool, humans.values())) >= 6
    for name, keywords in humans.items():
        for field in KEYWORD_FIELDS:
            assert words(after[name], field) >= words(before[name], field), name
            if field in after[name] and field not in before[name]:
                assert words(after[name], field) >= keywords, name
        assert xp_keywords(after[name]) >= keywords or "IFD0:XPKeywords" not in after[name], name


@pytest.mark.needs_exiftool("exiv2")
def test_exiv2_agrees_on_the_subjects(library: Library) -> None:
    paths = [os.fspath(library.after / name) for name in library.embedded]
    run = subprocess.run(["exiv2", "-K", "Xmp.dc.subject", "-Pt", *paths], capture_output=True, encoding="utf-8")
    seen = dict(line.split("  ", 1) for line in run.stdout.splitlines())
    for path in (path for path in paths if path in seen):
        assert set(seen[path].strip().split(", ")) >= TAGS, path
    unseen = [path for path in paths if path not in seen]
    assert len(unseen) <= 1
    for path in unseen:  # it could not read the packet before either
        original = library.before / os.path.relpath(path, library.after)
        alone = subprocess.run(["exiv2", "-K", "Xmp.dc.subject", "-Pt", original], capture_output=True)
        assert b"Failed to decode XMP" in alone.stderr


@pytest.mark.slow
def test_another_run_writes_nothing(library: Library, copied: tuple[Path, Path], words_model: Path) -> None:
    photos, index = copied
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in photos.rglob("*")}
    for arguments in (("--index", index), ("--index", index.with_name("another"))):
        command = ("scan", "--model", words_model, "--write", "embed", "--top", "3", "--force")
        assert phototag(*command, *arguments, photos).exit_code == 0
    assert content(photos) == content(library.after)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in photos.rglob("*")} == before


@pytest.mark.slow
def test_untag_gives_back_every_file_byte_for_byte(library: Library, copied: tuple[Path, Path]) -> None:
    photos, index = copied
    would = phototag("untag", "--dry-run", "--index", index, photos)
    assert content(photos) == content(library.after)
    done = phototag("untag", "--index", index, photos)
    assert done.exit_code == 0, done.output
    assert would.stdout == done.stdout
    assert len(done.stdout.splitlines()) == sum(bool(one["written"]) for one in library.outcomes.values())
    # No sidecar is left, and nothing else.
    assert content(photos) == content(library.before)


@pytest.mark.slow
def test_untag_without_the_index_leaves_no_tag_and_all_else(
    library: Library,
    copied: tuple[Path, Path],
    read: tuple[dict[str, Tags], dict[str, Tags]],
    exiftool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    photos, index = copied
    assert phototag("untag", "--index", index.with_name("another"), photos).exit_code == 0
    # But for the mark that its IPTC is UTF-8, which says nothing of ASCII and moves what follows, and IPTC's digest.
    harmless = {"IPTC:CodedCharacterSet", "Photoshop:IPTCDigest", "IFD1:ThumbnailOffset"}
    left = tags_below(exiftool, photos)
    assert left.keys() == read[0].keys()
    for name, before in read[0].items():
        for key in (before.keys() | left[name].keys()) - harmless:
            assert (name, key, left[name].get(key)) == (name, key, before.get(key))
    assert content(photos).keys() == content(library.before).keys()


@pytest.mark.slow
def test_what_a_person_removed_stays_out_and_nothing_is_damaged(
    library: Library,
    tmp_path: Path,
    words_model: Path,
    exiftool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    jpegs = [name for name in library.embedded if is_jpeg(name) and name != MALFORMED_EXIF]
    edited = tmp_path / "edited"
    for name in (*jpegs[::5], *(name for name in library.embedded if not is_jpeg(name))):
        (edited / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library.after / name, edited / name)
    fields = ("XMP-dc:Subject", "XMP-lr:HierarchicalSubject", "XMP-digiKam:TagsList", "XMP-microsoft:LastKeywordXMP")
    removals = [f"-{field}-=bird" for field in (*fields, "IPTC:Keywords")]
    exiftool("-m", "-q", "-overwrite_original", *removals, "-r", edited)
    exiftool("-m", "-q", "-overwrite_original", "-if", "$XPKeywords", "-XPKeywords=Ö;日本", "-r", edited)
    shutil.copytree(edited, tmp_path / "after")
    tags = tags_below(exiftool, edited)
    removed = {name for name, one in tags.items() if "bird" not in all_keywords(one)}
    assert len(removed) > 30
    other_model = shutil.copytree(words_model, tmp_path / "other model")
    # The same tags, by an index that knows nothing; then others, so that all have to be written.
    for labels in ("Ö\n日本\nbird\n", "Ö\n日本\nfox\n"):
        (other_model / "labels.txt").write_text(labels)
        assert embed(other_model, tmp_path / "new", tmp_path / "after").exit_code == 0
        found = tags_below(exiftool, tmp_path / "after")
        assert not {name for name in removed if "bird" in all_keywords(found[name])}
        run = subprocess.run([sys.executable, JUDGE, edited, tmp_path / "after"], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(run.stdout.splitlines()[-1])["rewritten"] > 30
    assert phototag("untag", "--index", tmp_path / "another", tmp_path / "after").exit_code == 0
    assert not any(
        key.startswith("XMP-phototag") for one in tags_below(exiftool, tmp_path / "after").values() for key in one
    )


@pytest.mark.slow
def test_each_change_of_real_photos_is_taken_back_byte_for_byte(library: Library, tmp_path: Path) -> None:
    names = [*library.outcomes][::4]
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library.before / name, tmp_path / "photos" / name)
    entries: list[tuple[Path, bytes, bytes | None]] = []
    with open_index(tmp_path / "index") as index, index.run({}):

        class Journal:
            undo_of = index.undo_of

            def note_change(self, path: Path, digest: bytes, undo: bytes | None) -> None:
                entries.append((path, digest, undo))
                index.note_change(path, digest, undo)

        states = [content(tmp_path / "photos")]
        for tags in (("cat",), ("Ö", "日本"), ()):
            for name in names:
                path = tmp_path / "photos" / name
                photo = Photo(path, path.stat().st_size, path.stat().st_mtime_ns)
                EmbedWriter("toy", Journal()).write(photo, [Tag(tag, 0.9, (tag,), None) for tag in tags], ())
            states.append(content(tmp_path / "photos"))
            entries.append((tmp_path, b"", None))  # the end of a run
    assert len(entries) > 2.5 * len(names)
    entries.pop()
    for path, digest, undo in reversed(entries):
        if path == tmp_path:
            states.pop()
            assert content(tmp_path / "photos") == states[-1]
        else:
            assert take_back(path, digest, undo)
            assert take_back(path, digest, undo) is False
    assert content(tmp_path / "photos") == states[0]
    for name in names:
        assert (tmp_path / "photos" / name).stat().st_mtime_ns == (library.before / name).stat().st_mtime_ns


# --- Undo -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photo(shared: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a real photo, in a folder of its own."""

    def copy(name: str, to: str | None = None) -> Path:
        path = tmp_path / "photos" / (to or Path(name).name)
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(shared / "photos" / name, path)
        return path

    return copy


@pytest.fixture
def tag(words_model: Path, tmp_path: Path) -> Callable[..., Result]:
    """Embeds all three labels of the toy in the photos below `path`."""

    def run(path: Path, *arguments: str | Path, model: Path = words_model) -> Result:
        result = embed(model, tmp_path / "index", path, *arguments)
        assert result.exit_code == 0, result.output
        return result

    return run


@pytest.fixture
def untag(tmp_path: Path) -> Callable[..., Result]:
    def run(path: Path, *, index: str = "index") -> Result:
        result = phototag("untag", "--index", tmp_path / index, path)
        assert result.exit_code == 0, result.output
        return result

    return run


def tags_of(exiftool: Callable[..., subprocess.CompletedProcess[str]], path: Path) -> Tags:
    (tags,) = tags_below(exiftool, path).values()
    return tags


REAL = ["camera/jpg/Canon_40D.jpg", "camera/exiftool/IPTC.jpg", "formats/density_plot.png", "formats/denali.webp"]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("index", ["index", "another"])
def test_what_another_program_did_meanwhile_stays(
    name: str, index: str, photo: Any, tag: Any, untag: Any, exiftool: Any
) -> None:
    path = photo(name)
    humans = all_keywords(tags_of(exiftool, path))
    tag(path)
    edits = ["-iptc:keywords+=mine"] if is_jpeg(name) and "IPTC" in name else []
    edits += ["-xmp-dc:subject+=mine", "-alldates=2001:02:03 04:05:06", "-xmp:datetimeoriginal=2001:02:03 04:05:06"]
    done = exiftool("-m", "-overwrite_original", *edits, path)
    assert "1 image files updated" in done.stdout
    assert all_keywords(tags_of(exiftool, path)) == humans | TAGS | {"mine"}
    assert "untagged" in untag(path, index=index).output
    left = tags_of(exiftool, path)
    assert all_keywords(left) == humans | {"mine"}
    # A list of phototag's goes where another, which stays, holds the same keyword of a person.
    assert "mine" in words(left, "IPTC:Keywords" if "IPTC" in name else "XMP-dc:Subject")
    assert left["XMP-exif:DateTimeOriginal"] == "2001:02:03 04:05:06"
    assert not [key for key in left if key.startswith("XMP-phototag")]


@pytest.mark.parametrize("name", REAL)
def test_a_human_keyword_that_equals_a_tag_is_kept(name: str, photo: Any, tag: Any, untag: Any, exiftool: Any) -> None:
    path = photo(name)
    exiftool("-overwrite_original", "-xmp-dc:subject+=BIRD", path)
    before, humans = path.read_bytes(), all_keywords(tags_of(exiftool, path))
    assert "BIRD" in humans
    tag(path)
    assert all_keywords(tags_of(exiftool, path)) == humans | TAGS - {"bird"}
    tagged = path.read_bytes()
    untag(path)
    assert path.read_bytes() == before
    path.write_bytes(tagged)
    untag(path, index="another")
    assert all_keywords(tags_of(exiftool, path)) == humans


def test_another_model_replaces_only_ours(photo: Any, tag: Any, untag: Any, exiftool: Any, toy_model: Path) -> None:
    path = photo("camera/exiftool/IPTC.jpg")
    before, humans = path.read_bytes(), all_keywords(tags_of(exiftool, path))
    tag(path)
    tag(path, model=toy_model)
    tags = tags_of(exiftool, path)
    for keywords in (words(tags, "XMP-dc:Subject"), words(tags, "IPTC:Keywords"), xp_keywords(tags)):
        assert keywords == humans | {"red", "green", "blue"}
    untag(path)
    assert path.read_bytes() == before


def test_a_photo_that_was_moved_is_restored_byte_for_byte(photo: Any, tag: Any, untag: Any) -> None:
    path = photo("camera/jpg/Canon_40D.jpg")
    before = path.read_bytes()
    tag(path)
    moved = path.parent / "elsewhere" / "moved.jpeg"
    moved.parent.mkdir()
    path.rename(moved)
    assert untag(moved).stdout == f"{moved}: untagged ({moved})\n"
    assert moved.read_bytes() == before
    assert untag(moved).stdout == ""


def test_tags_that_cannot_be_taken_out_are_named(make_photo: Any, tag: Any, tmp_path: Path) -> None:
    path = make_photo("a.jpg")
    tag(path)
    tagged = path.read_bytes()
    path.write_bytes(tagged + b"unknown to phototag")
    result = phototag("untag", "--index", tmp_path / "index", path)
    assert result.exit_code == 1
    assert f"phototag: {path}: its tags cannot be removed: unknown data follow its image\n" in result.stderr
    path.write_bytes(tagged)
    path.chmod(0o444)
    result = phototag("untag", "--index", tmp_path / "index", path)
    assert f"phototag: {path}: its tags cannot be removed: it is read-only\n" in result.stderr
    assert path.read_bytes() == tagged
