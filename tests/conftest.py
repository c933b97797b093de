"""What several test files share: one toy dataset for the whole session, and one thread for arithmetic."""

import gc
import multiprocessing
import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in subprocesses: tiny nets gain nothing
os.environ["DAWN_HOST_ID"] = "tests"  # no file in the cache folder of whoever runs them

import pytest

from data_prep.engines.local import Local
from data_prep.sources.toy import prepare_toy
from data_prep.trees.pack import pack_tree

gc.disable()  # while the tests are imported, whose objects all stay: `frozen_heap` turns it on

FAULT_SECONDS = 600  # limit of a test, on a slow and busy machine


def pytest_addoption(parser):
    parser.addoption("--tree", help="real images, with copies of 160, 320 and 352 px, for a slow test of all recipes")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing is kept in the cache of whoever runs the tests, nor read from it; matplotlib alone finds its fonts."""
    theirs = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(theirs, "matplotlib"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", autouse=True)
def frozen_heap():
    """A run collects garbage before its clock starts: what the tests before have imported need not be looked at."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Path of a toy dataset: 240 training and 60 validation images of 6 classes, as files, 32 px arrays and packed
    tree. Read only."""
    root = tmp_path_factory.mktemp("datasets") / "toy"
    prepare_toy(root, images=240)
    pack_tree(root, Local(1))
    return root


@pytest.fixture
def handler():
    """SIGINT as Python has it, also where the tests run in the background, and afterwards as it was."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def time_limit(request):
    """A fault test that hangs fails, and leaves no process behind."""
    if not request.node.get_closest_marker("faults"):
        yield
        return
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(FAULT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        for child in multiprocessing.active_children():
            child.kill()


def out_of_time(number, frame) -> None:
    raise TimeoutError(f"still running after {FAULT_SECONDS} s")
