"""Read the keywords in XMP packets, and compute the edits that change only them.

phototag never serializes an existing packet. It finds the elements with expat, and inserts or removes bytes there.
Before the result is used, another parser reads it and compares it with the original; see `xmp_proof`.

A packet is hostile until proven otherwise. Anything malformed or doubtful raises `Unwritable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from phototag.metadata import xmp_proof
from phototag.metadata.edits import Edit, Edits, growth, ordered
from phototag.metadata.keywords import Keywords, Provenance, Unwritable
from phototag.metadata.xmp_packet import (
    ABOUT,
    LISTS,
    META,
    NAMESPACE,
    PREFIXES,
    PROVENANCE,
    RDF,
    SPACE,
    Element,
    Name,
    Packet,
    container_of,
    item_text,
    shown,
)

_MAX_SPACE = 200  # bytes; longer white space is not taken for an indentation
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>\"']+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(packet: bytes) -> Keywords:
    """Return the keywords in `packet` and phototag's record; `iptc` and `xp` are None.

    Raises `Unwritable` if `update` could not change the packet.
    """
    return Packet(packet).keywords


def update(packet: bytes, wanted: Keywords) -> Edits:
    """Return the edits of `packet` after which `read` returns the lists and the provenance of `wanted`.

    A list that is None in `wanted` is removed as a whole; `wanted.iptc` and `wanted.xp` are ignored. New keywords go to
    the end of an existing container. A missing list gets its own rdf:Description. If the packet's wrapper declares it
    writable, padding makes room for the additions, as far as it suffices.

    Raises `Unwritable` if the packet cannot be changed, or not without changing something else.
    """
    wanted = replace(wanted, iptc=None, xp=None)
    before = Packet(packet)
    if before.keywords == wanted:
        return ()
    _check_text(wanted)
    changes = _edits(before, wanted)
    edits = ordered((*changes, *before.taken_from_padding(growth(changes))))
    xmp_proof.verify(before, edits, wanted)
    return edits


def refilled(packet: bytes, edits: Edits) -> Edits:
    """Return `edits`, which make `packet` shorter, with padding so that the packet keeps its length.

    Raises `Unwritable` if the packet's wrapper has no place for padding.
    """
    end = Packet(packet).padding_end
    if end is None:
        raise Unwritable("its XMP packet has no room for padding")
    return ordered((*edits, Edit(end, b"", b" " * -growth(edits))))


def create(wanted: Keywords, *, sidecar: bool = False) -> bytes:
    """Return a new packet with the lists and the provenance of `wanted`.

    For a photo, it has the wrapper and a little padding. For a `sidecar`, it is an XML file without them.

    Raises `Unwritable` if a keyword holds a character that XML does not allow.
    """
    wanted = replace(wanted, iptc=None, xp=None)
    _check_text(wanted)
    missing = [name for name in LISTS if getattr(wanted, name) is not None]
    description = _description(wanted, missing, "rdf", about="", space="\n  ")
    body = f'<x:xmpmeta xmlns:x="{META}">\n <rdf:RDF xmlns:rdf="{RDF}">{description}\n </rdf:RDF>\n</x:xmpmeta>\n'
    if sidecar:
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    else:
        # `begin` holds a byte order mark, and all packets have the same id (part 1, 7.3.2).
        padding = (" " * 99 + "\n") * 5
        text = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{body}{padding}<?xpacket end="w"?>'
    packet = text.encode()
    if read(packet) != wanted:
        raise Unwritable("its keywords do not survive being written")
    return packet


def is_bare(packet: bytes) -> bool:
    """Return whether `packet` has no properties, so that it may be removed. Raises `Unwritable` as `read` does."""
    return Packet(packet).is_bare()


def is_same_around(one: bytes, other: bytes) -> bool:
    """Return whether two packets differ only in the lists and the provenance. Raises `Unwritable` as `read` does."""
    return xmp_proof.is_same_around(Packet(one), Packet(other))


# --- Editing ----------------------------------------------------------------------------------------------------------


def _edits(packet: Packet, wanted: Keywords) -> list[Edit]:
    edits: list[Edit] = []
    removed: list[Element] = []
    for name, prop in packet.lists.items():
        entries: tuple[str, ...] | None = getattr(wanted, name)
        if entries is None:
            removed.append(prop)
            _check_removable(container_of(prop).children)
        else:
            edits += _list_edits(packet, container_of(prop), entries)
    renoted = packet.keywords.provenance != wanted.provenance
    if renoted:
        removed += [prop for prop in packet.provenance.values() if isinstance(prop, Element)]
    edits += _removals(packet, removed, with_attributes=renoted)
    missing = [name for name in LISTS if name not in packet.lists and getattr(wanted, name) is not None]
    provenance = wanted.provenance if renoted else None
    if missing or provenance is not None:
        edits.append(_new_description(packet, replace(wanted, provenance=provenance), missing))
    return edits


def _list_edits(packet: Packet, container: Element, entries: Sequence[str]) -> Iterator[Edit]:
    """Yield the edits that make `container` hold `entries`. Existing items stay as long as their order fits."""
    kept = 0
    for item in container.children:
        if kept < len(entries) and item_text(item) == entries[kept]:
            kept += 1
        else:
            _check_removable([item])
            yield _removal(packet, item)
    if kept < len(entries):
        tag = container.qualified("li")

        def items(space: str) -> str:
            return "".join(f"{space}<{tag}>{_escaped(entry)}</{tag}>" for entry in entries[kept:])

        yield _appended(packet, container, items)


def _check_removable(items: Iterable[Element]) -> None:
    if any(item.children or item.attributes for item in items):
        raise Unwritable("a keyword that is to go has qualifiers")


def _removal(packet: Packet, element: Element) -> Edit:
    start = element.start - len(packet.space_before(element.start))
    return Edit(start, packet.data[start : element.end], b"")


def _appended(packet: Packet, parent: Element, render: Callable[[str], str]) -> Edit:
    """Insert what `render` returns for an indentation after the last child of `parent`."""
    if parent.children:
        # This place also works if another edit removes that child.
        last = parent.children[-1]
        return Edit(last.end, b"", render(_indentation(packet, last)).encode())
    space = _indentation(packet, parent)
    inner = render(space + " " if space else "").encode()
    if not parent.is_empty_tag:
        return Edit(parent.inner, b"", inner)
    closing = f"{space}</{parent.qualified(parent.name.local)}>".encode()
    return Edit(parent.inner - 2, b"/>", b">" + inner + closing)


def _indentation(packet: Packet, element: Element) -> str:
    """Return the white space before `element` if it begins its own line."""
    space = packet.space_before(element.start)
    return space.decode() if b"\n" in space and len(space) <= _MAX_SPACE else ""


def _removals(packet: Packet, removed: Sequence[Element], *, with_attributes: bool) -> Iterator[Edit]:
    """Remove the properties `removed` and, `with_attributes`, those of phototag's that are attributes.

    An empty rdf:Description is removed too. The first one stays if it has rdf:about, which may apply to all of them.
    """
    gone = {id(element) for element in removed}
    for number, description in enumerate(packet.rdf.children):
        children = [child for child in description.children if id(child) in gone]
        attributes = [name for name in description.attributes if with_attributes and name in PROVENANCE]
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
    packet: Packet, description: Element, children: Sequence[Element], attributes: Sequence[Name]
) -> bool:
    """Return whether `description` is empty, without comments, after removing these children and attributes."""
    rest = b""
    at = description.inner
    for child in children:
        rest += packet.data[at : child.start]
        at = child.end
    rest += packet.data[at : description.inner_end]
    return not rest.strip(SPACE) and {*description.attributes} <= {*ABOUT, *attributes}


def _attribute_removals(packet: Packet, element: Element, names: Iterable[Name]) -> Iterator[Edit]:
    written = {f"{element.attribute_prefixes[name]}:{name.local}".encode() for name in names}
    at = element.start + 1 + len(element.qualified(element.name.local).encode())
    # One after another: a search would be slow if much white space follows the last one.
    while (match := _ATTRIBUTE.match(packet.data, at, element.inner)) is not None:
        if match[1] in written:
            yield Edit(at, match[0], b"")
        at = match.end()


def _new_description(packet: Packet, wanted: Keywords, missing: Sequence[str]) -> Edit:
    # All rdf:Descriptions of a packet are about the same resource (part 1, 7.4). XMP Toolkit fails if they differ.
    about = next(filter(None, map(_about, packet.rdf.children)), "")
    # An attribute without a prefix has no namespace. So if rdf:RDF has no prefix, the new element declares one.
    prefix = packet.rdf.prefix
    declared = prefix and prefix not in PREFIXES.values()
    return _appended(
        packet,
        packet.rdf,
        lambda space: _description(
            wanted, missing, prefix if declared else "rdf", about=about, space=space, declare_rdf=not declared
        ),
    )


def _about(description: Element) -> str:
    return next((description.attributes[name] for name in ABOUT if name in description.attributes), "")


# --- Writing ----------------------------------------------------------------------------------------------------------


def _description(
    wanted: Keywords, lists: Sequence[str], rdf: str, *, about: str, space: str, declare_rdf: bool = False
) -> str:
    """Return an rdf:Description with these `lists` of `wanted` and its provenance. Each line begins with `space`."""
    lines: list[tuple[int, str]] = []
    used = [LISTS[name][0].namespace for name in lists]
    for name in lists:
        prop, container = LISTS[name]
        lines += _list_lines(shown(prop), f"{rdf}:{container}", rdf, getattr(wanted, name))
    if wanted.provenance is not None:
        used.append(NAMESPACE)
        lines += _provenance_lines(wanted.provenance, rdf)
    declarations = [f'xmlns:{PREFIXES[namespace]}="{namespace}"' for namespace in used]
    if declare_rdf:
        declarations.insert(0, f'xmlns:{rdf}="{RDF}"')
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
    """Return `text` escaped for elements and double-quoted attributes. White space survives being read."""
    for character, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, reference)
    return re.sub("[\t\r\n]", lambda match: f"&#{ord(match[0])};", text)


def _check_text(wanted: Keywords) -> None:
    texts = [entry for name in LISTS for entry in getattr(wanted, name) or ()]
    if wanted.provenance is not None:
        noted = wanted.provenance
        texts += [*(name for name, _ in noted.tags), *noted.created]
        texts += [noted.model, noted.version, noted.date, noted.recipe]
    if any(map(_NOT_XML.search, texts)):
        raise Unwritable("a keyword holds a character that XML has not")
