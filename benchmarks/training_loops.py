"""Training steps of ResNet-50 to compare: ours, and those of timm's and torchvision's training scripts, written down
here as these publish them: what they compute in a step, what they read from the device, their formats.

A step is a function of a batch; all of them train the same network (torchvision's, timm's) of a thousand classes.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dawn import Clock
from training.config.config import Config
from training.data.loader import Batch
from training.distributed.env import Env
from training.engine.precision import Precision
from training.engine.state import new_state
from training.engine.step import step
from training.models.build import build_model

CLASSES = 1000
LR, MOMENTUM, DECAY = 0.1, 0.9, 5e-5
REPORT_STEPS = 10  # ours reads the device this often (--print-freq)
Step = Callable[[Batch], Any]


def ours(model: str, device: torch.device, compiled: bool) -> Step:
    """training.engine.step, with what the trainer reads now and then."""
    config = Config(data="-", model=model, weight_decay=DECAY, label_smoothing=0.1, compile=compiled)
    env = Env(device)
    state = new_state(config, build_model(config, CLASSES), env, Precision("bf16", device.type), Clock(), CLASSES)
    state.model.train()

    def train(batch: Batch) -> None:
        _, loss = step(config, state, batch, LR, MOMENTUM)
        state.step += 1
        if state.step % REPORT_STEPS == 0:
            loss.item()

    return train


def timms(model: str, device: torch.device, compiled: bool) -> Step:
    """timm's train.py with --amp --amp-dtype bfloat16 --channels-last [--torchcompile] on one GPU: the loss is read,
    and the device waited for, in every step."""
    import timm
    from timm.optim import create_optimizer_v2

    network = timm.create_model(model, num_classes=CLASSES).to(device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(network, opt="sgd", lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    forward = torch.compile(network) if compiled else network

    def train(batch: Batch) -> float:
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(forward(batch.images), batch.targets, label_smoothing=0.1)
        read = loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wait_for(device)
        return read

    return train


def torchvisions(model: str, device: torch.device, compiled: bool) -> Step:
    """torchvision's references/classification/train.py with --amp: fp16 with loss scaling, NCHW, and in every step
    loss, top-1 and top-5 read. It has no compiled form."""
    from torchvision.models import get_model

    network = get_model(model, num_classes=CLASSES).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    scaler, criterion = torch.amp.GradScaler(device.type), nn.CrossEntropyLoss(label_smoothing=0.1)

    def train(batch: Batch) -> list[float]:
        images = batch.images.float().contiguous()
        with torch.autocast(device.type, torch.float16):
            output = network(images)
            loss = criterion(output, batch.targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        found = output.topk(5, 1).indices.eq(batch.targets[:, None])
        return [loss.item(), found[:, :1].sum().item(), found.sum().item()]

    return train


LOOPS = (
    ("ours", ours, False),
    ("ours, compiled", ours, True),
    ("timm", timms, False),
    ("timm, compiled", timms, True),
    ("torchvision", torchvisions, False),
)


def random_images(device: torch.device, size: int, batch_size: int) -> Batch:
    images = torch.randn(batch_size, 3, size, size, device=device, dtype=torch.bfloat16)
    targets = torch.randint(CLASSES, (batch_size,), device=device)
    return Batch(images.to(memory_format=torch.channels_last), targets)


def flops_per_image(model: str, size: int) -> float:
    """Of a forward and backward pass, counted by torch (a multiplication and an addition are two)."""
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.models import get_model

    with torch.device("meta"):
        network, image = get_model(model, num_classes=CLASSES), torch.empty(2, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    return counter.get_total_flops() / 2


def matmul_flops(device: torch.device, seconds: float, side: int) -> float:
    """bf16 multiply-adds per second, times two, of square matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    wait_for(device)
    begin, count = time.perf_counter(), 0
    while count < 10 or time.perf_counter() - begin < seconds:
        a @ b
        count += 1
        if count % 10 == 0:
            wait_for(device)
    wait_for(device)
    return 2 * side**3 * count / (time.perf_counter() - begin)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
