"""Recipes against each other in time to the same target: the same seeds, one run after the other in turn.

    python benchmarks/race.py data/cifar10 cifar10-demo cifar10-demo-fixed --seeds 0 1 2 --runs runs/race
    python benchmarks/race.py data/cifar10 cifar10-94 --seeds 0 1 2 --runs runs/94

Prints every run, misses included, then per recipe the mean of the last validation and the median time to target (a
miss counts as infinity), and the ratio of each recipe's median to the first one's. A run folder that is there already
is read, not run again, so the command goes on where it was stopped.
"""

import argparse
import math
import statistics
import subprocess
import sys
from pathlib import Path

from one_line import one_line_errors

from dawn import Run, read_run
from training.outcome import EXIT_CODES, Outcome

RESULTS = {EXIT_CODES[ending] for ending in Outcome} - {EXIT_CODES[Outcome.CRASHED], EXIT_CODES[Outcome.PREEMPTED]}


def main() -> None:
    options = parsed()
    runs = {recipe: [] for recipe in options.recipes}
    print("recipe               seed  outcome            epochs  last top-1  to target: T_total    T_dawn  peak MiB")
    for seed in options.seeds:
        for recipe in options.recipes:
            run = finished_run(options, recipe, seed)
            runs[recipe].append(run)
            print(run_line(recipe, seed, run), flush=True)
    print_summary(runs)


def finished_run(options: argparse.Namespace, recipe: str, seed: int) -> Run:
    folder = Path(options.runs) / f"{recipe}-seed{seed}"
    if not is_finished(folder):
        start = (
            ["--resume", str(folder)]
            if (folder / "run.jsonl").exists()
            else [options.data, "--recipe", recipe, "--seed", str(seed), "--logdir", str(folder)]
        )
        command = [sys.executable, "-m", "training", *start, *options.flags]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        if code not in RESULTS:
            sys.exit(code)  # it has said why
    return read_run(folder)


def is_finished(folder: Path) -> bool:
    """A run that was interrupted is gone on with; a miss or a divergence is a result."""
    stop = read_run(folder).stop if (folder / "run.jsonl").exists() else None
    return stop is not None and stop.outcome not in ("preempted", "crashed")


def run_line(recipe: str, seed: int, run: Run) -> str:
    hit, outcome = run.hit(), run.stop.outcome if run.stop else "interrupted"
    total, dawn = (f"{hit.clock[c]:9.1f} s" if hit else "        -  " for c in ("total", "dawn"))
    memory = max((row.peak_memory_bytes for row in run.rows), default=0) / 2**20
    return (
        f"{recipe:20} {seed:4}  {outcome:18} {len(run.rows):6}  {last(run):9.2f} %         {total} {dawn} {memory:9.0f}"
    )


def last(run: Run) -> float:
    return run.evaluations[-1].validation.percent("top1") if run.evaluations else math.nan


def seconds(run: Run) -> float:
    """T_total to the target; infinity for a miss."""
    hit = run.hit()
    return hit.clock["total"] if hit else math.inf


def print_summary(runs: dict[str, list[Run]]) -> None:
    medians = {recipe: statistics.median(seconds(run) for run in found) for recipe, found in runs.items()}
    first = next(iter(medians))
    for recipe, found in runs.items():
        values = [last(run) for run in found]
        deviation = f" (sd {statistics.stdev(values):.2f})" if len(values) > 1 else ""
        hits = sum(run.hit() is not None for run in found)
        print(
            f"{recipe}: last top-1 mean {statistics.mean(values):.2f} %{deviation}, {hits} of {len(found)} runs hit, "
            f"median T_total {medians[recipe]:.1f} s, ratio to {first} {medians[recipe] / medians[first]:.2f}"
        )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="dataset folder")
    parser.add_argument("recipes", nargs="+", help="see python -m training recipes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", required=True, help="folder for the runs")
    parser.add_argument(
        "--flags", nargs=argparse.REMAINDER, default=[], help="further flags of python -m training, last"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
