"""This process: SIGTERM and Ctrl-C as a wish that the training loop reads between two steps, what becomes of it when
its parent dies, and how it ends."""

import atexit
import contextlib
import ctypes
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG = 1  # prctl(2)
OF_A_RANK = {"RANK", "SLURM_PROCID"}  # what launchers set


def at_parents_death(number: int) -> None:
    """Get this signal when the parent dies. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def stop_with_launcher() -> None:
    """A rank whose torchrun is killed would train on unknown to anybody and hold the run folder: it saves and ends."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        at_parents_death(signal.SIGTERM)


class StopSignal:
    """Context manager. `requested` becomes true at the first signal; further ones are ignored, so that a save is
    never cut off."""

    requested = False
    name = ""

    def __enter__(self) -> "StopSignal":
        self.before = {number: signal.signal(number, self.note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def note(self, number: int, frame: FrameType | None) -> None:
        self.requested, self.name = True, signal.Signals(number).name

    def __exit__(self, *error: object) -> None:
        """After a wish to stop the process is about to end: a second signal does not change its exit code."""
        for number, handler in self.before.items() if not self.requested else ():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """End with this exit code. A rank does so without the interpreter's own finalisation: there a thread of gloo that
    still holds a tensor would wait for the lock of an interpreter that is gone, and abort the process with code -6
    ("terminate called without an active exception", github.com/pytorch/pytorch/pull/179291)."""
    if not OF_A_RANK & os.environ.keys():
        sys.exit(code)
    atexit._run_exitfuncs()  # children end here
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it is gone
            stream.flush()
    os._exit(code)
