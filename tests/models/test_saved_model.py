"""Models that are damaged, odd or hostile, as `phototag inspect` reads them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.cli.inspect_text import human_lines, scan_command
from phototag.errors import PhototagError
from phototag.models.describe import as_data, reference_lines
from phototag.models.describe import verdict as found_verdict
from phototag.models.examine import examine
from phototag.models.saved_model import read_saved_model
from tests.helpers.inspecting import HUB, verdict
from tests.helpers.program import phototag, powerless


@pytest.mark.slow
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
            answer = as_data(examination, found, None, 0)
            json.dumps(answer, allow_nan=False)
            list(human_lines(answer))
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


class Counted(Mapping[str, Any]):
    """A mapping that counts the keys that it hands out when it is iterated."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content, self.handed_out = content, 0

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        for key in self.content:
            self.handed_out += 1
            yield key

    def __len__(self) -> int:
        return len(self.content)


@pytest.mark.slow
def test_a_library_of_many_functions_is_read_in_linear_time() -> None:
    """Forty thousand functions in a chain took minutes when all were gone through for each."""
    from phototag.models.saved_model import Function, Node, _loaded_names

    def calling(name: str, other: str | None) -> Function:
        node = Node("n", "PartitionedCall", (), "0", None, other, (other,) if other else (), None, False)
        return Function(name, 1, {"n": node}, ("n:0",))

    for count in (1_000, 40_000):
        names = [f"__inference_f_{number}" for number in range(count)]
        functions = Counted({name: calling(name, other) for name, other in zip(names, [*names[1:], None], strict=True)})
        assert len(_loaded_names(functions)) == count
        assert functions.handed_out <= 5 * count


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
