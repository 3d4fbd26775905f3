"""The proof that edits of an XMP packet change its keywords and nothing else.

It shares no code with the editing: ElementTree parses both packets.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection

from phototag.metadata.edits import Edits, applied
from phototag.metadata.keywords import Keywords, Unwritable
from phototag.metadata.xmp_packet import ABOUT, LI, LIST_OF, PROVENANCE, RDF_RDF, SPACE, Name, Packet


def verify(before: Packet, edits: Edits, wanted: Keywords) -> None:
    """Raise `Unwritable` unless `edits` make the packet hold `wanted` and leave everything else unchanged."""
    result = Packet(applied(before.data, edits))
    if result.keywords != wanted:
        raise Unwritable("its keywords cannot be changed as wanted")
    if not is_same_around(before, result):
        raise Unwritable("its XMP packet cannot be changed without a change of something else")


def is_same_around(one: Packet, other: Packet) -> bool:
    """Return whether two packets differ only in the lists and the provenance."""
    # If only one packet has a list, the whole list is ignored, including the markup around its items.
    whole = [name for name, which in LIST_OF.items() if (which in one.lists) != (which in other.lists)]
    return one.outside() == other.outside() and _rest(one.data, whole) == _rest(other.data, whole)


def _rest(data: bytes, whole: Collection[Name]) -> list[object]:
    """Return everything in a packet except its keywords: elements, attributes and the text around them, in order.

    Plain items of the lists are left out. The lists in `whole` are left out entirely if nothing else remains in them.
    Also left out are phototag's own properties, each rdf:Description that is empty then, and white space between all
    these.
    """
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    try:
        parser.feed(data.rstrip(b"\0"))
        root = parser.close()
    except ET.ParseError:
        raise Unwritable("its XMP packet is not well-formed XML") from None
    own, lists, gone = (set(map(_tag, names)) for names in (PROVENANCE, LIST_OF, whole))
    loose: list[object] = []
    for rdf in root.iter(_tag(RDF_RDF)):
        for description in rdf:
            for prop in description:
                if prop.tag in lists:
                    _sift(prop, lambda container: False, loose)
                    for container in prop:
                        _sift(container, _is_plain_item, loose)
            _sift(description, lambda prop: prop.tag in own or (prop.tag in gone and _is_hollow(prop)), loose)
            for name in own:
                description.attrib.pop(name, None)
        _sift(rdf, _says_nothing, loose)
    said = [
        (element.tag, sorted(element.attrib.items()), element.text, element.tail, len(element))
        for element in root.iter()
    ]
    return [*said, *loose]


def _sift(parent: ET.Element, goes: Callable[[ET.Element], bool], loose: list[object]) -> None:
    """Remove the children of `parent` for which `goes` is true, and the white space between all children.

    Text between them does not belong to a removed child. It is kept in `loose`.
    """
    parent.text = (parent.text or "").strip(SPACE.decode())
    stay = []
    for child in parent:
        child.tail = (child.tail or "").strip(SPACE.decode())
        if not goes(child):
            stay.append(child)
        elif child.tail:
            loose.append(child.tail)
    parent[:] = stay


def _is_plain_item(item: ET.Element) -> bool:
    return item.tag == _tag(LI) and not item.attrib and not len(item)


def _is_hollow(prop: ET.Element) -> bool:
    """Return whether `prop` holds at most empty containers."""
    return not any(container.attrib or len(container) for container in prop) and not prop.attrib


def _says_nothing(description: ET.Element) -> bool:
    return not len(description) and not description.text and {*description.attrib} <= set(map(_tag, ABOUT))


def _tag(name: Name) -> str:
    """Return `name` in ElementTree's notation."""
    return f"{{{name.namespace}}}{name.local}" if name.namespace else name.local
