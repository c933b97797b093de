"""Where a run computes: this process's device, threads and peers."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from training.config.config import Config
from training.distributed.group import Group, open_group
from training.distributed.launcher import Ranks, ranks
from training.errors import ConfigError

MAX_WORKERS = 16


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


@contextlib.contextmanager
def open_env(config: Config, alone: bool = False) -> Iterator[Env]:
    """This process, its device and its peers, for as long as the block lasts. Sets process-wide torch switches.
    `alone`: this rank has bad input to tell; where its peers do not come soon, its block runs without them. Raises:
    ConfigError, on all ranks when one of them cannot take part."""
    here = ranks()
    with open_group(config, here, alone) as group:
        env = group.together(lambda: chosen_env(config, here, group))
        devices = group.gather(name_of_gpu(env.device))
        group.together(lambda: check_apart(devices))
        yield env


def chosen_env(config: Config, here: Ranks, group: Group) -> Env:
    threads = config.threads or shared_threads(here)
    if threads:
        torch.set_num_threads(threads)
    device = chosen_device(config, here)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # It tunes every new shape anew (pytorch#2759): the warm-up meets those of training before the clock starts, and
        # validation is not tuned (training.engine.precision.untuned_kernels).
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; the fast formats have names of their own
    return Env(device, here.rank, here.world_size, group)


def chosen_device(config: Config, here: Ranks) -> torch.device:
    """Raises: ConfigError for one that is not there, or that --sync-bn does not work on."""
    found = torch.cuda.device_count() if config.device != "cpu" and torch.cuda.is_available() else 0
    if config.device == "cpu" or (config.device == "auto" and not found):
        if config.sync_bn:
            raise ConfigError("--sync-bn: torch has it for GPUs only. Leave it out on a CPU")
        return torch.device("cpu")
    return torch.device("cuda", device_index(config.device, here.local_rank, found))


def device_index(wanted: str, local_rank: int, found: int) -> int:
    """Of the `found` GPUs that this process sees. With `srun --gpus-per-task=1` each rank sees its own alone, which is
    number 0 whatever its local rank. Raises: ConfigError."""
    if found == 1:
        return 0
    if local_rank >= found:
        raise ConfigError(
            f"--device {wanted}: no usable CUDA device here for local rank {local_rank} "
            f"(found: {found}). Use --device cpu, or start one process per device"
        )
    return local_rank


def name_of_gpu(device: torch.device) -> str:
    """A name that no other GPU (or part of one, MIG) on any machine has; "" for a CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def check_apart(devices: list[str]) -> None:
    """`devices`: by rank, see name_of_gpu. Raises: ConfigError for two ranks on one GPU, which NCCL cannot serve."""
    for rank, device in enumerate(devices):
        first = devices.index(device)
        if device and first != rank:
            raise ConfigError(
                f"ranks {first} and {rank} have the same GPU ({device}). Start one process per GPU, or use --device cpu"
            )


def shared_threads(here: Ranks) -> int:
    """The cores shared among the ranks of this machine, when the launcher has set one thread for want of knowing;
    0: as the user or torch has it."""
    # One thread a process suits a loop on a GPU; where the CPU trains it would leave the other cores idle.
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
