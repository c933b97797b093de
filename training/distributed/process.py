"""This process: SIGTERM and Ctrl-C as a wish that the training loop reads between two steps, what becomes of it when
its parent dies, and how it ends."""

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from training.distributed.launcher import MPI, is_rank, launcher

PR_SET_PDEATHSIG = 1  # prctl(2)


def age_seconds(process: int) -> float | None:
    """Since a process started; None where the system does not tell. Field 22 of /proc/PID/stat (proc_pid_stat(5))."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()  # a name may hold spaces
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def at_parents_death(number: int) -> None:
    """Get this signal when the parent dies. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_by_parent_only() -> None:
    """For a worker process: SIGTERM ends it when its parent sends it; anybody else's, to the whole process group, is
    ignored.

    With the parent's ignored too a run hung for ever: while an error is on its way up, its traceback keeps a
    DataLoader's iterator alive, which then tells no worker to end; multiprocessing sends them SIGTERM at its exit and
    joins them without a limit. torch's own handler, which this replaces, ends with the parent's, but dies of others
    (torch/csrc/DataLoader.cpp: handler_SIGTERM). Python tells a handler no sender; it tells a thread that waits.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS, where nobody can ask for the sender
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # threads started from here on inherit it
    threading.Thread(target=wait_for_parents_word, daemon=True).start()


def wait_for_parents_word() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)  # any other code, and torch's SIGCHLD handler raises in the parent


def stop_with_launcher() -> None:
    """A rank whose torchrun or mpirun is killed would train on unknown to anybody and hold the run folder: it saves and
    ends."""
    if "TORCHELASTIC_RUN_ID" in os.environ or launcher() in MPI:
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
    if not is_rank():
        sys.exit(code)
    atexit._run_exitfuncs()  # children end here
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it is gone
            stream.flush()
    os._exit(code)
