"""Of gpu.py: what limits the speed. Training steps, loaders, decoding."""

import argparse
import statistics
import time
import warnings
from collections.abc import Iterator
from itertools import chain, count, islice

import numpy as np
import torch
from training_loops import LOOPS, flops_per_image, matmul_flops, random_images

from data_prep import DataError, load_manifest
from dawn import Clock
from phases import Schedule
from training.config.config import Config
from training.data.dataset import has_dali
from training.data.loader import Loader, open_loader
from training.distributed.env import Env
from training.engine.precision import DTYPES
from training.errors import ConfigError
from training.runs.probe import images_per_second, limit, measured
from training.runs.session import build_state

MATRIX = {"cuda": 8192, "cpu": 256}  # side
LOADERS = (("packed", "map"), ("packed", "device"), ("dali", "map"))
DECODER_SHARES = (0.65, 0.9, 1.0)  # of the images, for the hardware decoder; DALI's own is 0.65
BATCHES = 20  # whose waits are counted
PICTURES = 200
PHASES = "[{{'ep': 0, 'sz': {size}, 'bs': {batch}, 'min_scale': 0.25, {more}}}, {{'ep': (0, 1), 'lr': 0.1}}]"


def opened(
    options: argparse.Namespace, size: int, name: str = "dali", more: str = "", precision: str = "", **settings
) -> tuple[Loader, Config, Schedule]:
    """A loader in its phase, of bf16 on a GPU. In fp32 DALI hands over uint8."""
    precision = precision or ("bf16" if options.device == "cuda" else "fp32")
    settings |= {"model": options.model, "precision": precision, "device": options.device}
    text = PHASES.format(size=size, batch=options.batch, more=more)
    config = Config(data=options.tree, phases=text, loader=name, **settings)
    schedule = Schedule.parse(text)
    loader = open_loader(
        config, schedule, load_manifest(options.tree), Env(torch.device(options.device)), DTYPES[precision]
    )
    loader.set_phase(schedule.data[0])
    return loader, config, schedule


def training(options: argparse.Namespace) -> Iterator[str]:
    """Medians over rounds in which every loop has its turn. On a CPU nothing is compiled."""
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    peak = matmul_flops(device, options.seconds, MATRIX[options.device])
    yield f"matrix products, bf16: {peak / 1e12:,.1f} TFLOP/s"
    loops = [loop for loop in LOOPS if options.device == "cuda" or not loop[2]]
    yield f"{'px':>4} " + " ".join(f"{name:>14}" for name, *_ in loops) + "  of the matrix products' rate"
    for size in options.sizes:
        torch._dynamo.reset()  # a second size would make the peers' graphs dynamic, which are slower
        batch = random_images(device, size, options.batch)
        steps = {name: make(options.model, device, compiled) for name, make, compiled in loops}
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(options.rounds):
            for name, step in steps.items():
                found[name].append(images_per_second((batch for _ in count()), step, Env(device), options.seconds))
        rates = {name: statistics.median(values) for name, values in found.items()}
        mine = max(rate for name, rate in rates.items() if name.startswith("ours"))
        share = mine * flops_per_image(options.model, size) / peak
        yield f"{size:4d} " + " ".join(f"{rate:14,.0f}" for rate in rates.values()) + f"  {share:.1%}"


def probe(options: argparse.Namespace) -> Iterator[str]:
    size = options.sizes[len(options.sizes) // 2]
    yield f"{size} px; {'loader':18} {'loader/s':>9} {'model/s':>9} {'joint/s':>9}  waits/batch  limited by"
    dataset = load_manifest(options.tree)
    for name, place in LOADERS:
        try:
            loader, config, schedule = opened(options, size, name, packed_in=place)
        except (ConfigError, DataError, ImportError) as error:  # not packed, not installed
            yield f"{name} in {place}: {error}"
            continue
        state, _ = build_state(config, schedule, dataset, loader.env, Clock())
        found, waits = measured(config, state, loader.env, loader, options.seconds), waits_of(loader, options.device)
        loader.close()
        rates = f"{found.loader:9,.0f} {found.model:9,.0f} {found.joint:9,.0f}"
        yield f"       {f'{name} in {place}':18} {rates}  {waits:11.1f}  {limit(found)}"


def waits_of(loader: Loader, device: str) -> float:
    """How often a batch makes the CPU wait for the device, as PyTorch tells; 0 on a CPU."""
    batches = loader.train(0)
    next(batches)
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        seen = sum(1 for _ in islice(batches, BATCHES))
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("default")
    batches.close()
    return sum("synchronizing" in str(warning.message) for warning in told) / max(seen, 1)


def decoding(options: argparse.Namespace) -> Iterator[str]:
    if not has_dali():
        yield "DALI is not installed"
        return
    for share in DECODER_SHARES:
        built, rate = decoding_rate(options, share)
        yield f"hw_decoder_load {share:4.2f}: {rate:9,.0f} images/s, built in {built:.2f} s"
    for tree in (options.tree, f"{options.tree}-crops"):
        yield f"random crops to 224 px from {tree}: {crops_rate(options, tree)}"
    pictures = [first_pictures(options, device) for device in {"cpu", options.device}]
    error = np.square(pictures[0] - pictures[-1]).reshape(len(pictures[0]), -1).mean(1)
    psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-6))
    yield f"GPU against CPU: {len(psnr)} pictures, PSNR least {psnr.min():.1f}, median {np.median(psnr):.1f} dB"


def decoding_rate(options: argparse.Namespace, share: float) -> tuple[float, float]:
    """Seconds that the pipeline took to build, and images/s of the files of the tree."""
    from nvidia.dali import fn, pipeline_def

    on_gpu = options.device == "cuda"

    @pipeline_def(batch_size=options.batch, num_threads=8, device_id=0 if on_gpu else None)
    def decoder():
        files, _ = fn.readers.file(file_root=f"{options.tree}/train", random_shuffle=True)
        kind = {"device": "mixed", "hw_decoder_load": share} if on_gpu else {"device": "cpu"}
        return fn.decoders.image(files, **kind)

    begin = time.monotonic()
    pipeline = decoder()
    pipeline.build()
    pipeline.run()
    built, begin, images = time.monotonic() - begin, time.monotonic(), 0
    while time.monotonic() - begin < options.seconds:
        pipeline.run()
        images += options.batch
    return built, images / (time.monotonic() - begin)


def crops_rate(options: argparse.Namespace, tree: str) -> str:
    """Of the loader, from whole files or from files for cutting."""
    try:
        loader, *_ = opened(argparse.Namespace(**vars(options) | {"tree": tree}), 224)
    except (ConfigError, DataError) as error:
        return str(error)
    batches = chain.from_iterable(loader.train(epoch) for epoch in count())
    rate = images_per_second(batches, lambda batch: None, loader.env, options.seconds)
    loader.close()
    return f"{rate:,.0f} images/s"


def first_pictures(options: argparse.Namespace, device: str) -> np.ndarray:
    """(N, 3, 224, 224) float, in 0..255."""
    there = argparse.Namespace(**vars(options) | {"device": device})
    loader, *_ = opened(there, 224, precision="fp32")  # bfloat16 would round by half a level
    images = []
    for batch in loader.train(0):
        images.append((batch.images.float() * loader.std[:, None, None] + loader.mean[:, None, None]).cpu().numpy())
        if sum(map(len, images)) >= PICTURES:
            break
    loader.close()
    return np.concatenate(images)[:PICTURES]
