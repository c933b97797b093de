"""Where a run computes and in which number format."""

import contextlib
import copy
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Config
from training.group import Group, open_group
from training.outcome import ConfigError
from training.ranks import Ranks, ranks

SMALL_PIXELS = 64
CLEARLY = 0.8  # of bf16's time; where bf16 is emulated it takes several times as long as fp32
TRIALS = 6
MAX_WORKERS = 16
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Env:
    """This process among its peers."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    group: Group = field(default_factory=Group)

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

    def scaler(self, loss_scale: float = 0.0) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs; otherwise it passes everything through. Dynamic, or with `loss_scale`
        fixed; steps that overflow are left out either way (the 2018 code took them)."""
        enabled = self.name == "fp16"
        if not loss_scale:
            return torch.amp.GradScaler(self.device_type, enabled=enabled)
        fixed = {"growth_interval": 2**31 - 1, "backoff_factor": 1 - 1e-12}  # times this is the same float32
        return torch.amp.GradScaler(self.device_type, loss_scale, enabled=enabled, **fixed)


@contextlib.contextmanager
def open_env(config: Config) -> Iterator[Env]:
    """This process, its device and its peers, for as long as the block lasts. Sets process-wide torch switches.
    Raises: ConfigError, on all ranks when one of them cannot take part."""
    here = ranks()
    with open_group(config, here) as group:
        yield group.together(lambda: chosen_env(config, here, group))


def chosen_env(config: Config, here: Ranks, group: Group) -> Env:
    threads = config.threads or shared_threads(here)
    if threads:
        torch.set_num_threads(threads)
    device = chosen_device(config, here)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; the fast formats have names of their own
    elif config.sync_bn:
        raise ConfigError("--sync-bn: torch has it for GPUs only. Leave it out on a CPU")
    return Env(device, here.rank, here.world_size, group)


def chosen_device(config: Config, here: Ranks) -> torch.device:
    found = torch.cuda.device_count() if config.device != "cpu" and torch.cuda.is_available() else 0
    if config.device == "cpu" or (config.device == "auto" and not found):
        return torch.device("cpu")
    if here.local_rank >= found:
        raise ConfigError(
            f"--device {config.device}: no usable CUDA device here for local rank {here.local_rank} "
            f"(found: {found}). Use --device cpu, or start one process per device"
        )
    return torch.device("cuda", here.local_rank)


def shared_threads(here: Ranks) -> int:
    """The cores shared among the ranks of this machine, when the launcher has set one thread for want of knowing;
    0: as the user or torch has it."""
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1"
    wanted = by_torchrun or (here.world_size > 1 and "OMP_NUM_THREADS" not in os.environ)
    return max(1, usable_cores() // here.local_world_size) if wanted else 0


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(config: Config) -> int:
    """Processes or threads that prepare images: --workers, or the usable CPU cores shared among the local ranks."""
    if config.workers >= 0:
        return config.workers
    return max(1, min(MAX_WORKERS, usable_cores() // ranks().local_world_size))


def choose_precision(config: Config, env: Env, model: nn.Module, size: int) -> Precision:
    """The configured precision. On a GPU `auto` is bf16 where the hardware has it, else fp16; on a CPU it times steps
    in bf16 and in fp32 on copies, and takes fp32 only when it is clearly faster (bf16 also runs, slower, on hardware
    that lacks it): a busy machine must not turn the same command into another experiment."""
    if config.precision != "auto":
        return Precision(config.precision, env.device.type)
    if env.device.type == "cuda":
        return Precision("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", "cuda")
    with torch.random.fork_rng(devices=[]):  # the run's random numbers do not depend on how it came to its precision
        seconds = step_seconds(model, config, size)
    return Precision("fp32" if seconds["fp32"] < CLEARLY * seconds["bf16"] else "bf16", "cpu")


def step_seconds(model: nn.Module, config: Config, size: int, batch_size: int = 64) -> dict[str, float]:
    """Best of several training steps on random images in fp32 and in bf16, in turn, without touching `model`."""
    batch_size = batch_size if size <= SMALL_PIXELS else batch_size // 8
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    images = torch.randn(batch_size, 3, size, size).to(memory_format=layout)
    trial = copy.deepcopy(model).to(memory_format=layout).train()
    best = {"fp32": float("inf"), "bf16": float("inf")}
    for _ in range(TRIALS):
        for name in best:
            best[name] = min(best[name], timed_step(trial, Precision(name, "cpu"), images))
    return best


def timed_step(model: nn.Module, precision: Precision, images: Tensor) -> float:
    begin = time.perf_counter()
    with precision.autocast():
        logits = model(images)
    F.cross_entropy(logits.float(), torch.zeros(len(images), dtype=torch.long)).backward()
    return time.perf_counter() - begin
