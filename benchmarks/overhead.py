"""What the trainer costs: images/s of training.engine.trainer.train_part against a bare PyTorch loop, in one process.

Same network, optimiser, batch and precision. In row 1 both train on random tensors made beforehand: the trainer alone.
In row 2 the trainer reads the dataset through its memory loader with augmentation, the bare loop still has its random
tensors: trainer and data pipeline together.

    python benchmarks/overhead.py data/cifar10 [--pairs 20] [--steps 10] [--batch 500] [--size 32]
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from one_line import one_line_errors
from pairs import interleaved, ratio_line

from data_prep import load_manifest
from phases import Schedule
from training.config.config import Config
from training.config.parser import config_from
from training.data.loader import Batch, Loader
from training.engine.optimizers import build_optimizers, normalise_filters
from training.engine.trainer import Job, enter_phase, train_part
from training.engine.warmup import random_batch
from training.runs.session import opened_job

LR = 0.05


class RandomLoader:
    """The loader contract on one batch of random tensors."""

    def __init__(self, batch: Batch, memory: Loader, steps: int) -> None:
        self.batch, self.phase, self.train_images, self.steps = batch, memory.phase, memory.train_images, steps

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        yield from (self.batch for _ in range(start, self.steps))


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory() as folder, opened_job(*benchmark_config(options, folder)) as job:
        job.state.clock.start()
        enter_phase(job, job.parts(0)[0])
        job.state.clock.switch("train")
        measure(job, options)


def measure(job: Job, options: argparse.Namespace) -> None:
    """Print a line per row of the docstring."""
    classes = len(load_manifest(options.data).classes)
    batch = random_batch((options.size, options.size), options.batch, classes, job.state, job.env)
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {job.state.precision.name}, "
        f"width {job.config.width}, batch {options.batch} at {options.size} px, {options.steps} steps a measurement"
    )
    memory, bare = job.loader, bare_loop(job, batch, options.steps)
    memory.steps = options.steps
    synthetic = RandomLoader(batch, memory, options.steps)
    for name, loader in (("trainer / bare loop", synthetic), ("trainer with memory loader / bare loop", memory)):
        job.loader = loader
        trainer = trainer_loop(job, options)
        trainer(), bare()
        print(ratio_line(name, interleaved(trainer, bare, options.pairs)), flush=True)


def trainer_loop(job: Job, options: argparse.Namespace) -> Callable[[], float]:
    def images_per_second() -> float:
        job.state.step = 0
        part = replace(job.parts(0)[0], steps=options.steps)
        begin = time.perf_counter()
        train_part(job, part)
        return options.steps * options.batch / (time.perf_counter() - begin)

    return images_per_second


def bare_loop(job: Job, batch: Batch, steps: int) -> Callable[[], float]:
    """What one would write in a notebook; the optimiser is the recipe's."""
    model = copy.deepcopy(job.state.model).train()
    optimizers = build_optimizers(job.config, model)
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = LR * group["lr_factor"]

    def images_per_second() -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(batch.images.device.type, job.state.precision.dtype):
                logits = model(batch.images)
            F.cross_entropy(logits.float(), batch.targets, label_smoothing=job.config.label_smoothing).backward()
            normalise_filters(optimizers)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        job.env.sync()
        return steps * len(batch.targets) / (time.perf_counter() - begin)

    return images_per_second


def benchmark_config(options: argparse.Namespace, folder: str) -> tuple[Config, Schedule]:
    data = {"ep": 0, "sz": options.size, "bs": options.batch}
    phases = json.dumps([data, {"ep": [0, 1], "lr": [LR, LR]}])
    flags = [options.data, "--recipe", "cifar10-demo", "--phases", phases, "--logdir", folder, "--precision", "bf16"]
    return config_from(flags), Schedule.parse(phases)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a packed dataset of any classes, as by python -m data_prep cifar10")
    for name, default in (("pairs", 20), ("steps", 10), ("batch", 500), ("size", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
