"""The cases to which writing into photos is held, one by one, at the level of the command."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from phototag.core import Photo, Tag
from phototag.index import open_index
from phototag.metadata import containers, exif, iptc, rewrite, xmp
from phototag.metadata.edits import applied
from phototag.metadata.embed import EmbedWriter
from phototag.metadata.json_sidecar import JsonSidecarWriter
from phototag.metadata.keywords import Keywords
from phototag.metadata.stamp import Stamp
from phototag.metadata.untag import untag
from phototag.metadata.xmp_sidecar import XmpSidecarWriter
from phototag.photos.digest import content_digest
from tests.helpers.photo_parts import (
    PACKET,
    VIDEO,
    app,
    dataset,
    exif_block,
    exif_segment,
    frames,
    image,
    jpeg,
    mpf_photo,
    photoshop_segment,
    png,
    resource,
    samsung_trailer,
    second_image,
    xmp_segment,
    xmp_text,
)
from tests.helpers.program import lines, phototag, powerless

RGB = {"red", "green", "blue"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def embed(scan: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Embeds `red`, `green` and `blue` in a photo, and returns what the command says of it."""

    def run(path: Path, *arguments: Any) -> dict[str, Any]:
        result = scan("--write", "embed", "--top", "3", "--format", "json", *arguments, path)
        assert result.exit_code == 0, result.output
        (outcome,) = lines(result)
        return outcome

    return run


@pytest.fixture
def real(shared: Path, photos: Path) -> Callable[[str], Path]:
    """Copies a real photo to where it may be written into."""

    def copy(name: str) -> Path:
        (found,) = (path for path in (shared / "photos").rglob(name) if path.is_file())
        return Path(shutil.copyfile(found, photos / name))

    return copy


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def held(path: Path) -> Keywords:
    return rewrite.read_keywords(path.read_bytes())


def listed(path: Path, *arguments: str) -> list[str]:
    """The lines that exiftool prints of a photo, by group."""
    command = ["exiftool", "-config", "", "-a", "-u", "-G1", "-s", *arguments, os.fspath(path)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace").stdout.splitlines()


def segments(data: bytes) -> list[bytes]:
    """The segments of a JPEG before its first scan."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append(data[at:end])
        at = end
    return found


def assert_in_sidecar(outcome: dict[str, Any], path: Path, before: bytes, reason: str) -> None:
    """The photo is untouched, its tags are in a sidecar, and the report says why."""
    assert path.read_bytes() == before
    assert outcome["written"] == [f"{path}.xmp"]
    assert reason in outcome["note"]
    assert {"red", "green", "blue"} <= {
        one["name"] for one in lines(phototag("show", "--format", "json", path))[0]["keywords"]
    }


# --- 1 to 10: what is there stays -------------------------------------------------------------------------------------


def test_1_canon_40d_has_subject_and_xp_keywords_and_its_jfif(real: Any, embed: Any) -> None:
    path = real("Canon_40D.jpg")
    before = segments(path.read_bytes())
    assert embed(path)["note"] is None
    assert set(held(path).subject or ()) == set(held(path).xp or ()) == RGB
    assert segments(path.read_bytes())[0] == before[0]
    assert before[0][4:8] == b"JFIF"


@pytest.mark.needs_exiftool
def test_2_the_seconds_of_a_kodak_stay(real: Any, embed: Any) -> None:
    path = real("Kodak_CX7530.jpg")
    embed(path)
    (line,) = listed(path, "-DateTimeOriginal")
    assert line.endswith(":23")


def test_3_an_icc_profile_before_exif_leaves_one_exif_segment(photos: Path, embed: Any) -> None:
    icc = app(2, b"ICC_PROFILE\0\1\1" + bytes(20))
    path = written(photos / "a.jpg", jpeg(icc, exif_segment(exif_block())))
    assert embed(path)["note"] is None
    found = segments(path.read_bytes())
    assert [one[4:8] for one in found[:3]] == [b"JFIF", b"ICC_", b"Exif"]
    assert sum(one[4:8] == b"Exif" for one in found) == 1
    assert icc in found


@pytest.mark.needs_exiftool
def test_4_as_many_canon_tags_as_before(real: Any, embed: Any) -> None:
    path = real("canon_hdr_NO.jpg")
    before = listed(path, "-Canon:all")
    embed(path)
    assert listed(path, "-Canon:all") == before
    assert len(before) > 50


def test_5_foreign_xmp_stays(photos: Path, embed: Any) -> None:
    foreign = (
        b'<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:x1="https://unknown.example/">'
        b"<exif:DateTimeOriginal>2001-02-03T04:05:06</exif:DateTimeOriginal><x1:Thing rdf:parseType='Resource'>"
        b"<x1:Part>1</x1:Part></x1:Thing><dc:rights xmlns:dc='http://purl.org/dc/elements/1.1/'><rdf:Alt>"
        b"<rdf:li xml:lang='x-default'>Jan</rdf:li></rdf:Alt></dc:rights></rdf:Description>"
    )
    path = written(photos / "a.jpg", jpeg(xmp_segment(PACKET.replace(b"</rdf:RDF>", foreign + b"</rdf:RDF>"))))
    embed(path)
    assert foreign in path.read_bytes()
    assert held(path).subject is not None
    assert set(held(path).subject or ()) == {"bird", *RGB}


def test_6_extended_xmp_is_identical(real: Any, embed: Any) -> None:
    path = real("ExtendedXMP.jpg")
    before = path.read_bytes()
    assert embed(path)["note"] is None

    def extensions(data: bytes) -> list[bytes]:
        return [one for one in segments(data) if one[4:].startswith(b"http://ns.adobe.com/xmp/extension/")]

    assert extensions(path.read_bytes()) == extensions(before) != []


def test_7_afcp_is_untouched(real: Any, embed: Any) -> None:
    path = real("AFCP.jpg")
    before = path.read_bytes()
    assert_in_sidecar(embed(path), path, before, "unknown data follow its image")


def test_8_human_keywords_of_iptc_are_in_the_new_subject(real: Any, embed: Any) -> None:
    path = real("IPTC.jpg")
    embed(path)
    assert held(path).subject is not None
    assert {"ExifTool", "Test", "IPTC", *RGB} == set(held(path).subject or ()) == set(held(path).iptc or ())


def test_9_a_keyword_with_a_comma_stays_one(photos: Path, embed: Any) -> None:
    human = b"<rdf:li>Smith, John</rdf:li><rdf:li>bird</rdf:li>"
    path = written(photos / "a.jpg", jpeg(xmp_segment(PACKET.replace(b"<rdf:li>bird</rdf:li>", human))))
    embed(path)
    for keywords in (held(path).subject, held(path).xp, held(path).hierarchical):
        assert set(keywords or ()) == {"Smith, John", "bird", *RGB}


STAMP = Stamp("toy", "1", "2026-01-02T03:04:05+00:00")


def tag(name: str) -> Tag:
    return Tag(name, 0.9, (name,), None)


def test_10_japanese_in_ascii_iptc_is_marked_and_latin_1_is_unchanged() -> None:
    def irb(caption: bytes) -> bytes:
        block = dataset(2, 0, b"\0\4") + dataset(2, 25, b"bird") + dataset(2, 120, caption)
        return resource(0x0404, block) + resource(0x0425, iptc._md5(block))

    def embedded(caption: bytes) -> bytes:
        data = jpeg(photoshop_segment(irb(caption)))
        after = applied(data, rewrite.with_tags(data, [tag("日本"), tag("fox")], STAMP).edits)
        return containers.read_blocks(after).iptc or b""

    marked = embedded(b"A caption")
    assert marked.index(b"\x1c\x01\x5a\0\3\x1b%G") < marked.index("日本".encode())
    at = marked.index(b"8BIM\x04\x04") + 12
    block = marked[at : at + int.from_bytes(marked[at - 4 : at], "big")]
    assert marked.endswith(iptc._md5(block))
    latin = embedded("Köln".encode("latin-1"))
    assert "Köln".encode("latin-1") in latin
    assert b"\x1b%G" not in latin
    assert iptc.read_keywords(latin) == ("bird", "fox")


# --- 13 to 16: odd keywords, full blocks, what must not be touched --------------------------------------------------


@pytest.mark.needs_exiftool
def test_13_odd_keywords_are_safe_everywhere(photos: Path) -> None:
    names = ["a&b<c", "ü" * 35, "x;y", "🦜"]
    data = jpeg(exif_segment(exif_block()), photoshop_segment(resource(0x0404, dataset(2, 25, b"bird"))))
    after = applied(data, rewrite.with_tags(data, [tag(name) for name in names], STAMP).edits)
    path = written(photos / "a.jpg", after)
    found = held(path)
    assert found.subject == ("bird", *names)
    assert found.iptc == ("bird", "a&b<c", "x;y", "🦜")  # 70 bytes are too many
    assert found.xp == ("bird", "a&b<c", "ü" * 35, "🦜")  # `;` would make two of one
    (subject,) = listed(path, "-XMP-dc:Subject")
    assert subject.partition(": ")[2] == ", ".join(("bird", *names))
    with Image.open(path) as opened:
        assert opened.getexif()[exif.XP_KEYWORDS].decode("utf-16-le").rstrip("\0") == ";".join(found.xp)
    left = applied(after, rewrite.without_tags(after).edits)
    assert rewrite.read_keywords(left) == rewrite.read_keywords(data)


def test_14_full_blocks_fall_back_without_damage(photos: Path, embed: Any) -> None:
    full = PACKET.replace(b"</rdf:RDF>", b"<!--" + b"x" * (65_502 - len(PACKET) - 7) + b"--></rdf:RDF>")
    assert len(full) == 65_502
    path = written(photos / "xmp.jpg", jpeg(xmp_segment(full)))
    assert_in_sidecar(embed(path), path, path.read_bytes(), "would not fit into a segment")
    block = exif_block(filling=65_520 - len(exif_block()))
    assert 65_500 < len(block) <= 65_527
    path = written(photos / "exif.jpg", jpeg(exif_segment(block)))
    assert embed(path)["note"] is None
    blocks = containers.read_blocks(path.read_bytes())
    assert blocks.exif == block
    assert set(held(path).subject or ()) == RGB


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ((xmp_segment(b'<!DOCTYPE a [<!ENTITY b "c">]>' + PACKET[PACKET.index(b"<x:") :]),), "DOCTYPE"),
        ((xmp_segment(PACKET.decode().encode("utf-16-le")),), "UTF-16"),
        ((xmp_segment(), xmp_segment()), "several XMP packets"),
    ],
)
def test_15_doubtful_packets_are_untouched(photos: Path, embed: Any, segments: tuple[bytes, ...], reason: str) -> None:
    path = written(photos / "a.jpg", jpeg(*segments))
    assert_in_sidecar(embed(path), path, path.read_bytes(), reason)


def test_16_truncated_files_are_untouched_and_reported(photos: Path, scan: Any) -> None:
    whole = {
        "a.jpg": jpeg(exif_segment(exif_block()), xmp_segment()),
        "b.png": png(xmp_text()),
        "c.webp": image("WEBP"),
    }
    cut = {f"{size}-{name}": data[:size] for name, data in whole.items() for size in (4, 40, len(data) - 20)}
    for name, data in cut.items():
        written(photos / name, data)
    outcomes = lines(scan("--write", "embed", "--top", "3", "--format", "json", photos))
    assert len(outcomes) == len(cut)
    for one in outcomes:
        assert one["error"] or one["note"], one
    assert {name: (photos / name).read_bytes() for name in cut} == cut


# --- 17 to 20: images of more than one part ---------------------------------------------------------------------------


def test_17_videos_and_further_images_behind_a_photo_are_identical(photos: Path, embed: Any) -> None:
    micro = PACKET.replace(
        b'rdf:about="" ',
        b'rdf:about="" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
        b'GCamera:MicroVideo="1" GCamera:MicroVideoOffset="%d" ' % len(VIDEO),
    )
    samsung = samsung_trailer((b"MotionPhoto_Data", VIDEO), (b"Image_UTC_Data", b"1"))
    for name, data, tail in [
        ("micro.jpg", jpeg(xmp_segment(micro), trailer=VIDEO), VIDEO),
        ("samsung.jpg", jpeg(trailer=samsung), samsung),
    ]:
        path = written(photos / name, data)
        assert embed(path)["note"] is None
        assert path.read_bytes()[-len(tail) :] == tail
        assert set(held(path).subject or ()) >= RGB
    data = mpf_photo(exif_segment(exif_block()))
    path = written(photos / "mpf.jpg", data)
    assert embed(path)["note"] is None
    assert second_image(path.read_bytes()) == second_image(data)
    assert path.read_bytes() != data


def test_18_every_frame_of_an_animated_webp(photos: Path, embed: Any) -> None:
    file = io.BytesIO()
    first, *rest = (Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue"))
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=100, lossless=True)
    path = written(photos / "a.webp", file.getvalue())
    assert embed(path)["note"] is None
    assert frames(path.read_bytes()) == frames(file.getvalue())
    assert len(frames(path.read_bytes())) == 3
    assert set(held(path).subject or ()) == RGB


def test_19_every_page_of_a_tiff(photos: Path, embed: Any) -> None:
    file = io.BytesIO()
    first, *rest = (Image.new("RGB", (16, 16), (40 * page, 0, 0)) for page in range(6))
    first.save(file, "TIFF", save_all=True, append_images=rest)
    path = written(photos / "a.tiff", file.getvalue())
    assert embed(path)["note"] is None
    assert frames(path.read_bytes()) == frames(file.getvalue())
    assert len(frames(path.read_bytes())) == 6
    assert set(held(path).subject or ()) == RGB


@pytest.mark.needs_exiftool
def test_20_compressed_xmp_of_a_png_is_merged(photos: Path, embed: Any) -> None:
    data = png(xmp_text(compressed=True))
    path = written(photos / "a.png", data)
    assert embed(path)["note"] is None
    assert set(held(path).subject or ()) == {"bird", *RGB}
    assert path.read_bytes().count(b"XML:com.adobe.xmp") == 1
    assert frames(path.read_bytes()) == frames(data)
    assert not [line for line in listed(path) if "Warning" in line or "Error" in line]


# --- 21 to 24: files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.heic.xmp", "a.xmp"])
def test_21_an_existing_sidecar_of_a_heic_is_merged(photos: Path, make_photo: Any, embed: Any, name: str) -> None:
    path = make_photo("a.heic", format="HEIF")
    settings = b'<rdf:Description rdf:about="" xmlns:d="https://darktable.example/" d:exposure="1.5"/></rdf:RDF>'
    sidecar = written(photos / name, PACKET.replace(b"</rdf:RDF>", settings))
    before = path.read_bytes(), sidecar.read_bytes()
    outcome = embed(path)
    assert outcome["written"] == [str(sidecar)]
    assert "HEIC" in outcome["note"]
    assert path.read_bytes() == before[0]
    assert settings.removesuffix(b"</rdf:RDF>") in sidecar.read_bytes()
    assert set(xmp.read(sidecar.read_bytes()).subject or ()) == {"bird", *RGB}
    assert sorted(os.listdir(photos)) == sorted([path.name, name])
    assert phototag("untag", "--index", photos.parent / "index.sqlite3", path).exit_code == 0
    assert (path.read_bytes(), sidecar.read_bytes()) == before


@pytest.mark.parametrize("name", ["CanonRaw.cr2.xmp", "CanonRaw.xmp", None])
def test_21_the_tags_of_a_raw_file_are_merged_into_its_sidecar(
    photos: Path, shared: Path, tmp_path: Path, name: str | None
) -> None:
    path = Path(shutil.copyfile(shared / "photos" / "formats" / "CanonRaw.cr2", photos / "CanonRaw.cr2"))
    written(photos / "CanonRaw.jpg", jpeg())  # as the camera wrote it beside it
    settings = b'<rdf:Description rdf:about="" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:Tint="5"/>'
    if name is not None:
        written(photos / name, PACKET.replace(b"</rdf:RDF>", settings + b"</rdf:RDF>"))
    before = {one: one.read_bytes() for one in photos.iterdir()}
    photo = Photo(path, path.stat().st_size, path.stat().st_mtime_ns)
    with open_index(tmp_path / "index") as index, index.run({}):
        for writer in (EmbedWriter("toy", index), XmpSidecarWriter("toy", index)):
            done = writer.write(photo, [tag("red")], ())
            sidecar = photos / (name or "CanonRaw.cr2.xmp")
            assert (done.files, done.digest) == ((sidecar,), content_digest(path.read_bytes()))
            assert {"red"} <= set(xmp.read(sidecar.read_bytes()).subject or ())
            assert name is None or settings in sidecar.read_bytes()
            assert {one: one.read_bytes() for one in before if one != sidecar} == {
                one: data for one, data in before.items() if one != sidecar
            }
        json_writer = JsonSidecarWriter("toy", "0", index)
        assert json_writer.write(photo, [tag("red")], ()).files == (photos / "CanonRaw.cr2.phototag.json",)
        assert len(untag(path, index)) == 2
    assert {one: one.read_bytes() for one in photos.iterdir()} == before


def command(toy_model: Path, index: Path, *paths: str | Path) -> list[str]:
    options = ["--write", "embed", "--top", "3", *map(str, paths)]
    return [sys.executable, "-m", "phototag", "scan", "--model", str(toy_model), "--index", str(index), *options]


@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_22_a_full_disk_leaves_the_photo_as_it_was(toy_model: Path, photos: Path, tmp_path: Path) -> None:
    data = jpeg(trailer=bytes(3 << 20))  # larger than any file may become
    path = written(photos / "a.jpg", data)
    limited = ["bash", "-c", 'ulimit -f 2048; trap "" XFSZ; "$@"', "bash", *command(toy_model, tmp_path / "i", path)]
    run = subprocess.run(limited, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert "File too large" in run.stderr
    assert "Traceback" not in run.stderr
    assert path.read_bytes() == data
    assert os.listdir(photos) == ["a.jpg"]


KILLED_AT = """
import os, signal, sys
from phototag.cli import main
from phototag.metadata import files
def die(*arguments, **options): os.kill(os.getpid(), signal.SIGKILL)
target, name = {"sync": (os, "fsync"), "before": (os, "replace"), "after": (files, "sync_folder")}[sys.argv.pop(1)]
setattr(target, name, die)
sys.argv[0] = "phototag"
main()
"""


@pytest.mark.parametrize("moment", ["sync", "before", "after"])
def test_22_a_run_that_is_killed_leaves_a_whole_photo_and_the_next_one_nothing_else(
    toy_model: Path, photos: Path, tmp_path: Path, embed: Any, moment: str
) -> None:
    data = jpeg(exif_segment(exif_block()))
    path = written(photos / "a.jpg", data)
    arguments = command(toy_model, tmp_path / "index.sqlite3", path)[3:]
    run = subprocess.run([sys.executable, "-c", KILLED_AT, moment, *arguments], capture_output=True)
    assert run.returncode == -9, run.stderr
    assert (path.read_bytes() == data) == (moment != "after")
    assert len(os.listdir(photos)) == (1 if moment == "after" else 2)
    embed(photos)
    assert set(held(path).subject or ()) == RGB
    assert os.listdir(photos) == ["a.jpg"]
    assert phototag("untag", "--index", tmp_path / "index.sqlite3", path).exit_code == 0
    assert path.read_bytes() == data


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes")
def test_22_a_photo_that_may_not_be_written_is_untouched(toy_model: Path, photos: Path, tmp_path: Path) -> None:
    data = jpeg()
    (photos / "closed").mkdir()
    closed = written(photos / "closed" / "a.jpg", data)
    read_only = written(photos / "b.jpg", data)
    read_only.chmod(0o444)
    closed.parent.chmod(0o555)
    try:
        run = subprocess.run(powerless(*command(toy_model, tmp_path / "index", photos)), capture_output=True, text=True)
    finally:
        closed.parent.chmod(0o755)
    assert run.returncode == 1, run.stderr
    assert "a.jpg: it cannot be written into (Permission denied)" in run.stderr
    assert "b.jpg: its tags are in b.jpg.xmp: it is read-only" in run.stderr
    assert "Traceback" not in run.stderr
    assert closed.read_bytes() == read_only.read_bytes() == data
    assert sorted(os.listdir(photos)) == ["b.jpg", "b.jpg.xmp", "closed"]


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs extended attributes")
@pytest.mark.parametrize("touch", [False, True])
def test_23_mode_owner_times_attributes_acl_and_symlink_stay(
    photos: Path, tmp_path: Path, embed: Any, touch: bool
) -> None:
    real = written(tmp_path / "real.jpg", jpeg())
    link = photos / "link.jpg"
    link.symlink_to(real)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 2345)
    os.setxattr(real, "user.comment", b"mine")
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-m", "u:4321:r", os.fspath(real)], check=True)
    os.utime(real, ns=(10**18, 10**18 + 1))
    attributes = {name: os.getxattr(real, name) for name in os.listxattr(real)}
    before = real.stat()
    assert embed(link, *(["--touch"] if touch else []))["note"] is None
    after = real.stat()
    assert link.is_symlink()
    assert set(held(real).subject or ()) == RGB
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert {name: os.getxattr(real, name) for name in os.listxattr(real)} == attributes
    assert (after.st_mtime_ns == before.st_mtime_ns) is not touch


def test_23_a_hard_link_is_untouched(photos: Path, embed: Any) -> None:
    path = written(photos / "a.jpg", jpeg())
    os.link(path, photos.parent / "other name")
    assert_in_sidecar(embed(path), path, path.read_bytes(), "hard links")
    assert path.stat().st_nlink == 2


@pytest.mark.parametrize("way", ["embed", "xmp", "json"])
def test_24_files_of_other_programs_beside_a_photo_are_untouched(photos: Path, scan: Any, way: str) -> None:
    path = written(photos / "a.jpg", jpeg())
    others = [
        written(photos / f"a.jpg{end}", b"theirs") for end in (".json", ".supplemental-metadata.json", "_original")
    ]
    assert scan("--write", way, path).exit_code == 0
    assert phototag("untag", "--index", photos.parent / "index.sqlite3", path).exit_code == 0
    assert [other.read_bytes() for other in others] == [b"theirs"] * 3
    assert path.read_bytes() == jpeg()
    assert len(os.listdir(photos)) == 4
