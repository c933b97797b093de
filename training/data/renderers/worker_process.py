"""A process that makes pictures for a rank."""

import signal

import torch

from training.distributed.process import at_parents_death, end_by_parent_only


def quiet(worker: int = 0) -> None:
    """For a process that has just begun. Workers share the cores: one thread each. Signals are the trainer's business.
    On Linux they die with it at once (torch's own watch takes seconds, in which they would hold the lock of the run
    folder)."""
    at_parents_death(signal.SIGKILL)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_by_parent_only()
