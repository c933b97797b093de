"""Faults on demand, for the tests of kill and resume: --inject-fault '{"kind": "kill", "epoch": 1, "step": 3}'.

Kinds: `kill` (signal 9) and `term` (SIGTERM) before a step, or with "batch" instead before a batch of an epoch's
validation; `nan` turns a step's loss into NaN; `data` raises the error of a picture that cannot be read;
`kill_in_save` kills in the middle of the n-th save ("save": n). "rank" (0) says which process, "attempt" (any) in which
start of the run. Each writes a line "fault" to run.jsonl (a rank above 0 to rankN.jsonl beside it) before it fires.
Without the flag nothing here runs.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from data_prep import DataError
from training.errors import ConfigError

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}
KINDS = (*SIGNALS, "nan", "data", "kill_in_save")


class Faults:
    """`announce` writes the log line; `rank` and `attempt` are those of this process."""

    def __init__(self, text: str, announce: Callable[[dict], None], rank: int = 0, attempt: int = 0) -> None:
        fault = parse(text)
        here = fault.get("rank", 0) == rank and fault.get("attempt", attempt) == attempt
        self.fault, self.announce, self.saves = fault if here else {}, announce, 0

    def before_step(self, epoch: int, step: int) -> float:
        """Factor of the coming loss: NaN for the fault `nan`, else 1. Raises: DataError for the fault `data`."""
        if not self.is_at(epoch=epoch, step=step):
            return 1.0
        self.announce(self.fault)
        if self.fault["kind"] == "nan":
            return float("nan")
        if self.fault["kind"] == "data":
            raise DataError("train/ring/0001.JPEG: cannot be read (an injected fault). Run data_prep check")
        os.kill(os.getpid(), SIGNALS[self.fault["kind"]])
        return 1.0

    def before_validation(self, epoch: int, batch: int) -> None:
        if self.is_at(epoch=epoch, batch=batch):
            self.announce(self.fault)
            os.kill(os.getpid(), SIGNALS[self.fault["kind"]])

    def is_at(self, **place: int) -> bool:
        return bool(self.fault) and all(self.fault.get(name) == value for name, value in place.items())

    def before_write(self, path: Path, data: bytes) -> None:
        self.saves += 1
        if self.fault.get("save") == self.saves:
            self.announce(self.fault)
            path.with_name(f"{path.name}.tmp").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)


def parse(text: str) -> dict:
    try:
        fault = json.loads(text) if text else {}
        if fault and fault["kind"] not in KINDS:
            raise ValueError(f"unknown kind {fault['kind']!r}")
        return fault
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--inject-fault {text}: {error}") from None
