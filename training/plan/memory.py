"""Memory of a training step: what it needed, what there is, and the largest batch that would fit."""

import contextlib
import os
from pathlib import Path

import torch

from phases import DataPhase
from training.distributed.env import Env
from training.errors import ConfigError
from training.logs.environment import peak_memory_bytes, resident_bytes

SPARE = 0.95  # of what is free may be asked for


def peak_bytes(env: Env) -> int:
    """Largest memory since reset_peak: of the GPU's allocator, or this process's resident memory."""
    if env.device.type == "cuda":
        return peak_memory_bytes(env)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return peak_memory_bytes(env)


def reset_peak(env: Env) -> None:
    """From here on peak_bytes counts anew (proc_pid_clear_refs(5)); where the system refuses, it goes on."""
    if env.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(env.device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def available_bytes(env: Env) -> int:
    """That this process may have in all: what it has and what is free."""
    if env.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(env.device)
        return free + torch.cuda.memory_reserved(env.device)
    return resident_bytes() + free_bytes()


def free_bytes() -> int:
    """Of the machine, or of this container where it has less."""
    limit, used = cgroup("memory.max"), cgroup("memory.current")
    within = [limit - used] if limit and used else []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return max(0, min([free, *within]))


def cgroup(name: str) -> int | None:
    try:
        text = Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def check_room(phase: DataPhase, per_image: float, parts: int) -> None:
    """`per_image`: bytes that each image of a step takes. Raises: ConfigError for a phase whose batch would need more
    than is free, with the largest that would not, a multiple of `parts`."""
    free = SPARE * free_bytes()
    if per_image * phase.bs > free:
        raise too_large(phase, per_image * phase.bs, free, int(free / per_image) // parts * parts)


def too_large(phase: DataPhase, needed: float, free: float, largest: int) -> ConfigError:
    """The one line; `largest` 0: not one image fits."""
    advice = (
        f"Use 'bs': {largest} (or --accumulate, which keeps the batch)" if largest else "Use a smaller size or model"
    )
    even = "" if largest else ", and not even one image fits"
    return ConfigError(
        f"the phase at epoch {phase.epoch}: bs {phase.bs} at {phase.sz} px needs about {needed / 2**30:.1f} GiB, "
        f"{free / 2**30:.1f} GiB are free{even}. {advice}"
    )
