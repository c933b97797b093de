"""Recipes, or changes of one recipe, against each other in time to the same target: the same seeds, in turn.

    python benchmarks/race.py data/cifar10 cifar10-demo cifar10-demo-fixed --seeds 0-2 --runs runs/race
    python benchmarks/race.py data/cifar10 cifar10-demo --seeds 0-9 --targets 85 86 --runs runs/ablation \\
        --change "no shift: --shift 0" --change "random flip: --flip random" [--change "NAME: FLAGS" ...]

A change is the first recipe with flags of `python -m training` on top. Every run is trained to the end of its schedule,
so one set of runs tells the time to each of --targets (percent; default: the recipes' own); decide on them before.
Prints every run, misses included, and then what each entrant does beside the first, seed by seed, with the intervals of
`python -m dawn compare` and `study`. The runs lie in RUNS/NAME/seed-N, for study and compare too; one that is there
already is read, not run again, so the command goes on where it was stopped.
"""

import argparse
import re
import shlex
import sys
from pathlib import Path

import torch
from one_line import one_line_errors
from race_tables import entrant_table, run_table

from dawn.stats.runs import read_recipe
from dawn.tables import markdown_table
from training.config.config import Config
from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.distributed.env import Env
from training.errors import ConfigError
from training.runs.seeds import FINAL, check_earlier_runs, parse_seeds, train_seed
from training.runs.session import checked_input

OWN = ("--seed", "--seeds", "--logdir", "--resume", "--target", "--evaluate", "--dry-run", "--stop-at-target")


def main() -> None:
    options = parsed()
    seeds, entrants = parse_seeds(options.seeds), entrants_of(options)
    targets = options.targets or [common_target(entrants)]
    folders = {name: Path(options.runs) / name.replace(" ", "-") for name in entrants}
    for name, flags in entrants.items():
        check_earlier_runs(folders[name], seeds, flags)
        check(config_from(flags))
    for seed in seeds:
        for name, flags in entrants.items():
            train(folders[name], seed, flags)
    runs = {name: read_recipe([folder / f"seed-{seed}" for seed in seeds]) for name, folder in folders.items()}
    print(markdown_table(run_table(runs, targets)))
    print(markdown_table(entrant_table(runs, targets)), end="")


def entrants_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """name -> flags of python -m training. Raises: ConfigError."""
    target = ["--target", str(max(options.targets))] if options.targets else []
    common = ["--no-stop-at-target", *target, *options.flags]
    recipes = {recipe: [options.data, "--recipe", recipe, *common] for recipe in options.recipes}
    changes = {name: [*recipes[options.recipes[0]], *words] for name, words in map(named_change, options.change)}
    if len(recipes.keys() | changes.keys()) < len(options.recipes) + len(options.change):
        raise ConfigError("two entrants have the same name. Give each its own, with --change 'NAME: FLAGS'")
    return recipes | changes


def check(config: Config) -> None:
    """Raises: ConfigError, PhaseError or DataError for what the run itself would refuse."""
    checked_input(config, resolved_schedule(config, 1, lambda warning: None), Env(torch.device("cpu")))


def named_change(text: str) -> tuple[str, list[str]]:
    """'no shift: --shift 0' -> ('no shift', ['--shift', '0']). Raises: ConfigError."""
    name, colon, flags = text.partition(":")
    if not colon or not re.fullmatch(r"\w[\w .+-]*", name):
        raise ConfigError(f"--change {text}: write NAME: FLAGS, as in 'no shift: --shift 0'")
    try:
        words = shlex.split(flags)
    except ValueError as error:
        raise ConfigError(f"--change {text}: {error}. Write the flags as in a shell") from None
    if own := next((word for word in words if word.partition("=")[0] in OWN), None):
        raise ConfigError(f"--change {text}: {own} is the race's own to give. Leave it out")
    return name, words


def common_target(entrants: dict[str, list[str]]) -> float:
    """In percent, of the recipes themselves. Raises: ConfigError where they have different ones or none."""
    configs = {name: config_from(flags) for name, flags in entrants.items()}
    goals = {(config.metric, config.target): name for name, config in configs.items()}
    if len(goals) > 1 or ("top1", "") in goals or ("top5", "") in goals:
        told = "; ".join(f"{name}: {target or 'no target'} ({metric})" for (metric, target), name in goals.items())
        raise ConfigError(f"the entrants do not have one target ({told}). Give --targets")
    return float(next(iter(goals))[1])


def train(folder: Path, seed: int, flags: list[str]) -> None:
    code = train_seed(folder, seed, flags)
    if code not in FINAL:
        sys.exit(code)  # it has said why


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="dataset folder")
    parser.add_argument("recipes", nargs="+", help="see python -m training recipes")
    parser.add_argument("--change", action="append", default=[], metavar="'NAME: FLAGS'", help="of the first recipe")
    parser.add_argument("--seeds", default="0-2", help="such as 0-9 or 0,3,7")
    parser.add_argument("--targets", type=float, nargs="+", help="percent of the recipes' metric")
    parser.add_argument("--runs", required=True, help="folder for the runs")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="of python -m training, for all; last")
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
