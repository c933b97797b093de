"""Toy runs for the tests of training: a tiny dataset, a schedule of three phases, and a process for each run.

The processes are forked from a server that has imported torch once (multiprocessing's forkserver), so a run costs its
own second and not the import's four; each is a real process that a signal can kill.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from dawn import read_run
from training.__main__ import main
from training.engine.checkpoint import load
from training.engine.state import fingerprint

KILLED = -signal.SIGKILL  # exit status
SECONDS = 600  # limit of one run, on a slow and busy machine
PORTS = itertools.count(os.getpid() % 1000)
EVERY_STEP = "0.000001"  # minutes between checkpoints
PHASES = [
    {"ep": 0, "sz": 12, "bs": 40},
    {"ep": 1, "sz": 16, "bs": 40},
    {"ep": 2, "sz": 16, "bs": 60},
    {"ep": (0, 1), "lr": (0.05, 0.2)},
    {"ep": (1, 3), "lr": (0.2, 0.0)},
]
STEPS = (6, 6, 4)  # of epochs 0, 1, 2 with the 240 images of the toy dataset
SMALL = ["--recipe", "toy", "--width", "0.125", "--phases", repr(PHASES), "--target", "100"]
AVERAGE = ["--ema-decay", "0.9", "--ema-every", "2"]
QUIET = ["--no-tensorboard", "--no-chart", "--threads", "1", "--device", "cpu", "--precision", "fp32"]
IMPORTED = [
    "training.__main__",
    "training.runs.session",
    "training.data.memory",
    "training.data.image_tree",
    "training.data.renderers.torchvision",
    "training.data.renderers.packed",
    "training.data.renderers.processes",
    "training.data.renderers.threads",
    "training.data.renderers.dali",
    "nvidia.dali.fn",  # where there is none, the server goes on
    "nvidia.dali.math",
    "torch._dynamo",
    "torch.nn.parallel",
    "timm.optim",
    "training.engine.warmup",
    "dawn.report",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
]
ON_THE_CLOCK = ("seconds", "clock", "utc", "attempt", "peak_memory_bytes", "energy_joules")  # of an epoch line


class Ended(NamedTuple):
    code: int  # exit status; -9: killed by signal 9
    out: str
    err: str

    def error(self) -> str:
        """The only line on standard error, after `error: `."""
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ")


class Child:
    """`python -m training ARGUMENTS` in a process of its own. `limit`: a resource.RLIMIT_* and the bytes it allows;
    `before`: called there first."""

    def __init__(
        self,
        arguments: list[str],
        limit: tuple[int, int] | None = None,
        environment: dict[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        self.streams = [os.memfd_create(name) for name in ("out", "err")]
        self.output = os.fstat(self.streams[0]).st_ino
        self.ended: Ended | None = None
        names = [f"/proc/{os.getpid()}/fd/{number}" for number in self.streams]
        texts = [str(argument) for argument in arguments]
        self.process = context.Process(target=train, args=(texts, names, limit, environment or {}, before))
        self.process.start()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = SECONDS) -> Ended:
        """Asked again, it says the same."""
        if self.ended:
            return self.ended
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {seconds:.0f} s")
        texts = []
        for number in self.streams:
            os.lseek(number, 0, os.SEEK_SET)
            with open(number, errors="replace") as file:
                texts.append(file.read())
        self.ended = Ended(self.process.exitcode, *texts)
        return self.ended


def train(
    arguments: list[str],
    streams: list[str],
    limit: tuple[int, int] | None,
    environment: dict[str, str],
    before: Callable[[], None] | None,
) -> None:
    """Runs in the child."""
    for number, name in enumerate(streams, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    os.environ |= environment
    wait_long_for_peers()
    if before:
        before()
    if limit:
        resource.setrlimit(limit[0], (limit[1], limit[1]))
    sys.exit(main(arguments))


def wait_long_for_peers() -> None:
    """Runs in the child: on a busy machine the next rank may come seconds later."""
    from training.distributed import group, rendezvous

    rendezvous.FIRST_LINE_SECONDS = group.SOON_SECONDS = 120.0


def free_port() -> int:
    """A TCP port below those that the system hands out, so that nobody takes it before rank 0 does. Each worker of
    pytest has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(1000):
        port = 10_000 + 1000 * (worker % 20) + next(PORTS) % 1000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def run(*arguments: Any, limit: tuple[int, int] | None = None) -> Ended:
    return Child([*arguments], limit).wait()


def start_server() -> None:
    """Import torch once, with one thread, for all children of this test session."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "PYTHONPATH", "TORCH_CPP_LOG_LEVEL")}
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as training.__main__ sets it for several ranks, before torch
    multiprocessing.set_forkserver_preload(IMPORTED)
    multiprocessing.forkserver.ensure_running()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def toy_arguments(data: Path, folder: Path, *more: str) -> list[str]:
    """A new run of the small schedule."""
    return [str(data), *SMALL, *AVERAGE, *QUIET, "--logdir", str(folder), *more]


def fault(kind: str, **where: int) -> list[str]:
    return ["--inject-fault", json.dumps({"kind": kind} | where)]


def events(folder: Path, kind: str, log: str = "run.jsonl") -> list[dict[str, Any]]:
    lines = (folder / log).read_bytes().split(b"\n")[:-1]  # after the last newline: a line being written
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def wait_for(folder: Path, kind: str, count: int = 1) -> None:
    """Until run.jsonl holds `count` lines of this kind."""
    wait_until(lambda: (folder / "run.jsonl").exists() and len(events(folder, kind)) >= count)


def wait_until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


LARGER = "[{'ep': 0, 'sz': 32, 'bs': 60, 'lr': 0.02}, {'ep': (1, 2), 'lr': 0.01}]"
LONGER = "[{'ep': 0, 'sz': 12, 'bs': 40}, {'ep': (0, 18), 'lr': (0.2, 0.0)}]"
SLOW_VALIDATION = "[{'ep': 0, 'sz': 12, 'bs': 40, 'val_sz': 192, 'val_bs': 1}, {'ep': (0, 2), 'lr': (0.2, 0.0)}]"
LARGE = [{**phase, "sz": phase["sz"] + 20} if "sz" in phase else phase for phase in PHASES]
TREE = ["--shift", "0", "--flip", "random", "--phases", repr(LARGE)]
PARTS = [
    *("--model", "timm/test_resnet", "--drop-path", "0.2", "--blurpool", "--init-bn0"),
    *("--optimizer", "lamb", "--no-nesterov", "--clip-grad", "1.0"),
    *("--loss", "bce", "--bce-threshold", "0.2", "--label-smoothing", "0.1"),
    *("--mixup", "0.2", "--cutmix", "1.0", "--mix-prob", "0.9", "--mix-off-epoch", "2"),
]
STRONGER = [{**phase, "aug": 0.5, "val_resize": 1.25} if phase.get("ep") == 1 else phase for phase in LARGE]
DRAWN = ["--random-erasing", "0.4", "--repeated-augmentation", "2", "--interpolation", "bicubic"]
TIMM = ["--policy", "timm-randaugment", "--policy-magnitude", "7", "--policy-magnitude-std", "0.5"]
COPIES_MIXED = (
    "warning: --repeated-augmentation 2: with fewer devices than that (1) copies of an image lie side by side, and "
    "mixup and cutmix mix many of them with each other\n"
)
RECORD = [
    *("--model", "cifarnet-fulcrum", "--whitening-epochs", "1.5", "--whitening-decay"),
    *("--muon-coefficients", "hiverge", "--muon-rescale-every", "2", "--muon-rescale-growth", "3"),
    *("--brightness", "0.14", "--contrast", "0.13", "--no-antialias"),
    *("--lookahead", "0.7", "--lookahead-every", "4", "--lookahead-from", "0.5"),
]
VARIANTS = {
    "muon": [],
    "parts of the record": RECORD,
    "sgd": ["--optimizer", "sgd", "--momentum", "0.9"],
    "torchvision": ["--loader", "torchvision", *TREE, "--workers", "2"],
    "threads": ["--loader", "threads", *TREE, "--workers", "2"],
    "processes": ["--loader", "processes", *TREE, "--workers", "2"],
    "dali": ["--loader", "dali", *TREE, "--workers", "1", "--policy", "randaugment"],
    "dropout": ["--model", "squeezenet1_1", "--optimizer", "sgd", "--phases", LARGER],
    "drawn parts": ["--flip", "random", "--cutout", "8", *DRAWN],
    "all parts": ["--loader", "packed", *TREE, "--phases", repr(STRONGER), "--workers", "2", *DRAWN, *TIMM, *PARTS],
    "long": ["--phases", LONGER],
    "slow validation": ["--phases", SLOW_VALIDATION],
}


def undisturbed(base: Path, variant: str = "muon") -> Path:
    """The folder of a run that nothing happened to, made once beside the dataset."""
    folder = base / f"undisturbed {variant}"
    if not folder.exists():
        ended = run(*toy_arguments(base / "toy", folder, *VARIANTS[variant]))
        assert ended.code == 3 and ended.err == (COPIES_MIXED if variant == "all parts" else ""), ended.err
    return folder


def result(folder: Path) -> dict[str, Any]:
    """All that a run ends with but the time it took: a hash of each part of the newest checkpoint, and the epochs."""
    state = load(folder, warn=refuse)["state"]
    parts = {name: fingerprint(part) for name, part in state.items() if name != "clock"}
    rows = [asdict(row) for row in read_run(folder).rows]
    return parts | {"epochs": [{k: v for k, v in row.items() if k not in ON_THE_CLOCK} for row in rows]}


def refuse(text: str) -> None:
    raise AssertionError(text)
