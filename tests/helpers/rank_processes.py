"""Real processes that are the ranks of one run: started once, given one task after another.

They are forked from run_toy's server, which has imported torch, and keep to the environment of torchrun: a task that
calls main() or open_group() meets the others through gloo.
"""

import contextlib
import io
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import run_toy

SECONDS = 600  # on a slow and busy machine


class Failed(NamedTuple):
    """What a task ends with that raised."""

    kind: str
    text: str
    trace: str


class Ended(NamedTuple):
    """A call of main()."""

    code: int
    out: str
    err: str


class World:
    """`size` ranks on this machine. `seconds`: limit of one task."""

    def __init__(self, size: int, seconds: float) -> None:
        self.seconds = seconds
        context = multiprocessing.get_context("forkserver")
        self.pipes, self.processes = [], []
        for rank in range(size):
            here, there = context.Pipe()
            self.processes.append(context.Process(target=serve, args=(there, rank, size), daemon=True))
            self.processes[-1].start()
            there.close()
            self.pipes.append(here)

    def call(self, task: Callable, *arguments: Any, **settings: Any) -> list[Any]:
        """task(*arguments, **settings) on all ranks at once: the results by rank. A task that raises fails the
        test."""
        found = self.attempt(task, *arguments, **settings)
        for result in found:
            assert not isinstance(result, Failed), result.trace
        return found

    def attempt(self, task: Callable, *arguments: Any, **settings: Any) -> list[Any]:
        """As `call`, with Failed in the place of a result."""
        port = run_toy.free_port()
        for pipe in self.pipes:
            pipe.send((task, arguments, settings, port))
        return [self.answer(rank) for rank in range(len(self.pipes))]

    def answer(self, rank: int) -> Any:
        if not self.pipes[rank].poll(self.seconds):
            self.close()
            raise AssertionError(f"rank {rank} still runs after {self.seconds} s")
        return self.pipes[rank].recv()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


@contextlib.contextmanager
def world(size: int, seconds: float = SECONDS) -> Iterator[World]:
    run_toy.start_server()
    opened = World(size, seconds)
    try:
        yield opened
    finally:
        opened.close()


def serve(pipe, rank: int, size: int) -> None:
    """Runs in the child: tasks, until it is killed."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
    run_toy.wait_long_for_peers()
    while True:
        task, arguments, settings, port = pipe.recv()
        os.environ["MASTER_PORT"] = str(port)
        try:
            result = task(*arguments, **settings)
        except Exception as error:
            result = Failed(type(error).__name__, str(error), traceback.format_exc())
        pipe.send(result)


def trained(arguments: list[str]) -> Ended:
    """`python -m training ARGUMENTS` on this rank."""
    from training.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ended(code, out.getvalue(), err.getvalue())
