"""Compare the speed of `phototag inspect` and TensorFlow's `saved_model_cli show`: whole processes, run in turn.

    python benchmarks/inspect_speed.py MODEL [--runs N]

Prints the median wall time and the largest peak memory of each, and the ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent


def measure(command: list[str]) -> tuple[float, float]:
    """Run `command`, and return its wall time in seconds and its peak memory in megabytes."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes there, in kilobytes elsewhere
    return time.perf_counter() - started, usage.ru_maxrss / scale


def main() -> None:
    """Measure both programs, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    phototag = [str(BIN / "phototag"), "inspect", arguments.model]
    commands = {
        "phototag inspect": phototag,
        "phototag inspect --format saved_model_cli --all": [*phototag, "--format", "saved_model_cli", "--all"],
        "saved_model_cli show --all": [str(BIN / "saved_model_cli"), "show", "--dir", arguments.model, "--all"],
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for run in range(arguments.runs + 1):
        for name, command in commands.items():
            figure = measure(command)
            if run:  # the first run warms the disk's cache
                figures[name].append(figure)
    *_, reference = commands
    reference_time = statistics.median(seconds for seconds, _ in figures[reference])
    reference_memory = max(memory for _, memory in figures[reference])
    print(f"{'':48}{'seconds':>9}{'times as fast':>15}{'peak MB':>9}{'times less':>12}")
    for name, found in figures.items():
        seconds, memory = statistics.median(each for each, _ in found), max(each for _, each in found)
        print(f"{name:48}{seconds:9.3f}{reference_time / seconds:15.1f}{memory:9.0f}{reference_memory / memory:12.1f}")


if __name__ == "__main__":
    main()
