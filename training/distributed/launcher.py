"""Who this process is among its peers, read from the environment that its launcher made. No torch.

torchrun and `python -m torch.distributed.launch` set RANK, LOCAL_RANK, WORLD_SIZE; `srun` sets SLURM_* variables for
each task of a step; `mpirun` sets those of Open MPI or MPICH. Without any a process is alone.
"""

import os
import re
import sys
from dataclasses import dataclass

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


ALONE = Ranks()


def ranks() -> Ranks:
    """Raises: ConfigError for a variable that is no number or out of range."""
    if "WORLD_SIZE" in os.environ:
        return checked(Ranks(*(number(*pair) for pair in TORCHRUN)))
    if number("SLURM_STEP_NUM_TASKS", 1) > 1:  # only srun sets it, not the batch script around it
        return checked(slurm())
    for names in MPI:
        if number(names[2][0], 1) > 1:
            return checked(Ranks(*(number(*pair) for pair in names)))
    if "PMIX_RANK" in os.environ and "OMPI_COMM_WORLD_SIZE" not in os.environ:
        raise ConfigError(
            f"environment variable PMIX_RANK={os.environ['PMIX_RANK']!r}: this launcher does not tell how many "
            "processes there are. Start with torchrun"
        )
    return ALONE


TORCHRUN = (
    ("RANK", 0),
    ("LOCAL_RANK", 0),
    ("WORLD_SIZE", 1),
    ("LOCAL_WORLD_SIZE", 1),
    ("TORCHELASTIC_RESTART_COUNT", 0),
)


MPI = (  # Open MPI's mpirun; MPICH's and Intel's, which hydra starts
    (
        ("OMPI_COMM_WORLD_RANK", 0),
        ("OMPI_COMM_WORLD_LOCAL_RANK", 0),
        ("OMPI_COMM_WORLD_SIZE", 1),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", 1),
    ),
    (("PMI_RANK", 0), ("MPI_LOCALRANKID", 0), ("PMI_SIZE", 1), ("MPI_LOCALNRANKS", 1)),
)


def warn(text: str) -> None:
    """A line on the error output, of rank 0 alone: all ranks find the same."""
    if ranks().rank == 0:
        print(f"warning: {text}", file=sys.stderr)


def slurm() -> Ranks:
    """Of a task that `srun` started."""
    tasks_per_node = re.match(r"\d+", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    return Ranks(
        number("SLURM_PROCID", 0),
        number("SLURM_LOCALID", 0),
        number("SLURM_STEP_NUM_TASKS", 1),
        int(tasks_per_node.group()) if tasks_per_node else 1,
        number("SLURM_RESTART_COUNT", 0),
    )


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
    if dist_url not in ("", "env://") or "MASTER_ADDR" in os.environ:
        return dist_url or "env://"
    if "SLURM_STEP_NODELIST" in os.environ:
        port = FIRST_PORT + number("SLURM_JOB_ID", 0) % PORTS
        return f"tcp://{first_host(os.environ['SLURM_STEP_NODELIST'])}:{port}"
    here = ranks()
    if here.world_size > 1 and "WORLD_SIZE" not in os.environ:
        if here.local_world_size < here.world_size:
            raise ConfigError(
                "mpirun on several machines: it does not tell where the ranks meet. Give --dist-url tcp://HOST:PORT, "
                "HOST being rank 0's machine, or start with torchrun"
            )
        return f"tcp://127.0.0.1:{FIRST_PORT + os.getppid() % PORTS}"  # the ranks have one parent
    return "env://"


def first_host(node_list: str) -> str:
    """'gpu[07-09,12],x1' -> 'gpu07', 'rack[0-1]node[2-3]' -> 'rack0node2': the machine of rank 0."""
    name = re.sub(r"\[(\w+)[^\]]*\]", r"\1", node_list).split(",")[0]
    if not name or "[" in name:
        raise ConfigError(f"SLURM_STEP_NODELIST={node_list!r}: names no machine. Give --dist-url tcp://HOST:PORT")
    return name
