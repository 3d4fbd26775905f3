"""XMP packets, and checks of what changes in them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace

from phototag.core import Tag
from phototag.metadata import xmp, xmp_packet
from phototag.metadata.edits import applied, inverse
from phototag.metadata.keywords import Keywords, Provenance, wanted_keywords, without_ours

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
# exiftool writes the last without the slash at the end of the namespace.
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
    """Return a packet whose rdf:RDF holds `inside`. It declares `xmlns:dc` and `xmlns:x`."""
    return (
        f'{BEGIN}<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="{RDF}" xmlns:dc="{DC}">\n  {inside}\n'
        f" </rdf:RDF>\n</x:xmpmeta>\n{padding}<?xpacket end='{end}'?>"
    ).encode()


def described(properties: str, attributes: str = "") -> bytes:
    return packet(f'<rdf:Description rdf:about=""{attributes}>{properties}</rdf:Description>')


BEACH = described("<dc:subject>\n   <rdf:Bag>\n    <rdf:li>beach</rdf:li>\n   </rdf:Bag>\n  </dc:subject>\n")


def changed(before: bytes, wanted: Keywords) -> bytes:
    """Return `before` after its update. Check the update with the test's own parser, and that it can be undone."""
    edits = xmp.update(before, wanted)
    after = applied(before, edits)
    assert applied(after, inverse(edits)) == before
    assert_only_keywords_changed(before, after, wanted)
    return after


def assert_only_keywords_changed(before: bytes, after: bytes, wanted: Keywords) -> None:
    """Check with ElementTree that the packet has the wanted keywords, and that every other property is unchanged."""
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
    """Return the properties in a packet that phototag must not change."""
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


def untagged(before: bytes) -> bytes:
    return changed(before, without_ours(xmp.read(before)))


def tagged(before: bytes, *tags: Tag) -> bytes:
    """Return `before` after phototag has planned and written tags."""
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


ATTRIBUTES = (
    '<rdf:Description rdf:about="" xmlns:p="https://phototag.org/ns/1.0/" p:Model="toy" dc:format="a>b" '
    "p:Version = '1>0'\n p:Date=\"now\">"
    "<p:Tags><rdf:Bag><rdf:li p:Name='a' p:Confidence='0.50'/><rdf:li><rdf:Description p:Confidence='1'>"
    "<p:Name>b</p:Name></rdf:Description></rdf:li></rdf:Bag></p:Tags>"
    "<dc:subject><rdf:Bag><rdf:li>a</rdf:li><rdf:li>b</rdf:li></rdf:Bag></dc:subject></rdf:Description>"
)


RICH = described(
    "<!--c--><dc:title><rdf:Alt><rdf:li xml:lang='x-default'> a </rdf:li></rdf:Alt></dc:title>\n"
    "   <dc:subject><rdf:Bag><rdf:li>beach</rdf:li>\n<rdf:li xml:lang='en'>sea</rdf:li></rdf:Bag></dc:subject>"
    "<dc:source>  </dc:source>",
    " dc:format='x'",
)
