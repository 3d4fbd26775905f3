"""`phototag show`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from phototag.cli.exit_codes import EXIT_PHOTOS_FAILED
from phototag.cli.messages import error_message, rounded_box
from phototag.cli.tag_options import TAG_SETTINGS, tag_options, take_tag_settings
from phototag.cli.terminal import Console, print_event, printable, verbose_option
from phototag.core import BOXES
from phototag.errors import ConfigError, PhotoError, no_photo

if TYPE_CHECKING:
    from phototag.core import Box
    from phototag.vocabulary.choose import Explanation


@click.command()
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--explain", is_flag=True, help="Look at the photos now, and say why each word is a tag or not.")
@click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or one JSON object a line.",
)
@tag_options
@verbose_option()
@click.pass_context
def show(ctx: click.Context, /, **options: Any) -> None:
    """Show the keywords of photos, and which of them are phototag's.

    With --explain, the options that decide about tags are as in scan; without it, they are refused.
    """
    settings = take_tag_settings(options)
    if not options["explain"]:
        _refuse_tag_options(ctx)
    console = Console(quiet=False)
    failed = False
    as_json: bool = options["format"] == "json"
    for lines in _explained(settings, options["photos"], as_json) if options["explain"] else _shown(options, as_json):
        if isinstance(lines, PhotoError):
            failed = True
            console.failure(f"phototag: {printable(error_message(lines))}")
        else:
            for line in lines:
                console.result(line)
    ctx.exit(EXIT_PHOTOS_FAILED if failed else 0)


def _refuse_tag_options(ctx: click.Context) -> None:
    """Raise `ConfigError` for an option about tags. It would have no effect, because the scan chose the tags."""
    for name in TAG_SETTINGS:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(param.opts[0] for param in ctx.command.params if param.name == name)
            raise ConfigError(f"{option} only counts with --explain; add that, or leave it out")


@dataclass(frozen=True)
class _Shown:
    """A keyword, its author, phototag's confidence in it, and the fields of the file that hold it."""

    name: str
    by: str
    confidence: float | None
    fields: tuple[str, ...]
    file: str


def _shown(options: dict[str, Any], as_json: bool) -> Iterator[list[str] | PhotoError]:
    """Yield the keywords of each photo as a list of lines, or the error of a photo that cannot be read."""
    for path in options["photos"]:
        try:
            keywords = [*_embedded(path), *_in_json(path)]
            removed = _removed(path)
        except PhotoError as error:
            yield error
            continue
        if as_json:
            said = {
                "path": str(path),
                "keywords": [asdict(one) for one in keywords],
                "removed": removed,
                "facts": _facts(path),
            }
            yield [json.dumps(said)]
        else:
            lines = [_shown_line(path, one) for one in keywords] or ["  no keywords"]
            lines += [f"  {printable(name):<28} removed by a person, not written again" for name in removed]
            lines += _fact_lines(_facts(path))
            yield [printable(str(path)), *lines]


def _shown_line(path: Path, one: _Shown) -> str:
    who = one.by if one.confidence is None else f"{one.by} {one.confidence:.2f}"
    where = ", ".join(one.fields) + (f" in {Path(one.file).name}" if Path(one.file) != path else "")
    return f"  {printable(one.name):<28} {printable(who):<16} {printable(where)}"


def _embedded(path: Path) -> Iterator[_Shown]:
    from phototag.metadata.found import read_keywords
    from phototag.metadata.keywords import FIELDS, LISTS, confidence_of

    for file, found in read_keywords(path):
        # One line for a keyword. Two if phototag wrote it into one list, and the user into another.
        fields: dict[tuple[str, float | None], list[str]] = {}
        for name in LISTS:
            for keyword in getattr(found, name) or ():
                confidence = confidence_of(found.provenance, name, keyword)
                fields.setdefault((keyword, confidence), []).append(FIELDS[name])
        for (keyword, confidence), where in fields.items():
            who = "phototag" if confidence is not None else "a person"
            yield _Shown(keyword, who, confidence, tuple(where), str(file))


def _in_json(path: Path) -> Iterator[_Shown]:
    from phototag.metadata.json_sidecar import read_tags, sidecar_path

    for name, confidence in read_tags(path):
        yield _Shown(name, "phototag", confidence, ("tags",), str(sidecar_path(path)))


def _removed(path: Path) -> list[str]:
    """Return the names that phototag wrote and the user removed, without duplicates."""
    from phototag.metadata.found import read_keywords
    from phototag.metadata.json_sidecar import read_rejected
    from phototag.metadata.keywords import rejected_names

    noted = [name for _, found in read_keywords(path) for name in rejected_names(found)]
    return list(dict.fromkeys((*noted, *read_rejected(path))))


def _facts(path: Path) -> dict[str, Any]:
    """Return the time, place and camera in the EXIF block of a photo, as values of JSON."""
    from phototag.metadata.facts import Facts, read_facts

    facts = read_facts(path) or Facts()
    taken = facts.taken.replace(tzinfo=facts.zone).isoformat() if facts.taken is not None else None
    place = [round(one, 6) if one is not None else None for one in (facts.latitude, facts.longitude)]
    return {
        "taken": taken[:19] if taken is not None else None,
        "zone": taken[19:] or None if taken is not None else None,
        "latitude": place[0],
        "longitude": place[1],
        "camera": facts.camera,
        "lens": facts.lens,
    }


def _fact_lines(facts: dict[str, Any]) -> Iterator[str]:
    if facts["taken"] is not None:
        yield f"  taken {facts['taken'].replace('T', ' ')}" + (f" {facts['zone']}" if facts["zone"] else "")
    if facts["latitude"] is not None:
        yield f"  place {facts['latitude']:.4f}, {facts['longitude']:.4f}"
    for name in ("camera", "lens"):
        if facts[name] is not None:
            yield f"  {name} {printable(facts[name])}"


def _explained(settings: dict[str, Any], photos: Iterable[Path], as_json: bool) -> Iterator[list[str] | PhotoError]:
    """Yield a list of lines for each photo: why each word of the tree is a tag or not."""
    from phototag.run.session import Session
    from phototag.run.settings import Settings

    # One job, because the photos come one after the other: so TensorFlow uses all cores for each.
    with Session(Settings(**settings, jobs=1), print_event) as session:
        session.check_explainable()  # a wrong model or setting is known before any photo
        for path in photos:
            try:
                if not path.is_file():  # a pipe would never end
                    raise no_photo(path)
                results = session.look(path)
            except PhotoError as error:
                yield error
                continue
            explanations, boxes = session.chooser.explain(results), results.get(BOXES)
            if as_json:
                yield [_json(path, explanations, boxes)]
            else:
                yield [printable(str(path)), *_explanation_lines(explanations), *_box_lines(boxes)]


def _json(path: Path, explanations: Iterable[Explanation], boxes: Iterable[Box] | None) -> str:
    found = {"boxes": [rounded_box(box) for box in boxes]} if boxes is not None else {}
    return json.dumps({"path": str(path), "words": [_plain(one) for one in explanations], **found})


def _plain(one: Explanation) -> dict[str, Any]:
    evidence = [{"source": e.source, "probability": e.probability, "needed": e.needed} for e in one.evidence]
    return {**asdict(one), "evidence": evidence}


def _box_lines(boxes: Sequence[Box] | None) -> Iterator[str]:
    """Yield the objects that the detector found, with their places as percentages of the photo's width and height."""
    if boxes is None:
        return
    yield "  objects" if boxes else "  no objects"
    for box in boxes:
        left, top, right, bottom = (round(100 * edge) for edge in (box.left, box.top, box.right, box.bottom))
        where = f"x {left} to {right} %, y {top} to {bottom} %"
        yield f"    {printable(box.name):<44} {box.score:.2f}  {where}"


def _explanation_lines(explanations: Iterable[Explanation]) -> Iterator[str]:
    explanations = list(explanations)
    tags = [one for one in explanations if one.obstacle is None]
    others = [one for one in explanations if one.obstacle is not None]
    yield "  tags" if tags else "  no tags"
    for one in tags:
        yield f"    {_word(one)}  {_needed(one)}{_sources(one)}{_classes(one)}"
    if others:
        yield "  likely, but no tags"
    for one in sorted(others, key=lambda one: -one.confidence):
        yield f"    {_word(one)}  {one.obstacle}{_remedy(one)}{_sources(one)}{_classes(one)}"


def _word(one: Explanation) -> str:
    return f"{printable(' > '.join(one.path)):<44} {one.confidence:.2f}"


def _needed(one: Explanation) -> str:
    if one.implied_by is not None:
        return f"because of {printable(one.implied_by)}"
    return f"needed {one.needed:.2f}"


def _remedy(one: Explanation) -> str:
    if one.from_threshold is None or one.needed is None:
        return ""
    # Rounded down: a higher threshold would not give the tag. 0 is not a valid value, so it is not offered.
    percent = int(one.from_threshold * 100)
    return f", needed {one.needed:.2f}" + (f"; from --threshold {percent / 100:.2f}" if percent else "")


# What users call the results: sums over the model's classes, the head of words, and the detector.
_SOURCES = {"objects": "classes", "words": "head", "boxes": "detector"}


def _sources(one: Explanation) -> str:
    """Return what each result says, unless only the classes say anything, which need no name."""
    if all(each.source == "objects" for each in one.evidence):
        return ""
    text = ""
    for each in one.evidence:
        separator = "" if not text else " and " if each.joins is not None else ", "
        text += f"{separator}{_SOURCES.get(each.source, each.source)} {each.probability:.2f}"
    return f"  ({text})"


def _classes(one: Explanation) -> str:
    if not one.classes or (len(one.classes) == 1 and one.classes[0].label.name == one.path[-1]):
        return ""
    shown = ", ".join(f"{printable(each.label.name)} {each.score:.2f}" for each in one.classes[:5])
    return f"\n      {shown}" + (" ..." if len(one.classes) > 5 else "")
