"""Runs of known durations for the tests of dawn: the real Clock and RunLog under a clock that the test moves."""

import json
from collections.abc import Sequence
from pathlib import Path

from dawn import Clock, RunLog

SECOND = 1_000_000_000
START = {
    "run_id": "c0ffee",
    "task": "CIFAR10",
    "metric": "top1",
    "target": 94.0,
    "recipe": "cifar10-94",
    "model": "cifarnet",
    "seed": 0,
    "precision": "bf16",
    "world_size": 1,
    "config": {"ema": 0.99},
    "config_hash": "ab" * 32,
    "phases": [{"ep": 0, "sz": 24, "bs": 1000}],
    "total_epochs": 5,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0005, "nesterov": True},
    "dataset": {
        "name": "cifar10",
        "sha256": "cd" * 32,
        "train_images": 50000,
        "validation_images": 10000,
        "classes": 10,
    },
    "hardware": {"device": "cpu", "name": "AMD EPYC 9B14", "count": 1, "cores": 2, "memory_gib": 23.4, "threads": 2},
    "versions": {"python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6", "cuda": None},
    "commit": "0123abc",
    "dirty": False,
    "page_cache": "unknown",
    "compile_cache": "not used",
    "clock_definition": "T_total = everything from the first read of training data.",
    "setup_seconds": {"init": 4.0, "prepare": 0.5, "warm": 1.25},
    "resumed_from": None,
}
SIZES = (24, 24, 28, 28, 32)  # px, of epochs 0, 1, ...
CORRECT = ((5000, 9000), (7700, 9500), (8900, 9800), (9400, 9950), (9412, 9960))  # top-1 and top-5 of 10,000


class FakeTime:
    """Nanoseconds that only move when told; calling it reads them."""

    def __init__(self, ns: int = 10**15):
        self.ns = ns

    def __call__(self) -> int:
        return self.ns

    def pass_seconds(self, seconds: float) -> None:
        self.ns += round(seconds * SECOND)


class Script:
    """Writes the log of a run whose every duration is known; a method for each thing that a trainer does."""

    sizes: Sequence[int] = SIZES

    def __init__(self, folder: Path, attempt: int = 0, state: dict | None = None, **start: object):
        folder.mkdir(parents=True, exist_ok=True)
        self.time, self.attempt = FakeTime(), attempt
        self.log = RunLog(folder / "run.jsonl", utc=lambda: "2026-11-22T15:30:00Z")
        self.clock = Clock(now=self.time)
        self.start = START | start
        if state is not None:
            self.clock.load_state_dict(state)
        self.pass_in("init", 4.0)
        self.pass_in("prepare", 0.5)
        self.pass_in("warm", 1.25)
        self.log.write("start", attempt, **self.start)
        self.clock.start()
        self.time.pass_seconds(0.125)

    def pass_in(self, label: str, seconds: float) -> None:
        with self.clock.during(label):
            self.time.pass_seconds(seconds)

    def phase(self, epoch: int) -> None:
        size = self.sizes[epoch]
        self.log.write("phase", self.attempt, epoch=epoch, size=size, batch_size=1000, global_batch_size=1000)
        self.pass_in("switch", 0.5)

    def train(self, share: float = 1.0) -> None:
        """`share` of an epoch."""
        with self.clock.during("train"):
            for _ in range(round(50 * share)):
                self.pass_in("data", 0.001)
                self.time.pass_seconds(0.2)

    def validate(self, epoch: int, correct: tuple[int, int] | None, images: int = 10000) -> None:
        """Evaluation and epoch line; correct None: an epoch without evaluation."""
        validation = None
        if correct is not None:
            self.pass_in("eval", 1.5)
            validation = {"correct1": correct[0], "correct5": correct[1], "images": images}
            validation |= {"size": 32, "weights": "ema", "tta": "none", "k5": 5}
        counts = {"size": self.sizes[epoch], "batch_size": 1000, "global_batch_size": 1000}
        counts |= {"steps": 50, "images": 50000}
        trained = epoch + 1 - self.start["config"].get("start_epoch", 0)
        seen = {"images_seen": 50000 * trained, "validation": validation, "peak_memory_bytes": 10**9}
        self.log.write("epoch", self.attempt, epoch=epoch, **counts, **self.ramps(epoch), **seen, **self.clock.lap())

    def ramps(self, epoch: int) -> dict:
        return {"lr": [1.0 - epoch / 5, 0.8 - epoch / 5], "momentum": [0.9, 0.9], "train_loss": 1.5 - epoch / 10}

    def checkpoint(self) -> dict:
        self.pass_in("checkpoint", 0.25)
        return self.clock.state_dict()

    def epoch(self, epoch: int, correct: tuple[int, int] | None, images: int = 10000) -> dict:
        """A whole epoch; the clock state in its checkpoint."""
        if epoch == 0 or self.sizes[epoch] != self.sizes[epoch - 1]:
            self.phase(epoch)
        self.train()
        self.validate(epoch, correct, images)
        return self.checkpoint()

    def stop(self, outcome: str = "target_reached", **fields: object) -> None:
        line = {"outcome": outcome, "exit_code": 0, "epoch": 4, "step": 50, "detail": ""} | fields
        self.log.write("stop", self.attempt, **line, **self.clock.snapshot())
        self.log.close()


def scripted_run(folder: Path, correct=CORRECT, images: int = 10000, outcome: str = "target_reached", **start) -> Path:
    """A whole run of one attempt in `folder`, on a dataset with so many validation images; returns the folder."""
    start.setdefault("dataset", START["dataset"] | {"validation_images": images})
    script = Script(folder, **start)
    for epoch, counts in enumerate(correct):
        script.epoch(epoch, counts, images)
    script.stop(outcome)
    return folder


def resumed_run(folder: Path) -> Path:
    """Two whole epochs and 0.4 of the third; a checkpoint stands after 0.2 of it. Killed; resumed from there."""
    first = Script(folder)
    for epoch in (0, 1):
        first.epoch(epoch, CORRECT[epoch])
    first.phase(2)
    first.train(0.2)
    state = first.checkpoint()
    first.train(0.2)
    with open(folder / "run.jsonl", "ab") as file:
        file.write(b'{"event": "epo')  # killed in the middle of a line
    went_on = {"epoch": 2, "step": 10, "images_seen": 110000, "lost_seconds": 2.01, "gap_seconds": 31.5, "clock": {}}
    second = Script(folder, attempt=1, state=state, resumed_from=went_on)
    second.phase(2)
    second.train(0.8)
    second.validate(2, CORRECT[2])
    second.checkpoint()
    for epoch in (3, 4):
        second.epoch(epoch, CORRECT[epoch])
    second.stop()
    return folder


def older_log(folder: Path) -> Path:
    """Rewrites the log as it was before there was T_prepare_train: the first weights were part of `init`."""
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("chain")
        line.get("clock", {}).pop("prepare_train", None)
        for seconds in (line.get("setup_seconds", {}), line.get("seconds", {})):
            if "prepare" in seconds:
                seconds["init"] += seconds.pop("prepare")
    (folder / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
