"""Scans that are interrupted, or whose output goes nowhere."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.helpers.program import start_phototag

Scan = Callable[..., Result]
MakePhoto = Callable[..., Path]


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_orderly_and_the_same_command_goes_on(
    toy_model: Path, make_photo: MakePhoto, tmp_path: Path, which: signal.Signals
) -> None:
    first = make_photo("0000.jpg", size=(2000, 1500))
    for number in range(1, 400):
        shutil.copyfile(first, first.with_name(f"{number:04}.jpg"))
    command = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", "--batch-size", "4", first.parent]
    process = start_phototag(*command)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(which)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Stopping after the batch in hand.\n" in errors
    assert errors.endswith("Interrupted: run the same command again to go on.\n")
    done = len(list(first.parent.glob("*.json")))
    assert 0 < done < 400
    assert not list(first.parent.glob("*.tmp"))

    process = start_phototag(*command)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert f"{400 - done} tagged, {done} unchanged" in errors
    assert output.count(": red\n") == 400 - done


def test_a_reader_who_leaves_ends_the_run_quietly(toy_model: Path, make_photo: MakePhoto, tmp_path: Path) -> None:
    first = make_photo("000.jpg")
    for number in range(1, 200):
        shutil.copyfile(first, first.with_name(f"{number:03}.jpg"))
    arguments = ["--model", toy_model, "--index", tmp_path / "i.sqlite3", "--batch-size", "1", "-n"]
    process = start_phototag("scan", *arguments, first.parent)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        errors = process.stderr.read()
    assert process.wait(timeout=120) == 130
    assert errors == ""


@pytest.mark.parametrize("closed", ["stdout", "stderr", "stdin"])
def test_a_closed_stream_is_no_crash(toy_model: Path, make_photo: MakePhoto, tmp_path: Path, closed: str) -> None:
    photo = make_photo("a.jpg")
    redirect = {"stdout": ">&-", "stderr": "2>&-", "stdin": "<&-"}[closed]
    arguments: list[Any] = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", photo]
    command = shlex.join([sys.executable, "-m", "phototag", *(os.fspath(one) for one in arguments)])
    result = subprocess.run(["sh", "-c", f"{command} {redirect}"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "bug" not in result.stderr
    assert (photo.parent / "a.jpg.phototag.json").is_file()


def test_output_that_cannot_be_written_is_one_sentence(toy_model: Path, make_photo: MakePhoto, tmp_path: Path) -> None:
    arguments: list[Any] = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", make_photo("a.jpg")]
    with open("/dev/full", "w") as full:
        process = start_phototag(*arguments, stdout=full)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 3
    assert errors == "phototag: the results cannot be written (No space left on device); check where they are sent\n"


def test_a_second_interrupt_ends_the_program_at_once(toy_model: Path, make_photo: MakePhoto, tmp_path: Path) -> None:
    first = make_photo("000.jpg", size=(3000, 3000))
    for number in range(1, 60):
        shutil.copyfile(first, first.with_name(f"{number:03}.jpg"))
    arguments: list[Any] = ["scan", "--model", toy_model, "--index", tmp_path / "i.sqlite3", "--batch-size", "1"]
    process = start_phototag(*arguments, first.parent)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not list(first.parent.glob(".phototag*"))


@pytest.mark.slow
def test_an_interrupt_while_the_model_loads_tags_nothing(
    toy_model: Path, make_photo: MakePhoto, tmp_path: Path
) -> None:
    """Any interrupt before the first batch: the model may still be loaded, but nothing is begun after that."""
    photo = make_photo("a.jpg")
    script = (
        "import os, signal, sys\n"
        "from phototag.engines.tensorflow_runner import TensorFlowRunner\n"
        "load = TensorFlowRunner._load\n"
        "def interrupted(self):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return load(self)\n"
        "TensorFlowRunner._load = interrupted\n"
        "from phototag.cli import main\n"
        "main()\n"
    )
    arguments: list[str | Path] = [
        "scan",
        "--model",
        toy_model,
        "--engine",
        "tensorflow",
        "--index",
        tmp_path / "i.sqlite3",
        photo,
    ]
    command = [sys.executable, "-c", script, *(os.fspath(one) for one in arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 130
    assert result.stdout == ""
    assert "Stopping after the batch in hand." in result.stderr
    assert list(photo.parent.iterdir()) == [photo]


def test_an_interrupt_while_nothing_but_other_files_is_found(scan: Scan, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "others").mkdir()
    for number in range(50):
        (tmp_path / f"others/{number}.txt").touch()
    import phototag.photos.find as photos

    looked_at: list[str] = []
    look_at = photos._look_at

    def interrupting(path: str, *rest: Any) -> Any:
        looked_at.append(path)
        signal.raise_signal(signal.SIGINT)
        return look_at(path, *rest)

    monkeypatch.setattr(photos, "_look_at", interrupting)
    assert scan(tmp_path / "others").exit_code == 130
    assert len(looked_at) == 1


def test_a_second_signal_in_the_midst_of_the_first_ends_the_program_too() -> None:
    script = (
        "import signal, threading\n"
        "from phototag.cli.terminal import interruptible\n"
        # What holds a lock when it is interrupted: `threading.Event.set`.
        "enter = threading.Condition.__enter__\n"
        "threading.Condition.__enter__ = lambda self: (enter(self), signal.raise_signal(signal.SIGINT))\n"
        "with interruptible(quiet=True) as should_stop:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    assert should_stop()\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 130
