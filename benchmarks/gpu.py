"""The checks that need a GPU, one after another, with a short table last.

1. mixed decoding: DALI on the GPU against DALI on the CPU, PSNR over the first pictures of the tree
2. memory: the device's memory in use before and after ten switches between 128 and 288 px
3. probe: ResNet-50 at 128, 160, 224 and 288 px, images/s of loader, model and both
4. training: ResNet-50 at these sizes, bf16 and channels_last, eager and compiled, against the steps of timm's and
   torchvision's training scripts in turn, on one batch that stays on the device ("synthetic"), and ours with real data;
   with the share of the rate that matrices of the same format multiply at

    python benchmarks/gpu.py TREE [--batch 128] [--seconds 5] [--loaders dali packed threads] [--checks ...]

`--device cpu` tries the script, with small --model, --batch, --sizes, --seconds and --rounds, on a machine without a
GPU: its numbers mean nothing (the checks decoding and memory are left out).
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import torch
from one_line import one_line_errors
from training_loops import LOOPS, flops_per_image, matmul_flops, random_images

from data_prep import DataError, load_manifest
from dawn import Clock
from phases import DataPhase, Schedule
from training.config.config import Config
from training.data.dataset import has_dali
from training.data.loader import open_loader
from training.distributed.env import Env
from training.runs.probe import endless, images_per_second, limit, measured
from training.runs.session import build_state

SIZES = (128, 160, 224, 288)
PICTURES = 200
SWITCHES = 10
MATRIX = {"cuda": 8192, "cpu": 512}  # side
PHASES = "[{{'ep': 0, 'sz': {size}, 'bs': {batch}, 'min_scale': 0.25}}, {{'ep': (0, 1), 'lr': 0.1}}]"


def main() -> int:
    options = parsed()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no usable CUDA device here: nothing was measured", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU (a trial)"
    rows = [f"{name}, torch {torch.__version__}, {options.model}, batch {options.batch}"]
    torch.backends.cudnn.benchmark = True
    for check in options.checks:
        for line in CHECKS[check](options):
            print(line, flush=True)
            rows.append(line)
    print("\n" + "\n".join(rows))
    return 0


def loader_on(device: str, options: argparse.Namespace, size: int, name: str = "dali", dtype=torch.bfloat16):
    """An open loader in its phase, and its configuration. In float32 DALI hands over uint8."""
    text = PHASES.format(size=size, batch=options.batch)
    config, schedule = Config(data=options.tree, phases=text, loader=name, model=options.model), Schedule.parse(text)
    manifest = load_manifest(options.tree)
    if manifest.splits["train"].images < options.batch:
        raise SystemExit(f"{options.tree}: fewer training images than --batch {options.batch}")
    loader = open_loader(config, schedule, manifest, Env(torch.device(device)), dtype)
    loader.set_phase(schedule.data[0])
    return loader, config, schedule


def decoding(options: argparse.Namespace) -> Iterator[str]:
    if not has_dali():
        yield "mixed decoding: DALI is not installed"
        return
    pictures = [first_pictures(device, options) for device in ("cpu", "cuda")]
    error = np.square(pictures[0] - pictures[1]).reshape(len(pictures[0]), -1).mean(1)
    psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-6))
    middle = np.median(psnr)
    yield f"mixed decoding against the CPU: {len(psnr)} pictures, PSNR min {psnr.min():.1f}, median {middle:.1f} dB"


def first_pictures(device: str, options: argparse.Namespace) -> np.ndarray:
    """(N, 3, 224, 224) float, in 0..255."""
    loader, *_ = loader_on(device, options, 224, dtype=torch.float32)  # bfloat16 would round by half a level
    images = []
    for batch in loader.train(0):
        images.append((batch.images.float() * loader.std[:, None, None] + loader.mean[:, None, None]).cpu().numpy())
        if sum(map(len, images)) >= PICTURES:
            break
    loader.close()
    return np.concatenate(images)[:PICTURES]


def memory(options: argparse.Namespace) -> Iterator[str]:
    name = "dali" if has_dali() else "torchvision"
    loader, *_ = loader_on("cuda", options, 288, name)
    before = [after_switch(loader, options) for _ in range(2)][-1]
    after = [after_switch(loader, options) for _ in range(SWITCHES)][-1]
    loader.close()
    yield f"memory in use, {name}: {before:,.0f} MiB before and {after:,.0f} MiB after {SWITCHES} switches of size"


def after_switch(loader, options: argparse.Namespace) -> float:
    """MiB of the device in use, by anyone, after some batches at 288 and at 128 px."""
    for size in (288, 128):
        loader.set_phase(DataPhase(0, size, options.batch, val_sz=size, val_bs=options.batch))
        batches = loader.train(0)
        for _ in range(4):
            next(batches, None)
        batches.close()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def rates(options: argparse.Namespace) -> Iterator[str]:
    yield f"{'loader':12} {'px':>4} {'loader/s':>9} {'model/s':>9} {'joint/s':>9}  limited by"
    dataset = load_manifest(options.tree)
    for name in options.loaders:
        for size in options.sizes:
            try:
                loader, config, schedule = loader_on(options.device, options, size, name)
            except (DataError, ImportError) as error:  # not packed, not installed
                yield f"{name:12} {error}"
                break
            state, _ = build_state(config, schedule, dataset, loader.env, Clock())
            found = measured(config, state, loader.env, loader, options.seconds)
            loader.close()
            yield f"{name:12} {size:4d} {found.loader:9,.0f} {found.model:9,.0f} {found.joint:9,.0f}  {limit(found)}"


def training(options: argparse.Namespace) -> Iterator[str]:
    """Medians over rounds in which every loop has its turn."""
    device = torch.device(options.device)
    peak = matmul_flops(device, options.seconds, MATRIX[options.device])
    yield f"matrices, bf16: {peak / 1e12:,.1f} TFLOP/s"
    names = [name for name, *_ in LOOPS if not options.loops or name in options.loops]
    heads = " ".join(f"{name:>14}" for name in names)
    yield f"{'px':>4} {heads}  ours/best peer  of matrices  real data  of synthetic"
    for size in options.sizes:
        rates, real = training_rates(options, size, device)
        mine, peers = (max(rates[n] for n in names if n.startswith("ours") is own) for own in (True, False))
        share = mine * flops_per_image(options.model, size) / peak
        yield (
            f"{size:4d} "
            + " ".join(f"{rates[name]:14,.1f}" for name in names)
            + (f"  {mine / peers:14.3f}  {share:11.1%}  {real:9,.1f}  {real / mine:12.3f}")
        )


def training_rates(options: argparse.Namespace, size: int, device: torch.device) -> tuple[dict[str, float], float]:
    """Images/s by loop on one batch, and of our faster one with real data."""
    batch = random_images(device, size, options.batch)
    wanted = [loop for loop in LOOPS if not options.loops or loop[0] in options.loops]
    steps = {name: make(options.model, device, compiled) for name, make, compiled in wanted}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            found[name].append(images_per_second((batch for _ in count()), step, Env(device), options.seconds))
    rates = {name: statistics.median(values) for name, values in found.items()}
    fastest = max((name for name in steps if name.startswith("ours")), key=rates.get)
    return rates, with_real_data(options, size, steps[fastest], device)


def with_real_data(options: argparse.Namespace, size: int, step: Callable, device: torch.device) -> float:
    """By the fastest loader that is here."""
    rates = [0.0]
    for name in options.loaders:
        try:
            loader, *_ = loader_on(options.device, options, size, name)
        except (DataError, ImportError):
            continue
        rates.append(images_per_second(endless(loader), step, Env(device), options.seconds))
        loader.close()
    return max(rates)


CHECKS = {"decoding": decoding, "memory": memory, "rates": rates, "training": training}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", metavar="TREE", help="an indexed image tree (packed too, for the packed loader)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each training loop")
    parser.add_argument("--loops", nargs="+", choices=[name for name, *_ in LOOPS], help="only these training loops")
    parser.add_argument("--loaders", nargs="+", default=["dali", "packed", "threads"])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--model", default="resnet50", help="one that torchvision and timm both have")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    options = parser.parse_args()
    if options.device == "cpu":
        options.checks = [name for name in options.checks if name in ("rates", "training")]
    return options


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
