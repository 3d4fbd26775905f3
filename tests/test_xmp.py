from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phototag.core import Tag
from phototag.metadata import xmp, xmp_packet
from phototag.metadata.edits import Edit, applied, growth, inverse
from phototag.metadata.keywords import Keywords, Provenance, Unwritable, wanted_keywords, without_ours

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
LR = "http://ns.adobe.com/lightroom/1.0/"
DIGIKAM = "http://www.digikam.org/ns/1.0/"
MICROSOFT = "http://ns.microsoft.com/photo/1.0/"
PROPERTIES = {
    "subject": f"{{{DC}}}subject",
    "hierarchical": f"{{{LR}}}hierarchicalSubject",
    "tags_list": f"{{{DIGIKAM}}}TagsList",
    "last_keyword": f"{{{MICROSOFT}}}LastKeywordXMP",
}
# exiftool writes the last without the slash at the namespace's end.
EXIFTOOLS = PROPERTIES["last_keyword"].replace("/}", "}")
OWN = (*PROPERTIES.values(), EXIFTOOLS)
BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
PADDING = (" " * 99 + "\n") * 30
NOTED = Provenance(
    (("toucan", 0.93), ("|animal|bird|toucan", 1e-05)), ("subject", "packet"), "toy & co", "1.0", "2025-06-01T12:00:00Z"
)
FULL = Keywords(
    subject=("beach", "toucan"),
    hierarchical=("animal|bird|toucan",),
    tags_list=("animal/bird/toucan",),
    last_keyword=(),
    provenance=NOTED,
)
TAGS = (Tag("Ö & <b>", 0.93, ("animal", "bird", "Ö & <b>"), None), Tag("日本😀", 0.5, ("日本😀",), None))


def packet(inside: str, *, end: str = "w", padding: str = PADDING) -> bytes:
    """A packet whose rdf:RDF holds `inside`; `xmlns:dc` and `xmlns:x` are declared."""
    return (
        f'{BEGIN}<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="{RDF}" xmlns:dc="{DC}">\n  {inside}\n'
        f" </rdf:RDF>\n</x:xmpmeta>\n{padding}<?xpacket end='{end}'?>"
    ).encode()


def described(properties: str, attributes: str = "") -> bytes:
    return packet(f'<rdf:Description rdf:about=""{attributes}>{properties}</rdf:Description>')


BEACH = described("<dc:subject>\n   <rdf:Bag>\n    <rdf:li>beach</rdf:li>\n   </rdf:Bag>\n  </dc:subject>\n")


def changed(before: bytes, wanted: Keywords) -> bytes:
    """`before` after its update, which has passed the test's own check and can be taken back."""
    edits = xmp.update(before, wanted)
    after = applied(before, edits)
    assert applied(after, inverse(edits)) == before
    assert_only_keywords_changed(before, after, wanted)
    return after


def assert_only_keywords_changed(before: bytes, after: bytes, wanted: Keywords) -> None:
    """As ElementTree sees the packets: the keywords are those wanted, and every other property is what it was."""
    assert foreign(before) == foreign(after)
    root = ET.fromstring(after.rstrip(b"\0"))
    for name, prop in PROPERTIES.items():
        found = [element for element in root.iter() if str(element.tag).replace(EXIFTOOLS, OWN[-2]) == prop]
        entries = [tuple(map(item_text, element.iter(f"{{{RDF}}}li"))) for element in found]
        expected = getattr(wanted, name)
        assert entries == ([] if expected is None else [expected])
    assert xmp.read(after) == replace(wanted, iptc=None, xp=None)


def item_text(item: ET.Element) -> str:
    value = item if item.find(f".//{{{RDF}}}value") is None else item.find(f".//{{{RDF}}}value")
    assert value is not None
    return "".join(value.itertext())


def foreign(data: bytes) -> Counter[str]:
    """The properties in a packet that are none of phototag's business."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    parser.feed(data.rstrip(b"\0"))
    root = parser.close()
    rdf = next(root.iter(f"{{{RDF}}}RDF"))
    found: Counter[str] = Counter([str(sorted(root.attrib.items())), str(sorted(rdf.attrib.items()))])
    found.update({f"about {about}" for description in rdf for about in abouts(description) if about})
    for description in rdf:
        found.update(
            f"{name}={value}"
            for name, value in description.attrib.items()
            if xmp_packet.NAMESPACE not in name and not name.endswith("about")
        )
        for prop in description:
            prop.tail = None
            if prop.tag not in OWN and xmp_packet.NAMESPACE not in str(prop.tag):
                found[ET.tostring(prop, "unicode")] += 1
            else:
                found.update(
                    str(sorted(item.attrib.items())) for item in prop.iter(f"{{{RDF}}}li") if is_qualified(item)
                )
    return found


def abouts(description: ET.Element) -> list[str]:
    return [description.get(name, "") for name in (f"{{{RDF}}}about", "about")]


def is_qualified(item: ET.Element) -> bool:
    return bool(item.attrib) and xmp_packet.NAMESPACE not in ET.tostring(item, "unicode")


def tagged(before: bytes, *tags: Tag) -> bytes:
    """`before` after phototag has tagged it, by way of the planner."""
    plan = wanted_keywords(
        xmp.read(before),
        tags or TAGS,
        model="toy",
        version="1.0",
        date="2025-06-01",
        has_packet=True,
        has_iptc=False,
        can_hold_xp=False,
    )
    return changed(before, plan.keywords)


def untagged(before: bytes) -> bytes:
    return changed(before, without_ours(xmp.read(before)))


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


FORMS = {
    "an empty Bag": f'<dc:subject><r:Bag xmlns:r="{RDF}"/></dc:subject>',
    "an empty Bag, two tags": "<dc:subject><rdf:Bag>\n</rdf:Bag></dc:subject>",
    "a Seq": "<dc:subject><rdf:Seq><rdf:li>beach</rdf:li></rdf:Seq></dc:subject>",
    "an Alt with languages": "<dc:subject><rdf:Alt><rdf:li xml:lang='en'>beach</rdf:li></rdf:Alt></dc:subject>",
    "no prefix": f'<dc:subject><Bag xmlns="{RDF}"><li>beach</li></Bag></dc:subject>',
    "other prefixes": f'<q:subject xmlns:q="{DC}" xmlns:r="{RDF}"><r:Bag><r:li>beach</r:li></r:Bag></q:subject>',
    "a prefix that means another thing": (
        f'<dc:subject xmlns:rdf="urn:x" xmlns:r="{RDF}"><r:Bag><r:li>beach</r:li></r:Bag></dc:subject>'
    ),
    "entities": "<dc:subject><rdf:Bag><rdf:li>b&#x65;&#97;&amp;ch</rdf:li></rdf:Bag></dc:subject>",
    "CDATA": "<dc:subject><rdf:Bag><rdf:li><![CDATA[<rdf:li>]]>x</rdf:li></rdf:Bag></dc:subject>",
    "comments": (
        "<dc:subject><!-- <rdf:li> --><rdf:Bag><!----><rdf:li>b<!--c-->x</rdf:li><!--d--></rdf:Bag></dc:subject>"
    ),
    "qualifiers": (
        "<dc:subject><rdf:Bag><rdf:li rdf:parseType='Resource'><rdf:value>beach</rdf:value><x:q>1</x:q></rdf:li>"
        "</rdf:Bag></dc:subject>"
    ),
    "qualifiers in a description": (
        "<dc:subject><rdf:Bag><rdf:li><rdf:Description><rdf:value>b</rdf:value></rdf:Description></rdf:li></rdf:Bag>"
        "</dc:subject>"
    ),
    "> in an attribute": (
        "<dc:title x:y='>\"/>'/><dc:subject\n ><rdf:Bag ><rdf:li\t>b</rdf:li ></rdf:Bag\n></dc:subject>"
    ),
    "white space around": "<dc:subject><rdf:Bag><rdf:li> \n b\t</rdf:li></rdf:Bag></dc:subject>",
    "windows line ends": "<dc:subject>\r\n <rdf:Bag>\r\n  <rdf:li>b</rdf:li>\r\n </rdf:Bag>\r\n</dc:subject>",
    "nothing": "<dc:title>x</dc:title>",
}


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


ATTRIBUTES = (
    '<rdf:Description rdf:about="" xmlns:p="https://phototag.org/ns/1.0/" p:Model="toy" dc:format="a>b" '
    "p:Version = '1>0'\n p:Date=\"now\">"
    "<p:Tags><rdf:Bag><rdf:li p:Name='a' p:Confidence='0.50'/><rdf:li><rdf:Description p:Confidence='1'>"
    "<p:Name>b</p:Name></rdf:Description></rdf:li></rdf:Bag></p:Tags>"
    "<dc:subject><rdf:Bag><rdf:li>a</rdf:li><rdf:li>b</rdf:li></rdf:Bag></dc:subject></rdf:Description>"
)


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
        (described("<x:a/>" * (xmp_packet.MAX_ELEMENTS + 1)), "too large"),
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


RICH = described(
    "<!--c--><dc:title><rdf:Alt><rdf:li xml:lang='x-default'> a </rdf:li></rdf:Alt></dc:title>\n"
    "   <dc:subject><rdf:Bag><rdf:li>beach</rdf:li>\n<rdf:li xml:lang='en'>sea</rdf:li></rdf:Bag></dc:subject>"
    "<dc:source>  </dc:source>",
    " dc:format='x'",
)


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


@settings(max_examples=400, deadline=None, database=None, derandomize=True)
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
        if shutil.which(str(command[0])) is None:
            pytest.skip(f"needs {command[0]}")
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


def test_exiftool_reads_other_prefixes(tmp_path: Path, tool: Callable[..., str]) -> None:
    """exiv2 0.27 reads no packet whose RDF has another prefix than `rdf`, whoever wrote it."""
    path = tmp_path / "photo.jpg.xmp"
    path.write_bytes(changed(BEACH.replace(b"rdf:", b"d:").replace(b"xmlns:rdf", b"xmlns:d"), SHOWN))
    (found,) = json.loads(tool("exiftool", "-XMP:all", "-struct", "-j", path))
    assert found["Subject"] == list(SHOWN.subject or ())
    assert found["Tags"][0] == {"Name": "toucan", "Confidence": 0.93}


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
