"""Toy runs of several ranks, in forked processes with the environment that a launcher would make.

Such a run costs about a second; one under torchrun ten, because each process imports torch anew.
"""

import hashlib
import itertools
import json
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from run_toy import LARGE, LONGER, PHASES, VARIANTS, Child, Ended, events, free_port, toy_arguments

SECONDS = 300  # limit of a whole run, on a slow and busy machine
TIMEOUT = ["--timeout-minutes", "0.5"]  # how long a rank waits for another


def halved(phases: list[dict]) -> str:
    """For two ranks: the same global batches."""
    return repr([{**phase, "bs": phase["bs"] // 2} if "bs" in phase else phase for phase in phases])


TREE = ["--shift", "0", "--flip", "random", "--phases", halved(LARGE)]
LONG = LONGER.replace("'bs': 40", "'bs': 20")
PAIRS = {
    "muon": ["--phases", halved(PHASES)],
    "frozen": ["--phases", halved(PHASES), "--whitening-epochs", "1"],
    "sgd": ["--phases", halved(PHASES), "--optimizer", "sgd"],  # the quickest to start: Muon imports all of timm
    "long": ["--phases", LONG],
    "long sgd": ["--phases", LONG, "--optimizer", "sgd"],
    "long torchvision": ["--loader", "torchvision", *TREE, "--phases", LONG.replace("12", "32"), "--workers", "2"],
    "long processes": ["--loader", "processes", *TREE, "--phases", LONG.replace("12", "32"), "--workers", "2"],
    "torchvision": ["--loader", "torchvision", *TREE, "--workers", "1"],
    "processes": ["--loader", "processes", *TREE, "--workers", "1"],
    "dali": ["--loader", "dali", *TREE, "--workers", "1"],
    "dropout": [part.replace("'bs': 60", "'bs': 30") for part in VARIANTS["dropout"]],
    "slow validation": [part.replace("'bs': 40", "'bs': 20") for part in VARIANTS["slow validation"]],
}


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
        self.children = [
            Child([*arguments], (limits or {}).get(rank), environment(rank, count, restarts, port), before)
            for rank in range(count)
        ]

    def wait(self, seconds: float = SECONDS) -> list[Ended]:
        """All ranks' ends, by rank, within `seconds`; otherwise none is left running."""
        end = time.monotonic() + seconds
        try:
            return [child.wait(max(end - time.monotonic(), 0.1)) for child in self.children]
        finally:
            for child in self.children:
                child.process.kill()

    def signal(self, *numbers: int, apart: float = 0.05) -> None:
        """Each to all ranks, `apart` seconds."""
        for place, number in enumerate(numbers):
            time.sleep(apart if place else 0)
            for child in self.children:
                child.signal(number)


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


def run_ranks(*arguments: Any, seconds: float = SECONDS, **settings: Any) -> list[Ended]:
    return Ranks(*arguments, **settings).wait(seconds)


def codes(ended: list[Ended]) -> list[int]:
    return [one.code for one in ended]


def one_line(ended: list[Ended]) -> str:
    """What rank 0 said, after `error: `; the others said nothing."""
    assert not any(one.err for one in ended[1:]), ended[1].err
    return ended[0].error()


def pair_arguments(base: Path, folder: Path, variant: str = "muon", *more: str) -> list[str]:
    """A new run by two ranks."""
    return toy_arguments(base / "toy", folder, *PAIRS[variant], *TIMEOUT, *more)


def undisturbed_pair(base: Path, variant: str = "muon") -> Path:
    """The folder of a run by two ranks that nothing happened to, made once beside the dataset."""
    folder = base / f"undisturbed pair {variant}"
    if not folder.exists():
        ended = run_ranks(*pair_arguments(base, folder, variant), before=Recorder(folder.with_suffix(".images")))
        assert codes(ended) == [3, 3] and not any(one.err for one in ended), ended
    return folder


def fired(folder: Path, rank: int) -> int:
    """How often an injected fault was announced."""
    log = folder / (f"rank{rank}.jsonl" if rank else "run.jsonl")
    return len(events(folder, "fault", log.name)) if log.exists() else 0


class Recorder:
    """Called in a rank, it makes every training step append its images to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> None:
        from training.engine import trainer

        step = trainer.step

        def recorded(config, state, batch, *more):
            line = json.dumps([state.epoch, state.step, [digest(image) for image in batch.images]])
            with open(self.path, "a", buffering=1) as file:
                file.write(line + "\n")
            return step(config, state, batch, *more)

        trainer.step = recorded

    def images(self) -> dict[tuple[int, int], list[str]]:
        """By (epoch, step): the global batch, sorted."""
        found = defaultdict(list)
        for epoch, step, digests in map(json.loads, self.path.read_text().splitlines()):
            found[epoch, step] += digests
        return {place: sorted(digests) for place, digests in found.items()}


class MemoryLimit:
    """Called in a rank, it leaves it so much more address space than it has now."""

    def __init__(self, megabytes: int) -> None:
        self.bytes = megabytes * 2**20

    def __call__(self) -> None:
        most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + self.bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


class ClockSetBack:
    """Called in a rank, it sets that process's wall clock back once it has been read `after` times."""

    def __init__(self, hours: int, after: int = 0) -> None:
        self.seconds, self.after = 3600 * hours, after

    def __call__(self) -> None:
        import dawn.runlog.writer
        import training.runs.resume

        right, reads = time.time, itertools.count()

        def wrong() -> float:
            return right() - (self.seconds if next(reads) >= self.after else 0)

        class WrongDatetime(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromtimestamp(wrong(), tz)

        time.time = wrong
        dawn.runlog.writer.datetime = training.runs.resume.datetime = WrongDatetime


def digest(image) -> str:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:16]


def processes_of(child: Child) -> set[int]:
    """Process numbers of a rank and its loader workers: those that write to its standard output."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "fd" / "1").stat().st_ino == child.output:
                found.add(int(process.name))
        except OSError:  # gone, or not ours
            continue
    return found
