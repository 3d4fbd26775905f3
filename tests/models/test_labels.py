import json

import pytest

from phototag.core import Label
from phototag.errors import LabelMismatch
from phototag.models.labels import LabelFile, format_labels, parse_label_file, parse_labels

PLAIN = (Label("tench"), Label("goldfish"), Label("great white shark"))
SYNSETS = (Label("tench", "n01440764"), Label("goldfish", "n01443537"), Label("great white shark", "n01484850"))

FILES = {
    "plain": ("labels.txt", "tench\ngoldfish\ngreat white shark\n", PLAIN),
    "BOM, CRLF and blank lines": ("labels.txt", "\ufefftench\r\ngoldfish\r\ngreat white shark\r\n\r\n \r\n", PLAIN),
    "synonyms": ("l.txt", "tench, Tinca tinca\ngoldfish, Carassius auratus\ngreat white shark, white shark\n", PLAIN),
    "numbered": ("l.txt", "0: tench\n1: goldfish\n2: great white shark", PLAIN),
    "numbered, in any order": ("l.txt", "2: great white shark\n0: tench\n1: goldfish", PLAIN),
    "numbered from 1": ("l.txt", "1:tench\n2:goldfish\n3:great white shark", PLAIN),
    "a Python dictionary": (
        "l.txt",
        "{0: 'tench, Tinca tinca',\n 1: 'goldfish, Carassius auratus',\n 2: \"great white shark, 'man-eater'\"}",
        PLAIN,
    ),
    "counted": ("l.txt", "0  tench, Tinca tinca\n1  goldfish\n2  great white shark\n", PLAIN),
    "CSV with semicolons": ("l.csv", "index;label\n0;tench\n1;goldfish\n2;great white shark\n", PLAIN),
    "CSV of synonyms": ("l.csv", "tench,Tinca\ngoldfish,Carassius\ngreat white shark,Carcharodon\n", PLAIN),
    "synsets": ("l.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850\tgreat white shark", SYNSETS),
    "CSV without a heading": ("l.csv", "0,tench\n1,goldfish\n2,great white shark\n", PLAIN),
    "CSV of names": ("l.csv", 'tench\ngoldfish\n"great white shark, white shark"\n', PLAIN),
    "CSV with a heading": (
        "l.CSV",
        "index,mid,display_name\n1,/m/b,goldfish\n0,/m/a,tench\n2,/m/c,great white shark\n",
        PLAIN,
    ),
    "CSV with synsets": (
        "l.csv",
        "class_id,name,wnid\n0,tench,n01440764\n1,goldfish,n01443537\n2,great white shark,n01484850\n",
        SYNSETS,
    ),
    "TSV": (
        "l.tsv",
        "index\twnid\tname\n0\tn01440764\ttench\n1\tn01443537\tgoldfish\n2\tn01484850\tgreat white shark",
        SYNSETS,
    ),
    "a JSON list": ("l.json", '["tench", "goldfish", "great white shark"]', PLAIN),
    "a JSON map": ("l.json", '{"1": "goldfish", "0": "tench", "2": "great white shark"}', PLAIN),
    "a JSON map of names": ("l.json", '{"goldfish": 1, "tench": 0, "great white shark": 2}', PLAIN),
    "Keras's class index": (
        "imagenet_class_index.json",
        json.dumps(
            {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"], "2": ["n01484850", "great_white_shark"]}
        ),
        SYNSETS,
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_label_files_as_the_world_has_them(kind: str) -> None:
    source, text, expected = FILES[kind]
    assert parse_labels(text, source) == expected


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("l.txt", "", "l.txt is empty"),
        ("l.txt", "\ufeff\n\n", "l.txt is empty"),
        ("l.txt", "a\n\nb\n", "l.txt, line 2: there is no label"),
        ("l.txt", "a\n, b\n", "class 1 has no label"),
        ("l.txt", "a\nb\x1b[31m\n", "unprintable"),
        ("l.txt", "0: a\n2: b\n", "class 1 has no label"),
        ("l.txt", "0: a\n1: b\n1: c\n", "class 1 is named twice"),
        ("l.json", "{}", "must be a list of names"),
        ("l.json", "[]", "l.json is empty"),
        ("l.csv", ",,\n", "l.csv is empty"),
        ("l.csv", '""', "l.csv is empty"),
        ("l.json", '{"a": "b"}', "must be a list of names"),
        ("l.json", "[1, 2]", "a class must be a name"),
        ("l.json", '[["tench", "n01440764"]]', "a class must be a name"),
        ("l.csv", "index,name\n", "has a heading and no labels"),
        ("l.csv", "0,a\n1,b,c\n", "row 2: it has 3 columns"),
        ("l.csv", "0\n1\n", "no column of names"),
        ("l.csv", "0,a\n5,b\n", "class 1 has no label"),
        ("l.csv", "a" * 200_000, "is not a table"),
        ("l.json", '["ant",\n"bee",\n]', "is not JSON"),
        ("l.txt", "ab\u202ec\n", "unprintable"),
    ],
)
def test_what_is_no_label_file_says_where(source: str, text: str, message: str) -> None:
    with pytest.raises(LabelMismatch) as caught:
        parse_labels(text, source)
    assert message in str(caught.value)


def test_a_deep_json_file_is_no_crash() -> None:
    assert parse_labels("[" * 100_000, "l.txt") == (Label("[" * 100_000),)


def test_numbers_of_thousands_of_digits_are_names() -> None:
    assert len(parse_labels("9" * 5000 + ": a\n", "l.txt")) == 1
    assert parse_labels(json.dumps(["9" * 5000]), "l.json")[0].name == "9" * 5000


def test_long_lines_take_no_time() -> None:
    """Three thousand spaces took minutes when a pattern had to try every way to share them out."""
    assert parse_labels("0: a" + " " * 30_000 + "b\n", "l.txt") == (Label("a b"),)


def test_letters_of_all_scripts_are_printable() -> None:
    assert parse_labels("a\xa0b\n\u0645\u06cc\u200c\u062e\n", "l.txt") == (
        Label("a b"),
        Label("\u0645\u06cc\u200c\u062e"),
    )


@pytest.mark.parametrize("kind", FILES)
def test_formatted_labels_read_the_same(kind: str) -> None:
    _, _, labels = FILES[kind]
    odd = (*labels, Label("1: x"), Label("a_b", "n01440764"), Label('it\'s "quoted"'))
    assert parse_labels(format_labels(odd), "labels.json") == odd


def test_a_quote_inside_a_name_of_a_dictionary_stays() -> None:
    text = "{0: 'cat o'nine tails',\n 1: 'goldfish'}"
    assert parse_labels(text, "l.txt") == (Label("cat o'nine tails"), Label("goldfish"))


RED, GREEN = Label("red"), Label("green")
THRESHOLDS = {
    "CSV": ("l.csv", "name,threshold\nred,0.4\ngreen,\n"),
    "CSV, in any order": ("l.csv", "threshold,index,label\n,1,green\n.4,0,red\n"),
    "CSV without a heading for the name": ("l.csv", "colour;Threshold\nred;0,4\ngreen;\n"),
    "TSV": ("l.tsv", "name\tthreshold\nred\t4e-1\ngreen\t\n"),
    "JSON": ("l.json", '[{"name": "red", "threshold": 0.4}, "green"]'),
    "JSON, an object without one": ("l.json", '[{"name": "red", "threshold": 0.4}, {"name": "green"}]'),
    "a JSON map": ("l.json", '{"1": "green", "0": {"name": "red", "synset": null, "threshold": 0.4}}'),
}


@pytest.mark.parametrize("kind", THRESHOLDS)
def test_labels_may_have_thresholds_of_their_own(kind: str) -> None:
    source, text = THRESHOLDS[kind]
    assert parse_label_file(text, source) == LabelFile((RED, GREEN), (0.4, None))


def test_the_heading_of_the_first_column_may_be_empty() -> None:
    table = "\n\tname\tthreshold\n1\tgreen\t\n0\tred\t0.4\n"
    assert parse_label_file(table, "l.tsv") == LabelFile((RED, GREEN), (0.4, None))


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_a_quoted_label_may_go_over_two_lines(line_break: str) -> None:
    lines = ('"name","threshold"', '"sports', 'car, racer","0.4"', 'a "red" one,', "")
    labels = (Label("sports car"), Label('a "red" one'))
    assert parse_label_file(line_break.join(lines), "l.csv") == LabelFile(labels, (0.4, None))


def test_a_column_of_ones_is_not_the_index() -> None:
    assert parse_label_file("threshold,name\n1,red\n1,green\n", "l.csv") == LabelFile((RED, GREEN), (1.0, 1.0))


def test_a_label_may_be_called_threshold() -> None:
    labels = (Label("doorsill"), Label("red"))
    assert parse_label_file("doorsill,threshold\nred,vermilion\n", "l.csv") == LabelFile(labels)
    assert parse_label_file("threshold\nred\n", "l.csv") == LabelFile((Label("threshold"), RED))


@pytest.mark.parametrize("value", ["0", "-0.1", "1.01", "nan", "inf", "often"])
def test_a_threshold_is_above_0_and_at_most_1(value: str) -> None:
    with pytest.raises(LabelMismatch, match=r"l\.csv, row 3: a threshold must be above 0 and at most 1"):
        parse_label_file(f"name,threshold\nred,0.5\ngreen,{value}\n", "l.csv")


@pytest.mark.parametrize("value", ["0", "true", '"0.5"', "NaN", "1e400", "1" + "0" * 400, "[]"])
def test_a_threshold_in_json_is_a_number_above_0_and_at_most_1(value: str) -> None:
    with pytest.raises(LabelMismatch, match=r"l\.json, 'red': a threshold must be above 0 and at most 1"):
        parse_label_file(f'[{{"name": "red", "threshold": {value}}}]', "l.json")


@pytest.mark.parametrize(
    "item", ["{}", '{"name": 3}', '{"name": "red", "synset": "n1"}', '{"name": "red", "limit": 1}']
)
def test_an_object_of_a_label_file_has_a_name(item: str) -> None:
    with pytest.raises(LabelMismatch, match="a class must be an object with a name"):
        parse_label_file(f"[{item}]", "l.json")


def test_formatted_thresholds_read_the_same() -> None:
    file = LabelFile((RED, Label("tench", "n01440764"), GREEN), (0.4, 1.0, None))
    assert parse_label_file(format_labels(file.labels, file.thresholds), "labels.json") == file
    assert file.without_first() == LabelFile(file.labels[1:], (1.0, None))
