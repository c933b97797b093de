"""A loader in a process of its own, so that its memory is its own and FFCV may use another Python. All processes of a
row are alive at once and wait; one at a time is told to work.

    python loader_process.py MODULE FUNCTION   reads a Work, then commands, from standard input, a line each
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
from loader_work import Work
from process_memory import Memory, memory_of, peak_of, processor_seconds

DRAIN = 8  # batches before the clock starts: more than any loader has made in advance
SWITCHES = 10
SIZES = (128, 288)  # pixels
BATCHES_PER_SIZE = 8
PICTURES = 12  # of a sheet
GRACE = 5  # seconds


class Unavailable(Exception):
    """The loader cannot work here; says why in one line."""


class LoaderProcess:
    """The parent's side. Raises: Unavailable, from every method."""

    def __init__(self, module: str, function: str, python: str) -> None:
        root = str(Path(__file__).resolve().parents[1])
        paths = os.pathsep.join(path for path in (root, os.environ.get("PYTHONPATH")) if path)
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [python, __file__, module, function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"},
        )
        self.pid = self.process.pid

    def begin(self, work: Work) -> None:
        """Until the first batch is there."""
        self.told(work.to_json())

    def told(self, command: str) -> dict:
        """Send a line, wait for the answer."""
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:  # it has ended; its last words follow
            pass
        line = self.process.stdout.readline()
        if not line:
            self.complaints.seek(0)
            words = self.complaints.read().strip().splitlines() or ["ended without a word"]
            self.close()
            raise Unavailable(words[-1][:200])
        answer = json.loads(line)
        if "missing" in answer:
            self.close()
            raise Unavailable(answer["missing"])
        return answer

    def measured(self, seconds: float) -> tuple[float, float]:
        """Images/s, and milliseconds of the processor that an image took."""
        answer = self.told(f"measure {seconds}")
        return answer["images_per_second"], answer["processor_ms"]

    def warmed_up(self, seconds: float) -> Memory:
        """At its largest, while it works for the first time."""
        with peak_of(self.pid) as peak:
            self.measured(seconds)
        return peak[0]

    def switched(self) -> list[tuple[int, int]]:
        """(pixels, bytes of all its processes) before the first and after every switch of size."""
        return [tuple(pair) for pair in self.told("switch")["memory"]]

    def first_pictures(self, file: Path) -> np.ndarray:
        """(pictures, size, size, 3) uint8 of its first batch, by way of a new `file`."""
        self.told(f"pictures {file}")
        return np.load(file, allow_pickle=False)

    def close(self) -> None:
        """End it and whatever it has started."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()  # asks the loader to end
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        self.process.stdout.close()
        self.complaints.close()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # whoever is left
        self.process.wait()


# ---- the child's side


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints
    work = Work.from_json(input())
    try:
        batches = getattr(import_module(sys.argv[1]), sys.argv[2])(work)
        first = next(batches)
        check(first, work)
        first = first[:PICTURES].clone()  # a loader may use its memory again
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": f"not installed ({error})"}), file=answers)
        return
    print("{}", file=answers)
    for line in sys.stdin:
        command, _, value = line.rstrip("\n").partition(" ")
        if command == "measure":
            answer = measured(batches, work, float(value))
        elif command == "pictures":
            answer = stored(first, value)
        else:
            answer = switched(batches)
        print(json.dumps(answer), file=answers)
    batches.close()


def stored(images, file: str) -> dict:
    np.save(file, images.numpy())
    return {}


def check(images, work: Work) -> None:
    wanted = (work.batch, work.size, work.size, 3)
    if tuple(images.shape) != wanted or str(images.dtype) != "torch.uint8":
        raise SystemExit(f"a batch is {tuple(images.shape)} {images.dtype}, not {wanted} torch.uint8")


def measured(batches: Iterator, work: Work, seconds: float) -> dict:
    """The rate of a loader whose store of batches made in advance is used up."""
    for _ in range(DRAIN):
        next(batches)
    used = processor_seconds(os.getpid())
    begin, made, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds:
        made += len(next(batches))
        elapsed = time.perf_counter() - begin
    used = processor_seconds(os.getpid()) - used
    return {"images_per_second": made / elapsed, "processor_ms": 1000 * used / made}


def switched(batches) -> dict:
    memory = []
    for number in range(SWITCHES + 1):
        batches.set_size(SIZES[number % 2])
        for _ in range(BATCHES_PER_SIZE):
            next(batches)
        memory.append((SIZES[number % 2], memory_of(os.getpid()).total))
    return {"memory": memory}


if __name__ == "__main__":
    main()
