"""XMP packets made at random, from real photos, and as other programs read them."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phototag.metadata import xmp
from phototag.metadata.edits import applied, inverse
from phototag.metadata.keywords import Keywords, Provenance, Unwritable, without_ours
from tests.helpers.packets import (
    ATTRIBUTES,
    BEACH,
    FORMS,
    FULL,
    NOTED,
    RICH,
    assert_only_keywords_changed,
    changed,
    described,
    packet,
    tagged,
    untagged,
)

# The characters of XML, among them those that its syntax gives a meaning to.
texts = st.text(
    st.sampled_from("<>&\"'|/;\t\n\r ]-Ö日😀\u0301")
    | st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
    max_size=8,
)
lists = st.none() | st.lists(st.sampled_from(("a", "b", "a|b")) | texts, max_size=4).map(tuple)
provenances = st.none() | st.builds(
    Provenance,
    st.lists(st.tuples(texts, st.floats(0, 1)), max_size=3).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
    texts,
    texts,
    texts,
)
keywords = st.builds(
    Keywords, subject=lists, hierarchical=lists, tags_list=lists, last_keyword=lists, provenance=provenances
)


@pytest.mark.slow
@settings(max_examples=400)
@given(keywords, keywords, st.booleans())
def test_any_keywords_become_any_others(first: Keywords, second: Keywords, sidecar: bool) -> None:
    before = xmp.create(first, sidecar=sidecar)
    assert xmp.read(before) == first
    after = changed(before, second)
    assert xmp.read(changed(after, first)) == first


PIECES = (
    *(
        b"<",
        b">",
        b"/>",
        b"</",
        b"&",
        b"&amp;",
        b"&#10;",
        b"]]>",
        b"<![CDATA[",
        b"<!--",
        b"-->",
        b"<?x?>",
        b"'",
        b'"',
        b"=",
    ),
    *(b"<rdf:li>", b"</rdf:li>", b"<rdf:Bag>", b"</rdf:Bag>", b"<rdf:Bag/>", b"<dc:subject>", b"</dc:subject>"),
    *(
        b"<rdf:Description/>",
        b"</rdf:Description>",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b" ",
        b"\n",
        b"rdf:",
        b"xmlns:dc='x' ",
    ),
    *(b" rdf:parseType='Resource'", b" xml:lang='en'", b"<dc:title>x</dc:title>", b"toucan"),
)


def mutated(base: bytes, chance: random.Random) -> bytes:
    data = base
    for _ in range(chance.randint(1, 3)):
        # Mostly between tags: what is cut through a name is only ever malformed.
        borders = [match.start() for match in re.finditer(rb"[<\s]|(?<=>)", data)]
        at, other = sorted((chance.choice(borders), chance.choice(borders)))
        if chance.random() < 0.2:
            at = chance.randrange(len(data))
        kind = chance.randrange(5)
        if kind == 0:
            data = data[:at] + chance.choice(PIECES) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + chance.randint(1, 12) :]
        elif kind == 2:
            tag = re.compile(rb"<[^>]*>").search(data, at)
            data = data[: tag.start()] + data[tag.end() :] if tag else data
        elif kind == 3:
            data = data[:at] + data[at : other + 1][:300] + data[at:]
        else:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    return data


@pytest.mark.slow
def test_mutated_packets_are_refused_or_changed_rightly() -> None:
    chance = random.Random(20250601)
    bases = [RICH, packet(ATTRIBUTES, padding=" " * 9), xmp.create(FULL), *(described(form) for form in FORMS.values())]
    changes = 0
    for number in range(3000):
        data = mutated(bases[number % len(bases)], chance)
        try:
            before = xmp.read(data)
        except Unwritable:
            continue
        more = replace(before, subject=(*(before.subject or ()), "new"), tags_list=None, provenance=NOTED)
        fewer = without_ours(replace(before, hierarchical=(), last_keyword=("x/y",)))
        for wanted in (more, fewer):
            try:
                edits = xmp.update(data, wanted)
            except Unwritable:
                continue
            changes += 1
            after = applied(data, edits)
            assert applied(after, inverse(edits)) == data
            assert_only_keywords_changed(data, after, wanted)
    assert changes > 1500


def packets_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The XMP packet of each JPEG, by a walk along its segments."""
    signature = b"http://ns.adobe.com/xap/1.0/\0"
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            continue
        data = path.read_bytes()
        at = 2
        while data[at : at + 1] == b"\xff" and data[at + 1] not in (0xDA, 0xD9):
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            body = data[at + 4 : at + 2 + size]
            if data[at + 1] == 0xE1 and body.startswith(signature):
                yield path.name, body.removeprefix(signature)
            at += 2 + size


def test_packets_of_real_photos_are_tagged_and_restored(shared: Path) -> None:
    refused, tried = [], 0
    for name, before in packets_in(shared / "photos"):
        tried += 1
        try:
            found = xmp.read(before)
        except Unwritable as error:
            refused.append((name, str(error)))
            continue
        after = tagged(before)
        restored = untagged(after)
        assert xmp.read(restored) == found
        assert restored.split() == before.split()
        assert tagged(restored).split() == after.split()
    assert tried > 30
    assert refused == [(name, "its XMP packet is UTF-16 or UTF-32") for name in ("ExifTool.jpg", "XMP.jpg")]


@pytest.fixture
def tool() -> Callable[..., str]:
    def run(*command: str | Path) -> str:
        return subprocess.run([*map(str, command)], capture_output=True, check=True).stdout.decode()

    return run


SHOWN = Keywords(
    subject=("beach", "a&b<c", "日本😀", "x;y", "Smith, John", '"q"'),
    hierarchical=("animal|bird|toucan",),
    tags_list=("animal/bird/toucan", "beach"),
    last_keyword=("animal/bird/toucan",),
    provenance=NOTED,
)


@pytest.fixture(params=["created", "merged"])
def sidecar(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg.xmp"
    path.write_bytes(xmp.create(SHOWN, sidecar=True) if request.param == "created" else changed(BEACH, SHOWN))
    return path


@pytest.mark.needs_exiftool
def test_exiftool_reads_other_prefixes(tmp_path: Path, tool: Callable[..., str]) -> None:
    """exiv2 0.27 reads no packet whose RDF has another prefix than `rdf`, whoever wrote it."""
    path = tmp_path / "photo.jpg.xmp"
    path.write_bytes(changed(BEACH.replace(b"rdf:", b"d:").replace(b"xmlns:rdf", b"xmlns:d"), SHOWN))
    (found,) = json.loads(tool("exiftool", "-XMP:all", "-struct", "-j", path))
    assert found["Subject"] == list(SHOWN.subject or ())
    assert found["Tags"][0] == {"Name": "toucan", "Confidence": 0.93}


@pytest.mark.needs_exiftool
def test_exiftool_reads_every_keyword_and_keeps_provenance(sidecar: Path, tool: Callable[..., str]) -> None:
    (found,) = json.loads(tool("exiftool", "-G1", "-a", "-struct", "-j", sidecar))
    assert found["XMP-dc:Subject"] == list(SHOWN.subject or ())
    assert found["XMP-lr:HierarchicalSubject"] == ["animal|bird|toucan"]
    assert found["XMP-digiKam:TagsList"] == list(SHOWN.tags_list or ())
    assert found["XMP-microsoft:LastKeywordXMP"] == ["animal/bird/toucan"]
    assert found["XMP-phototag:Tags"][0] == {"Name": "toucan", "Confidence": 0.93}
    assert found["XMP-phototag:Created"] == ["subject", "packet"]
    assert found["XMP-phototag:Model"] == "toy & co"
    tool("exiftool", "-q", "-overwrite_original", "-XMP-dc:Rights=mine", sidecar)
    assert xmp.read(sidecar.read_bytes()) == SHOWN
    assert b"mine" in untagged(sidecar.read_bytes())


@pytest.mark.needs_exiftool("exiv2")
def test_exiv2_reads_every_keyword_and_keeps_provenance(sidecar: Path, tool: Callable[..., str]) -> None:
    found = dict(line.split(" ", 1) for line in tool("exiv2", "-PXkv", sidecar).splitlines())
    found = {name: value.strip() for name, value in found.items()}
    assert found["Xmp.dc.subject"] == ", ".join(SHOWN.subject or ())
    assert found["Xmp.lr.hierarchicalSubject"] == "animal|bird|toucan"
    assert found["Xmp.digiKam.TagsList"] == "animal/bird/toucan, beach"
    assert found["Xmp.MicrosoftPhoto.LastKeywordXMP"] == "animal/bird/toucan"
    assert found["Xmp.phototag.Tags[1]/phototag:Name"] == "toucan"
    tool("exiv2", "-M", "set Xmp.dc.source mine", sidecar)
    assert b"mine" in sidecar.read_bytes()
    assert xmp.read(sidecar.read_bytes()) == SHOWN
    changed(sidecar.read_bytes(), without_ours(SHOWN))
