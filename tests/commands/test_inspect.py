"""`phototag inspect`: held to transcripts of the real saved_model_cli, to the installed one, and to hostile input."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from phototag.cli import cli
from phototag.models.find import Model, find_model
from tests.helpers import SHARED
from tests.helpers.inspecting import HUB, verdict
from tests.helpers.program import phototag
from tests.helpers.toys import export_toy

GOLDEN = SHARED / "saved_model_cli/golden"
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


# TensorFlow is imported once, and each model answered for by a fork: what is loaded there stays out of the others.
REFERENCE = """
import contextlib, io, json, os, signal, sys
questions, answers, sys.argv = sys.stdin, sys.stdout, sys.argv[:1]
from tensorflow.python.tools import saved_model_cli as reference, saved_model_utils

def answer(options, function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        function(directory, *arguments)
    return options, output.getvalue()

def all_answers():
    yield answer(["--all"], reference._show_all)
    yield answer([], reference._show_tag_sets)
    for tags in saved_model_utils.get_saved_model_tag_sets(directory):
        tag_set = ",".join(tags)
        options = ["--tag_set", tag_set]
        yield answer(options, reference._show_signature_def_map_keys, tag_set)
        if tags:
            yield answer([*options, "--list_ops"], reference._show_ops_in_metagraph, tag_set)
            for key in reference.get_signature_def_map(directory, tag_set):
                arguments = [*options, "--signature_def", key]
                yield answer(arguments, reference._show_inputs_outputs, tag_set, key)

while directory := questions.readline().rstrip("\\n"):
    child = os.fork()
    if not child:
        signal.alarm(120)
        print("ANSWERS" + json.dumps(list(all_answers())), file=answers, flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print("FAILED", file=answers, flush=True)
"""


@pytest.fixture(scope="module")
def reference() -> Iterator[Callable[[Path], Any]]:
    """Asks the functions behind the flags of the installed reference what they print of a model."""
    command = [sys.executable, "-c", REFERENCE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, lines = process.stdin, process.stdout

        def ask(directory: Path) -> Any:
            print(directory, file=questions, flush=True)
            for line in lines:
                if line.startswith(("ANSWERS", "FAILED")):
                    return json.loads(line.removeprefix("ANSWERS"))
            pytest.fail("the reference has ended")

        yield ask
        questions.close()


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


@pytest.mark.slow
@pytest.mark.parametrize("model", LIVE)
def test_live_against_the_installed_reference(
    shared: Path, more_models: Path, model: str, reference: Callable[[Path], Any]
) -> None:
    directory = shared / model if "/" in model else more_models / model
    answers = reference(directory)
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
    output = {
        "name": "logits",
        "classes": 1001,
        "scores": "logits",
        "background": "probably",
        "also": [],
        "measured": None,
    }
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
    assert found["output"]["also"] == ["words", "look"]
    text = phototag("inspect", "efficientnet-lite0").stdout
    assert text.splitlines()[0].endswith("models/efficientnet-lite0: an image classifier")
    assert "           words: probabilities of everyday words\n" in text
    assert "  takes    images: float32 images of 224 x 224 pixels, NHWC, values (pixel - 127) / 128\n" in text
    model = find_model("efficientnet-lite0")
    learned = 4_631_000 + sum(words_and_look(model))
    assert f"graph serve: {learned:,} parameters, written by TensorFlow" in text


def words_and_look(model: Model) -> Iterator[int]:
    """Yield how many numbers the head and the look of `model` have learned."""
    if model.head is not None:
        yield model.head.weights.size + model.head.bias.size + model.head.mass_weight.size
    if model.look is not None:
        yield model.look.projection.size


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


@pytest.mark.slow
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
