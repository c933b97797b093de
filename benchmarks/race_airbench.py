"""Our CIFAR-10 recipes against airbench's own scripts, side by side on this machine and in one precision.

    git clone https://github.com/KellerJordan/cifar10-airbench
    python benchmarks/race_airbench.py data/cifar10 cifar10-94 --airbench cifar10-airbench --rounds 6
    python benchmarks/race_airbench.py data/cifar10 cifar10-94 --airbench cifar10-airbench --seeds 0-4 --runs runs/race

Without --seeds it times single steps: in every round some of each script and some of each (size, batch) of each recipe,
medians times the number of steps of a whole run. That takes minutes where a run takes an hour, and says nothing about
accuracy. With --seeds whole runs are trained in turn, theirs and ours, all scored with the same six test-time views.

The scripts are those of airbench94_muon (Muon, batch 2000) and of airbench94 (SGD, batch 1024).
benchmarks/airbench_peer.py says what is changed in them on a device without CUDA.
"""

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch
from airbench_peer import Part, Peer
from one_line import one_line_errors
from pairs import ratio_interval
from race_tables import interval
from torch.utils.flop_counter import FlopCounterMode

from data_prep import load_manifest
from dawn import read_run
from dawn.stats.estimates import mean
from dawn.tables import Table, markdown_table
from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.engine.step import step
from training.engine.trainer import Job, enter_phase
from training.errors import ConfigError
from training.plan.work import Stretch, work_of
from training.runs.seeds import FINAL, check_earlier_runs, parse_seeds, train_seed
from training.runs.session import opened_job

SCRIPTS = {"airbench94_muon": "airbench94_muon.py", "airbench94": "legacy/airbench94.py"}
SAME_VIEWS = ("--tta", "flip-shift")  # airbench's tta_level 2
STEPS = ("data", "train")  # labels of the clock
Values = dict[str, list[float]]  # by entrant, one a round


def main() -> None:
    options = parsed()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for recipe in options.recipes:
        config_from(flags(options, recipe))  # bad input is told before the first step
    checkout = Path(options.airbench)
    peers = {name: Peer(checkout / SCRIPTS[name], options.data, device, options.precision) for name in options.scripts}
    print(
        f"{torch.get_num_threads()} threads, {device.type}, torch {torch.__version__}, {options.precision}", flush=True
    )
    print(markdown_table(raced(options, peers) if options.seeds else timed(options, peers)), end="")


def flags(options: argparse.Namespace, recipe: str) -> list[str]:
    return [options.data, "--recipe", recipe, *SAME_VIEWS, "--no-stop-at-target", "--precision", options.precision]


def timed(options: argparse.Namespace, peers: dict[str, Peer]) -> Table:
    """Seconds of all steps, as medians of single steps, and their arithmetic."""
    values: Values = {name: [] for name in (*peers, *options.recipes)}
    flops: dict[str, int] = {}
    for number in range(options.rounds):
        for name in values:
            parts = peers[name].timed_parts(options.steps) if name in peers else timed_parts(options, name)
            values[name].append(sum(part.steps * part.seconds for part in parts))
            flops[name] = sum(part.steps * part.flops for part in parts)
            told = ", ".join(f"{part.steps} steps of {part.seconds:.3f} s" for part in parts)
            print(f"round {number + 1}: {name}: {told}", flush=True)
    header = ("entrant", "PFLOP", "all steps, s", *(f"/ {name}" for name in peers))
    rows = (
        (
            name,
            f"{flops[name] / 1e15:.3f}",
            f"{statistics.median(values[name]):.0f}",
            *ratios(values, name, list(peers)),
        )
        for name in values
    )
    return Table(f"{options.rounds} rounds of {options.steps} steps of each kind", header, tuple(rows))


def timed_parts(options: argparse.Namespace, recipe: str) -> list[Part]:
    """Of each part of the schedule, steps one by one from fetching the batch to the updated weights."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_from([*flags(options, recipe), "--logdir", folder, "--no-chart"])
        schedule = resolved_schedule(config, 1, lambda warning: None)
        with opened_job(config, schedule) as job:
            job.state.clock.start()
            stretches = work_of(config, schedule, load_manifest(config.data)).stretches
            return [timed_steps(job, item, options.steps) for item in stretches]


def timed_steps(job: Job, item: Stretch, count: int) -> Part:
    """After a step whose arithmetic is counted. The learning rate is 0: the weights stay."""
    epoch = int(item.start)
    enter_phase(job, next(part for part in job.parts(epoch) if part.end > item.start))
    job.state.model.train()
    times = []
    with closing(job.loader.train(epoch, job.part.first_step)) as batches:
        with FlopCounterMode(display=False) as counter:
            step(job.config, job.state, next(batches), 0.0, None)
        for _ in range(count):
            job.env.sync()
            begin = time.perf_counter()
            step(job.config, job.state, next(batches), 0.0, None)
            job.env.sync()
            times.append(time.perf_counter() - begin)
    return Part(item.steps, statistics.median(times), counter.get_total_flops())


def ratios(values: Values, name: str, scripts: list[str]) -> list[str]:
    """Of each round, its median and 95 % interval."""
    found = []
    for script in scripts:
        middle, low, high = ratio_interval(list(zip(values[name], values[script], strict=True)))
        found.append("1" if script == name else f"{middle:.3f} ({low:.3f} to {high:.3f})")
    return found


def raced(options: argparse.Namespace, peers: dict[str, Peer]) -> Table:
    """Whole runs, seed by seed: accuracy with the same views, and the time of all steps."""
    seeds, base = parse_seeds(options.seeds), Path(options.runs)
    for recipe in options.recipes:
        check_earlier_runs(base / recipe, seeds, flags(options, recipe))
    names = [*options.scripts, *options.recipes]
    seconds, accuracies = {name: [] for name in names}, {name: [] for name in names}
    for seed in seeds:
        for name in names:
            took, accuracy = peers[name].train(seed) if name in peers else trained(options, name, seed)
            seconds[name].append(took)
            accuracies[name].append(accuracy)
            print(f"seed {seed}: {name}: {took:.1f} s, {accuracy:.2f} %", flush=True)
    header = ("entrant", "all steps, s", *(f"/ {name}" for name in options.scripts), "top-1, % (95 % interval)")
    rows = (
        (
            name,
            f"{statistics.median(seconds[name]):.1f}",
            *ratios(seconds, name, options.scripts),
            interval(mean(accuracies[name]), "{:.2f}".format),
        )
        for name in names
    )
    return Table(f"seeds {options.seeds}", header, tuple(rows))


def trained(options: argparse.Namespace, recipe: str, seed: int) -> tuple[float, float]:
    """(seconds on the labels of training and data, top-1 in percent) of a run, trained now or there already."""
    code = train_seed(Path(options.runs) / recipe, seed, flags(options, recipe))
    if code not in FINAL:
        sys.exit(code)  # it has said why
    run = read_run(Path(options.runs) / recipe / f"seed-{seed}")
    return sum(run.stop.seconds[label] for label in STEPS), run.evaluations[-1].validation.percent("top1")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="CIFAR-10, as by python -m data_prep cifar10")
    parser.add_argument("recipes", nargs="+", help="see python -m training recipes")
    parser.add_argument("--airbench", required=True, metavar="CHECKOUT", help="of KellerJordan/cifar10-airbench")
    parser.add_argument("--scripts", nargs="+", default=list(SCRIPTS), choices=SCRIPTS)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="a GPU's peer has fp16")
    parser.add_argument("--rounds", type=int, default=6, help="of single steps; six give a 95 %% interval")
    parser.add_argument("--steps", type=int, default=3, help="of each kind in a round")
    parser.add_argument("--seeds", default="", help="such as 0-4: whole runs instead of single steps")
    parser.add_argument("--runs", default="runs/race-airbench", help="folder for our runs")
    options = parser.parse_args()
    if options.rounds < 1 or options.steps < 1:
        raise ConfigError("--rounds, --steps: at least 1")
    return options


if __name__ == "__main__":
    with one_line_errors():
        main()
