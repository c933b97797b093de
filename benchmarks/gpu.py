"""The checks that need a GPU, one after another, with a short table last.

1. mixed decoding: DALI on the GPU against DALI on the CPU, PSNR over the first pictures of the tree
2. memory: the device's memory in use before and after ten switches between 128 and 288 px
3. probe: ResNet-50 at 128, 160, 224 and 288 px, images/s of loader, model and both

    python benchmarks/gpu.py TREE [--batch 128] [--seconds 5] [--loaders dali packed threads]
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import torch
from one_line import one_line_errors

from data_prep import DataError, load_manifest
from dawn import Clock
from phases import DataPhase, Schedule
from training.config import Config
from training.dataset import has_dali
from training.device import Env
from training.loaders import open_loader
from training.probe import limit, measured
from training.session import build_state

SIZES = (128, 160, 224, 288)
PICTURES = 200
SWITCHES = 10
PHASES = "[{{'ep': 0, 'sz': {size}, 'bs': {batch}, 'min_scale': 0.25}}, {{'ep': (0, 1), 'lr': 0.1}}]"


def main() -> int:
    options = parsed()
    if not torch.cuda.is_available():
        print("no usable CUDA device here: nothing was measured", file=sys.stderr)
        return 2
    rows = [f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batch {options.batch}"]
    for check in (decoding, memory, rates):
        for line in check(options):
            print(line, flush=True)
            rows.append(line)
    print("\n" + "\n".join(rows))
    return 0


def loader_on(device: str, options: argparse.Namespace, size: int, name: str = "dali", dtype=torch.bfloat16):
    """An open loader in its phase, and its configuration. In float32 DALI hands over uint8."""
    text = PHASES.format(size=size, batch=options.batch)
    config, schedule = Config(data=options.tree, phases=text, loader=name, model="resnet50"), Schedule.parse(text)
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
        for size in SIZES:
            try:
                loader, config, schedule = loader_on("cuda", options, size, name)
            except (DataError, ImportError) as error:  # not packed, not installed
                yield f"{name:12} {error}"
                break
            state, _ = build_state(config, schedule, dataset, loader.env, Clock())
            found = measured(config, state, loader.env, loader, options.seconds)
            loader.close()
            yield f"{name:12} {size:4d} {found.loader:9,.0f} {found.model:9,.0f} {found.joint:9,.0f}  {limit(found)}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", metavar="TREE", help="an indexed image tree (packed too, for the packed loader)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--loaders", nargs="+", default=["dali", "packed", "threads"])
    return parser.parse_args()


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
