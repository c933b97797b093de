"""Toy runs of several ranks: forked processes with the environment that a launcher would make, or torchrun itself.

A run of two forked ranks costs two seconds; one under torchrun more than ten, because each process imports torch anew.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from run_toy import PHASES, Child, Ended, toy_arguments

SECONDS = 60  # limit of a whole run, on a busy machine
TIMEOUT = ["--timeout-minutes", "0.2"]  # how long a rank waits for another
HALVES = [{**phase, "bs": phase["bs"] // 2} if "bs" in phase else phase for phase in PHASES]  # the same global batches


class Ranks:
    """`python -m training ARGUMENTS` in `count` processes that meet. `restarts`: how often a launcher has started them
    before; `limits` by rank and `before`: see run_toy.Child."""

    def __init__(
        self,
        *arguments: Any,
        count: int = 2,
        restarts: int = 0,
        limits: dict[int, tuple[int, int]] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        port = free_port()
        self.began = time.monotonic()
        self.children = [
            Child([*arguments], (limits or {}).get(rank), environment(rank, count, restarts, port), before)
            for rank in range(count)
        ]

    def wait(self, seconds: float = SECONDS) -> list[Ended]:
        """All ranks' ends, by rank, within `seconds` from the start; otherwise none is left running."""
        try:
            return [child.wait(max(self.began + seconds - time.monotonic(), 0.1)) for child in self.children]
        finally:
            for child in self.children:
                child.process.kill()


def environment(rank: int, count: int, restarts: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run_ranks(*arguments: Any, seconds: float = SECONDS, **settings: Any) -> list[Ended]:
    return Ranks(*arguments, **settings).wait(seconds)


def pair_arguments(base: Path, folder: Path, *more: str) -> list[str]:
    """A new run of the small schedule by two ranks."""
    return toy_arguments(base / "toy", folder, "--phases", repr(HALVES), *TIMEOUT, *more)
