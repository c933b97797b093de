"""In which number format and with which kernels a run computes, and how `auto` finds out."""

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config.config import Config
from training.distributed.env import Env
from training.models.outputs import logits_of

SMALL_PIXELS = 64
CLEARLY = 0.8  # of bf16's time; where bf16 is emulated it takes several times as long as fp32
TRIALS = 6
SLOWER = {"bf16": "4 to 9", "fp16": "6 to 16"}  # the most with cifarnet at 32 px: docs/training.md has the measurement
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
def untuned_kernels() -> Iterator[None]:
    """Inside, cuDNN takes the convolution that its own rules name and tries none out. It would try for every new pair
    of shape and batch: a validation of rectangles has dozens, and the last batch of any is one of its own."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def choose_precision(config: Config, env: Env, model: nn.Module, size: int) -> Precision:
    """The configured precision. On a GPU `auto` is bf16 where the hardware has it, else fp16. On a CPU that
    lacks it `auto` is fp32; elsewhere it times steps in bf16 and in fp32 on copies, and takes fp32 only when it is
    clearly faster: a busy machine must not turn the same command into another experiment."""
    if config.precision != "auto":
        return Precision(config.precision, env.device.type)
    if env.device.type == "cuda":
        return Precision("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", "cuda")
    if not has_fast_bf16():
        return Precision("fp32", "cpu")
    with torch.random.fork_rng(devices=[]):  # the run's random numbers do not depend on how it came to its precision
        seconds = step_seconds(model, config, size)
    return Precision("fp32" if seconds["fp32"] < CLEARLY * seconds["bf16"] else "bf16", "cpu")


def has_fast_bf16() -> bool:
    """Whether oneDNN has kernels for this CPU; it emulates bf16 with AVX2 alone."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def has_fast_fp16() -> bool:
    """As `has_fast_bf16`; of today's CPUs those with AVX512-FP16 or AMX-FP16."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_fp16_supported()


def emulated(precision: Precision) -> str:
    """What a format costs that this CPU does not have; "" for one that it has, and on a GPU."""
    has = {"bf16": has_fast_bf16, "fp16": has_fast_fp16}.get(precision.name)
    if precision.device_type != "cpu" or has is None or has():
        return ""
    return (
        f"--precision {precision.name}: PyTorch emulates {precision.name} on this processor; a training step takes "
        f"{SLOWER[precision.name]} times as long as in fp32 (measured with AVX2)"
    )


def step_seconds(model: nn.Module, config: Config, size: int, batch_size: int = 64) -> dict[str, float]:
    """Best of several training steps on random images in fp32 and in bf16, in turn, without touching `model`."""
    batch_size = batch_size if size <= SMALL_PIXELS else batch_size // 8
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    images = torch.randn(batch_size, 3, size, size).to(memory_format=layout)
    trial = copy.deepcopy(model).to(memory_format=layout).train()
    best = {"fp32": float("inf"), "bf16": float("inf")}
    for _ in range(TRIALS):
        # In turn, so that a machine that gets busy in between slows down both.
        for name in best:
            best[name] = min(best[name], timed_step(trial, Precision(name, "cpu"), images))
    return best


def timed_step(model: nn.Module, precision: Precision, images: Tensor) -> float:
    begin = time.perf_counter()
    with precision.autocast():
        logits = logits_of(model(images))
    F.cross_entropy(logits.float(), torch.zeros(len(images), dtype=torch.long)).backward()
    return time.perf_counter() - begin
