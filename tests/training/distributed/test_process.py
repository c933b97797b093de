"""The end of a rank."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
from training.distributed.process import leave

class Late:
    def __del__(self):
        sys.stderr.write("finalised")

late = Late()
late.itself = late  # found only by the interpreter's own finalisation
atexit.register(lambda: print("handler"))
print("said", end=" ")
leave(3)
"""


@pytest.mark.parametrize("launcher", [{"RANK": "1", "WORLD_SIZE": "2"}, {"SLURM_PROCID": "1"}, {}])
def test_a_rank_ends_without_the_interpreters_finalisation(launcher):
    """A bug: a thread of gloo that still held a tensor aborted a finished rank with code -6, seen once on busy
    cores."""
    env = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "SLURM_PROCID")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env | launcher, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "said handler\n")
    assert done.stderr == ("" if launcher else "finalised")
