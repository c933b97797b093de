"""Batches made by threads of this process: what the renderers without a pipeline of their own share. Decoders and
torch's operations let go of the interpreter, so threads work side by side without copies between processes."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from training.requests import Request

PREFETCH = 3  # batches


class ThreadedRenderer(ABC):
    """See training.loader_tree.Renderer. Every batch is cut into one share per thread; a kind of renderer says how a
    share is filled."""

    def __init__(self, workers: int, device: torch.device) -> None:
        self.workers, self.device = max(1, workers), device
        self.pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))

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
        pinned = self.device.type == "cuda"
        out = torch.empty(len(request.rows), *request.size, 3, dtype=torch.uint8, pin_memory=pinned)
        return request, out, self.shared(self.fill, request, out)

    def shared(self, work, request: Request, out: Tensor) -> list[Future]:
        shares = [range(first, len(request.rows), self.workers) for first in range(self.workers)]
        return [self.pool.submit(work, request, out, share) for share in shares]

    @abstractmethod
    def fill(self, request: Request, out: Tensor, places: range) -> None:
        """The pictures at `places` of a request, in a thread. Raises: DataError."""

    def finished(self, request: Request, out: Tensor, shares: list[Future]) -> Tensor:
        for share in shares:
            share.result()
        return out.to(self.device, non_blocking=True)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
