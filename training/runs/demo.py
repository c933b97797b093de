"""`python -m training demo`: what `make demo` runs. CIFAR-10 from a source that answers, a run to its target, the
reports."""

import subprocess
import sys
from pathlib import Path

from training.config.parser import Parser
from training.errors import INPUT_ERROR
from training.runs.folder import interrupted_folder, next_folder

PROMISE = (
    "CIFAR-10: a download of 140 to 170 MB the first time, 190 MB on disk; "
    "then training: half a minute on two CPU cores with AVX512-BF16, 2 to 2.5 minutes with AVX2 alone."
)
NO_CIFAR10 = (
    "NO SOURCE OF CIFAR-10 ANSWERED. THIS DEMO RUNS ON A SMALL GENERATED DATASET INSTEAD: "
    "ITS NUMBERS ARE NOT CIFAR-10 RESULTS."
)
NO_SOURCE = 3  # exit code of `python -m data_prep cifar10` when no source of it answered


def demo(arguments: list[str]) -> int:
    """Prepare, then train in a new run folder, or go on with the newest one if it was interrupted. Returns the exit
    code."""
    parser = Parser(prog="python -m training demo", description=__doc__)
    parser.add_argument("--data", default="data", help="folder for datasets (default: data)")
    parser.add_argument("--runs", default="runs", help="folder for runs (default: runs)")
    options = parser.parse_args(arguments)
    print(PROMISE, flush=True)
    root, recipe = Path(options.data) / "cifar10", "cifar10-demo"
    code = call("data_prep", "cifar10", str(root))
    if code == NO_SOURCE:
        print(NO_CIFAR10, flush=True)
        root, recipe = Path(options.data) / "toy", "toy"
        code = call("data_prep", "toy", str(root))
    return code or train(root, recipe, Path(options.runs))


def train(root: Path, recipe: str, runs: Path) -> int:
    interrupted = interrupted_folder(runs, recipe)
    if interrupted:
        print(f"{interrupted} was interrupted: going on with it.", flush=True)
        code = call("training", "--resume", str(interrupted))
        if code != INPUT_ERROR:
            return code
        print(f"{interrupted} cannot be resumed: starting a new run.", flush=True)
    run = (str(root), "--recipe", recipe, "--inspect", "light")
    print("What to expect on this machine, from a few steps:", flush=True)
    return call("training", "plan", *run) or call("training", *run, "--logdir", str(next_folder(runs, recipe)))


def call(module: str, *arguments: str) -> int:
    """Each part in a process of its own, as a user would start it; Ctrl-C reaches it and is waited for."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
