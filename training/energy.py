"""Electrical energy of the GPUs, as their own counters tell it (NVML). No program without root is told a CPU's."""

import contextlib

import torch

from training.device import Env


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
    if env.device.type != "cuda":
        return None
    import pynvml

    with contextlib.suppress(pynvml.NVMLError, RuntimeError):
        pynvml.nvmlInit()  # counts its calls, so it may be made again
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(env.device).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000
    return None
