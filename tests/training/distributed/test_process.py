"""The end of a rank, and of its workers."""

import os
import signal
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

WORKER = """
import multiprocessing, subprocess, time
from training.distributed.process import end_by_parent_only

def work():
    end_by_parent_only()
    ready.set()
    time.sleep(60)

context = multiprocessing.get_context("fork")
ready = context.Event()
worker = context.Process(target=work, daemon=True)
worker.start()
assert ready.wait(30)
for _ in range(2):
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
worker.join(0.3)
print(worker.is_alive())
while worker.is_alive():  # a signal that is pending already swallows one more
    worker.terminate()
    worker.join(1)
print(worker.exitcode)
"""


@pytest.mark.parametrize("launcher", [{"RANK": "1"}, pytest.param({"SLURM_PROCID": "1"}, marks=pytest.mark.slow), {}])
def test_a_rank_ends_without_the_interpreters_finalisation(launcher):
    """A bug: a thread of gloo that still held a tensor aborted a finished rank with code -6, seen once on busy
    cores."""
    env = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "SLURM_PROCID")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env | launcher, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "said handler\n")
    assert done.stderr == ("" if launcher else "finalised")


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="macOS does not tell who sent a signal")
def test_a_worker_ends_by_its_parent_and_by_nobody_else():
    """A bug: loader workers ignored every SIGTERM, multiprocessing's too, and a rank that failed joined them for
    ever."""
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("True\n0\n", "")
