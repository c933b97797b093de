"""Faults on demand, for the tests of kill and resume: --inject-fault '{"kind": "kill", "epoch": 1, "step": 3}'.

Kinds: `kill` (signal 9) and `term` (SIGTERM) before a step; `nan` turns a step's loss into NaN; `kill_in_save` kills
in the middle of the n-th save ("save": n). Each writes a line "fault" to run.jsonl before it fires. Without the flag
nothing here runs.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from training.outcome import ConfigError

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}


class Faults:
    """`announce` writes the log line."""

    def __init__(self, text: str, announce: Callable[[dict], None]) -> None:
        self.fault, self.announce, self.saves = parse(text), announce, 0

    def before_step(self, epoch: int, step: int) -> float:
        """Factor of the coming loss: NaN for the fault `nan`, else 1."""
        if not self.fault or (self.fault.get("epoch"), self.fault.get("step")) != (epoch, step):
            return 1.0
        self.announce(self.fault)
        if self.fault["kind"] == "nan":
            return float("nan")
        os.kill(os.getpid(), SIGNALS[self.fault["kind"]])
        return 1.0

    def before_write(self, path: Path, data: bytes) -> None:
        self.saves += 1
        if self.fault.get("save") == self.saves:
            self.announce(self.fault)
            path.with_name(f"{path.name}.tmp").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)


def parse(text: str) -> dict:
    try:
        fault = json.loads(text) if text else {}
        if fault and fault["kind"] not in (*SIGNALS, "nan", "kill_in_save"):
            raise ValueError(f"unknown kind {fault['kind']!r}")
        return fault
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--inject-fault {text}: {error}") from None
