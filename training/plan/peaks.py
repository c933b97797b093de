"""The largest memory of each measured step by itself: earlier, larger steps must not count."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import torch

from data_prep.workers import return_freed_memory
from training.distributed.env import Env
from training.logs.environment import peak_memory_bytes
from training.plan.memory import available_on_cpu


def peak_bytes(env: Env) -> int:
    """Largest memory since reset_peak: of the GPU's allocator, or this process's resident memory."""
    if env.device.type == "cuda":
        return peak_memory_bytes(env)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return peak_memory_bytes(env)


def reset_peak(env: Env, trim: bool = True) -> bool:
    """From here on peak_bytes counts anew (proc_pid_clear_refs(5)); with `trim` without what the C library keeps of
    freed blocks. False where the system refuses: peak_bytes then is the largest so far."""
    gc.collect()
    if env.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(env.device)
        return True
    if trim:
        return_freed_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


@contextlib.contextmanager
def peak_noted(env: Env, peaks: list[int], trim: bool = True) -> Iterator[None]:
    """The peak of what is done inside is appended, where it can be told from earlier ones. Without `trim` on top of
    what the steps before have freed, which a run keeps (data_prep.workers.keep_freed_memory)."""
    is_own = reset_peak(env, trim)
    yield
    if is_own:
        peaks.append(peak_bytes(env))


def available_bytes(env: Env) -> int:
    """That this process may have in all: what it has and what is free."""
    if env.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(env.device)
        return free + torch.cuda.memory_reserved(env.device)
    return available_on_cpu()
