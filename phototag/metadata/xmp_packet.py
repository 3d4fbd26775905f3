"""The parser of XMP packets, which finds the places of elements and the keywords in them.

A packet is RDF/XML in UTF-8. It usually has a wrapper of two `<?xpacket?>` instructions, with padding before the second
(XMP specification, part 1, 7). A packet is hostile until proven otherwise. Anything malformed or doubtful raises
`Unwritable`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.parsers import expat

from phototag.metadata.edits import Edit
from phototag.metadata.keywords import Keywords, Provenance, Unwritable

# The namespace of phototag's record. Only a name: phototag reads nothing from this address.
NAMESPACE = "https://phototag.org/ns/1.0/"
MAX_PACKET = 4 << 20  # bytes; JPEG has room for 64 KB, and sidecars with develop settings grow to a few hundred
MAX_ELEMENTS = 100_000
MAX_DEPTH = 64


class Name(NamedTuple):
    """The name of an element or attribute: its namespace's URI ("" if it has none) and its local part."""

    namespace: str
    local: str


RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XML = "http://www.w3.org/XML/1998/namespace"
META = "adobe:ns:meta/"
PREFIXES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    NAMESPACE: "phototag",
}
# The property of each list in `Keywords`, and its container if phototag creates it.
LISTS = {
    "subject": (Name("http://purl.org/dc/elements/1.1/", "subject"), "Bag"),
    "hierarchical": (Name("http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject"), "Bag"),
    "tags_list": (Name("http://www.digikam.org/ns/1.0/", "TagsList"), "Seq"),
    "last_keyword": (Name("http://ns.microsoft.com/photo/1.0/", "LastKeywordXMP"), "Bag"),
}
LIST_OF = {name: which for which, (name, _) in LISTS.items()}
# The namespace ends in a slash for Microsoft and exiv2, but not for exiftool.
LIST_OF[Name("http://ns.microsoft.com/photo/1.0", "LastKeywordXMP")] = "last_keyword"
PROVENANCE = {Name(NAMESPACE, local): local for local in ("Tags", "Created", "Model", "Version", "Date", "Recipe")}
ABOUT = (Name(RDF, "about"), Name("", "about"))  # Adobe wrote it without a prefix before 2002
_CONTAINERS = tuple(Name(RDF, local) for local in ("Bag", "Seq", "Alt"))
_DESCRIPTION, LI, RDF_RDF = Name(RDF, "Description"), Name(RDF, "li"), Name(RDF, "RDF")
_PARSE_TYPE = Name(RDF, "parseType")
_SEPARATOR = "\x1f"  # separates the parts of a name from expat; not a character of XML 1.0
SPACE = b" \t\r\n"
_TAG_NAME = re.compile(rb"<([^\s/>]+)")
_TAG_STOP = re.compile(rb"[>\"']")


@dataclass(slots=True)
class Element:
    """An element at `start` to `end`, with its content at `inner` to `inner_end`.

    If `is_empty_tag`, it is a single tag (`<rdf:Bag/>`), and its content begins after that.
    """

    name: Name
    prefix: str
    attributes: dict[Name, str]
    attribute_prefixes: dict[Name, str]
    start: int
    inner: int
    is_empty_tag: bool
    inner_end: int = 0
    end: int = 0
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text directly inside, without that of the children."""
        return "".join(self.pieces)

    def qualified(self, local: str) -> str:
        """Return the qualified name of `local` in this element's namespace, for use inside it."""
        return f"{self.prefix}:{local}" if self.prefix else local


class Packet:
    """A parsed packet that phototag can change."""

    def __init__(self, data: bytes) -> None:
        _check_encoding(data)
        parsed = _Parser(data)
        self.data = data
        self.has_remarks = parsed.has_remarks
        self._root = parsed.root
        self.padding_end = parsed.padding_end
        self.rdf = self._find_rdf()
        self.lists: dict[str, Element] = {}
        self.provenance: dict[str, Element | str] = {}
        for description in self.rdf.children:
            self._find_properties(description)
        self.keywords = self._read_keywords()

    def _find_rdf(self) -> Element:
        candidates = [self._root]
        if self._root.name in (Name(META, "xmpmeta"), Name(META, "xapmeta")):
            candidates = self._root.children
        found = [element for element in candidates if element.name == RDF_RDF]
        if len(found) != 1:
            raise Unwritable("its XMP packet does not hold one rdf:RDF")
        if any(child.name != _DESCRIPTION for child in found[0].children):
            raise Unwritable("its XMP packet holds something other than rdf:Description in its rdf:RDF")
        return found[0]

    def _find_properties(self, description: Element) -> None:
        """Collect the known properties in `description`. Simple ones may be attributes (part 1, 7.9.2.2)."""
        for name, value in description.attributes.items():
            if name in LIST_OF:
                raise Unwritable(f"its {shown(name)} is not a list")
            if name in PROVENANCE:
                self._note(self.provenance, PROVENANCE[name], value, name)
        for child in description.children:
            if child.name in LIST_OF:
                self._note(self.lists, LIST_OF[child.name], child, child.name)
            elif child.name in PROVENANCE:
                self._note(self.provenance, PROVENANCE[child.name], child, child.name)

    @staticmethod
    def _note(properties: dict[str, Any], key: str, value: Element | str, name: Name) -> None:
        if key in properties:
            raise Unwritable(f"it has {shown(name)} twice")
        properties[key] = value

    def outside(self) -> tuple[bytes, list[bytes]]:
        """Return what precedes the outermost element, and what follows it without white space."""
        return self.data[: self._root.start], self.data[self._root.end :].split()

    def is_bare(self) -> bool:
        """Return whether the packet has neither properties nor comments."""
        around = [] if self._root is self.rdf else [self._root]
        texts = [element.text for element in (*around, self.rdf, *self.rdf.children)]
        return (
            not self.has_remarks
            and all(element.children == [self.rdf] for element in around)
            and not "".join(texts).strip()
            and not any(one.children or {*one.attributes} - {*ABOUT} for one in self.rdf.children)
        )

    def _read_keywords(self) -> Keywords:
        lists = {name: tuple(map(item_text, container_of(prop).children)) for name, prop in self.lists.items()}
        return Keywords(**lists, provenance=self._read_provenance())

    def _read_provenance(self) -> Provenance | None:
        if not self.provenance:
            return None
        tags = self.provenance.get("Tags")
        created = self.provenance.get("Created")
        if isinstance(tags, str) or isinstance(created, str):
            raise Unwritable("what phototag noted in it was changed by another program")
        return Provenance(
            tuple(_read_tag(item) for item in container_of(tags).children) if tags is not None else (),
            tuple(item_text(item) for item in container_of(created).children) if created is not None else (),
            *(value_of(self.provenance.get(local, "")) for local in ("Model", "Version", "Date", "Recipe")),
        )

    def space_before(self, at: int) -> bytes:
        """Return the white space that ends at offset `at`."""
        start = at
        while start > 0 and self.data[start - 1] in SPACE:
            start -= 1
        return self.data[start:at]

    def taken_from_padding(self, size: int) -> tuple[Edit, ...]:
        """Return an edit that removes up to `size` bytes of padding.

        The last byte of the padding stays, because it is usually a line end.
        """
        if size <= 0 or self.padding_end is None:
            return ()
        start = self.padding_end
        # Not `space_before`: padding is long, and at most `size` bytes of it are needed.
        while start > self._root.end and self.padding_end - start <= size and self.data[start - 1] in SPACE:
            start -= 1
        end = self.padding_end - 1
        return (Edit(start, self.data[start:end], b""),) if start < end else ()


def _check_encoding(data: bytes) -> None:
    if len(data) > MAX_PACKET:
        raise Unwritable(f"its XMP packet is larger than {MAX_PACKET >> 20} MiB")
    if data.startswith((b"\xfe\xff", b"\xff\xfe")) or b"\0" in data[:4]:
        raise Unwritable("its XMP packet is UTF-16 or UTF-32")
    # Entities can only be defined in a DOCTYPE. This also refuses one in a comment, which is harmless but rare.
    if b"<!DOCTYPE" in data:
        raise Unwritable("its XMP packet has a DOCTYPE")


class _Parser:
    """A parser that finds the places of a packet's elements with expat."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Element] = []
        self._elements = 0
        self._rdfs = 0
        self._roots: list[Element] = []
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
            # Cameras end a packet with zeros, like text in EXIF.
            parser.Parse(data.rstrip(b"\0"), True)
        except expat.ExpatError:
            raise Unwritable("its XMP packet is not well-formed XML") from None
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
        element = Element(
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

    def _check(self, element: Element) -> None:
        written = _TAG_NAME.match(self._data, element.start)
        if written is None or written[1] != element.qualified(element.name.local).encode():
            raise Unwritable("its XMP packet cannot be followed")
        self._rdfs += element.name == RDF_RDF
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
    """Return the end of the start tag at offset `at`. Quoted values may contain `>`."""
    while (stop := _TAG_STOP.search(data, at)) is not None and stop[0] != b">":
        at = data.find(stop[0], stop.end()) + 1
        if at == 0:
            break
    if stop is None or stop[0] != b">":
        raise Unwritable("its XMP packet cannot be followed")
    return stop.end()


def _split(expanded: str) -> tuple[Name, str]:
    """Return the name and prefix for a name from expat: URI, local part and prefix, as far as they exist."""
    parts = expanded.split(_SEPARATOR)
    if len(parts) == 1:
        return Name("", parts[0]), ""
    return Name(parts[0], parts[1]), parts[2] if len(parts) > 2 else ""


def shown(name: Name) -> str:
    """Return a property's name for messages, for example `dc:subject`."""
    return f"{PREFIXES[name.namespace]}:{name.local}"


# --- Reading ----------------------------------------------------------------------------------------------------------


def container_of(prop: Element) -> Element:
    """Return the rdf:Bag, Seq or Alt that is the value of `prop`."""
    container = prop.children[0] if len(prop.children) == 1 else None
    if container is None or container.name not in _CONTAINERS:
        raise Unwritable(f"its {shown(prop.name)} is not a list")
    attributes = {*prop.attributes, *container.attributes}
    if (
        any(name.namespace != _XML for name in attributes)
        or any(child.name != LI for child in container.children)
        or (prop.text + container.text).strip()
    ):
        raise Unwritable(f"its {shown(prop.name)} is not a plain list")
    return container


def item_text(item: Element) -> str:
    """Return the text of an item. If it has qualifiers, its text is in rdf:value (part 1, 7.8)."""
    if not _is_qualified(item):
        return item.text
    value = _fields_of(item).get(Name(RDF, "value"))
    if value is None:
        raise Unwritable("one of its keywords is not text")
    return value_of(value)


def _is_qualified(item: Element) -> bool:
    return bool(item.children) or any(name.namespace != _XML for name in item.attributes)


def _fields_of(item: Element) -> dict[Name, Element | str]:
    """Return the fields of a structure, in any of its notations (part 1, 7.7 and 7.9.2.3)."""
    inner = item
    if _PARSE_TYPE not in item.attributes and len(item.children) == 1 and item.children[0].name == _DESCRIPTION:
        inner = item.children[0]
    elif item.children and item.attributes.get(_PARSE_TYPE) != "Resource":
        raise Unwritable("one of its keywords is not text")
    return {**inner.attributes, **{child.name: child for child in inner.children}}


def value_of(value: Element | str) -> str:
    """Return the text of a simple property."""
    if isinstance(value, str):
        return value
    if _is_qualified(value):
        raise Unwritable(f"{value.name.local} in it is not text")
    return value.text


def _read_tag(item: Element) -> tuple[str, float]:
    fields = _fields_of(item)
    name, confidence = fields.get(Name(NAMESPACE, "Name")), fields.get(Name(NAMESPACE, "Confidence"))
    # The format of `repr`; float() accepts more.
    number = re.fullmatch(r"\d(\.\d{1,20})?(e-\d{1,3})?", value_of(confidence or ""), re.ASCII)
    if name is None or number is None or float(number[0]) > 1:
        raise Unwritable("what phototag noted in it was changed by another program")
    return value_of(name), float(number[0])
