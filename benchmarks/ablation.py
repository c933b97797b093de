"""What each part of a recipe buys: the recipe with one change at a time, the same seeds, one run after the other in turn.

    python benchmarks/ablation.py data/cifar10 cifar10-demo --seeds 0-9 --targets 85 86 --runs runs/ablation \\
        --change "no shift: --shift 0" --change "random flip: --flip random" [--change "NAME: FLAGS" ...]

A change has a name and flags of `python -m training`; `--change "other: --recipe OTHER"` sets another recipe beside it.
Every run trains to the end of its schedule (its target is the highest of --targets), so one set of runs tells the time
to each target; decide on the targets before. Differences are paired by seed, as in `python -m dawn compare`; the time
to a target is the expected time with restarts of `python -m dawn study`: time spent in all runs / hits. Runs lie in
RUNS/NAME/seed-N, for study and compare too; one that is there already is read, not run again.
"""

import argparse
import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from one_line import one_line_errors

from dawn import Run
from dawn.compare import compare
from dawn.estimates import Estimate, paired_difference
from dawn.recipe_runs import read_recipe
from dawn.study import time_estimates
from dawn.study_report import number
from dawn.tables import Table, markdown_table
from dawn.trial import trial
from training.flags import config_from
from training.outcome import ConfigError
from training.seeds import FINAL, parse_seeds, train_seed

BASE = "as it is"


def main() -> None:
    options = parsed()
    changes = {BASE: ""} | dict(map(named_change, options.change))
    flags = {name: flags_of(options, name, change) for name, change in changes.items()}
    for line in flags.values():
        config_from(line)  # bad input is told before the first run
    for seed in parse_seeds(options.seeds):
        for name, line in flags.items():
            train(folder(options.runs, name) / f"seed-{seed}", seed, line)
    runs = {name: read_recipe([folder(options.runs, name)]) for name in flags}
    print(markdown_table(effects(runs, options.targets)), end="")


def named_change(text: str) -> tuple[str, str]:
    """'no shift: --shift 0' -> ('no shift', '--shift 0')."""
    name, colon, change = text.partition(":")
    if not colon or not re.fullmatch(r"\w[\w .+-]*", name):
        raise ConfigError(f"--change {text}: write NAME: FLAGS, as in 'no shift: --shift 0'")
    return name, change


def flags_of(options: argparse.Namespace, name: str, change: str) -> list[str]:
    target = str(max(options.targets))
    try:
        words = shlex.split(change)
    except ValueError as error:
        raise ConfigError(f"--change {name}: {error}. Write flags as in a shell") from None
    return [options.data, "--recipe", options.recipe, "--target", target, "--no-stop-at-target", *words]


def train(folder: Path, seed: int, flags: list[str]) -> None:
    code = train_seed(folder, seed, flags)
    if code not in FINAL:
        sys.exit(code)  # it has said why


def folder(runs: str, name: str) -> Path:
    return Path(runs) / name.replace(" ", "-")


def effects(runs: dict[str, list[Run]], targets: Sequence[float]) -> Table:
    """A row for each change. All differences are the change minus, or divided by, the recipe as it is."""
    header = ("change", "top-1 at the end, points", "time of a run", *(f"seconds to {t:g} %, hits" for t in targets))
    return Table("what a change does", header, tuple(effect(name, runs, targets) for name in runs))


def effect(name: str, runs: dict[str, list[Run]], targets: Sequence[float]) -> tuple[str, ...]:
    ours, base = runs[name], runs[BASE]
    cells = ["", "1"]
    if name != BASE:
        comparison = compare(ours, base)
        cells = [signed(comparison.differences["accuracy at the end, A - B, points"]), interval(run_ratio(ours, base))]
    return name, *cells, *(to_target(ours, target) for target in targets)


def run_ratio(ours: list[Run], base: list[Run]) -> Estimate:
    """T_total of whole runs, ours / base: mean of the logs' differences, seed by seed."""
    times = ([math.log(trial(run).duration) for run in side] for side in (ours, base))
    return paired_difference(*times).mapped(math.exp)


def to_target(runs: list[Run], target: float) -> str:
    trials = [trial(aimed_at(run, target)) for run in runs]
    estimates = time_estimates(trials, max(t.duration for t in trials))
    hits = sum(t.outcome == "hit" for t in trials)
    return f"{interval(estimates['expected time with restarts, s'])}, {hits} of {len(trials)}"


def aimed_at(run: Run, target: float) -> Run:
    return replace(run, attempts=tuple(replace(attempt, target=target) for attempt in run.attempts))


def interval(estimate: Estimate) -> str:
    text = number(estimate.value)
    return text if estimate.low is None else f"{text} ({number(estimate.low)} to {number(estimate.high)})"


def signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f} ({estimate.low:+.2f} to {estimate.high:+.2f})"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="dataset folder")
    parser.add_argument("recipe", help="see python -m training recipes")
    parser.add_argument("--change", action="append", required=True, metavar="NAME: FLAGS", help="flags of python -m training")
    parser.add_argument("--seeds", default="0-9", help="such as 0-9 or 0,3,7")
    parser.add_argument("--targets", type=float, nargs="+", required=True, help="top-1 in percent")
    parser.add_argument("--runs", required=True, help="folder for the runs")
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
