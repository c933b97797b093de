"""Of gpu.py: whole runs. Recipes with their labels, validations, kill and resume, the tests that need a GPU."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from gpu_speed import opened

from data_prep import load_manifest
from dawn import Clock, Run, read_run
from dawn.tables import percent_text
from phases import Schedule
from training.config.parser import config_from
from training.data.loader import Loader
from training.distributed.env import Env
from training.engine.checkpoint import load
from training.engine.evaluate import predict
from training.engine.state import TrainState, fingerprint
from training.engine.step import step
from training.engine.warmup import random_batch
from training.runs.session import build_state

GRAPHS = ("--compile", "--compile-mode", "reduce-overhead")
COUNTED = 3  # steps
KILL = '{"kind": "kill", "epoch": 1, "step": 2}'


def recipes(options: argparse.Namespace) -> Iterator[str]:
    names, ways = ("cifar10-94", "cifar10-94-gpu"), ((), GRAPHS)
    if options.device == "cpu":
        names, ways = ("toy",), ((),)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for more in ways:
                flags = arguments(options, name, *more)
                kernels = kernels_per_step(options, flags) if not more else 0
                run = trained(options, Path(folder) / f"{name}-{len(more)}", flags)
                way = "CUDA graphs" if more else f"eager, {kernels:.0f} kernels a step"
                yield f"{name}, {way}: {described(run)}"


def arguments(options: argparse.Namespace, recipe: str, *more: str) -> list[str]:
    """A command line; on a CPU a short one."""
    tiny = ("--device", "cpu", "--precision", "fp32", "--width", "0.125", "--epochs", "2", "--short-epoch")
    return [options.cifar, "--recipe", recipe, *(tiny if options.device == "cpu" else ()), "--no-chart", *more]


def trained(options: argparse.Namespace, folder: Path, flags: list[str], codes: tuple[int, ...] = (0, 3)) -> Run:
    command(options, "training", *flags, "--logdir", str(folder), codes=codes)
    return read_run(folder)


def command(options: argparse.Namespace, *words: str, codes: tuple[int, ...] = (0,), folder: Path | None = None) -> str:
    """The output of `python -m WORDS`, run in `folder`. Raises: RuntimeError with its last words."""
    path = os.pathsep.join(filter(None, (str(options.root), os.environ.get("PYTHONPATH"))))
    process = [sys.executable, "-m", *words]
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(process, env=env, cwd=folder, capture_output=True, text=True)
    if done.returncode not in codes:
        raise RuntimeError(f"{' '.join(words[:2])}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def described(run: Run) -> str:
    seen = run.rows[-1].validation
    labels = ", ".join(f"{label} {seconds:.2f}" for label, seconds in run.stop.seconds.items() if seconds >= 0.005)
    accuracy = f"{percent_text(seen.percent('top1'), run.start.target, 2)} %" if seen else "not validated"
    return f"{accuracy} in {run.stop.clock['total']:.2f} s ({labels})"


def kernels_per_step(options: argparse.Namespace, flags: list[str]) -> float:
    """That the device is sent; on a CPU, operations of PyTorch."""
    config = config_from(flags)
    schedule, env, dataset = (
        Schedule.parse(config.phases),
        Env(torch.device(options.device)),
        load_manifest(config.data),
    )
    state, _ = build_state(config, schedule, dataset, env, Clock())
    phase = schedule.data[-1]
    batch = random_batch((phase.sz, phase.sz), phase.bs, len(dataset.classes), state, env)
    for _ in range(COUNTED):
        step(config, state, batch, 0.1, None)
    env.sync()
    with torch.profiler.profile() as profile:
        for _ in range(COUNTED):
            step(config, state, batch, 0.1, None)
        env.sync()
    wanted = getattr(torch.autograd.DeviceType, options.device.upper())
    found = (e for e in profile.events() if e.device_type == wanted and not e.is_user_annotation)
    return sum(not event.name.startswith(("Memcpy", "Memset")) for event in found) / COUNTED


def evaluation(options: argparse.Namespace) -> Iterator[str]:
    """Untuned kernels first: what was tried out once is remembered."""
    size, more = options.val_size, f"'val_sz': {options.val_size}, 'val_bs': {options.batch}, 'rect_val': True"
    loader, config, schedule = opened(options, size, "packed", more)
    state, _ = build_state(config, schedule, load_manifest(options.tree), loader.env, Clock())
    state.model.eval()
    torch.backends.cudnn.benchmark = True
    for name, count in (("not tried out", predict), ("tried out", predict.__wrapped__)):
        seconds = [validation_seconds(loader, state, count) for _ in range(2)]
        yield f"{size} px, kernels {name}: first {seconds[0]:.2f} s, second {seconds[1]:.2f} s"
    loader.close()


@torch.no_grad()
def validation_seconds(loader: Loader, state: TrainState, count: Callable) -> float:
    loader.env.sync()
    begin, correct = time.monotonic(), 0
    for batch in loader.validation():
        correct = correct + (count(state.model, batch.images, state.precision, "none").argmax(1) == batch.targets).sum()
    int(correct)
    return time.monotonic() - begin


def resume(options: argparse.Namespace) -> Iterator[str]:
    flags = arguments(options, "toy" if options.device == "cpu" else "cifar10-94-gpu")
    with tempfile.TemporaryDirectory() as folder:
        whole, again, killed = (Path(folder) / name for name in ("whole", "again", "killed"))
        for undisturbed in (whole, again):
            trained(options, undisturbed, flags)
        command(options, "training", *flags, "--logdir", str(killed), "--inject-fault", KILL, codes=(-9,))
        command(options, "training", "--resume", str(killed), codes=(0, 3))
        first, second, third = (weights_of(folder) for folder in (whole, again, killed))
    yield f"two undisturbed runs: {compared(first, second)}"
    yield f"killed and resumed: {compared(first, third)}"
    tests = ["tests/training/engine/test_step.py", "--collect-only"] if options.device == "cpu" else ["tests"]
    words = ["-m", "gpu", "--rootdir", str(options.root), *tests]  # not -q: it may leave out the line of the counts
    marked = command(options, "pytest", *words, codes=(0, 1, 5), folder=options.root)
    yield f"tests marked gpu: {marked.strip().splitlines()[-1]}"


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder, print)["state"]["model"]


def compared(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> str:
    if fingerprint(first) == fingerprint(second):
        return "the same bits"
    largest = max(float((first[name].double() - second[name].double()).abs().max()) for name in first)
    return f"weights differ by up to {largest:.2g}"
