"""Who this process is among its peers, read from the environment that its launcher made. No torch.

torchrun and `python -m torch.distributed.launch` set RANK, LOCAL_RANK, WORLD_SIZE; `srun` sets SLURM_* variables for
each task of a step; `mpirun` sets those of Open MPI, MPICH or MVAPICH. Without any a process is alone.
"""

import os
import re
import sys
import zlib
from dataclasses import dataclass

from dawn.commandline import quoted
from training.errors import ConfigError

FIRST_PORT, PORTS = 20_000, 12_000  # a job's number is added, so that two jobs on a machine differ; Linux hands out the
# ports from 32768 on to anybody


@dataclass(frozen=True)
class Ranks:
    rank: int = 0
    local_rank: int = 0  # on this machine
    world_size: int = 1
    local_world_size: int = 1
    restarts: int = 0  # how often the launcher has started this run again


@dataclass(frozen=True)
class Launcher:
    """The environment variables in which it tells a process its place."""

    rank: str
    local_rank: str
    world_size: str
    local_world_size: str
    restarts: str = ""


ALONE = Ranks()
TORCHRUN = Launcher("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
OPEN_MPI = Launcher(*(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "LOCAL_RANK", "SIZE", "LOCAL_SIZE")))
MVAPICH = Launcher(*(f"MV2_COMM_WORLD_{name}" for name in ("RANK", "LOCAL_RANK", "SIZE", "LOCAL_SIZE")))
HYDRA = Launcher("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", "MPI_LOCALNRANKS")  # of MPICH and Intel MPI
SLURM = Launcher(
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_RESTART_COUNT"
)
MPI = (OPEN_MPI, MVAPICH, HYDRA)
LAUNCHERS = (TORCHRUN, *MPI, SLURM)  # mpirun starts its helpers by srun, so that a rank of it has Slurm's variables too
PMIX = "PMIX_RANK"  # what a launcher of that standard sets; not how many there are


def launcher() -> Launcher | None:
    """The innermost that has started this process, as one of several or again; None for a process that is alone.
    Raises: ConfigError for one that does not tell enough."""
    if {TORCHRUN.world_size, TORCHRUN.rank} <= os.environ.keys():
        return TORCHRUN
    found = next((one for one in (*MPI, SLURM) if size(one) > 1 and one.local_rank in os.environ), None)
    if found or TORCHRUN.world_size in os.environ:  # a batch script may export that alone
        return found or TORCHRUN
    if name := variable_of_another():
        raise ConfigError(
            f"environment variable {name}={os.environ[name]!r}: set by a launcher that does not tell this process its "
            "number, the number of processes and the number on this machine. Start with torchrun, or unset it to train "
            "alone"
        )
    return None


def variable_of_another() -> str:
    """By which a launcher that is not known says that it starts several processes; "" without one."""
    if size(HYDRA) > 1:
        return HYDRA.world_size
    sized = any(one.world_size in os.environ for one in LAUNCHERS)
    return PMIX if PMIX in os.environ and not sized else ""


def size(launcher: Launcher) -> int:
    return number(launcher.world_size, 1)


def ranks() -> Ranks:
    """Raises: ConfigError for a variable that is no number or out of range."""
    found = launcher()
    if found is None:
        return ALONE
    local = tasks_here() if found is SLURM else number(found.local_world_size, 1)
    restarts = number(found.restarts, 0) if found.restarts else 0
    return checked(Ranks(number(found.rank, 0), number(found.local_rank, 0), size(found), local, restarts))


def rank_word() -> str:
    """This process's rank as its launcher wrote it, right or wrong."""
    names = (*(one.rank for one in LAUNCHERS), PMIX)
    return next((os.environ[name] for name in names if name in os.environ), "0")


def start_words(world_size: int) -> str:
    """What starts a module in so many processes of one machine."""
    return f"torchrun --nproc-per-node={quoted(world_size)} -m" if world_size > 1 else "python -m"


def is_rank() -> bool:
    """Whether a launcher may have started this process."""
    return any(one.rank in os.environ for one in LAUNCHERS)


def warn(text: str) -> None:
    """A line on the error output, of rank 0 alone: all ranks find the same."""
    if ranks().rank == 0:
        print(f"warning: {text}", file=sys.stderr)


def named(ranks: list[int]) -> str:
    """[1, 2, 3, 8] -> 'ranks 1-3, 8'."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][-1] + 1:
            parts[-1].append(rank)
        else:
            parts.append([rank])
    words = ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
    return words and f"rank{'s' if len(ranks) > 1 else ''} {words}"


def tasks_here() -> int:
    """Of a Slurm step: how many tasks a machine has."""
    first = re.match(r"\d+", os.environ.get(SLURM.local_world_size, "1"))
    return int(first.group()) if first else 1


def number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"environment variable {name}={text!r}: must be a whole number. Start with torchrun or alone")
    return int(text)


def checked(found: Ranks) -> Ranks:
    if not (found.rank < found.world_size and found.local_rank < max(found.local_world_size, found.world_size)):
        raise ConfigError(
            f"environment: rank {found.rank} of {found.world_size}, local rank {found.local_rank} of "
            f"{found.local_world_size}: a rank counts from 0. Start with torchrun or alone"
        )
    return found


def rendezvous_url(dist_url: str) -> str:
    """Where the ranks meet: --dist-url, else env:// (torchrun), else the first machine of the Slurm step, else this
    machine when mpirun has started all ranks on it. Raises: ConfigError."""
    found, here = launcher(), ranks()
    if found is TORCHRUN and here.world_size > 1 and found.rank not in os.environ:
        raise ConfigError(f"{because()}, but RANK is not set, so every process would be number 0. Start with torchrun")
    if dist_url not in ("", "env://") or "MASTER_ADDR" in os.environ:
        return dist_url or "env://"
    if found is SLURM:
        port = number("SLURM_JOB_ID", 0) + 101 * number("SLURM_STEP_ID", 0)
        return f"tcp://{first_host(os.environ.get('SLURM_STEP_NODELIST', ''))}:{FIRST_PORT + port % PORTS}"
    if found in MPI and here.local_world_size == here.world_size:
        job = os.environ.get("PMIX_NAMESPACE") or str(os.getppid())  # of all ranks
        return f"tcp://127.0.0.1:{FIRST_PORT + zlib.crc32(job.encode()) % PORTS}"
    if found in MPI:
        raise ConfigError(
            "mpirun on several machines: it does not tell where the ranks meet. Give --dist-url tcp://HOST:PORT, "
            "HOST being rank 0's machine, or start with torchrun"
        )
    if here.world_size > 1:
        raise ConfigError(
            f"{because()}, so this process is one of {here.world_size}, but MASTER_ADDR does not tell where they meet. "
            "Unset these to train alone, or give --dist-url tcp://HOST:PORT"
        )
    return "env://"


def because() -> str:
    """The environment variables that make this process one of several."""
    found = launcher()
    names = (found.rank, found.world_size) if found else ()
    return ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)


def first_host(node_list: str) -> str:
    """'gpu[07-09,12],x1' -> 'gpu07', 'rack[0-1]node[2-3]' -> 'rack0node2': the machine of rank 0."""
    name = re.sub(r"\[(\w+)[^\]]*\]", r"\1", node_list).split(",")[0]
    if not name or "[" in name:
        raise ConfigError(f"SLURM_STEP_NODELIST={node_list!r}: names no machine. Give --dist-url tcp://HOST:PORT")
    return name
