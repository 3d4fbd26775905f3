"""Label files in all common formats: which name belongs to which class of a model. Pure: text in, labels out."""

from __future__ import annotations

import ast
import csv
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

from phototag.core import Label
from phototag.errors import LabelMismatch
from phototag.vocabulary.taxonomy import is_synset

# `12: name`, also as a Python dictionary over many lines, `{0: 'tench, Tinca tinca',`.
_NUMBERED = re.compile(r"\{?\s*(\d{1,9})\s*:(.*)")
# `12  name` counts only if every line has a number and they count up from 0. A label may begin with a number.
_COUNTED = re.compile(r"(\d{1,9})\s(.*)")
# Headings of the column with the name in CSV files, the best first.
_NAME_HEADINGS = ("display_name", "name", "label", "class_name", "class", "category", "description")
_INDEX_HEADINGS = ("index", "idx", "id", "class_id", "class_index", "number")
_THRESHOLD = "threshold"  # heading of a column, and key of a JSON object

# A class: its label and its own threshold, or None.
_Class: TypeAlias = tuple[Label, "float | None"]


@dataclass(frozen=True)
class LabelFile:
    """The content of a label file: the label of each class, in class order.

    `thresholds`: each label's own threshold, above 0 and at most 1, or None; empty if the file has none.
    """

    labels: tuple[Label, ...]
    thresholds: tuple[float | None, ...] = ()

    def without_first(self) -> LabelFile:
        """Return the content without the first class."""
        return LabelFile(self.labels[1:], self.thresholds[1:])


def parse_labels(text: str, source: str) -> tuple[Label, ...]:
    """Return the labels in `text` in class order. Formats and errors are as in `parse_label_file`."""
    return parse_label_file(text, source).labels


def parse_label_file(text: str, source: str) -> LabelFile:
    """Return the labels and thresholds in `text`.

    The content and the suffix of `source` tell the formats apart:

    - one name a line; `n01440764 tench` gives the WordNet synset too; of `tench, Tinca tinca` the first counts
    - `0: tench` lines, in any order, and `0  tench` in order
    - CSV (`.csv`, `.tsv`): the column called `name`, `label` or the like, or without a heading the first of text; a
      column called `threshold` gives each label its own
    - JSON: a list of names; `{"0": "tench"}`, `{"tench": 0}`, or `{"0": ["n01440764", "tench"]}` as Keras has it; in
      place of a name also `{"name": "tench", "synset": "n01440764", "threshold": 0.4}`, which needs only the name

    A byte order mark, either kind of line break and blank lines at the end do not matter.

    Raises `LabelMismatch` naming `source`, and the line or class. The reason is an unknown format, a class without a
    label, or a threshold that is not above 0 and at most 1.
    """
    table, text = text, text.removeprefix("\ufeff").rstrip()
    if not text:
        raise LabelMismatch(f"{source} is empty; it must name every class")
    if text[0] in "[{" and (parsed := _json(text)) is not None:
        return _checked(_from_json(parsed, source), source)
    if source.lower().endswith(".json"):
        raise LabelMismatch(f"{source} is not JSON; correct it, or give it the suffix .txt if it is not JSON")
    if source.lower().endswith((".csv", ".tsv")):
        # Not stripped: the last cell of a TSV file may be empty.
        return _checked(_from_rows(_rows(table.removeprefix("\ufeff").lstrip(), source), source), source)
    return _checked(_from_lines([line.strip() for line in text.splitlines()], source), source)


def format_labels(labels: Iterable[Label], thresholds: Iterable[float | None] = ()) -> str:
    """Return labels and thresholds as the JSON of a label file, from which `parse_label_file` reads the same again."""
    items = [_json_item(label, threshold) for label, threshold in zip_longest(labels, thresholds)]
    return json.dumps(items, ensure_ascii=False, indent=0) + "\n"


def _json_item(label: Label, threshold: float | None) -> Any:
    if threshold is not None:
        synset = {"synset": label.synset} if label.synset else {}
        return {"name": label.name, **synset, _THRESHOLD: threshold}
    return [label.synset, label.name] if label.synset else label.name


def _from_lines(lines: Sequence[str], source: str) -> list[_Class]:
    for number, line in enumerate(lines, 1):
        if not line:
            raise LabelMismatch(f"{source}, line {number}: there is no label; every class needs one")
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    counted = [_COUNTED.fullmatch(line) for line in lines]
    if all(match is not None and int(match[1]) == n for n, match in enumerate(counted)):
        numbered = counted
    names: Sequence[str] = lines
    if all(numbered):
        pairs = [(int(match[1]), _dictionary_value(match[2])) for match in numbered if match is not None]
        names = _in_order(pairs, source)
    return [(_label(name), None) for name in names]


def _rows(text: str, source: str) -> list[list[str]]:
    try:
        lines = text.splitlines()
        semicolons = ";" in lines[0] and "," not in lines[0]  # as spreadsheets write them in many languages
        delimiter = "\t" if source.lower().endswith(".tsv") else ";" if semicolons else ","
        return list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise LabelMismatch(f"{source} is not a table ({error}); correct it") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # perhaps a Python dictionary, which is read line by line
        return None


def _from_json(value: Any, source: str) -> list[_Class]:
    if isinstance(value, list):
        return [_from_json_item(item, source) for item in value]
    if isinstance(value, dict) and value:
        if all(_is_number(key) for key in value):
            items = _in_order([(int(key), item) for key, item in value.items()], source)
            return [_from_json_item(item, source, underscores=True) for item in items]
        if all(isinstance(item, int) and not isinstance(item, bool) for item in value.values()):
            return [(_label(name), None) for name in _in_order([(item, name) for name, item in value.items()], source)]
    raise LabelMismatch(f"{source} must be a list of names, or a map between class numbers and names")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _from_json_item(item: Any, source: str, *, underscores: bool = False) -> _Class:
    if isinstance(item, str):
        return _label(item), None
    if isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item) and is_synset(item[0]):
        return Label(_first_synonym(item[1].replace("_", " ") if underscores else item[1]), item[0]), None
    if isinstance(item, dict):
        return _from_json_object(item, source)
    raise LabelMismatch(f"{source}: a class must be a name, or a synset id and a name, not {json.dumps(item)[:80]}")


def _from_json_object(item: dict[str, Any], source: str) -> _Class:
    name, synset, threshold = item.get("name"), item.get("synset"), item.get(_THRESHOLD)
    is_known = item.keys() <= {"name", "synset", _THRESHOLD} and isinstance(name, str)
    if not is_known or not (synset is None or (isinstance(synset, str) and is_synset(synset))):
        what = f"{source}: a class must be an object with a name, and perhaps a synset and a threshold"
        raise LabelMismatch(f"{what}, not {json.dumps(item)[:80]}")
    if threshold is None:
        return Label(_first_synonym(str(name)), synset), None
    value = threshold if isinstance(threshold, int | float) and not isinstance(threshold, bool) else math.nan
    return Label(_first_synonym(str(name)), synset), _checked_threshold(value, threshold, f"{source}, {name!r}")


def _checked_threshold(value: float, given: object, where: str) -> float:
    if not 0 < value <= 1:
        raise LabelMismatch(f"{where}: a threshold must be above 0 and at most 1, not {str(given)[:80]!r}")
    return float(value)


def _number(text: str) -> float | None:
    """Return the number in a cell, with a point or a comma; NaN for other text, and None for an empty cell."""
    try:
        return float(text.replace(",", ".")) if text else None
    except ValueError:
        return math.nan


def _from_rows(rows: Sequence[Sequence[str]], source: str) -> list[_Class]:
    """Return the classes in the cells of a table, whose columns are found by heading or content."""
    cells = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    width = len(cells[0])
    for number, row in enumerate(cells, 1):
        if len(row) != width:
            raise LabelMismatch(f"{source}, row {number}: it has {len(row)} columns, and the first row has {width}")
    thresholds = _thresholds(cells, source)
    heading = [cell.casefold() for cell in cells[0]]
    body = cells[1:] if thresholds or _is_heading(heading) else cells
    if not body:
        raise LabelMismatch(f"{source} has a heading and no labels; it must name every class")
    columns = {n: column for n, column in enumerate(zip(*body, strict=True)) if not thresholds or n != thresholds[0]}
    index = next((n for n, column in columns.items() if all(map(_is_number, column))), None)
    synset = next((n for n, column in columns.items() if all(map(is_synset, column))), None)
    named = [heading.index(word) for word in _NAME_HEADINGS if body is not cells and word in heading]
    name = next((n for n in (*named, *columns) if n not in (index, synset)), synset)
    if name is None:
        raise LabelMismatch(f"{source} has no column of names; it must name every class")
    labels = [
        Label(_first_synonym(row[name]), row[synset]) if synset is not None else _label(row[name]) for row in body
    ]
    classes = list(zip(labels, thresholds[1] if thresholds else [None] * len(labels), strict=True))
    if index is None:
        return classes
    return _in_order([(int(row[index]), one) for row, one in zip(body, classes, strict=True)], source)


def _is_heading(row: Sequence[str]) -> bool:
    return not {*_NAME_HEADINGS, *_INDEX_HEADINGS}.isdisjoint(row)


def _thresholds(cells: Sequence[Sequence[str]], source: str) -> tuple[int, list[float | None]] | None:
    """Return the column with the thresholds of the labels, and what it holds; None if the table has no such column.

    A table without a heading may begin with the word threshold, as a synonym of doorsill.
    """
    heading = [cell.casefold() for cell in cells[0]]
    if _THRESHOLD not in heading or len(heading) < 2:
        return None
    column = heading.index(_THRESHOLD)
    numbers = [_number(row[column]) for row in cells[1:]]
    if not _is_heading(heading) and any(number is not None and math.isnan(number) for number in numbers):
        return None
    values = [
        None if number is None else _checked_threshold(number, cells[at][column], f"{source}, row {at + 1}")
        for at, number in enumerate(numbers, 1)
    ]
    return column, values


def _in_order(pairs: Iterable[tuple[int, Any]], source: str) -> list[Any]:
    """Return the second parts in the order of the first, which must count from 0 or 1 without a gap."""
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
    # Every kind of space becomes one space.
    return " ".join(text.partition(",")[0].split())


def _dictionary_value(text: str) -> str:
    """Return the text after the colon, without the punctuation of a dictionary around it."""
    text = text.strip().removesuffix("}").rstrip().removesuffix(",").rstrip()
    if text[:1] in ("'", '"') and text[-1:] == text[:1]:
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return text[1:-1]
    return text


# Control characters, surrogates and line separators, but not the joiners inside Persian and other words.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_BIDI_OVERRIDES = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _checked(classes: list[_Class], source: str) -> LabelFile:
    for number, (label, _) in enumerate(classes):
        if not label.name:
            raise LabelMismatch(f"{source}: class {number} has no label; every class needs one")
        if any(unicodedata.category(c) in _UNPRINTABLE or c in _BIDI_OVERRIDES for c in label.name):
            raise LabelMismatch(f"{source}: the label of class {number}, {label.name!r}, holds unprintable characters")
    labels, thresholds = tuple(label for label, _ in classes), tuple(threshold for _, threshold in classes)
    return LabelFile(labels, () if all(threshold is None for threshold in thresholds) else thresholds)
