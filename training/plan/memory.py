"""Memory of a training step against what there is, and the largest batch that would fit. No torch."""

import os
from pathlib import Path

from phases import DataPhase
from training.errors import ConfigError
from training.logs.machine import resident_bytes
from training.plan.store import Measurements, StepTime

SPARE = 0.95  # of what is free may be asked for


def available_on_cpu() -> int:
    """Bytes that this process, or a run after it, may have in all: what it has and what is free."""
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


def check_plan(phase: DataPhase, step: StepTime, found: Measurements, parts: int) -> None:
    """Of a whole process: the planned peak against the memory that a CPU has now, or the GPU had. Raises: ConfigError
    for a phase that does not fit."""
    if step.peak_bytes is not None:
        room = available_on_cpu() if found.start.device == "cpu" else found.start.memory_bytes
        per_image = step.image_bytes or step.peak_bytes / phase.bs
        check_room(phase, per_image, parts, room, max(0.0, step.peak_bytes - per_image * phase.bs))


def check_room(phase: DataPhase, per_image: float, parts: int, room: float, base: float = 0.0) -> None:
    """`per_image`: bytes that each image of a step takes, `base`: what the process takes without one, `room`: what both
    may take. Raises: ConfigError for a phase whose batch would need more, with the largest that would not, a multiple
    of `parts`."""
    needed, allowed = base + per_image * phase.bs, SPARE * room
    if needed > allowed:
        largest = max(0, int((allowed - base) / per_image)) if per_image else 0
        raise too_large(phase, needed, allowed, largest // parts * parts)


def too_large(phase: DataPhase, needed: float, free: float, largest: int) -> ConfigError:
    """The one line; `largest` 0: not one image fits."""
    advice = (
        f"Use 'bs': {largest} (or --accumulate, which keeps the batch)" if largest else "Use a smaller size or model"
    )
    even = "" if largest else ", and not even one image fits"
    return ConfigError(
        f"the phase at epoch {phase.epoch:g}: bs {phase.bs} at {phase.sz} px needs about {needed / 2**30:.1f} GiB, "
        f"{free / 2**30:.1f} GiB are free{even}. {advice}"
    )
