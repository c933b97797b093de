"""What a result must say about the machine and the software it was made with, and the energy it took."""

import contextlib
import os
import platform

import torch

from training.distributed.env import Env, usable_cores
from training.logs.machine import cpu_name, nvml_of, package_version, peak_resident_bytes

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "dawn-harness")
LOADER_PACKAGES = ("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13")  # DALI and its decoder


def hardware(env: Env, devices: int, machines: int) -> dict:
    """Device and its name; how many GPUs or, where CPUs train, machines there are, which two processes may share; CPU
    cores this process may use, memory of a machine, threads of a process."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "device": env.device.type,
        "name": device_name(env),
        "count": devices,
        "machines": machines,
        "processes": env.world_size,
        "cores": usable_cores(),
        "memory_gib": round(memory, 1),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def device_name(env: Env) -> str:
    return torch.cuda.get_device_name(env.device) if env.device.type == "cuda" else cpu_name()


def versions() -> dict[str, str | None]:
    found = {"python": platform.python_version(), "cuda": torch.version.cuda if torch.cuda.is_available() else None}
    if torch.cuda.is_available():
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found | {name: package_version(name) for name in (*PACKAGES, *LOADER_PACKAGES)}


def peak_memory_bytes(env: Env) -> int:
    """Peak of the GPU's allocator, or of this process's resident memory."""
    if env.device.type == "cuda":
        return torch.cuda.max_memory_allocated(env.device)
    return peak_resident_bytes()


class EnergyMeter:
    """Of all ranks together. Not yet run on a GPU where this was developed."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.at_lap = counter_joules(env)

    def lap(self) -> float | None:
        """Joules since the lap before; None where a rank cannot tell. All ranks call it."""
        if self.env.device.type != "cuda":
            return None
        now, before = counter_joules(self.env), self.at_lap
        self.at_lap = now
        used = self.env.group.gather(None if now is None or before is None else now - before)
        return None if None in used else sum(used)


def counter_joules(env: Env) -> float | None:
    """Since the driver was loaded; to a millijoule, renewed about every 20 ms."""
    if env.device.type != "cuda" or not (nvml := nvml_of()):
        return None
    with contextlib.suppress(nvml.NVMLError, RuntimeError):
        card = nvml.nvmlDeviceGetHandleByUUID(gpu_uuid(env))
        return nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000
    return None


def gpu_uuid(env: Env) -> str | None:
    """As NVML wants it; compared, never logged."""
    return f"GPU-{torch.cuda.get_device_properties(env.device).uuid}" if env.device.type == "cuda" else None
