"""What every renderer shares: the request that the sample plan makes of a batch before anything is read, the
contract of a renderer, threads that fill a batch, and what a worker process begins with."""

import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from training.data.renderers.transfer import Transfer
from training.distributed.process import at_parents_death, end_by_parent_only

PREFETCH = 3  # batches


class Request(NamedTuple):
    """One batch of B pictures. A picture's way: cut the window out of the stored picture, resize it (antialiased,
    half-pixel centres), cut the output, mirror it, apply the policy; on the device, after normalisation, erase the box.
    An output that reaches past the resized window is black there."""

    folder: str  # DATA + suffix
    split: str  # "train" | "validation"
    rows: np.ndarray  # (B,) int64, rows of that split's index
    labels: np.ndarray  # (B,) int64
    windows: np.ndarray  # (B, 4) int32: top, left, height, width in the stored picture
    resized: np.ndarray  # (B, 2) int32: height, width that the window is resized to
    corners: np.ndarray  # (B, 2) int32: top, left of the output inside the resized window
    size: tuple[int, int]  # height, width of every output
    flips: np.ndarray  # (B,) bool
    policy: np.ndarray | None = None  # (B, K, 2) float32: operation, strength; see training/data/auto_augment.py
    boxes: np.ndarray | None = (
        None  # (B, 4) int32: top, left, height, width in the output; see training/data/transforms.py
    )
    cubic: bool = False  # Keys' filter with a = -0.5, else the triangle (bilinear)


def shape_of(request: Request) -> tuple[int, int, int, int]:
    """Of its batch: (B, height, width, 3)."""
    return (len(request.rows), *request.size, 3)


def shares_of(request: Request, workers: int) -> list[range]:
    """Places of its batch, for each worker."""
    return [range(first, len(request.rows), workers) for first in range(workers)]


class ThreadedRenderer(ABC):
    """Every batch is cut into one share per thread; a kind of renderer says how a share is filled."""

    def __init__(self, workers: int, device: torch.device) -> None:
        self.workers, self.device, self.transfer = max(1, workers), device, Transfer(device)
        # One thread of torch in each of ours: the batch is divided already.
        self.pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))

    def enter(self, parts: list[tuple[str, str]]) -> None:  # noqa: B027 - most have nothing to open
        """Image files are read as they are asked for."""

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        waiting: deque[tuple[Request, Tensor, list[Future]]] = deque()
        try:
            for request in requests:
                waiting.append(self.begun(request))
                if len(waiting) > PREFETCH:
                    yield self.finished(*waiting.popleft())
            while waiting:
                yield self.finished(*waiting.popleft())
        finally:  # an abandoned pass
            for _, _, shares in waiting:
                for share in shares:
                    share.cancel()

    def begun(self, request: Request) -> tuple[Request, Tensor, list[Future]]:
        shape = shape_of(request)
        if self.device.type == "cuda":
            out = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        else:  # by numpy: torch's memory is aligned, and glibc finds no room for it where the batch before has been
            out = torch.from_numpy(np.empty(shape, np.uint8))
        return request, out, self.shared(self.fill, request, out)

    def shared(self, work, request: Request, out: Tensor) -> list[Future]:
        return [self.pool.submit(work, request, out, share) for share in shares_of(request, self.workers)]

    @abstractmethod
    def fill(self, request: Request, out: Tensor, places: range) -> None:
        """The pictures at `places` of a request, in a thread. Raises: DataError."""

    def finished(self, request: Request, out: Tensor, shares: list[Future]) -> Tensor:
        for share in shares:
            share.result()
        return self.transfer.to_device(out)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def quiet(worker: int = 0) -> None:
    """For a process that has just begun. Workers share the cores: one thread each. Signals are the trainer's business.
    On Linux they die with it at once (torch's own watch takes seconds, in which they would hold the lock of the run
    folder)."""
    at_parents_death(signal.SIGKILL)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_by_parent_only()


class Renderer(Protocol):
    """Makes pictures ahead of their use, in order. An abandoned pass does not disturb the next one. Reads no picture
    before `enter`: what is read earlier would be on no clock."""

    def enter(self, parts: list[tuple[str, str]]) -> None:
        """From now on requests are for these (folder, split): open them, and let go of others. Raises: DataError."""

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        """(B, H, W, 3) on the device: uint8, or already normalised in a floating-point format. One pass at a time; a
        batch keeps its pixels until the next one is asked for. Raises: DataError naming a picture that cannot be
        read."""

    def close(self) -> None: ...
