"""The fastest renderer of JPEG trees on a CPU: processes make the pictures in memory that they share with the rank. No
picture is sent, and on a CPU none is copied. Unlike threads, workers never wait for one another's interpreter."""

import math
import mmap
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep import DataError
from training.data.renderers.base import PREFETCH, Request, quiet, shape_of, shares_of
from training.data.renderers.cuts import Cuts
from training.data.renderers.filler import Filler
from training.data.renderers.transfer import Transfer
from training.distributed.env import worker_count
from training.errors import ConfigError, WorkerLost


class Slot:
    """Memory of one batch, shared with the processes that are forked later. Not in /dev/shm, which containers keep
    small."""

    def __init__(self) -> None:
        self.file = os.fdopen(os.memfd_create("batch"), "r+b")
        self.memory = mmap.mmap(-1, 1)  # of the file, once it has a size

    def fit(self, size: int) -> None:
        """Grow to `size` bytes, or give what is left behind them back to the system if that is most of the memory.
        Nobody may be writing."""
        end = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if len(self.memory) < size:
            self.file.truncate(size)
            self.map(size)
        elif len(self.memory) > max(2 * size, end):
            with suppress(OSError):  # gVisor cannot: then the memory stays
                self.memory.madvise(mmap.MADV_REMOVE, end, len(self.memory) - end)

    def map(self, size: int) -> None:
        """For this process, at least `size` bytes of the file."""
        if len(self.memory) < size:
            self.memory = mmap.mmap(self.file.fileno(), size)

    def batch(self, shape: tuple[int, ...]) -> Tensor:
        """The first bytes of the memory, which has to fit: uint8. It shows what any process writes there later."""
        size = math.prod(shape)
        self.map(size)
        return torch.from_numpy(np.frombuffer(self.memory, np.uint8, size).reshape(shape))


class Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection

    def ask(self, message: bytes) -> None:
        """Raises: WorkerLost."""
        try:
            self.pipe.send_bytes(message)
        except OSError:
            raise self.lost() from None

    def answer(self) -> Exception | None:
        """To the oldest request that has none. Raises: WorkerLost."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            raise self.lost() from None

    def lost(self) -> WorkerLost:
        self.process.join()
        code, why = self.process.exitcode, ""
        end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with code {code}"
        if code == -signal.SIGKILL:
            why = ", perhaps because memory ran out: fewer --workers need less"
        return WorkerLost(f"loader process {self.process.pid} {end}{why}")


class ProcessesRenderer:
    """See training.data.renderers.base.Renderer. Workers are forked at the first request and live until `close`."""

    def __init__(self, filler: Filler, workers: int, device: torch.device) -> None:
        self.filler, self.device, self.transfer = filler, device, Transfer(device)
        self.number_of_workers = max(1, workers)
        self.workers: list[Worker] = []
        self.slots = [Slot() for _ in range(PREFETCH + 1)]
        self.next_slot = cycle(range(len(self.slots)))
        self.waiting: deque[tuple[int, Request]] = deque()  # slots and requests of the current pass

    def enter(self, parts: list[tuple[str, str]]) -> None:
        """Workers that live already open for themselves what is new, and keep what they have: maps of files."""
        self.filler.cuts.enter({folder for folder, _ in parts})

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        for _ in self.waiting:  # of a pass that was abandoned
            self.answers()
        waiting = self.waiting = deque()
        for request in requests:
            self.begin(request, waiting)
            if len(waiting) > PREFETCH:
                yield self.finished(waiting)
        while waiting:
            yield self.finished(waiting)

    def begin(self, request: Request, waiting: deque[tuple[int, Request]]) -> None:
        self.check_current(waiting)
        number = next(self.next_slot)
        self.slots[number].fit(math.prod(shape_of(request)))
        if not self.workers:
            self.fork()
        # Once for all workers, without what they do not need: a pipe holds about 200 KB, and then the rank would wait.
        message = ForkingPickler.dumps((number, request._replace(labels=request.labels[:0], boxes=None)))
        for worker in self.workers:
            worker.ask(message)
        waiting.append((number, request))

    def finished(self, waiting: deque[tuple[int, Request]]) -> Tensor:
        """The oldest batch. Raises: DataError."""
        self.check_current(waiting)
        number, request = waiting.popleft()
        for error in filter(None, self.answers()):
            raise error
        out = self.slots[number].batch(shape_of(request))
        return self.transfer.to_device(out.pin_memory() if self.device.type == "cuda" else out)

    def check_current(self, waiting: deque[tuple[int, Request]]) -> None:
        if waiting is not self.waiting:
            raise RuntimeError("a pass of the loader went on after another one had begun")

    def fork(self) -> None:
        """Raises: ConfigError where the system allows no more processes or open files."""
        try:
            for number in range(self.number_of_workers):
                self.workers.append(self.forked(number))
        except OSError as error:
            raise ConfigError(
                f"--workers {self.number_of_workers}: process {number + 1} of the loader cannot be started "
                f"({error.strerror}). Use fewer, or raise the limit (ulimit -a)"
            ) from None

    def forked(self, number: int) -> Worker:
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        inherited = [here, *(worker.pipe for worker in self.workers)]
        given = (there, inherited, self.filler, self.slots, number, self.number_of_workers)
        process = context.Process(target=work, args=given, daemon=True)
        process.start()
        there.close()  # or the rank would not notice that the process is gone
        return Worker(process, here)

    def answers(self) -> list[Exception | None]:
        """To the oldest request, one from each worker."""
        return [worker.answer() for worker in self.workers]

    def close(self) -> None:
        for worker in self.workers:
            worker.process.kill()  # it has nothing to lose, and may not yet listen to SIGTERM
            worker.process.join()
            worker.pipe.close()
        for slot in self.slots:
            slot.file.close()
        self.workers, self.slots = [], []


def work(
    pipe: Connection, inherited: list[Connection], filler: Filler, slots: list[Slot], number: int, workers: int
) -> None:
    """What a worker does until its rank ends it: one share of every batch. `inherited`: the rank's ends of pipes."""
    quiet()
    for end in inherited:  # or this process would not notice that the rank is gone
        end.close()
    with suppress(EOFError, OSError):  # the rank is gone; what else goes wrong is in the answer
        while True:
            slot, request = pipe.recv()
            pipe.send(filled(filler, request, slots[slot], shares_of(request, workers)[number]))


def filled(filler: Filler, request: Request, slot: Slot, places: range) -> Exception | None:
    """An error travels as a value, for the rank to raise; one that is not expected with its traceback."""
    try:
        filler.fill(request, slot.batch(shape_of(request)), places)
    except DataError as error:
        return error
    except Exception as error:
        reason = RuntimeError(f"loader process {os.getpid()}: {type(error).__name__}: {error}")
        reason.add_note(traceback.format_exc())
        return reason
    return None


def open_renderer(config, folders, env, dtype, largest_batch) -> ProcessesRenderer:
    return ProcessesRenderer(Filler(folders, env.rank, Cuts(config)), worker_count(config), env.device)
