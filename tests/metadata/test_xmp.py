from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from phototag.metadata import xmp, xmp_packet
from phototag.metadata.edits import Edit, growth
from phototag.metadata.keywords import Keywords, Provenance, Unwritable
from tests.helpers.packets import (
    ATTRIBUTES,
    BEACH,
    BEGIN,
    DIGIKAM,
    FORMS,
    FULL,
    MICROSOFT,
    NOTED,
    PADDING,
    RDF,
    RICH,
    TAGS,
    changed,
    described,
    packet,
    tagged,
    untagged,
)


@pytest.mark.parametrize("sidecar", [False, True])
@pytest.mark.parametrize("wanted", [FULL, Keywords(subject=("a",)), Keywords(provenance=NOTED), Keywords()])
def test_a_new_packet_says_what_is_wanted(wanted: Keywords, sidecar: bool) -> None:
    created = xmp.create(replace(wanted, xp=("x",), iptc=("y",)), sidecar=sidecar)
    assert xmp.read(created) == wanted
    assert (b"<?xpacket" in created, created.startswith(b"<?xml")) == (not sidecar, sidecar)


def test_what_stands_is_not_written_again() -> None:
    assert xmp.update(BEACH, Keywords(subject=("beach",), iptc=("x",))) == ()


def test_a_keyword_goes_behind_the_last_with_its_indentation() -> None:
    edits = xmp.update(BEACH, Keywords(subject=("beach", "a<b&c")))
    inserted = b"\n    <rdf:li>a&lt;b&amp;c</rdf:li>"
    end = BEACH.index(b"</rdf:li>") + len(b"</rdf:li>")
    closing = BEACH.index(b"<?xpacket end")
    taken = closing - 1 - len(inserted)
    assert edits == (Edit(end, b"", inserted), Edit(taken, b" " * len(inserted), b""))
    assert growth(edits) == 0


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_list_is_appended_to_and_restored(form: str) -> None:
    before = described(FORMS[form])
    found = xmp.read(before)
    after = tagged(before)
    assert len(after) == len(before)
    assert xmp.read(after).subject == (*(found.subject or ()), "Ö & <b>", "日本😀")
    assert tagged(after) == after
    restored = untagged(after)
    assert xmp.read(restored) == found
    # All but the padding that was used up and the empty tags that are now two.
    if "empty" not in form:
        assert restored.split() == before.split()
    again = tagged(restored)
    assert xmp.read(again) == xmp.read(after)


@pytest.mark.parametrize(
    ("before", "lists"),
    [
        (f'<rdf:RDF xmlns:rdf="{RDF}"/>', Keywords()),
        (f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF>', Keywords()),
        (f'<RDF xmlns="{RDF}"><Description/></RDF>', Keywords()),
        (f'<dc:RDF xmlns:dc="{RDF}"><dc:Description dc:about="uuid:a&amp;&quot;b"/></dc:RDF>', Keywords()),
        (f'<x:xapmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="{RDF}"/></x:xapmeta>', Keywords()),
        ("\ufeff" + BEACH.decode().removeprefix(BEGIN), Keywords(subject=("beach",))),
        ('<?xml version="1.0" encoding="utf-8"?>\n' + BEACH.decode(), Keywords(subject=("beach",))),
        (BEACH.decode() + "\n \0\0", Keywords(subject=("beach",))),
    ],
)
def test_a_packet_may_be_wrapped_in_many_ways(before: str, lists: Keywords) -> None:
    data = before.encode()
    assert xmp.read(data) == lists
    after = tagged(data)
    assert xmp.read(untagged(after)) == lists


def test_a_new_description_is_about_what_the_others_are_about() -> None:
    """XMP Toolkit refuses a packet whose descriptions are about different things."""
    after = tagged(packet('<rdf:Description about="uuid:a&amp;b"/><rdf:Description rdf:about=""/>')).decode()
    assert after.count('rdf:about="uuid:a&amp;b"') == 1


def test_properties_may_be_spread_over_descriptions() -> None:
    before = packet(
        f'<rdf:Description rdf:about="" xmlns:dk="{DIGIKAM}" dc:format="image/jpeg">'
        "<dk:TagsList><rdf:Seq><rdf:li>a/b</rdf:li></rdf:Seq></dk:TagsList></rdf:Description>\n"
        '  <rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/">'
        "<xmpNote:HasExtendedXMP>04B9E48040A30A6308713BD1E4223B41</xmpNote:HasExtendedXMP></rdf:Description>\n"
        f'  <rdf:Description rdf:about="" xmlns:m="{MICROSOFT}"><m:LastKeywordXMP><rdf:Bag/></m:LastKeywordXMP>\n'
        "  <dc:subject><rdf:Bag><rdf:li>a</rdf:li></rdf:Bag></dc:subject></rdf:Description>"
    )
    assert xmp.read(before) == Keywords(subject=("a",), tags_list=("a/b",), last_keyword=())
    after = tagged(before)
    assert xmp.read(after).tags_list == ("a/b", "animal/bird/Ö & <b>", "日本😀")
    assert after.count(b"<rdf:Description") == 4
    assert xmp.read(untagged(after)) == xmp.read(before)


def test_what_phototag_put_in_comes_out_whole() -> None:
    for before in (packet("<rdf:Description/>"), packet("<rdf:Description rdf:about='uuid:1' dc:format='x'/>")):
        after = untagged(tagged(tagged(before, *TAGS), TAGS[0]))
        assert after.split() == before.split()
    before = described("<dc:title>x</dc:title>")
    assert xmp.read(tagged(before)).provenance is not None
    assert untagged(tagged(before)).split() == before.split()


def test_a_description_that_says_what_all_is_about_stays() -> None:
    before = packet('<rdf:Description rdf:about="uuid:1"><dc:subject><rdf:Bag/></dc:subject></rdf:Description>')
    assert b"uuid:1" in changed(before, Keywords())
    before = described("<!-- mine --><dc:subject><rdf:Bag/></dc:subject>")
    assert b"mine" in changed(before, Keywords())


def test_entries_in_another_order_are_taken_out_and_added() -> None:
    before = xmp.create(Keywords(subject=("a", "b", "c", "b")))
    for subject in (("b", "a"), ("c", "b", "d"), (), ("a", "a", "b")):
        changed(before, Keywords(subject=subject))
    assert changed(before, Keywords(subject=("a", "c"))).count(b"<rdf:li>") == 2


@pytest.mark.parametrize(
    ("padding", "end", "size"),
    [(PADDING, "r", None), ("", "w", None), ("\n", "w", None), (" \n", "w", 1), (" " * 20, "w", 19), (PADDING, "w", 0)],
)
def test_padding_is_used_up_first(padding: str, end: str, size: int | None) -> None:
    before = BEACH.replace(PADDING.encode() + b"<?xpacket end='w'", f"{padding}<?xpacket end='{end}'".encode())
    wanted = Keywords(subject=("beach", "toucan"))
    added = len("\n    <rdf:li>toucan</rdf:li>")
    # The line's end before the padding counts as padding, the last character stays.
    available = 0 if end == "r" else min(added, len(padding))
    assert size is None or available == (added if size == 0 else size + 1)
    assert growth(xmp.update(before, wanted)) == added - available
    changed(before, wanted)


def test_provenance_is_understood_as_other_programs_write_it_anew() -> None:
    before = packet(ATTRIBUTES)
    assert xmp.read(before).provenance == Provenance((("a", 0.5), ("b", 1.0)), (), "toy", "1>0", "now")
    after = untagged(before)
    assert b'xmlns:p="https://phototag.org/ns/1.0/" dc:format="a>b"><dc:subject><rdf:Bag></rdf:Bag>' in after
    assert xmp.read(after) == Keywords(subject=())
    changed(before, FULL)


@pytest.mark.parametrize("written", [NOTED, None, Provenance((), (), "", "", "")])
@pytest.mark.parametrize("wanted", [NOTED, None, Provenance((), (), "", "", "")])
def test_provenance_comes_changes_and_goes(written: Provenance | None, wanted: Provenance | None) -> None:
    changed(xmp.create(Keywords(subject=("a",), provenance=written)), Keywords(subject=("a",), provenance=wanted))


NESTED = "<x:a>" * 200_000
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
BAG = "<rdf:Bag><rdf:li>a</rdf:li></rdf:Bag>"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BEACH.decode().encode("utf-16"), "UTF-16"),
        (BEACH.decode().encode("utf-16-le"), "UTF-16"),
        (BEACH.decode().encode("utf-32"), "UTF-16"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?>" + BEACH, "not UTF-8"),
        (BOMB.encode() + BEACH, "DOCTYPE"),
        (described("<dc:subject><rdf:Bag><rdf:li>&b;</rdf:li></rdf:Bag></dc:subject>"), "well-formed"),
        (b"", "well-formed"),
        (BEACH[:200], "well-formed"),
        (BEACH + BEACH, "well-formed"),
        (BEACH.replace(b"beach", b"b\xffch"), "well-formed"),
        (BEACH.replace(b"beach", b"b\0ch"), "well-formed"),
        (BEACH.replace(b"beach", b"b\xed\xa0\x80ch"), "well-formed"),
        (b" " * (xmp_packet.MAX_PACKET + 1), "larger"),
        (described(NESTED), "nested"),
        pytest.param(described("<x:a/>" * (xmp_packet.MAX_ELEMENTS + 1)), "too large", marks=pytest.mark.slow),
        (packet(f'</rdf:RDF><rdf:RDF xmlns:rdf="{RDF}">'), "more than one rdf:RDF"),
        (described(f"<x:a>{'<rdf:RDF/>'}</x:a>"), "more than one rdf:RDF"),
        (b"<a/>", "rdf:RDF"),
        (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', "rdf:RDF"),
        (packet("<x:Photo/>"), "other than rdf:Description"),
        (described("", " dc:subject='a'"), "its dc:subject is not a list"),
        (described("<dc:subject>a</dc:subject>"), "its dc:subject is not a list"),
        (described("<dc:subject/>"), "its dc:subject is not a list"),
        (described(f"<dc:subject>{BAG}{BAG}</dc:subject>"), "its dc:subject is not a list"),
        (described(f"<dc:subject rdf:parseType='Literal'>{BAG}</dc:subject>"), "not a plain list"),
        (described(f"<dc:subject>a{BAG}</dc:subject>"), "not a plain list"),
        (described("<dc:subject><rdf:Bag><rdf:_1>a</rdf:_1></rdf:Bag></dc:subject>"), "not a plain list"),
        (described("<dc:subject><rdf:Bag rdf:_1='a'/></dc:subject>"), "not a plain list"),
        (described(f"<dc:subject>{BAG}</dc:subject>" * 2), "dc:subject twice"),
        (described("<dc:subject><rdf:Bag><rdf:li><x:a/></rdf:li></rdf:Bag></dc:subject>"), "not text"),
        (described("<dc:subject><rdf:Bag><rdf:li rdf:resource='a'/></rdf:Bag></dc:subject>"), "not text"),
        (packet(ATTRIBUTES.replace("'0.50'", "'2'")), "another program"),
        (packet(ATTRIBUTES.replace("'0.50'", "'nan'")), "another program"),
        (packet(ATTRIBUTES.replace("p:Name='a'", "")), "another program"),
        (packet(ATTRIBUTES.replace("p:Model", "p:Tags")), "twice"),
        (described("", f' xmlns:p="{xmp_packet.NAMESPACE}" p:Tags="a"'), "another program"),
    ],
)
def test_a_packet_that_is_malformed_or_doubtful_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Unwritable, match=reason):
        xmp.read(data)
    with pytest.raises(Unwritable, match=reason):
        xmp.update(data, FULL)
    with pytest.raises(Unwritable):
        xmp.is_bare(data)


def test_a_keyword_with_qualifiers_is_not_removed() -> None:
    for form in ("qualifiers", "qualifiers in a description", "an Alt with languages"):
        with pytest.raises(Unwritable, match="qualifiers"):
            xmp.update(described(FORMS[form]), Keywords(subject=()))
        with pytest.raises(Unwritable, match="qualifiers"):
            xmp.update(described(FORMS[form]), Keywords())


@pytest.mark.parametrize("wanted", [Keywords(), Keywords(subject=())])
def test_a_comment_is_not_removed_with_a_keyword(wanted: Keywords) -> None:
    with pytest.raises(Unwritable, match="change of something else"):
        xmp.update(described("<dc:subject><rdf:Bag><rdf:li>b<!--mine--></rdf:li></rdf:Bag></dc:subject>"), wanted)
    between = described("<dc:subject><rdf:Bag><!--mine--><rdf:li>b</rdf:li></rdf:Bag></dc:subject>")
    if wanted.subject is None:
        with pytest.raises(Unwritable, match="change of something else"):
            xmp.update(between, wanted)
    else:
        assert b"mine" in changed(between, wanted)


@pytest.mark.parametrize("text", ["\0", "\x0b", "\ufffe", "\ud800"])
def test_a_character_that_xml_has_not_is_refused(text: str) -> None:
    for wanted in (Keywords(subject=(text,)), Keywords(provenance=replace(NOTED, model=text))):
        with pytest.raises(Unwritable, match="character"):
            xmp.create(wanted)
        with pytest.raises(Unwritable, match="character"):
            xmp.update(BEACH, wanted)


def test_a_packet_is_bare_where_nothing_would_be_lost_with_it() -> None:
    assert (
        xmp.is_bare(untagged(xmp.create(replace(FULL, subject=("toucan",), hierarchical=None, tags_list=None))))
        is False
    )
    created = xmp.create(Keywords(subject=("toucan",), provenance=replace(NOTED, created=("subject", "packet"))))
    assert not xmp.is_bare(created)
    assert xmp.is_bare(untagged(created))
    assert xmp.is_bare(packet("<rdf:Description rdf:about='uuid:1'/>"))
    assert not xmp.is_bare(packet("<rdf:Description rdf:about='' dc:format='x'/>"))
    assert not xmp.is_bare(packet("<!-- mine -->"))
    assert not xmp.is_bare(packet("mine"))
    assert not xmp.is_bare(described("<dc:title/>"))
    assert not xmp.is_bare(b"<?mine?>" + xmp.create(Keywords()))
    assert not xmp.is_bare(packet("").replace(b"</x:xmpmeta>", b"<x:mine/></x:xmpmeta>"))


@pytest.mark.parametrize(
    ("removed", "inserted"),
    [
        (b"<!--c-->", b""),
        (b"<!--c-->", b"<!--d-->"),
        (b"<dc:source>  </dc:source>", b""),
        (b"<dc:source>  </dc:source>", b"<dc:source> </dc:source>"),
        (b"x-default", b"en"),
        (b" dc:format='x'", b""),
        (b" dc:format='x'", b" dc:format='y'"),
        (b" a <", b" b <"),
        (b"'en'", b"'de'"),
        (b"<rdf:li>beach</rdf:li>", b""),
        (b"<rdf:li>beach</rdf:li>", b"<rdf:li>Beach</rdf:li>"),
        (b"</dc:title>", b"</dc:title><dc:title2/>"),
        (b"</dc:title>", b"</dc:title>text"),
        (b"<?xpacket end='w'?>", b"<?xpacket end='r'?>"),
        (b"<?xpacket end='w'?>", b""),
        (b"W5M0MpCehiHzreSzNTczkc9d", b""),
        (b"</x:xmpmeta>", b""),
        (b"dc:subject><rdf:Bag>", b"dc:subject><rdf:Bag xml:lang='en'>"),
    ],
)
def test_the_check_catches_any_edit_beyond_the_keywords(
    monkeypatch: pytest.MonkeyPatch, removed: bytes, inserted: bytes
) -> None:
    real = xmp._edits

    def wrong(before: Any, wanted: Keywords) -> list[Edit]:
        return [*real(before, wanted), Edit(RICH.index(removed), removed, inserted)]

    wanted = Keywords(subject=("beach", "sea", "toucan"), hierarchical=("a",), provenance=NOTED)
    changed(RICH, wanted)
    monkeypatch.setattr(xmp, "_edits", wrong)
    with pytest.raises(Unwritable):
        xmp.update(RICH, wanted)
