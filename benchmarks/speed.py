"""Compare the speed of phototag with usual programs and with the limit of the machine, in one run.

    python benchmarks/speed.py [--quick] [--rounds N] [--only PART ...] [--photos FOLDER ...] [--folder FOLDER]

Makes photos like a camera's in a temporary folder (in FOLDER, to measure its disk). Lets phototag and its rivals
classify the same photos with the same model in turn, each in its own process. Prints medians and ratios.

The cost of a photo does not include the start. Rivals are measured once they are warm. For phototag, it is the
difference between a run of many photos and a run of a few. The limit is cores / (core-seconds of decoding + of the
model), each measured alone, on one thread. Next to it is the speed of all cores at once, which other programs slow down
like everything else.

PHOTOS are real photos, to compare tags with those after full decoding. Takes about 15 minutes and 3 GB on two cores.
The goals are for two cores that no other program uses.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

HERE = Path(__file__).parent
PHOTOTAG = str(Path(sys.executable).parent / "phototag")
MODEL = "efficientnet-lite0"
Command: TypeAlias = "Sequence[str | Path]"


@dataclass(frozen=True)
class Cost:
    """The cost of a process or a photo: wall and processor seconds, and peak megabytes."""

    wall: float
    cpu: float
    peak: float = 0.0


@dataclass(frozen=True)
class Size:
    """Photos of one size: how many phototag scans, `few` of them to measure the start, and how many each rival gets."""

    name: str
    width: int
    height: int
    few: int
    many: int
    loop: int
    dataset: int
    goals: dict[str, float] = field(default_factory=dict)


SIZES = {
    "12mp": Size(
        "12 MP", 4000, 3000, 40, 240, 32, 64, {"json": 7.0, "tensorflow": 6.0, "limit": 0.85, "embed limit": 0.75}
    ),
    "small": Size("500x375", 500, 375, 100, 1100, 60, 480, {"json": 11.0, "tensorflow": 7.0, "limit": 0.80}),
    "24mp": Size("24 MP", 6000, 4000, 34, 64, 12, 32),
}
PARTS = (*SIZES, "start", "growth", "done", "cores", "embed", "inspect", "tags")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(command: Command, stdout: int = subprocess.DEVNULL, *, at_least: int = 0) -> tuple[Cost, bytes]:
    """Run `command`, and return its cost and output. `at_least`: an exit status that is not a failure."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdout=stdout, stderr=complaints)
        said = process.stdout.read() if process.stdout is not None else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, at_least):
            complaints.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{complaints.read().decode(errors='replace')}")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes there, in kilobytes elsewhere
    # A child starts with the peak of this process, which stays small: it does not import NumPy or Pillow.
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale), said


class Bench:
    """A folder with photos and the model, and the runs on them."""

    def __init__(self, folder: Path, *, quick: bool, rounds: int) -> None:
        self.folder = folder
        self.quick = quick
        self.rounds = 1 if quick else rounds
        self.goals: list[tuple[str, float, str, bool]] = []
        os.environ["PHOTOTAG_DATA_DIR"] = str(folder / "data")
        os.environ["PHOTOTAG_CONFIG"] = os.devnull
        one = self.photos("one", 1, 500, 375)
        self.scan([one], "--write", "none")  # builds the model and converts it
        self.model = run([PHOTOTAG, "models", "path", MODEL], subprocess.PIPE)[1].decode().strip()
        self.conversion = next((folder / "data" / "converted").glob("*.tflite"))

    def photos(self, name: str, count: int, width: int, height: int) -> Path:
        """Return a folder with `count` photos, which is made at the first call."""
        made = self.folder / "photos" / name
        if not made.exists():
            run([sys.executable, HERE / "camera.py", made, *map(str, (count, width, height))])
            self.settle()
        return made

    def settle(self) -> None:
        """Wait for the disk, so that no program waits for the writes of another."""
        if hasattr(os, "sync"):
            os.sync()

    def scan(self, paths: Sequence[Path], *options: str, again: bool = False) -> Cost:
        """Return the cost of `phototag scan`. Unless `again`, phototag knows nothing about the photos."""
        index = self.folder / "index"
        if not again:
            shutil.rmtree(index, ignore_errors=True)
            for path in paths:
                for sidecar in path.rglob("*.phototag.json"):
                    sidecar.unlink()
            self.settle()
        return run([PHOTOTAG, "scan", "--index", index / "index.sqlite3", *options, *paths])[0]

    def goal(self, what: str, value: float, bound: float, *, most: bool = False, form: str = "{:.2f}") -> None:
        """Note whether a goal is reached: `value` must be at least `bound`, or at `most` that."""
        reached = value <= bound if most else value >= bound
        said = f"{form.format(value)}, {'at most' if most else 'at least'} {form.format(bound)}"
        self.goals.append((what, value, said, reached))

    def print_goals(self) -> None:
        """Print which goals were reached."""
        if self.goals:
            print("\nGoals")
        for what, _, said, reached in self.goals:
            print(f"  {'reached    ' if reached else 'NOT REACHED'}  {what}: {said}")


# --- Photos of one size -----------------------------------------------------------------------------------------------


def measure_size(bench: Bench, size: Size) -> None:
    """Measure all programs in turn on photos of that size."""
    few = bench.photos(f"{size.width}/few", size.few, size.width, size.height)
    many = bench.photos(f"{size.width}/many", size.many - size.few, size.width + 16, size.height)
    ways = {
        "loop": functools.partial(_rival, bench, "loop", many, size.loop),
        "dataset": functools.partial(_rival, bench, "dataset", many, size.dataset),
        "tensorflow": functools.partial(_further, bench, few, many, "--engine", "tensorflow"),
        "embed": functools.partial(_further, bench, few, many, "--write", "embed"),
        "json": functools.partial(_further, bench, few, many),
        "limit": functools.partial(_limit, bench, many, size.dataset, 1),
        "together": functools.partial(_limit, bench, many, size.dataset, cores()),
    }
    rounds = bench.rounds if size.goals else 1
    costs: list[dict[str, Cost]] = []
    for number in range(rounds):
        order = [*ways][number % 2 :] + [*ways][: number % 2]
        costs.append({name: ways[name]() for name in order})
        _progress(f"{size.name}: round {number + 1} of {rounds}")
    _print_size(size, costs)
    for way, named in (("json", ""), ("tensorflow", " with --engine tensorflow")):
        if way in size.goals:
            ratio = _ratio("loop", way, costs)
            bench.goal(f"{size.name}, times as fast as the Keras loop{named}", ratio, size.goals[way], form="{:.1f}")
    for way, key in (("json", "limit"), ("embed", "embed limit")):
        if key in size.goals:
            bench.goal(f"{size.name}, share of the limit, --write {way}", _ratio("limit", way, costs), size.goals[key])
    for way, most in (("json", 600), ("tensorflow", 2500)):
        peak = max(one[way].peak for one in costs)
        bench.goal(f"{size.name}, peak MB{', TensorFlow' * (way != 'json')}", peak, most, most=True, form="{:.0f}")


_NAMES = {
    "loop": "Keras: load_img, predict, one by one",
    "dataset": "Keras: image_dataset_from_directory, 32",
    "tensorflow": "phototag --engine tensorflow",
    "embed": "phototag --write embed",
    "json": "phototag",
    "limit": "the limit: decoding and the model, alone",
    "together": "the same on all cores at once",
}


def _print_size(size: Size, costs: Sequence[dict[str, Cost]]) -> None:
    print(f"\n{size.name} ({cores()} cores; medians of {len(costs)})")
    print(f"  {'':42}{'photos/s':>9}{'core-ms':>9}{'x loop':>8}{'of limit':>10}{'of all cores':>14}{'peak MB':>9}")
    for way, name in _NAMES.items():
        wall, cpu = (statistics.median(getattr(one[way], kind) for one in costs) for kind in ("wall", "cpu"))
        peak = max(one[way].peak for one in costs)
        faster, of_limit, of_all = (_ratio(other, way, costs) for other in ("loop", "limit", "together"))
        line = f"  {name:42}{1 / wall:9.1f}{cpu * 1e3:9.1f}{faster:8.1f}{of_limit:10.0%}{of_all:14.0%}"
        print(f"{line}{peak:9.0f}" if peak else line)


def _ratio(slower: str, faster: str, costs: Sequence[dict[str, Cost]]) -> float:
    """Return how many times as fast `faster` is. Compares within rounds, because a machine's speed drifts."""
    return statistics.median(one[slower].wall / one[faster].wall for one in costs)


def _rival(bench: Bench, name: str, folder: Path, count: int) -> Cost:
    command: Command = [sys.executable, HERE / "rivals.py", name, bench.model, folder, str(count)]
    whole, said = run(command, subprocess.PIPE)
    return Cost(**json.loads(said), peak=whole.peak)


def _further(bench: Bench, few: Path, many: Path, *options: str) -> Cost:
    """Return the cost of one more photo for phototag."""
    with _as_new(bench, [few], options) as folders:
        some = bench.scan(folders, *options)
    with _as_new(bench, [few, many], options) as folders:
        every = bench.scan(folders, *options)
    count = len(list(many.glob("*.jpg")))
    return Cost((every.wall - some.wall) / count, (every.cpu - some.cpu) / count, every.peak)


@contextlib.contextmanager
def _as_new(bench: Bench, folders: Sequence[Path], options: Sequence[str]) -> Iterator[Sequence[Path]]:
    """Yield the folders, or copies of them if the photos will be written."""
    if "embed" not in options:
        yield folders
        return
    with tempfile.TemporaryDirectory(dir=bench.folder) as copies:
        to = [Path(copies, folder.name) for folder in folders]
        for folder, copy in zip(folders, to, strict=True):
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.json"))
        yield to


def _limit(bench: Bench, folder: Path, count: int, at_once: int) -> Cost:
    """Return the cost of a photo if all cores only decode photos and run the model.

    `at_once`: how many processes do it at the same time. They slow each other down if they share a cache or memory.
    """
    command: Command = [sys.executable, HERE / "rivals.py", "floor", bench.conversion, folder, str(count)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(at_once)]
    told = [json.loads(process.communicate()[0]) for process in processes]
    wall, cpu = (statistics.mean(one[kind] for one in told) for kind in ("wall", "cpu"))
    return Cost((cpu if at_once == 1 else wall) / cores(), cpu)


# --- Other measurements -----------------------------------------------------------------------------------------------


def measure_start(bench: Bench) -> None:
    """Measure the time to the first tag, and the time of `--help`."""
    one = bench.photos("one", 1, 500, 375)
    runs = 3 if bench.quick else 7
    commands: dict[str, Callable[[], Cost]] = {
        "the first photo's tag": lambda: bench.scan([one]),
        "the first photo's tag, --engine tensorflow": lambda: bench.scan([one], "--engine", "tensorflow"),
        "phototag --help": lambda: run([PHOTOTAG, "--help"])[0],
    }
    costs = [{name: command() for name, command in commands.items()} for _ in range(runs)]
    print(f"\nStart (medians of {runs})")
    for name in commands:
        seconds = statistics.median(one[name].wall for one in costs)
        print(f"  {name:46}{seconds:9.2f} s{max(one[name].peak for one in costs):9.0f} MB")
        if "engine" not in name:
            bench.goal(f"{name}, seconds", seconds, 0.3 if "help" in name else 1.0, most=True)


def measure_growth(bench: Bench) -> None:
    """Measure how time and memory grow with the photos, in a first run and in one without new photos."""
    print("\nGrowth, 500x375")
    counts = (100, 500, 1500) if bench.quick else (100, 500, 5000, 10_000)
    first, again = [], []
    for number, count in enumerate(counts):
        # Each folder gets another width, so that no two photos are identical.
        made = bench.photos(f"growth/{count}", count - sum(counts[number - 1 : number]), 500 + number, 375).parent
        first.append(bench.scan([made]))
        again.append(min((bench.scan([made], again=True) for _ in range(3)), key=lambda cost: cost.wall))
        said = "".join(f"{cost.wall:9.2f} s{cost.peak:6.0f} MB" for cost in (first[-1], again[-1]))
        print(f"  {count:6} photos, and once more with nothing new{said}")
    bench.goal(f"peak MB of {counts[2]} photos by that of {counts[1]}", first[2].peak / first[1].peak, 1.1, most=True)


def measure_done(bench: Bench) -> None:
    """Measure a run over a library without new photos, as benchmarks/library.py makes it."""
    count = 10_000 if bench.quick else 100_000
    command: Command = [sys.executable, HERE / "library.py", "--photos", str(count), "--folder", bench.folder]
    said = run(command, subprocess.PIPE)[1].decode()
    print(f"\nNothing new\n{said}", end="")
    for line in said.splitlines()[1:]:
        _, write, seconds, _, peak, *_ = line.split()
        if not bench.quick:
            bench.goal(f"nothing new in 100,000 photos, --write {write}, seconds", float(seconds), 2.0, most=True)
            bench.goal(
                f"nothing new in 100,000 photos, --write {write}, MB", float(peak), 150, most=True, form="{:.0f}"
            )


def measure_cores(bench: Bench) -> None:
    """Measure how much faster phototag is on all cores than on one."""
    if not hasattr(os, "sched_setaffinity") or cores() == 1:
        return
    photos = bench.photos("cores", 60 if bench.quick else 120, 4000, 3000)
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        one = bench.scan([photos])
    finally:
        os.sched_setaffinity(0, mine)
    print(f"\n{len(mine)} cores are {one.wall / bench.scan([photos]).wall:.2f} times as fast as one, 12 MP")


def measure_embed(bench: Bench) -> None:
    """Compare writing into photos with exiftool."""
    print("\nWriting into photos")
    if shutil.which("exiftool") is None:
        print("  exiftool is not installed")
        return
    count = "5" if bench.quick else "20"
    command: Command = [sys.executable, HERE / "embed_speed.py", "--photos", count, "--folder", bench.folder]
    print(run(command, subprocess.PIPE)[1].decode(), end="")


def measure_inspect(bench: Bench) -> None:
    """Compare `phototag inspect` with `saved_model_cli`."""
    print("\nInspecting a model")
    command: Command = [sys.executable, HERE / "inspect_speed.py", bench.model, "--runs", "2" if bench.quick else "5"]
    print(run(command, subprocess.PIPE)[1].decode(), end="")


def measure_tags(bench: Bench, folders: Sequence[Path]) -> None:
    """Measure how often the likeliest class is the same as after full decoding."""
    if not folders:
        return
    command: Command = [PHOTOTAG, "scan", "--dry-run", "--format", "json", "--index", bench.folder / "none", *folders]
    lines = run(command, subprocess.PIPE, at_least=1)[1].splitlines()
    found = {one["path"]: one["predictions"][0] for one in map(json.loads, lines) if one["predictions"]}
    reference: Command = [sys.executable, HERE / "rivals.py", "reference", bench.model, *folders]
    told = json.loads(run(reference, subprocess.PIPE)[1])
    both = told.keys() & found.keys()
    same = sum(told[path].startswith(f"{found[path]['synset']} ") for path in both) / len(both)
    print("\nThe likeliest class is that after full decoding with Lanczos' filter, in TensorFlow")
    print(f"  {same:.1%} of {len(both)} photos")
    bench.goal("same likeliest class as with full decoding", same, 0.99, form="{:.3f}")


def _progress(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Run the benchmarks, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="once each, where the figures come from several rounds")
    parser.add_argument("--rounds", type=int, default=3, help="of each size that has goals; more on a noisy machine")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--photos", nargs="+", type=Path, default=[], metavar="FOLDER", help="real photos")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    if hasattr(os, "getloadavg"):
        print(f"{cores()} cores, load {os.getloadavg()[0]:.1f} at the start, 0 were best")
    others: dict[str, Callable[[Bench], None]] = {
        "start": measure_start,
        "growth": measure_growth,
        "done": measure_done,
        "cores": measure_cores,
        "embed": measure_embed,
        "inspect": measure_inspect,
        "tags": functools.partial(measure_tags, folders=[path.resolve() for path in arguments.photos]),
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bench = Bench(Path(folder), quick=arguments.quick, rounds=arguments.rounds)
        for part in arguments.only:
            _progress(part)
            if part in SIZES:
                measure_size(bench, SIZES[part])
            else:
                others[part](bench)
            sys.stdout.flush()
        bench.print_goals()


if __name__ == "__main__":
    main()
