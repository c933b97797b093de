"""How good a plan is: what `python -m training plan` says before a run, beside what the run then takes.

Each line is a schedule of its own (recipe, sizes, batch, loader), repeated until it is planned to take --least seconds.
Every run has its plan made just before it, from steps measured then. Use a machine on which nothing else runs.

    python benchmarks/plan.py data/cifar10 data/imagenette [--runs runs/plan] [--least 60] [--lines N ...] [--short]

CIFAR10 needs the arrays of `python -m data_prep cifar10`, TREE the files of `data_prep resize` and those of `pack`.
--short: two lines, at least a second each, to try the script; its numbers mean nothing.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from one_line import one_line_errors

from data_prep import load_manifest
from dawn import read_run
from training.errors import ConfigError

GIB = 2**30


class Line(NamedTuple):
    recipe: str
    sizes: tuple[int, ...]  # px, an equal number of epochs each
    batch: int
    loader: str


LINES = (
    Line("cifar10-demo", (16, 24), 250, "memory"),
    Line("cifar10-demo", (24, 32), 500, "memory"),
    Line("cifar10-demo", (32,), 1000, "memory"),
    Line("cifar10-94", (24,), 500, "memory"),
    Line("cifar10-94", (24, 28), 250, "memory"),
    Line("cifar10-94", (28, 32), 1000, "memory"),
    Line("imagenette-5", (64,), 64, "threads"),
    Line("imagenette-5", (64, 96), 32, "dali"),
    Line("imagenette-5", (96, 128), 64, "dali"),
    Line("imagenette-5", (64, 96), 64, "torchvision"),
    Line("imagenette-5", (128,), 32, "threads"),
    Line("imagenette-5", (64, 96, 128), 64, "packed"),
)
SHORT = (Line("cifar10-demo", (12, 16), 60, "memory"), Line("imagenette-5", (32, 48), 30, "threads"))


class Result(NamedTuple):
    line: Line
    planned: float  # seconds of T_total
    interval: tuple[float, float]
    real: float
    planned_peak: int | None  # bytes
    real_peak: int | None

    @property
    def error(self) -> float:
        return self.planned / self.real - 1

    @property
    def peak_error(self) -> float | None:
        return self.planned_peak / self.real_peak - 1 if self.planned_peak and self.real_peak else None


def main() -> None:
    options = parsed()
    lines = dict(enumerate(SHORT if options.short else LINES, start=1))
    least = 1.0 if options.short else options.least
    if unknown := set(options.lines or ()) - lines.keys():
        raise ConfigError(f"--lines {min(unknown)}: choose from 1 to {len(lines)}")
    chosen = {number: lines[number] for number in options.lines or lines}
    folders = {line: options.cifar10 if line.loader == "memory" else options.tree for line in chosen.values()}
    for folder in set(folders.values()):
        load_manifest(folder)  # a missing dataset is told before the first run
    found = []
    for number, line in chosen.items():
        found.append(result(line, folders[line], options.runs / f"{number:02}", least))
        print(row(found[-1]), flush=True)
    print("\n" + "\n".join(table(found)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/plan"))
    parser.add_argument("--least", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--lines", type=int, nargs="+", metavar="N", help="these alone, counted from 1")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    if not options.least > 0:
        raise ConfigError(f"--least {options.least}: must be seconds, more than 0")
    if options.runs.exists():
        raise ConfigError(f"{options.runs}: is there already. Give another folder with --runs")
    return options


def result(line: Line, data: Path, folder: Path, least: float) -> Result:
    """Plan, then run. Raises: ConfigError where one of them fails."""
    folder.mkdir(parents=True)
    once = plan(flags(line, data, 1), folder / "once.json")
    times = max(1, math.ceil(least / once["T_total"]))
    chosen = flags(line, data, times)
    told = plan(chosen, folder / "plan.json")
    call("-m", "training", *chosen, "--logdir", str(folder / "run"))
    rows = read_run(folder / "run").rows
    real_peaks = [row.peak_memory_bytes for row in rows if row.peak_memory_bytes]
    return Result(
        line,
        told["T_total"],
        tuple(told["intervals"]["T_total"]),
        rows[-1].clock["total"],
        told["peak_memory_bytes"],
        max(real_peaks, default=None),
    )


def flags(line: Line, data: Path, epochs: int) -> list[str]:
    """Of a run, `epochs` for each size."""
    data_phases = [{"ep": n * epochs, "sz": size, "bs": line.batch} for n, size in enumerate(line.sizes)]
    phases = json.dumps([*data_phases, {"ep": (0, len(line.sizes) * epochs), "lr": 0.01}])
    return [
        *(str(data), "--recipe", line.recipe, "--phases", phases, "--loader", line.loader),
        *("--no-stop-at-target", "--no-chart", "--no-tensorboard"),
    ]


def plan(run_flags: list[str], path: Path) -> dict:
    call("-m", "training", "plan", *run_flags, "--json", str(path))
    return json.loads(path.read_text())


def call(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode not in (0, 3):  # 3: the target was not reached
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise ConfigError(f"exit code {done.returncode}: {said}")


def table(found: list[Result]) -> list[str]:
    """In Markdown."""
    header = (
        "| recipe | px | batch | loader | `T_total` planned | interval | real | error | peak planned | real | error |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    )
    return [*header, *map(row, found), "", summary("T_total", [item.error for item in found]), *peak_lines(found)]


def peak_lines(found: list[Result]) -> list[str]:
    errors = [item.peak_error for item in found if item.peak_error is not None]
    return [summary("peak memory", errors)] if errors else []


def row(item: Result) -> str:
    line = item.line
    cells = (
        f"`{line.recipe}`",
        ", ".join(map(str, line.sizes)),
        str(line.batch),
        line.loader,
        f"{item.planned:.1f} s",
        f"{item.interval[0]:.1f} to {item.interval[1]:.1f} s",
        f"{item.real:.1f} s",
        f"{item.error:+.1%}",
        gib(item.planned_peak),
        gib(item.real_peak),
        "-" if item.peak_error is None else f"{item.peak_error:+.1%}",
    )
    return f"| {' | '.join(cells)} |"


def gib(count: int | None) -> str:
    return f"{count / GIB:.2f} GiB" if count else "-"


def summary(name: str, errors: list[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"{name}: median error {statistics.median(sizes):.1%}, worst {max(sizes):.1%}, {len(sizes)} runs"


if __name__ == "__main__":
    with one_line_errors():
        main()
