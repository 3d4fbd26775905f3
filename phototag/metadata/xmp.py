"""XMP packets: the keywords in one, and the edits that change them and nothing else.

A packet is RDF/XML in UTF-8, mostly in a wrapper of two `<?xpacket?>` instructions, with padding before the second
(XMP specification, part 1, 7). It is never serialised anew: expat says where each element stands, and bytes are
inserted or taken out there. What comes of it is read again and compared with what was, by another parser, before
anybody may use it.

Here as elsewhere in phototag: a packet is hostile until proven otherwise. Whatever is malformed or merely doubtful
raises `Unwritable`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from xml.parsers import expat

from phototag.metadata.edits import Edit, Edits, applied, growth, ordered
from phototag.metadata.keywords import Keywords, Provenance, Unwritable

# Where phototag notes what it did. Only ever a name: nothing is read from there.
NAMESPACE = "https://phototag.org/ns/1.0/"
MAX_PACKET = 4 << 20  # bytes; JPEG has room for 64 KB, sidecars with develop settings grow to a few hundred
MAX_ELEMENTS = 100_000
MAX_DEPTH = 64


class _Name(NamedTuple):
    """The name of an element or attribute: the URI of its namespace ("" without one) and its local part."""

    namespace: str
    local: str


_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XML = "http://www.w3.org/XML/1998/namespace"
_META = "adobe:ns:meta/"
_PREFIXES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    NAMESPACE: "phototag",
}
# The property of each list in `Keywords`, and the container that it has where phototag creates it.
_LISTS = {
    "subject": (_Name("http://purl.org/dc/elements/1.1/", "subject"), "Bag"),
    "hierarchical": (_Name("http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject"), "Bag"),
    "tags_list": (_Name("http://www.digikam.org/ns/1.0/", "TagsList"), "Seq"),
    "last_keyword": (_Name("http://ns.microsoft.com/photo/1.0/", "LastKeywordXMP"), "Bag"),
}
_LIST_OF = {name: which for which, (name, _) in _LISTS.items()}
# Microsoft's and exiv2's namespace ends in a slash, exiftool's does not.
_LIST_OF[_Name("http://ns.microsoft.com/photo/1.0", "LastKeywordXMP")] = "last_keyword"
_PROVENANCE = {_Name(NAMESPACE, local): local for local in ("Tags", "Created", "Model", "Version", "Date", "Recipe")}
_ABOUT = (_Name(_RDF, "about"), _Name("", "about"))  # without its prefix in what Adobe wrote before 2002
_CONTAINERS = tuple(_Name(_RDF, local) for local in ("Bag", "Seq", "Alt"))
_DESCRIPTION, _LI, _RDF_RDF = _Name(_RDF, "Description"), _Name(_RDF, "li"), _Name(_RDF, "RDF")
_PARSE_TYPE = _Name(_RDF, "parseType")

_SEPARATOR = "\x1f"  # between a name's parts as expat gives them; no character of XML 1.0
_SPACE = b" \t\r\n"
_MAX_SPACE = 200  # bytes of white space that are taken for an indentation
_TAG_NAME = re.compile(rb"<([^\s/>]+)")
_TAG_STOP = re.compile(rb"[>\"']")
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>\"']+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(packet: bytes) -> Keywords:
    """Return the keywords in `packet` and what phototag noted there; `iptc` and `xp` are None.

    Raises `Unwritable` where the packet is not one that `update` could change.
    """
    return _Packet(packet).keywords


def update(packet: bytes, wanted: Keywords) -> Edits:
    """Return the edits after which `read` gives the lists and the provenance of `wanted`.

    A list that is None in `wanted` is removed whole; `wanted.iptc` and `wanted.xp` do not matter. New keywords come
    last in the container that is there; a list that is not there comes in an rdf:Description of its own. What is added
    is taken from the padding as far as that reaches, where the packet's wrapper says that it may be written into.

    Raises `Unwritable` where that cannot be done, or not without a change of something else.
    """
    wanted = replace(wanted, iptc=None, xp=None)
    before = _Packet(packet)
    if before.keywords == wanted:
        return ()
    _check_text(wanted)
    changes = _edits(before, wanted)
    edits = ordered((*changes, *before.taken_from_padding(growth(changes))))
    _verify(before, edits, wanted)
    return edits


def refilled(packet: bytes, edits: Edits) -> Edits:
    """Return `edits`, which make `packet` shorter, with padding for what goes, so that the packet keeps its length.

    Raises `Unwritable` where the packet's wrapper has no place for it.
    """
    end = _Packet(packet).padding_end
    if end is None:
        raise Unwritable("its XMP packet has no room for padding")
    return ordered((*edits, Edit(end, b"", b" " * -growth(edits))))


def create(wanted: Keywords, *, sidecar: bool = False) -> bytes:
    """Return a new packet with the lists and the provenance of `wanted`.

    With the wrapper and a little padding, to be put into a photo; as a `sidecar`, an XML file without them.

    Raises `Unwritable` where a keyword holds a character that XML has not.
    """
    wanted = replace(wanted, iptc=None, xp=None)
    _check_text(wanted)
    missing = [name for name in _LISTS if getattr(wanted, name) is not None]
    description = _description(wanted, missing, "rdf", about="", space="\n  ")
    body = f'<x:xmpmeta xmlns:x="{_META}">\n <rdf:RDF xmlns:rdf="{_RDF}">{description}\n </rdf:RDF>\n</x:xmpmeta>\n'
    if sidecar:
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    else:
        # The character in `begin` is a byte order mark, and the id is the same for all packets (part 1, 7.3.2).
        padding = (" " * 99 + "\n") * 5
        text = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{body}{padding}<?xpacket end="w"?>'
    packet = text.encode()
    if read(packet) != wanted:
        raise Unwritable("its keywords do not survive being written")
    return packet


def is_bare(packet: bytes) -> bool:
    """Holds `packet` no property at all, so that nothing is lost with it?

    Raises `Unwritable` where `read` does.
    """
    return _Packet(packet).is_bare()


def is_same_around(one: bytes, other: bytes) -> bool:
    """Do two packets say the same but for the lists and the provenance? Raises `Unwritable` where `read` does."""
    return _is_same_around(_Packet(one), _Packet(other))


@dataclass(slots=True)
class _Element:
    """An element and where it stands: from `start` to `end`, its content from `inner` to `inner_end`.

    `is_empty_tag`: it is written as one tag (`<rdf:Bag/>`), and its content is taken to stand after that.
    """

    name: _Name
    prefix: str
    attributes: dict[_Name, str]
    attribute_prefixes: dict[_Name, str]
    start: int
    inner: int
    is_empty_tag: bool
    inner_end: int = 0
    end: int = 0
    children: list[_Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text directly inside, without that of the children."""
        return "".join(self.pieces)

    def qualified(self, local: str) -> str:
        """The name `local` of this element's namespace, as it is to be written inside of it."""
        return f"{self.prefix}:{local}" if self.prefix else local


class _Packet:
    """A packet, parsed and found to be one that can be changed."""

    def __init__(self, data: bytes) -> None:
        _check_encoding(data)
        parsed = _Parser(data)
        self.data = data
        self.has_remarks = parsed.has_remarks
        self._root = parsed.root
        self.padding_end = parsed.padding_end
        self.rdf = self._find_rdf()
        self.lists: dict[str, _Element] = {}
        self.provenance: dict[str, _Element | str] = {}
        for description in self.rdf.children:
            self._find_properties(description)
        self.keywords = self._read_keywords()

    def _find_rdf(self) -> _Element:
        candidates = [self._root]
        if self._root.name in (_Name(_META, "xmpmeta"), _Name(_META, "xapmeta")):
            candidates = self._root.children
        found = [element for element in candidates if element.name == _RDF_RDF]
        if len(found) != 1:
            raise Unwritable("its XMP packet does not hold one rdf:RDF")
        if any(child.name != _DESCRIPTION for child in found[0].children):
            raise Unwritable("its XMP packet holds something other than rdf:Description in its rdf:RDF")
        return found[0]

    def _find_properties(self, description: _Element) -> None:
        """Note the properties in `description` that concern us. Simple ones may be attributes (part 1, 7.9.2.2)."""
        for name, value in description.attributes.items():
            if name in _LIST_OF:
                raise Unwritable(f"its {_shown(name)} is no list")
            if name in _PROVENANCE:
                self._note(self.provenance, _PROVENANCE[name], value, name)
        for child in description.children:
            if child.name in _LIST_OF:
                self._note(self.lists, _LIST_OF[child.name], child, child.name)
            elif child.name in _PROVENANCE:
                self._note(self.provenance, _PROVENANCE[child.name], child, child.name)

    @staticmethod
    def _note(properties: dict[str, Any], key: str, value: _Element | str, name: _Name) -> None:
        if key in properties:
            raise Unwritable(f"it has {_shown(name)} twice")
        properties[key] = value

    def outside(self) -> tuple[bytes, list[bytes]]:
        """What stands before the outermost element, and what after it but white space."""
        return self.data[: self._root.start], self.data[self._root.end :].split()

    def is_bare(self) -> bool:
        """Is there no property, nor a remark that somebody has put in?"""
        around = [] if self._root is self.rdf else [self._root]
        texts = [element.text for element in (*around, self.rdf, *self.rdf.children)]
        return (
            not self.has_remarks
            and all(element.children == [self.rdf] for element in around)
            and not "".join(texts).strip()
            and not any(one.children or {*one.attributes} - {*_ABOUT} for one in self.rdf.children)
        )

    def _read_keywords(self) -> Keywords:
        lists = {name: tuple(map(_item_text, _container(prop).children)) for name, prop in self.lists.items()}
        return Keywords(**lists, provenance=self._read_provenance())

    def _read_provenance(self) -> Provenance | None:
        if not self.provenance:
            return None
        tags = self.provenance.get("Tags")
        created = self.provenance.get("Created")
        if isinstance(tags, str) or isinstance(created, str):
            raise Unwritable("what phototag noted in it was changed by another program")
        return Provenance(
            tuple(_read_tag(item) for item in _container(tags).children) if tags is not None else (),
            tuple(_item_text(item) for item in _container(created).children) if created is not None else (),
            *(_value(self.provenance.get(local, "")) for local in ("Model", "Version", "Date", "Recipe")),
        )

    def space_before(self, at: int) -> bytes:
        """The white space that ends at offset `at`."""
        start = at
        while start > 0 and self.data[start - 1] in _SPACE:
            start -= 1
        return self.data[start:at]

    def taken_from_padding(self, size: int) -> tuple[Edit, ...]:
        """Remove `size` bytes of padding, or as many as there are but for one. The last is mostly a line's end."""
        if size <= 0 or self.padding_end is None:
            return ()
        start = self.padding_end
        # Not `space_before`: padding is long, and never are more than `size` bytes of it wanted.
        while start > self._root.end and self.padding_end - start <= size and self.data[start - 1] in _SPACE:
            start -= 1
        end = self.padding_end - 1
        return (Edit(start, self.data[start:end], b""),) if start < end else ()


def _check_encoding(data: bytes) -> None:
    if len(data) > MAX_PACKET:
        raise Unwritable(f"its XMP packet is larger than {MAX_PACKET >> 20} MiB")
    if data.startswith((b"\xfe\xff", b"\xff\xfe")) or b"\0" in data[:4]:
        raise Unwritable("its XMP packet is UTF-16 or UTF-32")
    # Entities can be defined nowhere else. That it may also stand in a comment is no reason to look closer.
    if b"<!DOCTYPE" in data:
        raise Unwritable("its XMP packet has a DOCTYPE")


class _Parser:
    """Expat's account of where the elements of a packet stand."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[_Element] = []
        self._elements = 0
        self._rdfs = 0
        self._roots: list[_Element] = []
        self.padding_end: int | None = None
        self.has_remarks = False
        parser = self._expat = expat.ParserCreate("UTF-8", _SEPARATOR)
        parser.namespace_prefixes = True
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = self._comment
        parser.ProcessingInstructionHandler = self._instruction
        try:
            # Cameras end a packet with zeros, as they end text in EXIF.
            parser.Parse(data.rstrip(b"\0"), True)
        except expat.ExpatError:
            raise Unwritable("its XMP packet is no well-formed XML") from None
        (self.root,) = self._roots

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.upper() != "UTF-8":
            raise Unwritable("its XMP packet is not UTF-8")

    def _start(self, expanded: str, attributes: list[str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._stack) == MAX_DEPTH:
            raise Unwritable("its XMP packet is too large or too deeply nested")
        start = self._expat.CurrentByteIndex
        inner = _tag_end(self._data, start)
        name, prefix = _split(expanded)
        names = [_split(attribute) for attribute in attributes[::2]]
        element = _Element(
            name,
            prefix,
            dict(zip((one for one, _ in names), attributes[1::2], strict=True)),
            dict(names),
            start,
            inner,
            self._data.endswith(b"/>", start, inner),
        )
        self._check(element)
        (self._stack[-1].children if self._stack else self._roots).append(element)
        self._stack.append(element)

    def _check(self, element: _Element) -> None:
        written = _TAG_NAME.match(self._data, element.start)
        if written is None or written[1] != element.qualified(element.name.local).encode():
            raise Unwritable("its XMP packet cannot be followed")
        self._rdfs += element.name == _RDF_RDF
        if self._rdfs > 1:
            raise Unwritable("its XMP packet holds more than one rdf:RDF")

    def _end(self, expanded: str) -> None:
        element = self._stack.pop()
        if element.is_empty_tag:
            element.inner_end = element.end = element.inner
            return
        element.inner_end = self._expat.CurrentByteIndex
        if not self._data.startswith(b"</", element.inner_end):
            raise Unwritable("its XMP packet cannot be followed")
        element.end = self._data.index(b">", element.inner_end) + 1

    def _text(self, text: str) -> None:
        self._stack[-1].pieces.append(text)

    def _comment(self, text: str) -> None:
        self.has_remarks = True

    def _instruction(self, target: str, text: str) -> None:
        if target != "xpacket":
            self.has_remarks = True
        elif self._roots and not self._stack and re.match(r"end\s*=\s*[\"']w[\"']", text):
            self.padding_end = self._expat.CurrentByteIndex


def _tag_end(data: bytes, at: int) -> int:
    """The end of the start tag at offset `at`. Its values in quotes may hold `>`."""
    while (stop := _TAG_STOP.search(data, at)) is not None and stop[0] != b">":
        at = data.find(stop[0], stop.end()) + 1
        if at == 0:
            break
    if stop is None or stop[0] != b">":
        raise Unwritable("its XMP packet cannot be followed")
    return stop.end()


def _split(expanded: str) -> tuple[_Name, str]:
    """A name as expat gives it, `URI`, local part and prefix: as far as there are any, in this order."""
    parts = expanded.split(_SEPARATOR)
    if len(parts) == 1:
        return _Name("", parts[0]), ""
    return _Name(parts[0], parts[1]), parts[2] if len(parts) > 2 else ""


def _shown(name: _Name) -> str:
    return f"{_PREFIXES[name.namespace]}:{name.local}"


# Reading


def _container(prop: _Element) -> _Element:
    """The rdf:Bag, Seq or Alt that is the value of `prop`."""
    container = prop.children[0] if len(prop.children) == 1 else None
    if container is None or container.name not in _CONTAINERS:
        raise Unwritable(f"its {_shown(prop.name)} is no list")
    attributes = {*prop.attributes, *container.attributes}
    if (
        any(name.namespace != _XML for name in attributes)
        or any(child.name != _LI for child in container.children)
        or (prop.text + container.text).strip()
    ):
        raise Unwritable(f"its {_shown(prop.name)} is no plain list")
    return container


def _item_text(item: _Element) -> str:
    """The text of an item. One with qualifiers has it in rdf:value (part 1, 7.8)."""
    if not _is_qualified(item):
        return item.text
    value = _fields(item).get(_Name(_RDF, "value"))
    if value is None:
        raise Unwritable("one of its keywords is no text")
    return _value(value)


def _is_qualified(item: _Element) -> bool:
    return bool(item.children) or any(name.namespace != _XML for name in item.attributes)


def _fields(item: _Element) -> dict[_Name, _Element | str]:
    """The fields of a structure, in whichever of its forms it is written (part 1, 7.7 and 7.9.2.3)."""
    inner = item
    if _PARSE_TYPE not in item.attributes and len(item.children) == 1 and item.children[0].name == _DESCRIPTION:
        inner = item.children[0]
    elif item.children and item.attributes.get(_PARSE_TYPE) != "Resource":
        raise Unwritable("one of its keywords is no text")
    return {**inner.attributes, **{child.name: child for child in inner.children}}


def _value(value: _Element | str) -> str:
    """The text of a simple property."""
    if isinstance(value, str):
        return value
    if _is_qualified(value):
        raise Unwritable(f"{value.name.local} in it is no text")
    return value.text


def _read_tag(item: _Element) -> tuple[str, float]:
    fields = _fields(item)
    name, confidence = fields.get(_Name(NAMESPACE, "Name")), fields.get(_Name(NAMESPACE, "Confidence"))
    # As `repr` writes a number; float() reads more than that.
    number = re.fullmatch(r"\d(\.\d{1,20})?(e-\d{1,3})?", _value(confidence or ""), re.ASCII)
    if name is None or number is None or float(number[0]) > 1:
        raise Unwritable("what phototag noted in it was changed by another program")
    return _value(name), float(number[0])


# Editing


def _edits(packet: _Packet, wanted: Keywords) -> list[Edit]:
    edits: list[Edit] = []
    removed: list[_Element] = []
    for name, prop in packet.lists.items():
        entries: tuple[str, ...] | None = getattr(wanted, name)
        if entries is None:
            removed.append(prop)
            _check_removable(_container(prop).children)
        else:
            edits += _list_edits(packet, _container(prop), entries)
    renoted = packet.keywords.provenance != wanted.provenance
    if renoted:
        removed += [prop for prop in packet.provenance.values() if isinstance(prop, _Element)]
    edits += _removals(packet, removed, with_attributes=renoted)
    missing = [name for name in _LISTS if name not in packet.lists and getattr(wanted, name) is not None]
    provenance = wanted.provenance if renoted else None
    if missing or provenance is not None:
        edits.append(_new_description(packet, replace(wanted, provenance=provenance), missing))
    return edits


def _list_edits(packet: _Packet, container: _Element, entries: Sequence[str]) -> Iterator[Edit]:
    """Make `container` say `entries`: those that are there stay as far as they are in order, the others are added."""
    kept = 0
    for item in container.children:
        if kept < len(entries) and _item_text(item) == entries[kept]:
            kept += 1
        else:
            _check_removable([item])
            yield _removal(packet, item)
    if kept < len(entries):
        tag = container.qualified("li")

        def items(space: str) -> str:
            return "".join(f"{space}<{tag}>{_escaped(entry)}</{tag}>" for entry in entries[kept:])

        yield _appended(packet, container, items)


def _check_removable(items: Iterable[_Element]) -> None:
    if any(item.children or item.attributes for item in items):
        raise Unwritable("a keyword that is to go has qualifiers")


def _removal(packet: _Packet, element: _Element) -> Edit:
    start = element.start - len(packet.space_before(element.start))
    return Edit(start, packet.data[start : element.end], b"")


def _appended(packet: _Packet, parent: _Element, render: Callable[[str], str]) -> Edit:
    """Put what `render` makes of an indentation behind the last child of `parent`."""
    if parent.children:
        # Also where that child is removed: its place is still between what stays.
        last = parent.children[-1]
        return Edit(last.end, b"", render(_indentation(packet, last)).encode())
    space = _indentation(packet, parent)
    inner = render(space + " " if space else "").encode()
    if not parent.is_empty_tag:
        return Edit(parent.inner, b"", inner)
    closing = f"{space}</{parent.qualified(parent.name.local)}>".encode()
    return Edit(parent.inner - 2, b"/>", b">" + inner + closing)


def _indentation(packet: _Packet, element: _Element) -> str:
    """The white space before `element`, where it is that of a line of its own."""
    space = packet.space_before(element.start)
    return space.decode() if b"\n" in space and len(space) <= _MAX_SPACE else ""


def _removals(packet: _Packet, removed: Sequence[_Element], *, with_attributes: bool) -> Iterator[Edit]:
    """Take out the properties `removed`, `with_attributes` also phototag's that are attributes.

    An rdf:Description that is left with nothing goes too; not the first if it says what it is about, as that may hold
    for all of them.
    """
    gone = {id(element) for element in removed}
    for number, description in enumerate(packet.rdf.children):
        children = [child for child in description.children if id(child) in gone]
        attributes = [name for name in description.attributes if with_attributes and name in _PROVENANCE]
        edits = [_removal(packet, child) for child in children]
        if attributes:
            edits = [*_attribute_removals(packet, description, attributes), *edits]
        if not edits:
            continue
        is_empty = _is_empty_without(packet, description, children, attributes)
        if is_empty and (number > 0 or not _about(description)):
            yield _removal(packet, description)
        else:
            yield from edits


def _is_empty_without(
    packet: _Packet, description: _Element, children: Sequence[_Element], attributes: Sequence[_Name]
) -> bool:
    """Says `description` nothing, not even in a comment, without these children and attributes?"""
    rest = b""
    at = description.inner
    for child in children:
        rest += packet.data[at : child.start]
        at = child.end
    rest += packet.data[at : description.inner_end]
    return not rest.strip(_SPACE) and {*description.attributes} <= {*_ABOUT, *attributes}


def _attribute_removals(packet: _Packet, element: _Element, names: Iterable[_Name]) -> Iterator[Edit]:
    written = {f"{element.attribute_prefixes[name]}:{name.local}".encode() for name in names}
    at = element.start + 1 + len(element.qualified(element.name.local).encode())
    # One after the other and not by a search, which would be slow where much white space follows the last.
    while (match := _ATTRIBUTE.match(packet.data, at, element.inner)) is not None:
        if match[1] in written:
            yield Edit(at, match[0], b"")
        at = match.end()


def _new_description(packet: _Packet, wanted: Keywords, missing: Sequence[str]) -> Edit:
    # All the rdf:Descriptions of a packet are about the same (part 1, 7.4); XMP Toolkit gives up where they differ.
    about = next(filter(None, map(_about, packet.rdf.children)), "")
    # An attribute without a prefix has no namespace, so where rdf:RDF has none, ours brings one.
    prefix = packet.rdf.prefix
    declared = prefix and prefix not in _PREFIXES.values()
    return _appended(
        packet,
        packet.rdf,
        lambda space: _description(
            wanted, missing, prefix if declared else "rdf", about=about, space=space, declare_rdf=not declared
        ),
    )


def _about(description: _Element) -> str:
    return next((description.attributes[name] for name in _ABOUT if name in description.attributes), "")


# Writing


def _description(
    wanted: Keywords, lists: Sequence[str], rdf: str, *, about: str, space: str, declare_rdf: bool = False
) -> str:
    """An rdf:Description with those `lists` of `wanted` and its provenance, each line led by `space` and indented."""
    lines: list[tuple[int, str]] = []
    used = [_LISTS[name][0].namespace for name in lists]
    for name in lists:
        prop, container = _LISTS[name]
        lines += _list_lines(_shown(prop), f"{rdf}:{container}", rdf, getattr(wanted, name))
    if wanted.provenance is not None:
        used.append(NAMESPACE)
        lines += _provenance_lines(wanted.provenance, rdf)
    declarations = [f'xmlns:{_PREFIXES[namespace]}="{namespace}"' for namespace in used]
    if declare_rdf:
        declarations.insert(0, f'xmlns:{rdf}="{_RDF}"')
    opening = " ".join([f"{rdf}:Description", *declarations, f'{rdf}:about="{_escaped(about)}"'])
    all_lines = [(0, f"<{opening}>"), *lines, (0, f"</{rdf}:Description>")]
    return "".join(f"{space}{' ' * depth if space else ''}{line}" for depth, line in all_lines)


def _list_lines(prop: str, container: str, rdf: str, entries: Iterable[str]) -> list[tuple[int, str]]:
    items = [(3, f"<{rdf}:li>{_escaped(entry)}</{rdf}:li>") for entry in entries]
    return [(1, f"<{prop}>"), (2, f"<{container}>"), *items, (2, f"</{container}>"), (1, f"</{prop}>")]


def _provenance_lines(provenance: Provenance, rdf: str) -> list[tuple[int, str]]:
    items = [
        (
            3,
            f'<{rdf}:li {rdf}:parseType="Resource"><phototag:Name>{_escaped(name)}</phototag:Name>'
            f"<phototag:Confidence>{float(confidence)!r}</phototag:Confidence></{rdf}:li>",
        )
        for name, confidence in provenance.tags
    ]
    lines = [
        (1, "<phototag:Tags>"),
        (2, f"<{rdf}:Bag>"),
        *items,
        (2, f"</{rdf}:Bag>"),
        (1, "</phototag:Tags>"),
    ]
    if provenance.created:
        lines += _list_lines("phototag:Created", f"{rdf}:Bag", rdf, provenance.created)
    texts = (provenance.model, provenance.version, provenance.date, provenance.recipe)
    simple = zip(("Model", "Version", "Date", "Recipe"), texts, strict=True)
    lines += [(1, f"<phototag:{name}>{_escaped(text)}</phototag:{name}>") for name, text in simple if text]
    return lines


def _escaped(text: str) -> str:
    """`text` for use between tags or double quotes, so that white space is not changed when it is read."""
    for character, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, reference)
    return re.sub("[\t\r\n]", lambda match: f"&#{ord(match[0])};", text)


def _check_text(wanted: Keywords) -> None:
    texts = [entry for name in _LISTS for entry in getattr(wanted, name) or ()]
    if wanted.provenance is not None:
        noted = wanted.provenance
        texts += [*(name for name, _ in noted.tags), *noted.created]
        texts += [noted.model, noted.version, noted.date, noted.recipe]
    if any(map(_NOT_XML.search, texts)):
        raise Unwritable("a keyword holds a character that XML has not")


# Verifying. Not by what edits: ElementTree gives its own account of the two packets.


def _verify(before: _Packet, edits: Edits, wanted: Keywords) -> None:
    """Raise `Unwritable` unless `edits` make the packet say `wanted` and leave everything else as it is."""
    result = _Packet(applied(before.data, edits))
    if result.keywords != wanted:
        raise Unwritable("its keywords cannot be changed as wanted")
    if not _is_same_around(before, result):
        raise Unwritable("its XMP packet cannot be changed without a change of something else")


def _is_same_around(one: _Packet, other: _Packet) -> bool:
    # A list that is there only in one comes or goes with all that is around its items.
    whole = [name for name, which in _LIST_OF.items() if (which in one.lists) != (which in other.lists)]
    return one.outside() == other.outside() and _rest(one.data, whole) == _rest(other.data, whole)


def _rest(data: bytes, whole: Collection[_Name]) -> list[object]:
    """All that a packet says but its keywords: each element, its attributes and the text around it, in order.

    Of the lists, their plain items are left out, and those named in `whole` with all that then remains, unless it says
    something; so are phototag's own properties, every rdf:Description that then says nothing, and white space between
    all these.
    """
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    try:
        parser.feed(data.rstrip(b"\0"))
        root = parser.close()
    except ET.ParseError:
        raise Unwritable("its XMP packet is no well-formed XML") from None
    own, lists, gone = (set(map(_tag, names)) for names in (_PROVENANCE, _LIST_OF, whole))
    loose: list[object] = []
    for rdf in root.iter(_tag(_RDF_RDF)):
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
    """Take the children out of `parent` that go, and the white space between them all.

    Text between them belongs to nothing that goes: it is kept in `loose`.
    """
    parent.text = (parent.text or "").strip(_SPACE.decode())
    stay = []
    for child in parent:
        child.tail = (child.tail or "").strip(_SPACE.decode())
        if not goes(child):
            stay.append(child)
        elif child.tail:
            loose.append(child.tail)
    parent[:] = stay


def _is_plain_item(item: ET.Element) -> bool:
    return item.tag == _tag(_LI) and not item.attrib and not len(item)


def _is_hollow(prop: ET.Element) -> bool:
    """Is there nothing in `prop` but a container, and nothing in that?"""
    return not any(container.attrib or len(container) for container in prop) and not prop.attrib


def _says_nothing(description: ET.Element) -> bool:
    return not len(description) and not description.text and {*description.attrib} <= set(map(_tag, _ABOUT))


def _tag(name: _Name) -> str:
    """`name` as ElementTree has it."""
    return f"{{{name.namespace}}}{name.local}" if name.namespace else name.local
