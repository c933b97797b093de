"""TensorBoard scalars under the tags of the 2018 code; the x-axis is the number of training images seen by all
ranks."""

import time
from pathlib import Path

import torch

from training.distributed.env import Env
from training.logs.machine import peak_resident_bytes, resident_bytes

GIB = 2**30


class Scalars:
    """Writes nothing when `enabled` is false. A view of the run: every result comes from run.jsonl."""

    def __init__(self, folder: Path, enabled: bool, attempt: int, images_seen: int) -> None:
        """A later attempt hides what the one before wrote after `images_seen`."""
        self.writer = None
        self.network, self.network_at = network_bytes(), time.monotonic()
        if enabled:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            # purge_step only marks what a reader should hide, and not every reader does: one more reason for run.jsonl.
            self.writer = SummaryWriter(str(folder), purge_step=images_seen + 1 if attempt else None)

    def write(self, images_seen: int, values: dict[str, float]) -> None:
        if self.writer:
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, images_seen)

    def traffic(self) -> dict[str, float]:
        """Gbit/s since the last call, over all interfaces but loopback."""
        before, since = self.network, self.network_at
        self.network, self.network_at = network_bytes(), time.monotonic()
        gbit = [
            (now - then) * 8e-9 / max(self.network_at - since, 1e-9)
            for now, then in zip(self.network, before, strict=True)
        ]
        return {"net/recv_gbit": gbit[0], "net/transmit_gbit": gbit[1]}

    def flush(self) -> None:
        if self.writer:
            self.writer.flush()

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def memory(env: Env) -> dict[str, float]:
    """GiB of the GPU's allocator; on a CPU the resident memory of the process stands under the first two tags."""
    if env.device.type == "cuda":
        m = torch.cuda
        return {
            "memory/allocated_gb": m.memory_allocated() / GIB,
            "memory/max_allocated_gb": m.max_memory_allocated() / GIB,
            "memory/cached_gb": m.memory_reserved() / GIB,
            "memory/max_cached_gb": m.max_memory_reserved() / GIB,
        }
    return {"memory/allocated_gb": resident_bytes() / GIB, "memory/max_allocated_gb": peak_resident_bytes() / GIB}


def network_bytes() -> tuple[int, int]:
    """(received, sent) since boot; (0, 0) where the system does not tell."""
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()[2:]
        rows = [line.split(":", 1)[1].split() for line in lines if not line.strip().startswith("lo:")]
        return sum(int(row[0]) for row in rows), sum(int(row[8]) for row in rows)
    except OSError:
        return 0, 0
