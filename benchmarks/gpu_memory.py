"""Of gpu.py: memory. Whether switches of size keep some, and whether DALI finds room beside the largest batch."""

import argparse
import resource
from collections.abc import Iterator

import torch
from gpu_speed import opened

from data_prep import load_manifest
from dawn import Clock
from phases import DataPhase
from training.data.dataset import has_dali
from training.data.loader import Loader
from training.engine.step import step
from training.engine.warmup import largest, random_batch
from training.runs.session import build_state

SWITCHES = 10
FIRST_TRY = 4096  # images; halved until it fits


def memory(options: argparse.Namespace) -> Iterator[str]:
    name = "dali" if has_dali() else "packed"
    low, high = (128, 288) if options.device == "cuda" else (32, 48)
    loader, *_ = opened(options, high, name)
    before = [after_switch(loader, options, (high, low)) for _ in range(2)][-1]
    after = [after_switch(loader, options, (high, low)) for _ in range(SWITCHES)][-1]
    loader.close()
    yield f"in use with {name}: {before:,.0f} MiB before and {after:,.0f} MiB after {SWITCHES} switches of size"
    yield from beside_the_largest(options, name)


def in_use(device: str) -> float:
    """MiB: of the device by anyone; on a CPU the most of this process."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def after_switch(loader: Loader, options: argparse.Namespace, sizes: tuple[int, int]) -> float:
    """MiB in use after some batches of each size."""
    for size in sizes:
        loader.set_phase(DataPhase(0, size, options.batch, val_sz=size, val_bs=options.batch))
        batches = loader.train(0)
        for _ in range(4):
            next(batches, None)
        batches.close()
    if options.device == "cuda":
        torch.cuda.empty_cache()
    return in_use(options.device)


def beside_the_largest(options: argparse.Namespace, name: str) -> Iterator[str]:
    """The batch that a pre-flight without the loader finds, then the loader and some steps with it."""
    size = options.sizes[-1]
    start = argparse.Namespace(**vars(options) | {"batch": FIRST_TRY if options.device == "cuda" else options.batch})
    loader, config, schedule = opened(options, size, name)
    dataset = load_manifest(options.tree)
    state, _ = build_state(config, schedule, dataset, loader.env, Clock())
    loader.close()
    classes = len(dataset.classes)

    def one_step(batch: int) -> None:
        step(config, state, random_batch((size, size), batch, classes, state, loader.env), 0.0, None)

    found = largest(one_step, start.batch, 1)
    yield f"{size} px: a batch of {found:,} fits without the loader"
    loader, *_ = opened(argparse.Namespace(**vars(options) | {"batch": found}), size, name)
    try:
        for _, batch in zip(range(3), loader.train(0), strict=False):
            step(config, state, batch, 0.0, None)
        yield f"{size} px: it fits with {name}, too; in use {in_use(options.device):,.0f} MiB"
    except (RuntimeError, torch.OutOfMemoryError) as error:
        yield f"{size} px: it does not fit with {name}: {str(error).splitlines()[0][:160]}"
    loader.close()
