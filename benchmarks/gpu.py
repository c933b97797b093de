"""Thirty minutes on one GPU: the questions of docs/gpu.md, the most important ones first.

    python benchmarks/gpu.py TREE --cifar CIFAR --out gpu.md

TREE is an image tree, resized to 160 px and packed:

    python -m data_prep imagenette data/imagenette && python -m data_prep resize data/imagenette --sizes 160
    python -m data_prep pack data/imagenette-sz/160 && python -m data_prep cifar10 data/cifar10
    python benchmarks/gpu.py data/imagenette-sz/160 --cifar data/cifar10 --out gpu.md

Each line of the table is written to --out and to the output as soon as it is known, so that a run that is cut off has
still brought the first answers. Each part runs in a process of its own, for its share of the thirty minutes at most. A
part that fails, hangs or breaks the device is a line in the table.

`--device cpu` tries every part with tiny settings on a machine without a GPU, for example on a generated dataset
(`data_prep toy data/toy` as CIFAR). Its numbers mean nothing.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import torch
from gpu_graphs import graphs
from gpu_memory import memory
from gpu_runs import evaluation, recipes, resume
from gpu_speed import decoding, probe, training
from one_line import one_line_errors

from data_prep import load_manifest


class Part(NamedTuple):
    work: Callable[[argparse.Namespace], Iterator[str]]
    seconds: int  # at most
    question: str


PARTS = {
    "training": Part(training, 420, "ResNet-50, images/s of a step: eager and compiled, beside timm's loop"),
    "probe": Part(probe, 240, "loader, model and both, images/s; how often a batch makes the CPU wait for the device"),
    "recipes": Part(recipes, 300, "CIFAR-10: seconds by label, kernels a step, with CUDA graphs and without"),
    "decoding": Part(decoding, 120, "DALI's JPEG decoding, images/s by share of the hardware decoder"),
    "evaluation": Part(evaluation, 120, "a first and a second validation of rectangles, kernels tried out and not"),
    "graphs": Part(graphs, 180, "CUDA graphs with parts of a batch, and under DDP of one rank; NCCL aborted"),
    "memory": Part(memory, 180, "memory over ten switches of size, and of DALI beside the largest batch that fits"),
    "resume": Part(resume, 240, "killed and resumed: the same bits? The tests marked gpu"),
}
TINY = {"model": "resnet18", "batch": 4, "sizes": (32,), "val_size": 48, "seconds": 0.1, "rounds": 1}


def main() -> int:
    options = parsed()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no usable CUDA device here: nothing was measured", file=sys.stderr)
        return 2
    if options.part:
        for line in PARTS[options.part].work(options):
            print(line, flush=True)
        return 0
    load_manifest(options.tree), load_manifest(options.cifar)
    with open(options.out, "w") if options.out else tempfile.TemporaryFile("w") as out:
        name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU (a trial: the numbers mean nothing)"
        tell(out, f"# {name}, torch {torch.__version__}, {options.model}, batch {options.batch}")
        for number, part in enumerate(options.parts, start=1):
            tell(out, f"\n## {number}. {part}: {PARTS[part].question}\n")
            run_part(part, out)
    return 0


def run_part(name: str, out: TextIO) -> None:
    """In a process of its own: CUDA does not recover from some errors, nor give back all memory."""
    begin, limit = time.monotonic(), PARTS[name].seconds * (1 if torch.cuda.is_available() else 3)
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, __file__, *sys.argv[1:], "--part", name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        timer = threading.Timer(limit, end_all, [process])
        timer.start()
        try:
            for line in process.stdout:
                tell(out, f"    {line.rstrip()}")
            code = process.wait()
        finally:
            timer.cancel()
            end_all(process)
        errors.seek(0)
        said = [line.strip() for line in errors if line.strip()]
    seconds = time.monotonic() - begin
    if code:
        why = f"cut off after {limit} s" if seconds >= limit else said[-1][:300] if said else f"exit code {code}"
        tell(out, f"    FAILED: {why}")
    tell(out, f"    ({seconds:.0f} s)")


def end_all(process: subprocess.Popen) -> None:
    """The part and the runs that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def tell(out: TextIO, line: str) -> None:
    print(line, flush=True)
    print(line, file=out, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", metavar="TREE", help="an indexed and packed image tree")
    parser.add_argument("--cifar", default="data/cifar10", help="packed CIFAR-10 (default: data/cifar10)")
    parser.add_argument("--out", default="", help="file for the table")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each training loop")
    parser.add_argument("--sizes", nargs="+", type=int, default=(96, 128, 160))
    parser.add_argument("--val-size", type=int, default=288, help="pixels of the validations of rectangles")
    parser.add_argument("--model", default="resnet50", help="one that torchvision and timm both have")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    if options.device == "cpu":
        vars(options).update(TINY)
    options.root = Path(__file__).resolve().parents[1]
    return options


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
