"""Why a rank ended, for the ranks that will miss it.

The reason lies in the store that the ranks met at. When no launcher keeps that store it lives in rank 0's process, and
is gone with it before the others, who wait for each other in the middle of a step, could ask. So a thread of every rank
looks for a reason now and then, and a rank that leaves one stays until it has been read.

NCCL, which exchanges the tensors of GPUs, does not notice that a rank is gone: its kernels wait, and every read of the
device and destroy_process_group() wait with them. So whoever learns of a failed rank aborts NCCL on its own rank.
"""

import contextlib
import json
import threading
import time

import torch
import torch.distributed as dist

from training.errors import PeerFailed

LOOK_SECONDS = 0.1  # between two looks
STAY_SECONDS = 3.0  # at most, for readers that may be gone as well
GLOO = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "pair closure")


class LastWords:
    """Context manager, of one rank of several."""

    def __init__(self, store: dist.Store, rank: int, world_size: int) -> None:
        self.store, self.rank, self.world_size = store, rank, world_size
        self.told, self.found = False, ""
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.ending, self.aborted, self.closed = threading.Lock(), False, False  # the exchange between GPUs
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> "LastWords":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
        end = time.monotonic() + STAY_SECONDS
        with contextlib.suppress(RuntimeError):
            while self.told and self.store.add("readers", 0) < self.world_size - 1 and time.monotonic() < end:
                time.sleep(0.01)

    def watch(self) -> None:
        with contextlib.suppress(RuntimeError):  # the store is gone
            while not self.look() and not self.ended.wait(LOOK_SECONDS):
                pass
        if not self.ended.is_set() and not self.is_own():
            self.abort()

    def is_own(self) -> bool:
        """Whether the reason that was left is this rank's."""
        return bool(self.found) and json.loads(self.found)[0] == self.rank

    def abort(self) -> None:
        """End the exchange between GPUs without the other ranks, so that what waits for them on this rank goes on, or
        fails."""
        with self.ending:
            backend = None if self.aborted or self.closed else backend_of_gpus()
            if backend is not None:
                self.aborted = True
                backend.abort()

    def close(self) -> None:
        """Leave the process group; other ranks do so, too, unless its exchange was aborted."""
        with self.ending:
            self.closed = True
        if not self.aborted:
            dist.destroy_process_group()

    def look(self) -> bool:
        """Whether a reason has been left. Raises: RuntimeError when the store is gone."""
        with self.lock:
            if not self.found and self.store.check(["failure"]):
                self.found = self.store.get("failure").decode()
                self.store.add("readers", int(json.loads(self.found)[0] != self.rank))
            return bool(self.found)

    def tell(self, text: str, exit_code: int) -> None:
        """Leave the reason why this rank ends. The first reason of all ranks stays."""
        with contextlib.suppress(RuntimeError):
            first = self.store.compare_set("failure", "", json.dumps([self.rank, text, exit_code]))
            self.told = json.loads(first)[0] == self.rank

    def reason(self, error: BaseException) -> PeerFailed | None:
        """Why another rank ended, if that may be behind this rank's `error`."""
        with contextlib.suppress(RuntimeError):
            self.look()
        if self.found:
            rank, text, exit_code = json.loads(self.found)
            return None if rank == self.rank else PeerFailed(f"rank {rank}: {text}", exit_code)
        if is_lost(error):
            return PeerFailed(
                f"rank {self.rank}: another rank is gone without a word, perhaps killed ({short(error)})", 1, True
            )
        return None


def backend_of_gpus() -> dist.Backend | None:
    """NCCL in the open process group; None where gloo serves the GPUs, too, or there are none."""
    try:
        backend = dist.group.WORLD._get_backend(torch.device("cuda"))
    except RuntimeError:  # no backend for that kind of device
        return None
    return None if backend.name() == "gloo" else backend


def is_lost(error: BaseException) -> bool:
    """Whether an exchange with the other ranks failed. gloo has no error class of its own."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in GLOO)
    )


def short(error: BaseException) -> str:
    """'[file:line] Read error [address]: reset. Advice' -> 'Read error [address]: reset'"""
    text = " ".join(str(error).split())
    return (text.partition("] ")[2] if text.startswith("[") else text).split(". ")[0][:120]
