"""What each part of a recipe costs: seconds of a training step with it against the step without it, in turn.

ResNet-18, random images, 1,000 classes; a ratio above 1 is time that the part takes. Parts that compute more by design
are marked: blur pool convolves more pixels, LAMB and AdamW read and write two averages of every weight, Muon multiplies
matrices. The average of the weights is measured at its default --ema-every of 5, so --steps has to be a multiple of 5.
Policies and repeated augmentation are the loader's work: `python -m training probe` and loaders.py here measure it.

    python benchmarks/recipes.py [PART ...] [--pairs 9] [--steps 5] [--batch 64] [--size 128] [--precision bf16]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from one_line import one_line_errors
from pairs import interleaved, ratio_line

from data_prep.workers import keep_freed_memory
from dawn import Clock
from training.config.config import Config
from training.data.transforms import erase, random_boxes
from training.distributed.env import open_env
from training.engine.precision import Precision
from training.engine.state import new_state
from training.engine.step import step
from training.engine.warmup import random_batch
from training.errors import ConfigError
from training.models.build import build_model

CLASSES = 1000
LR = 1e-3
SGD = {"optimizer": "sgd", "weight_decay": 1e-4}
TIMM = {"model": "timm/resnet18"}
PARTS = {  # name: (the step without it, what is added, whether it computes more by design)
    "nesterov": ({}, {"nesterov": True}, False),
    "adamw": ({}, {"optimizer": "adamw"}, True),
    "lamb": ({}, {"optimizer": "lamb"}, True),
    "lars": ({}, {"optimizer": "lars"}, False),
    "larc": ({}, {"optimizer": "lars", "trust_clip": True}, False),
    "muon": ({}, {"optimizer": "muon"}, True),
    "clip-grad": ({}, {"clip_grad": 1.0}, False),
    "bce": ({}, {"loss": "bce", "label_smoothing": 0.1, "bce_threshold": 0.2}, False),
    "smoothing": ({}, {"label_smoothing": 0.1}, False),
    "mixup": ({}, {"mixup": 0.2}, False),
    "cutmix": ({}, {"cutmix": 1.0}, False),
    "mixup-cutmix": ({}, {"mixup": 0.2, "cutmix": 1.0}, False),
    "ema": ({}, {"ema_decay": 0.999}, False),
    "drop-path": (TIMM, {"drop_path": 0.1}, False),
    "blurpool": ({}, {"blurpool": True}, True),
    "erasing": ({}, {"random_erasing": 1.0}, False),  # of every image; recipes have 0.1
    "accumulate": ({}, {"accumulate": 2}, False),
    "nothing": ({}, {}, False),  # what this machine's noise looks like
}


def main() -> None:
    options = parsed()
    check(options)
    keep_freed_memory()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{device}, torch {torch.__version__}, {options.precision}, batch {options.batch} at {options.size} px, "
        f"{options.steps} steps a measurement"
    )
    for name in options.parts or PARTS:
        base, part, by_design = PARTS[name]
        with_it, without = timed(options, base | part), timed(options, base)
        with_it(), without()
        values = interleaved(with_it, without, options.pairs)
        print(ratio_line(f"{name}{' (computes more)' if by_design else ''}", values), flush=True)


def check(options: argparse.Namespace) -> None:
    """Raises: ConfigError."""
    if wrong := next((name for name in options.parts if name not in PARTS), None):
        raise ConfigError(f"{wrong}: unknown part. Known: {', '.join(PARTS)}")
    for name in ("pairs", "steps", "batch", "size"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} {getattr(options, name)}: at least 1")
    if options.steps % Config().ema_every:
        raise ConfigError(f"--steps {options.steps}: a multiple of {Config().ema_every}, so that averages are updated")


def timed(options: argparse.Namespace, settings: dict) -> Callable[[], float]:
    """Seconds per step of a training state of its own."""
    config = Config(**({"model": "resnet18"} | SGD | settings))
    with open_env(config) as env:
        model, precision = build_model(config, CLASSES), Precision(options.precision, env.device.type)
        state = new_state(config, model, env, precision, Clock(), CLASSES)
        batch = random_batch((options.size, options.size), options.batch, CLASSES, state, env)

    def seconds() -> float:
        begin, rng = time.perf_counter(), np.random.default_rng(0)
        for number in range(options.steps):
            state.step = number
            if config.random_erasing:
                size = (options.size, options.size)
                erase(batch.images, random_boxes(config.random_erasing, rng, options.batch, size))
            step(config, state, batch, LR, None)
        env.sync()
        return (time.perf_counter() - begin) / options.steps

    return seconds


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    for name, default in (("pairs", 9), ("steps", 5), ("batch", 64), ("size", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        main()
