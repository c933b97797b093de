"""How a process ends that may be one of several ranks."""

import atexit
import contextlib
import os
import sys
from typing import NoReturn

OF_A_RANK = {"RANK", "SLURM_PROCID"}  # what launchers set


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
