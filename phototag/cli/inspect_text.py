"""The text of `phototag inspect`: the verdict, and the command that runs the model."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from phototag.cli.model_options import INPUT_RANGES, MODEL_FACTS

if TYPE_CHECKING:
    from phototag.analysis.classifier import Probe
    from phototag.models.examine import Examination


def scan_command(examination: Examination, options: Mapping[str, Any], probed: Probe | None = None) -> str:
    """Return the command that tags photos with the model; `options` are the options of `phototag inspect`.

    If only `probed` shows that the scores are independent, the model has to be installed first. This is the command.
    """
    from phototag.models.interface import scores_kind

    interface = examination.interface
    assert interface is not None, "a model that cannot be called has no command"
    name = shlex.quote(examination.name)
    is_known = examination.card.output.scores is not None or scores_kind(examination.graph, interface) is not None
    if probed is not None and probed.scores == "independent" and not is_known:
        parts = ["phototag", "models", "add", name, *_repeated(options)]
    else:
        parts = ["phototag", "scan", "PHOTOS", "--model", name, *_repeated(options)]
    if len(examination.graphs) > 1 and options.get("tag_set") is None and "serve" not in examination.graph.tags:
        parts += ["--tag-set", shlex.quote(",".join(examination.graph.tags))]
    if examination.needs_names:
        parts += ["--input-op", shlex.quote(interface.input.removesuffix(":0"))]
        parts += ["--output-op", shlex.quote(interface.output.removesuffix(":0"))]
    missing = {fact.setting for fact in examination.missing}
    for setting, value in (("labels", "FILE"), ("input_size", "N"), ("input_range", "RANGE")):
        if setting in missing:
            parts += [_option(setting), value]
    return " ".join(parts)


def _repeated(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options for a model that the user gave, as parts of a command line."""
    for name in ("labels", *MODEL_FACTS):
        value = options.get(name)
        if value is None or value is False:
            continue
        if value is True:
            yield _option(name)
            continue
        separator = "x" if name == "input_size" else ","
        text = shlex.quote(separator.join(map(str, value)) if isinstance(value, tuple) else str(value))
        # A value that looks like an option, such as -1..1, has to be joined to its option.
        yield from [f"{_option(name)}={text}"] if text.startswith("-") else [_option(name), text]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def human_lines(data: dict[str, Any]) -> Iterator[str]:
    """Yield the data of `as_data` as text for people: the verdict first, then the content of the SavedModel."""
    yield from _verdict_lines(data["path"], data["verdict"])
    yield ""
    fingerprint = "" if data["fingerprint"] is None else f", fingerprint {data['fingerprint']:016x}"
    yield f"SavedModel of {data['size'] / 1e6:,.1f} MB{fingerprint}"
    for graph in data["graphs"]:
        yield from _graph_lines(graph)


def _verdict_lines(path: str, found: dict[str, Any]) -> Iterator[str]:
    words = {"yes": "an image classifier", "perhaps": "perhaps an image classifier", "no": "no image classifier"}
    yield f"{path}: {words[found['image_classifier']]}"
    if found["why"]:
        yield f"  why      {found['why']}"
    if "input" not in found:
        return
    yield f"  takes    {_takes(found['input'])}"
    yield f"  gives    {_gives(found['output'])}"
    yield from (f"           {name}: {_ALSO[name]}" for name in found["output"]["also"])
    labels, classes = found["labels"], found["output"]["classes"]
    if labels["count"] is not None:
        fit = {True: "which fit", False: f"which do not fit {classes} classes", None: "and its classes are unknown"}
        yield f"  labels   {labels['count']} labels, {fit[labels['fit']]}"
    if found["missing"]:
        yield f"  missing  {found['missing'][0]}"
        yield from (f"           {fact}" for fact in found["missing"][1:])
    if found["image_classifier"] != "no" and found["labels"]["fit"] is not False:
        yield f"  run it   {found['command']}"


# The further outputs that a card with a head and a look names.
_ALSO = {"words": "probabilities of everyday words", "look": "a vector for likeness"}


def _takes(image: dict[str, Any]) -> str:
    batch = f", {image['batch']} at a time" if image["batch"] is not None else ""
    values = image["values"]
    if image["dtype"] == "string":
        return f"{image['name']}: images as encoded JPEG files{batch}"
    size = f"{image['height'] or '?'} x {image['width'] or '?'} pixels"
    range_text = f"values {values}" if values else f"values in an unknown range ({', '.join(INPUT_RANGES)}?)"
    return f"{image['name']}: {image['dtype']} images of {size}, {image['layout']}{batch}, {range_text}"


def _gives(output: dict[str, Any]) -> str:
    kinds = {
        "probabilities": "probabilities",
        "logits": "logits",
        "independent": "independent probabilities",
        None: "scores of an unknown kind (--probe measures them)",
    }
    count = "?" if output["classes"] is None else f"{output['classes']:,}"
    backgrounds = {
        "yes": "; class 0 is a background class",
        "probably": "; class 0 is probably a background class, in front of ImageNet's 1000",
        "no": "",
    }
    measured = output["measured"]
    range_text = f"; measured from {measured['least']:.3g} to {measured['greatest']:.3g}" if measured else ""
    return (
        f"{output['name']}: {kinds[output['scores']]} of {count} classes{backgrounds[output['background']]}{range_text}"
    )


def _graph_lines(graph: dict[str, Any]) -> Iterator[str]:
    version = f", written by TensorFlow {graph['tensorflow_version']}" if graph["tensorflow_version"] else ""
    yield ""
    yield f"graph {','.join(graph['tags']) or '(no tags)'}: {graph['parameters']:,} parameters{version}"
    if graph["custom_ops"]:
        yield f"  custom operations: {', '.join(graph['custom_ops'])}"
    if graph["assets"]:
        yield f"  assets: {', '.join(graph['assets'])}"
    for key, signature in sorted(graph["signatures"].items()):
        yield f"  signature {key}" + (f" ({signature['method_name']})" if signature["method_name"] else "")
        for kind, tensors in (("in", signature["inputs"]), ("out", signature["outputs"])):
            for name, tensor in sorted(tensors.items()):
                yield f"    {kind:3}  {name}: {tensor['dtype']} {_shape(tensor['shape'])}"
    for name, functions in graph["functions"].items():
        yield f"  function {name}"
        for function in functions:
            arguments = [_brief(argument) for argument in function["arguments"]]
            keywords = [f"{key}={_brief(value)}" for key, value in function["keyword_arguments"].items()]
            yield f"    ({', '.join(arguments + keywords)})"


def _brief(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"name", "dtype", "shape"}:
        return f"{value['name']}: {value['dtype']} {_shape(value['shape'])}"
    if isinstance(value, list):
        return f"[{', '.join(map(_brief, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _shape(shape: list[int | None] | None) -> str:
    return "of any shape" if shape is None else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
