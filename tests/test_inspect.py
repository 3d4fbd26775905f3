"""`phototag inspect`: held to transcripts of the real saved_model_cli, to the installed one, and to hostile input."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from phototag.cli import cli
from phototag.cli.inspect_text import human_lines, scan_command
from phototag.errors import PhototagError
from phototag.models.describe import as_data, reference_lines
from phototag.models.describe import verdict as found_verdict
from phototag.models.examine import examine
from phototag.models.saved_model import read_saved_model

from .conftest import SHARED, export_toy, phototag, powerless

GOLDEN = SHARED / "saved_model_cli/golden"
HUB = "imagenet_mobilenet_v2_100_224_classification"
# Where phototag does better than the reference, see the README: what it does instead.
BETTER = {
    "oddsig_all": 0,  # an unknown number of a dtype is printed
    "pb_file_path": 0,  # the file may be named
    "positional": 0,  # the model is an argument anyway
    "tf1_space": 0,  # spaces in a tag-set do not matter
    "zero": 3,  # an empty file is no model
    "unknown_flag": 2,
    "no_dir": 2,
}


def ops_sorted(text: str) -> str:
    """`text` with the ops of the reference, which come at random, in order."""
    return re.sub(r"(contains the following ops: )(\{.*?\}|set\(\))", lambda m: m[1] + str(_ops(m[2])), text)


def _ops(text: str) -> list[str]:
    return sorted(re.findall(r"'(.*?)'", text))


def as_ours(arguments: list[str]) -> list[str]:
    """The reference's arguments as phototag's."""
    rest = list(arguments[1:])
    if "--dir" in rest:
        at = rest.index("--dir")
        rest[at : at + 2] = [rest[at + 1]]
    return ["inspect", "--format", "saved_model_cli", *rest]


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.json")) or ["none"])
def test_the_transcripts_of_the_reference(shared: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shared / "saved_model_cli/models")
    transcript = json.loads((GOLDEN / f"{name}.json").read_text())
    result = CliRunner().invoke(cli, as_ours(transcript["args"]))
    if name in BETTER:
        assert result.exit_code == BETTER[name]
    elif transcript["rc"] == 0:
        assert (result.exit_code, result.stderr) == (0, "")
        assert ops_sorted(result.stdout) == ops_sorted(transcript["stdout"])
        for ops in re.findall(r"ops: (\{.*?\})", result.stdout):
            assert ops == "{" + ", ".join(map(repr, _ops(ops))) + "}"
    else:
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (3, "", 1)


def test_an_unknown_dtype_is_printed_as_a_number(shared: Path) -> None:
    model = shared / "saved_model_cli/models/oddsig"
    result = phototag("inspect", model, "--format", "saved_model_cli", "--all")
    assert "    outputs['c'] tensor_info:\n        dtype: 999\n        shape: ()\n" in result.stdout


@pytest.fixture(scope="module")
def more_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with functions of all kinds: several options, constants, containers, keywords, never traced."""
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function
        def several(self, x: Any, flag: bool = True, *, factor: float = 2.0) -> Any:
            return x * factor if flag else x

        @tf.function
        def containers(self, pair: Any, names: Any) -> Any:
            return pair[0] + names["a"]

        @tf.function
        def never(self, x: Any) -> Any:
            return x

    module = Module()
    vector = tf.TensorSpec([None], tf.float32, name="x")
    module.several.get_concrete_function(vector)
    module.several.get_concrete_function(vector, flag=False)
    module.several.get_concrete_function(tf.TensorSpec([], tf.float32, name="y"), True, factor=3.0)
    module.containers.get_concrete_function(
        [vector, tf.TensorSpec(None, tf.int32, name="any"), "text", 3, None],
        {"a": vector},  # of several keys the reference's order is random
    )
    module.bare = tf.function(lambda image: image, input_signature=[tf.TensorSpec([1, 2, 3, 4], tf.uint8)])
    module.concrete = module.bare.get_concrete_function()
    directory = tmp_path_factory.mktemp("more")
    tf.saved_model.save(module, str(directory / "functions"))
    keras = tf.keras.Sequential([tf.keras.layers.Input((8, 8, 3)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(4)])
    keras.export(str(directory / "keras"), verbose=False)
    return directory


REFERENCE = """
import contextlib, io, json, sys
directory, sys.argv = sys.argv[1], sys.argv[:1]
from tensorflow.python.tools import saved_model_cli as reference, saved_model_utils

def answer(options, function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        function(directory, *arguments)
    return options, output.getvalue()

answers = [answer(["--all"], reference._show_all), answer([], reference._show_tag_sets)]
for tags in saved_model_utils.get_saved_model_tag_sets(directory):
    tag_set = ",".join(tags)
    options = ["--tag_set", tag_set]
    answers.append(answer(options, reference._show_signature_def_map_keys, tag_set))
    if tags:
        answers.append(answer([*options, "--list_ops"], reference._show_ops_in_metagraph, tag_set))
        for key in reference.get_signature_def_map(directory, tag_set):
            arguments = [*options, "--signature_def", key]
            answers.append(answer(arguments, reference._show_inputs_outputs, tag_set, key))
print("ANSWERS" + json.dumps(answers))
"""
LIVE = [
    f"models/{HUB}",
    "models/tf1_photoprism_style",
    "models/gildas_landmarksnet",
    "models/serving/saved_model_counter/00000123",
    "models/serving/saved_model_half_plus_two_tf2_cpu/00000123",
    "models/serving/saved_model_half_plus_two_mlmd/00000123",
    "models/serving/saved_model_half_plus_three/00000123",
    "functions",
    "keras",
]


@pytest.mark.parametrize("model", LIVE)
def test_live_against_the_installed_reference(shared: Path, more_models: Path, model: str) -> None:
    """Its own functions behind the flags, in a process of its own for each model, as the tool is run."""
    directory = shared / model if "/" in model else more_models / model
    command = [sys.executable, "-c", REFERENCE, directory]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answers = json.loads(output.partition("ANSWERS")[2])
    assert len(answers) >= 3
    for options, expected in answers:
        result = phototag("inspect", directory, "--format", "saved_model_cli", *options)
        assert result.exit_code == 0
        ours = ops_sorted(result.stdout)
        if "--list_ops" in options:  # the reference's function prints that line alone
            ours = ours.partition("\n")[0]
        # The reference leaves out the last line break where it has no functions to print.
        assert ours.rstrip("\n") == ops_sorted(expected).rstrip("\n"), options


def test_a_model_with_custom_operations_says_so(tmp_path: Path, toy_model: Path) -> None:
    directory = tmp_path / "custom"
    shutil.copytree(toy_model, directory)
    data = (directory / "saved_model.pb").read_bytes()
    assert b"Mean" in data
    (directory / "saved_model.pb").write_bytes(data.replace(b"\x04Mean", b"\x04Mine"))
    result = phototag("inspect", directory, "--format", "saved_model_cli", "--all")
    expected = "Concrete Functions: N/A (could not be listed due to the existence of custom ops in the SavedModel)\n"
    assert result.stdout.endswith(expected)
    people = phototag("inspect", directory).stdout
    assert f"{directory}: no image classifier\n" in people
    assert "it needs operations that TensorFlow does not have: Mine" in people


# --- The face for people ----------------------------------------------------------------------------------------------


def verdict(*arguments: str | Path) -> dict[str, Any]:
    result = phototag("inspect", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)["verdict"]
    return found


def test_the_verdict_on_the_hub_model(shared: Path) -> None:
    found = verdict(shared / "models" / HUB)
    assert found["image_classifier"] == "yes"
    assert found["input"] == {
        "name": "inputs",
        "dtype": "float32",
        "height": 224,
        "width": 224,
        "layout": "NHWC",
        "batch": None,
        "values": None,
    }
    output = {"name": "logits", "classes": 1001, "scores": "logits", "background": "probably", "measured": None}
    assert found["output"] == output
    assert found["labels"] == {"count": None, "fit": None}
    assert [fact.split()[0] for fact in found["missing"]] == ["--labels", "--input-range,"]


def test_the_verdict_on_the_tf1_graph(shared: Path) -> None:
    found = verdict(shared / "models/tf1_photoprism_style")
    assert found["image_classifier"] == "yes"
    assert (found["input"]["name"], found["output"]["name"]) == ("input_1", "predictions/Softmax")
    assert (found["output"]["scores"], found["output"]["classes"]) == ("probabilities", 1001)
    assert "--input-op input_1 --output-op predictions/Softmax" in found["command"]


def test_the_verdict_on_the_default_model(default_model: Any) -> None:
    found = verdict("efficientnet-lite0")
    assert (found["image_classifier"], found["missing"]) == ("yes", [])
    assert (found["output"]["classes"], found["output"]["scores"]) == (1000, "logits")
    assert found["labels"] == {"count": 1000, "fit": True}
    assert found["input"]["values"] == "(pixel - 127) / 128"
    assert found["command"] == "phototag scan PHOTOS --model efficientnet-lite0"
    text = phototag("inspect", "efficientnet-lite0").stdout
    assert text.splitlines()[0].endswith("models/efficientnet-lite0: an image classifier")
    assert "  takes    images: float32 images of 224 x 224 pixels, NHWC, values (pixel - 127) / 128\n" in text
    assert "graph serve: 4,631,000 parameters, written by TensorFlow" in text


@pytest.mark.parametrize(
    ("model", "likelihood", "why"),
    [
        ("gildas_landmarksnet", "perhaps", "ends without a Softmax"),
        ("serving/saved_model_counter/00000123", "no", "float32_ref"),
        ("serving/saved_model_half_plus_two_tf2_cpu/00000123", "no", "its output has the shape [1]"),
        ("serving/saved_model_half_plus_two_mlmd/00000123", "no", "nothing says that it takes images"),
        ("serving/saved_model_half_plus_three/00000123", "no", "nothing says that it takes images"),
    ],
)
def test_the_verdict_on_what_is_no_image_classifier(shared: Path, model: str, likelihood: str, why: str) -> None:
    found = verdict(shared / "models" / model)
    assert found["image_classifier"] == likelihood
    assert why in found["why"]
    assert ("command" in found) == (likelihood == "perhaps")


@pytest.mark.parametrize("model", [HUB, "tf1_photoprism_style"])
def test_the_command_of_the_verdict_runs_the_model(shared: Path, model: str, tmp_path: Path) -> None:
    labels = shared / "models/ImageNetLabels.txt"
    facts = ["--labels", str(labels), "--input-range=-1..1"]
    found = verdict(shared / "models" / model, *facts)
    assert found["missing"] == []
    command = found["command"].replace("PHOTOS", shlex.quote(str(shared / "photos/imagenet/n01882714_koala.JPEG")))
    program, *arguments = shlex.split(command)
    assert program == "phototag"
    result = phototag(*arguments, "-n", "--index", tmp_path / "i.sqlite3")
    assert result.exit_code == 0
    assert "koala" in result.stdout


def test_labels_that_do_not_fit_are_seen(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "few.txt").write_text("a\nb\n")
    found = verdict(shared / "models" / HUB, "--labels", tmp_path / "few.txt")
    assert found["labels"] == {"count": 2, "fit": False}
    fitting = verdict(shared / "models" / HUB, "--labels", shared / "models/ImageNetLabels.txt")
    assert fitting["labels"] == {"count": 1001, "fit": True}
    assert fitting["output"]["background"] == "yes"


def test_a_probe_measures_what_the_file_cannot_tell(tmp_path: Path, shared: Path) -> None:
    found = verdict(shared / "models/tf1_photoprism_style", "--probe")
    assert found["output"]["scores"] == "probabilities"
    assert 0 <= found["output"]["measured"]["least"] < found["output"]["measured"]["greatest"] <= 1
    landmarks = verdict(shared / "models/gildas_landmarksnet", "--probe")
    assert (landmarks["output"]["classes"], landmarks["output"]["scores"]) == (136, "logits")
    toy = export_toy(tmp_path / "toy", bare=True)
    assert verdict(toy, "--probe")["output"]["measured"]["greatest"] == pytest.approx(15, abs=3)
    counter = phototag("inspect", shared / "models/serving/saved_model_counter/00000123", "--probe")
    assert (counter.exit_code, "cannot be probed" in counter.stderr) == (2, True)


def test_json_holds_it_all(more_models: Path) -> None:
    result = phototag("inspect", more_models / "functions", "--format", "json")
    data = json.loads(result.stdout)
    (graph,) = data["graphs"]
    options = graph["functions"]["several"]
    assert [{"name": "x", "dtype": "float32", "shape": [None]}, True] in [option["arguments"] for option in options]
    assert all({"factor"} == set(option["keyword_arguments"]) for option in options)
    assert graph["functions"]["never"] == []
    assert data["size"] > 1000
    assert isinstance(data["fingerprint"], int)
    text = phototag("inspect", more_models / "functions").stdout
    assert "    (x: float32 [?], True, factor=2.0)\n" in text
    assert "\b" not in text


def test_options_of_the_reference_need_its_format(toy_model: Path) -> None:
    for option in ("--all", "--list_ops"):
        result = phototag("inspect", toy_model, option)
        assert (result.exit_code, "need --format saved_model_cli" in result.stderr) == (2, True)


# --- Hostile input ----------------------------------------------------------------------------------------------------


def test_mutated_protobufs_are_one_sentence_or_an_answer(tmp_path: Path, shared: Path, toy_model: Path) -> None:
    rng = np.random.default_rng(20)
    seeds = [toy_model / "saved_model.pb", *(shared / "saved_model_cli/models").glob("*/saved_model.pb")]
    small = [path.read_bytes() for path in seeds if 0 < path.stat().st_size < 60_000]
    assert len(small) >= 4
    answered = refused = 0
    (tmp_path / "m").mkdir()
    target = tmp_path / "m/saved_model.pb"
    for number in range(3000):
        data = bytearray(small[number % len(small)])
        if number % 3 == 0:
            del data[rng.integers(1, len(data)) :]
        for position in rng.integers(0, len(data), rng.integers(1, 5)):
            data[position] ^= 1 << rng.integers(0, 8)
        target.write_bytes(data)
        try:
            graphs = read_saved_model(target.parent)
            options: dict[str, Any] = {"tag_set": None, "signature": None, "list_ops": False}
            list(reference_lines(graphs, target.parent, everything=True, **options))
            examination = examine(str(target.parent))
            found = found_verdict(examination)
            if "missing" in found:
                found["command"] = scan_command(examination, {})
            data = as_data(examination, found, None, 0)
            json.dumps(data, allow_nan=False)
            list(human_lines(data))
            answered += 1
        except PhototagError as error:
            assert "\n" not in str(error)
            refused += 1
    assert min(answered, refused) > 100


def test_a_function_that_calls_itself_and_a_chain_that_is_a_ring_end(tmp_path: Path) -> None:
    from phototag.models._protobuf import message_class

    saved = message_class("SavedModel")()
    graph = saved.meta_graphs.add()
    for name, source in (("a", "b"), ("b", "a")):
        node = graph.graph_def.node.add(name=name.encode(), op=b"Identity")
        node.input.append(source.encode())
    call = graph.graph_def.node.add(name=b"call", op=b"PartitionedCall")
    attribute = call.attr.add(key=b"f")
    attribute.value.func.name = b"forever"
    function = graph.graph_def.library.function.add()
    function.signature.name = b"forever"
    function.signature.output_arg.add(name=b"y")
    inner = function.node_def.add(name=b"again", op=b"PartitionedCall")
    inner.attr.add(key=b"f").value.func.name = b"forever"
    function.ret.add(key=b"y", value=b"again:output:0")
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    (read,) = read_saved_model(tmp_path)
    assert read.producer("a:0") is None
    assert read.producer("call:0") is None
    assert read.ops == {"Identity", "PartitionedCall"}


def test_a_key_that_is_not_utf8_is_printed(tmp_path: Path, shared: Path) -> None:
    directory = tmp_path / "m"
    shutil.copytree(shared / "saved_model_cli/models/oddsig", directory)
    data = (directory / "saved_model.pb").read_bytes()
    assert b"\n\x01x" in data
    (directory / "saved_model.pb").write_bytes(data.replace(b"\n\x01x", b"\n\x01\xff"))
    result = phototag("inspect", directory)
    assert (result.exit_code, r"signature \xff" in result.stdout) == (0, True)
    reference = phototag("inspect", directory, "--format", "saved_model_cli", "--all")
    assert r"signature_def['\xff']:" in reference.stdout


@pytest.mark.parametrize("content", [b"", b"\x08"])
def test_a_file_of_two_gigabytes_is_refused_before_it_is_read(tmp_path: Path, content: bytes) -> None:
    with (tmp_path / "saved_model.pb").open("wb") as file:
        file.write(content)
        file.truncate(2**31 + 10 if content else 2**31 - 10)
    result = phototag("inspect", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)


def test_a_directory_that_may_not_be_read(tmp_path: Path, toy_model: Path) -> None:
    directory = tmp_path / "locked"
    shutil.copytree(toy_model, directory)
    directory.chmod(0)
    command = powerless(sys.executable, "-m", "phototag", "inspect", directory)
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    finally:
        directory.chmod(0o755)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith(f"phototag: {directory}")
    assert "ermission" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_reader_who_leaves_early(shared: Path) -> None:
    model = shared / "models" / HUB
    command = shlex.join(
        [sys.executable, "-m", "phototag", "inspect", str(model), "--format", "saved_model_cli", "--all"]
    )
    result = subprocess.run(["bash", "-c", f"{command} | head -1"], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("\n", "")


def test_inspecting_never_imports_tensorflow(shared: Path) -> None:
    model = str(shared / "models" / HUB)
    for options in ([], ["--json"], ["--format", "saved_model_cli", "--all"]):
        script = (
            "import sys\n"
            "from click.testing import CliRunner\n"
            "from phototag.cli import cli\n"
            f"assert CliRunner().invoke(cli, ['inspect', {model!r}, *{options!r}]).exit_code == 0\n"
            "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True)


def test_the_default_model_that_is_not_built_says_how() -> None:
    result = phototag("inspect", "efficientnet-lite0")
    assert result.exit_code == 3
    assert "build it with: phototag models build efficientnet-lite0" in result.stderr


def test_a_probe_does_not_run_what_scan_refuses(tmp_path: Path) -> None:
    import tensorflow as tf

    def writing(images: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / "owned"), "x")]):
            return {"y": tf.reduce_mean(images, axis=[1, 2])}

    images = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), signatures=tf.function(writing, input_signature=[images]))
    (tmp_path / "owned").unlink(missing_ok=True)
    found = verdict(tmp_path / "m")
    assert (found["image_classifier"], "has the operations WriteFile" in found["why"]) == ("no", True)
    assert phototag("inspect", tmp_path / "m", "--probe").exit_code == 2
    assert not (tmp_path / "owned").exists()


def test_a_library_of_many_functions_is_read_in_linear_time(tmp_path: Path) -> None:
    """Forty thousand functions in a chain took minutes when every one was looked for anew."""
    from phototag.models.saved_model import Function, Node, _loaded_names

    def calling(name: str, other: str | None) -> Function:
        node = Node("n", "PartitionedCall", (), "0", None, other, (other,) if other else (), None, False)
        return Function(name, 1, {"n": node}, ("n:0",))

    names = [f"__inference_f_{number}" for number in range(40_000)]
    functions = {name: calling(name, other) for name, other in zip(names, [*names[1:], None], strict=True)}
    assert len(_loaded_names(functions)) == 40_000


def test_odd_sizes_and_missing_inputs_are_no_crash(tmp_path: Path) -> None:
    from phototag.models._protobuf import message_class

    saved = message_class("SavedModel")()
    graph = saved.meta_graphs.add()
    image = graph.graph_def.node.add(name=b"images", op=b"Placeholder")
    image.attr.add(key=b"dtype").value.type = 1
    shape = image.attr.add(key=b"shape").value.shape
    for size in (-1, 8, 8, 3):
        shape.dim.add(size=size)
    graph.graph_def.node.add(name=b"scores", op=b"Softmax")
    huge = graph.graph_def.node.add(name=b"huge", op=b"VarHandleOp").attr.add(key=b"shape").value.shape
    for _ in range(300):
        huge.dim.add(size=2**62)
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    found = verdict(tmp_path)
    assert (found["image_classifier"], found["output"]["classes"]) == ("yes", None)
    assert phototag("inspect", tmp_path).exit_code == 0


def test_a_fingerprint_that_is_a_pipe_is_refused(tmp_path: Path, toy_model: Path) -> None:
    shutil.copytree(toy_model, tmp_path / "m")
    (tmp_path / "m/fingerprint.pb").unlink()
    os.mkfifo(tmp_path / "m/fingerprint.pb")
    for command in (["inspect"], ["models", "add"]):
        result = phototag(*command, tmp_path / "m")
        assert (result.exit_code, "is not a regular file" in result.stderr) == (3, True)


def test_the_current_folder_is_a_model_like_any_other(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(toy_model, tmp_path / "m")
    assert phototag("models", "add", tmp_path / "m", "--name", "one").exit_code == 0
    monkeypatch.chdir(tmp_path / "m")
    assert phototag("inspect", ".").stdout.startswith(".: an image classifier\n")


@pytest.mark.parametrize("option", [["--signature", "serving_defalt"], ["--tag-set", "serv"], ["--output-op", "logit"]])
def test_what_is_named_wrongly_is_an_error_and_no_verdict(toy_model: Path, option: list[str]) -> None:
    result = phototag("inspect", toy_model, *option)
    assert (result.exit_code, result.stdout) == (3, "")
    assert {"--signature": "serving_default?", "--tag-set": "serve?", "--output-op": "logits"}[
        option[0]
    ] in result.stderr
