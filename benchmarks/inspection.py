"""What --inspect costs: T_total of whole runs with it against runs without, in turn, and the label `inspect` alone.

    python benchmarks/inspection.py DATA [--levels light full anomaly] [--pairs 10] -- FLAGS OF THE RUN

The level `anomaly` is --detect-anomaly in the place of --inspect.

Each round makes one run without inspection and one of each level; ratios are over the rounds. Also the time and memory
of the validation's counts for 1,000 classes and 50,000 images (`--counts`).
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from one_line import one_line_errors
from pairs import ratio_line

from dawn import read_run
from training.__main__ import main as train
from training.inspect.counts import by_class, count

ANOMALY = "anomaly"


def main() -> int:
    options, flags = parsed()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {' '.join(flags)}", flush=True)
    if options.counts:
        print(counts_line())
    rounds = []
    for number in range(options.pairs):
        rounds.append(one_round(options.data, flags, ["off", *options.levels], reverse=number % 2 == 1))
        print(
            f"round {number + 1}: " + ", ".join(f"{level} {run.total:.1f} s" for level, run in rounds[-1].items()),
            flush=True,
        )
    for level in options.levels:
        print(level_line(level, rounds))
    return 0


class Run(NamedTuple):
    total: float  # `T_total` in seconds
    inspect: float  # seconds of it on the label `inspect`


def one_round(data: str, flags: list[str], levels: list[str], *, reverse: bool) -> dict[str, Run]:
    """A run of each level, in the order of `levels` or its reverse, so that a drift of the machine hits all alike."""
    runs = {level: timed_run(data, flags, level) for level in (reversed(levels) if reverse else levels)}
    return {level: runs[level] for level in levels}


def timed_run(data: str, flags: list[str], level: str) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        code = train([data, *flags, *flags_of(level), "--no-chart", "--logdir", str(place)])
        if code not in (0, 3):
            raise SystemExit(f"the run ended with exit code {code}")
        stop = read_run(place).stop
        return Run(stop.clock["total"], stop.seconds["inspect"])


def level_line(level: str, rounds: list[dict[str, Run]]) -> str:
    ratio = ratio_line(" ".join(flags_of(level)), [(runs[level].total, runs["off"].total) for runs in rounds])
    if level == ANOMALY:
        return ratio
    seconds = statistics.median(runs[level].inspect for runs in rounds)
    share = statistics.median(runs[level].inspect / runs[level].total for runs in rounds)
    return f"{ratio}; label inspect: {seconds:.2f} s, {share:.2%} of T_total"


def flags_of(level: str) -> list[str]:
    return ["--detect-anomaly"] if level == ANOMALY else ["--inspect", level]


def counts_line(classes: int = 1000, images: int = 50_000) -> str:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.empty(images, classes).normal_(std=3, generator=generator)
    for part in probabilities.split(1000):  # no second table: its peak would hide that of the counts
        part.copy_(part.softmax(1))
    targets = torch.randint(classes, (images,), generator=generator)
    before, begin = peak_mib(), time.perf_counter()
    by_class(count(probabilities, targets))
    seconds = time.perf_counter() - begin
    return f"counts of {classes} classes and {images} images: {seconds:.2f} s, {peak_mib() - before:.0f} MiB more"


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parsed() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--levels", nargs="+", default=["light", "full"], choices=("light", "full", ANOMALY))
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--counts", action="store_true", help="first the counts of 1,000 classes")
    parser.add_argument("flags", nargs="*", help="of the runs, after --")
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    if options.pairs < 1:
        raise SystemExit("--pairs: at least 1")
    return options, words[cut + 1 :]


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
