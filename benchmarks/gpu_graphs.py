"""Of gpu.py: CUDA graphs where their memory is in question, and NCCL of one rank."""

import argparse
import time
from collections.abc import Iterator
from itertools import count

import torch
import torch.distributed as dist
from torch import nn

from training.data.loader import Batch
from training.distributed.env import Env
from training.distributed.failures import backend_of_gpus
from training.distributed.parallel import distributed
from training.runs.probe import images_per_second

CHANNELS, SIDE = 64, 32
GRAPHS = "reduce-overhead"


def graphs(options: argparse.Namespace) -> Iterator[str]:
    for prepared in (False, True):
        yield f"--accumulate 2, gradients {'made before' if prepared else 'of the graph'}: {parts(options, prepared)}"
    yield from under_ddp(options)


def network(device: str) -> nn.Module:
    torch.manual_seed(0)
    blocks = [
        (nn.Conv2d(i, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()) for i in (3, CHANNELS)
    ]
    layers = [layer for block in blocks for layer in block]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)).to(device)


def batch_of(options: argparse.Namespace) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(options.batch, 3, SIDE, SIDE, generator=generator)
    return Batch(images.to(options.device), (torch.arange(options.batch) % 10).to(options.device))


def parts(options: argparse.Namespace, prepared: bool) -> str:
    """How far the gradients of a batch in two parts are from those without a compiler, in the second step: with
    gradients that lie in the graph's memory, or that were made before it."""
    found = []
    for compiled in (False, True):
        model = network(options.device)
        forward = torch.compile(model, mode=GRAPHS) if compiled else model
        try:
            for _ in range(3):
                for parameter in model.parameters():
                    parameter.grad = torch.zeros_like(parameter) if prepared or not compiled else None
                for images, targets in zip(*(tensor.chunk(2) for tensor in batch_of(options)[:2]), strict=True):
                    nn.functional.cross_entropy(forward(images).clone(), targets).backward()
            found.append([parameter.grad.clone() for parameter in model.parameters()])
        except RuntimeError as error:
            return str(error).splitlines()[0][:160]
    differences = [float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(found[1], found[0], strict=True)]
    return f"gradients differ by {max(differences):.2g} of their norm"


def under_ddp(options: argparse.Namespace) -> Iterator[str]:
    """Steps with the compiler outside and inside of DDP, and how often torch left the CUDA graph out; then the abort
    that a failing rank makes."""
    from torch._dynamo.utils import counters

    env = Env(torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu"), world_size=2)
    kind = "cpu:gloo,cuda:nccl" if options.device == "cuda" else "gloo"
    dist.init_process_group(kind, store=dist.HashStore(), rank=0, world_size=1)
    for name in ("outside", "inside"):
        torch._dynamo.reset()
        counters.clear()
        batch, model = batch_of(options), network(options.device)
        try:
            outside = name == "outside"
            inner = distributed(model if outside else torch.compile(model, mode=GRAPHS), env)
            forward = torch.compile(inner, mode=GRAPHS) if outside else inner
            rate = images_per_second((batch for _ in count()), stepping(forward, model), env, options.seconds)
            skips = counters["inductor"]["cudagraph_skips"]
            yield f"compiler {name} of DDP: {rate:,.0f} images/s, CUDA graphs left out {skips} times"
        except RuntimeError as error:
            yield f"compiler {name} of DDP: {str(error).splitlines()[0][:160]}"
    begin, backend = time.monotonic(), backend_of_gpus()
    if backend is not None:
        backend.abort()
    yield f"NCCL aborted in {time.monotonic() - begin:.2f} s" if backend is not None else "gloo: nothing to abort"


def stepping(forward: nn.Module, model: nn.Module):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(batch: Batch) -> None:
        nn.functional.cross_entropy(forward(batch.images), batch.targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return train
