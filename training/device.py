"""Where a run computes and in which number format."""

import contextlib
import copy
import os
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Config
from training.outcome import ConfigError
from training.resolve import world_size

SMALL_PIXELS = 64
MAX_WORKERS = 16
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Env:
    """This process among its peers."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    def sync(self) -> None:
        """Wait until the device has done its work, so that a time stamp means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Precision:
    """fp32, bf16 or fp16 under autocast; weights, statistics and the loss stay fp32."""

    name: str
    device_type: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device_type, self.dtype, enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Dynamic loss scaling, which only fp16 needs; otherwise it passes everything through."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")


def open_env(config: Config) -> Env:
    """Choose the device and set process-wide torch switches. Raises: ConfigError."""
    if world_size() > 1:
        raise ConfigError(f"WORLD_SIZE {world_size()}: training runs in one process. Start it without torchrun")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no usable CUDA device here. Use --device cpu or auto")
    use_cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if config.threads:
        torch.set_num_threads(config.threads)
    if use_cuda:
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; the fast formats have names of their own
    return Env(torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if use_cuda else torch.device("cpu"))


def worker_count(config: Config) -> int:
    """Processes or threads that prepare images: --workers, or the usable CPU cores shared among the local ranks."""
    if config.workers >= 0:
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def choose_precision(config: Config, env: Env, model: nn.Module, size: int) -> Precision:
    """The configured precision. On a GPU `auto` is bf16 where the hardware has it, else fp16; on a CPU it times a
    step in fp32 and in bf16 on copies and takes the faster (bf16 also runs, slower, on hardware that lacks it)."""
    if config.precision != "auto":
        return Precision(config.precision, env.device.type)
    if env.device.type == "cuda":
        return Precision("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", "cuda")
    seconds = {name: step_seconds(model, Precision(name, "cpu"), size) for name in ("fp32", "bf16")}
    return Precision(min(seconds, key=seconds.get), "cpu")


def step_seconds(model: nn.Module, precision: Precision, size: int, batch_size: int = 64) -> float:
    """Best of three training steps on random images, without touching `model`."""
    batch_size = batch_size if size <= SMALL_PIXELS else batch_size // 8
    images = torch.randn(batch_size, 3, size, size).to(memory_format=torch.channels_last)
    trial = copy.deepcopy(model).train()
    return min(timed_step(trial, precision, images) for _ in range(4))


def timed_step(model: nn.Module, precision: Precision, images: Tensor) -> float:
    begin = time.perf_counter()
    with precision.autocast():
        logits = model(images)
    F.cross_entropy(logits.float(), torch.zeros(len(images), dtype=torch.long)).backward()
    return time.perf_counter() - begin
