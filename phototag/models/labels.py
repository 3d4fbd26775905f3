"""Label files as the world has them: which name belongs to which class of a model. Pure: text in, labels out."""

from __future__ import annotations

import ast
import csv
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from phototag.core import Label
from phototag.errors import LabelMismatch
from phototag.vocabulary.taxonomy import is_synset

# `12: name`, also as a Python dictionary over many lines, `{0: 'tench, Tinca tinca',`.
_NUMBERED = re.compile(r"\{?\s*(\d{1,9})\s*:(.*)")
# `12  name` is that only where every line is and they count up from 0; a label may well begin with a number.
_COUNTED = re.compile(r"(\d{1,9})\s(.*)")
# Headings of the column with the name, the best first, in CSV files.
_NAME_HEADINGS = ("display_name", "name", "label", "class_name", "class", "category", "description")
_INDEX_HEADINGS = ("index", "idx", "id", "class_id", "class_index", "number")


def parse_labels(text: str, source: str) -> tuple[Label, ...]:
    """Return the labels in `text` in class order.

    Read are, told apart by the content and by the suffix of `source`:

    - one name a line; `n01440764 tench` gives the WordNet synset too; of `tench, Tinca tinca` the first counts
    - `0: tench` lines, in any order, and `0  tench` in order
    - CSV (`.csv`, `.tsv`): the column called `name`, `label` or the like, or without a heading the first of text
    - JSON: a list of names; `{"0": "tench"}`, `{"tench": 0}`, or `{"0": ["n01440764", "tench"]}` as Keras has it

    A byte order mark, either kind of line break and blank lines at the end do not matter.

    Raises `LabelMismatch` naming `source`, and the line or class, where it is none of these or a class has no label.
    """
    text = text.removeprefix("\ufeff").rstrip()
    if not text:
        raise LabelMismatch(f"{source} is empty; it must name every class")
    if text[0] in "[{" and (parsed := _json(text)) is not None:
        return _checked(_from_json(parsed, source), source)
    if source.lower().endswith(".json"):
        raise LabelMismatch(f"{source} is not JSON; correct it, or give it the suffix .txt if it is not JSON")
    if source.lower().endswith((".csv", ".tsv")):
        return _checked(_from_rows(_rows(text, source), source), source)
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if not line:
            raise LabelMismatch(f"{source}, line {number}: there is no label; every class needs one")
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    counted = [_COUNTED.fullmatch(line) for line in lines]
    if all(match is not None and int(match[1]) == n for n, match in enumerate(counted)):
        numbered = counted
    if all(numbered):
        pairs = [(int(match[1]), _dictionary_value(match[2])) for match in numbered if match is not None]
        return _checked([_label(name) for name in _in_order(pairs, source)], source)
    return _checked([_label(line) for line in lines], source)


def format_labels(labels: Iterable[Label]) -> str:
    """Return `labels` as the JSON of a label file, from which `parse_labels` reads the same again."""
    items = [[label.synset, label.name] if label.synset else label.name for label in labels]
    return json.dumps(items, ensure_ascii=False, indent=0) + "\n"


def _rows(text: str, source: str) -> list[list[str]]:
    try:
        lines = text.splitlines()
        semicolons = ";" in lines[0] and "," not in lines[0]  # as spreadsheets of half of Europe write them
        delimiter = "\t" if source.lower().endswith(".tsv") else ";" if semicolons else ","
        return list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise LabelMismatch(f"{source} is not a table ({error}); correct it") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a Python dictionary, say, which is read line by line
        return None


def _from_json(value: Any, source: str) -> list[Label]:
    if isinstance(value, list):
        return [_from_json_item(item, source) for item in value]
    if isinstance(value, dict) and value:
        if all(_is_number(key) for key in value):
            items = _in_order([(int(key), item) for key, item in value.items()], source)
            return [_from_json_item(item, source, underscores=True) for item in items]
        if all(isinstance(item, int) and not isinstance(item, bool) for item in value.values()):
            return [_label(name) for name in _in_order([(item, name) for name, item in value.items()], source)]
    raise LabelMismatch(f"{source} must be a list of names, or a map between class numbers and names")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _from_json_item(item: Any, source: str, *, underscores: bool = False) -> Label:
    if isinstance(item, str):
        return _label(item)
    if isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item) and is_synset(item[0]):
        return Label(_first_synonym(item[1].replace("_", " ") if underscores else item[1]), item[0])
    raise LabelMismatch(f"{source}: a class must be a name, or a synset id and a name, not {json.dumps(item)[:80]}")


def _from_rows(rows: Sequence[Sequence[str]], source: str) -> list[Label]:
    """Labels from the cells of a table: the columns of index, synset and name are found by heading or content."""
    cells = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    width = len(cells[0])
    for number, row in enumerate(cells, 1):
        if len(row) != width:
            raise LabelMismatch(f"{source}, row {number}: it has {len(row)} columns, and the first row has {width}")
    heading = [cell.casefold() for cell in cells[0]]
    body = cells[1:] if set(heading) & {*_NAME_HEADINGS, *_INDEX_HEADINGS} else cells
    if not body:
        raise LabelMismatch(f"{source} has a heading and no labels; it must name every class")
    columns = list(zip(*body, strict=True))
    index = next((n for n, column in enumerate(columns) if all(map(_is_number, column))), None)
    synset = next((n for n, column in enumerate(columns) if all(map(is_synset, column))), None)
    named = [heading.index(word) for word in _NAME_HEADINGS if body is not cells and word in heading]
    others = [n for n in range(width) if n not in (index, synset)]
    name = next((n for n in (*named, *others) if n not in (index, synset)), synset)
    if name is None:
        raise LabelMismatch(f"{source} has no column of names; it must name every class")
    labels = [
        Label(_first_synonym(row[name]), row[synset]) if synset is not None else _label(row[name]) for row in body
    ]
    if index is None:
        return labels
    return _in_order([(int(row[index]), label) for row, label in zip(body, labels, strict=True)], source)


def _in_order(pairs: Iterable[tuple[int, Any]], source: str) -> list[Any]:
    """The second parts in the order of the first, which must count from 0, or from 1, without a gap."""
    ordered = sorted(pairs, key=lambda pair: pair[0])
    start = 1 if ordered[0][0] == 1 else 0
    for expected, (number, _) in enumerate(ordered, start):
        if number != expected:
            fault = f"class {number} is named twice" if number < expected else f"class {expected} has no label"
            raise LabelMismatch(f"{source}: {fault}")
    return [value for _, value in ordered]


def _label(text: str) -> Label:
    first, _, rest = text.replace("\t", " ").partition(" ")
    if is_synset(first):
        return Label(_first_synonym(rest) or first, first)
    return Label(_first_synonym(text))


def _first_synonym(text: str) -> str:
    # Spaces of every kind are one space.
    return " ".join(text.partition(",")[0].split())


def _dictionary_value(text: str) -> str:
    """What comes behind the colon, without what belongs to a dictionary around it."""
    text = text.strip().removesuffix("}").rstrip().removesuffix(",").rstrip()
    if text[:1] in ("'", '"') and text[-1:] == text[:1]:
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return text[1:-1]
    return text


# Control characters, surrogates, separators of lines; not the joiners that Persian and others need inside words.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_BIDI_OVERRIDES = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _checked(labels: list[Label], source: str) -> tuple[Label, ...]:
    for number, label in enumerate(labels):
        if not label.name:
            raise LabelMismatch(f"{source}: class {number} has no label; every class needs one")
        if any(unicodedata.category(c) in _UNPRINTABLE or c in _BIDI_OVERRIDES for c in label.name):
            raise LabelMismatch(f"{source}: the label of class {number}, {label.name!r}, holds unprintable characters")
    return tuple(labels)
