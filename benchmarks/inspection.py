"""What --inspect costs: T_total of whole runs with it against runs without, in turn, and the label `inspect` alone.

    python benchmarks/inspection.py DATA [--levels light full anomaly] [--pairs 10] -- FLAGS OF THE RUN

The level `anomaly` is --detect-anomaly in the place of --inspect.

Ratios are over pairs of one run of this script. Also the time and memory of the validation's counts for 1,000 classes
and 50,000 images (`--counts`).
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from one_line import one_line_errors
from pairs import interleaved, ratio_line

from dawn import read_run
from training.__main__ import main as train
from training.inspect.counts import by_class, count

ANOMALY = "anomaly"


def main() -> int:
    options, flags = parsed()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {' '.join(flags)}", flush=True)
    if options.counts:
        print(counts_line())
    for level in options.levels:
        shares: list[float] = []
        values = interleaved(
            lambda level=level, shares=shares: total_seconds(options.data, flags, level, shares),
            lambda: total_seconds(options.data, flags, "off", []),
            options.pairs,
        )
        share = statistics.median(shares)
        inside = "" if level == ANOMALY else f"; label inspect: {share:.2%} of T_total"
        print(f"{ratio_line(' '.join(flags_of(level)), values)}{inside}", flush=True)
    return 0


def total_seconds(data: str, flags: list[str], level: str, shares: list[float]) -> float:
    """T_total of a run; its share on the label `inspect` is appended to `shares`."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        code = train([data, *flags, *flags_of(level), "--no-chart", "--logdir", str(place)])
        if code not in (0, 3):
            raise SystemExit(f"the run ended with exit code {code}")
        stop = read_run(place).stop
        shares.append(stop.seconds["inspect"] / stop.clock["total"])
        return stop.clock["total"]


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
