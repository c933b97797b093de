"""Two ranks on two cores against one rank with two threads, same global batch: images/s of trainer.train_part.

Both are there all the time, as processes of their own, and train in turn on random tensors made beforehand, so that
nothing but the network, the sums of gradients and the engine's own exchanges is measured.

    python benchmarks/ddp.py DATA [--pairs 9] [--steps 4] [--batch 32] [--size 128] [--model resnet18]

DATA: any prepared dataset, such as the one of `python -m data_prep toy data/toy`; only its list of classes is used.
"""

import argparse
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection

from pairs import interleaved, ratio_line

LR = 0.01
START_SECONDS = 300  # to import torch and to meet
ROUND_SECONDS = 600


class Side:
    """`ranks` processes with `threads` threads each, ready to train."""

    def __init__(self, options: argparse.Namespace, ranks: int, threads: int) -> None:
        context, port = multiprocessing.get_context("spawn"), free_port()
        self.images, self.pipes, self.processes = options.steps * options.batch, [], []
        for rank in range(ranks):
            here, there = context.Pipe()
            arguments = (options, rank, ranks, threads, port, there)
            self.processes.append(context.Process(target=serve, args=arguments, daemon=True))
            self.processes[-1].start()
            there.close()
            self.pipes.append(here)
        for pipe in self.pipes:
            answer(pipe, START_SECONDS)

    def images_per_second(self) -> float:
        """Of all ranks together, by the slowest one's clock."""
        for pipe in self.pipes:
            pipe.send("train")
        return self.images / max(answer(pipe, ROUND_SECONDS) for pipe in self.pipes)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def main() -> None:
    options = parsed()
    with closing(Side(options, 2, 1)) as two, closing(Side(options, 1, 2)) as one:
        two.images_per_second(), one.images_per_second()
        values = interleaved(two.images_per_second, one.images_per_second, options.pairs)
    print(
        f"{options.model} at {options.size} px, global batch {options.batch}, {options.precision}, {options.steps} "
        f"steps a measurement, {len(os.sched_getaffinity(0))} cores"
    )
    names = ("two ranks, a thread each", "one rank, two threads")
    for name, rates in zip(names, zip(*values, strict=True), strict=True):
        print(f"{name}: {min(rates):.1f} to {max(rates):.1f} images/s")
    print(ratio_line("two ranks / one rank", values))


def answer(pipe: Connection, seconds: float) -> float:
    if not pipe.poll(seconds):
        sys.exit(f"a rank has not answered in {seconds} s")
    return pipe.recv()


def serve(options: argparse.Namespace, rank: int, ranks: int, threads: int, port: int, pipe: Connection) -> None:
    """Runs in the child: a measurement whenever it is asked for one."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        for seconds in measured(options, ranks, threads, folder):
            pipe.send(seconds)
            pipe.recv()


def measured(options: argparse.Namespace, ranks: int, threads: int, folder: str) -> Iterator[float]:
    """A zero when ready, then seconds of `options.steps` steps each time."""
    from overhead import RandomLoader

    from phases import Schedule
    from training.config.parser import config_from
    from training.engine.trainer import train_part
    from training.engine.warmup import random_batch
    from training.runs.session import opened_job

    batch_size = options.batch // ranks
    data = {"ep": 0, "sz": options.size, "bs": batch_size, "val_bs": 1}
    phases = json.dumps([data, {"ep": [0, 1], "lr": [LR, LR]}])
    flags = [options.data, "--phases", phases, "--model", options.model, "--precision", options.precision]
    flags += ["--device", "cpu", "--threads", str(threads), "--loader", "memory", "--no-tensorboard"]
    with opened_job(config_from([*flags, "--print-freq", "1000", "--logdir", folder]), Schedule.parse(phases)) as job:
        batch = random_batch((options.size, options.size), batch_size, 2, job.state, job.env)
        job.loader = RandomLoader(batch, job.schedule.data_at(0), options.steps)
        job.state.clock.start()
        job.book.phase = job.loader.phase
        job.state.clock.switch("train")
        yield 0.0
        while True:
            job.state.step = 0
            begin = time.perf_counter()
            train_part(job, job.parts(0)[0])
            yield time.perf_counter() - begin


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    for name, default in (("pairs", 9), ("steps", 4), ("batch", 32), ("size", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    options = parser.parse_args()
    if options.batch % 2:
        parser.error("--batch: two ranks share it, so it must be even")
    return options


if __name__ == "__main__":
    main()
