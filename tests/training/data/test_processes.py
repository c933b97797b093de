"""--loader processes: what only its workers can do wrong. That it shows what other loaders show is in
test_image_tree.py."""

import os
import resource
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from run_toy import wait_until
from tree_runs import PHASE, make_tree, once, same, tree_loader

from data_prep import DataError
from data_prep.trees.adopt import adopt
from phases import Schedule
from training.config.config import Config
from training.data.dataset import check_augmentation, loader_name
from training.data.renderers.processes import Slot
from training.errors import ConfigError, WorkerLost

LARGE = replace(PHASE, sz=96)
HUGE_PAGE = 2 << 20  # bytes
PHASES = "[{'ep': 0, 'sz': 32, 'bs': 24}, {'ep': (0, 1), 'lr': (0.1, 0.0)}]"

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("pictures") / "tree", train=134, validation=40)


@pytest.fixture
def loader(tree):
    loader = tree_loader(tree, "processes")
    yield loader
    loader.close()


def workers_of(loader) -> list[int]:
    return [worker.process.pid for worker in loader.renderer.workers]


def is_there(process: int) -> bool:
    return os.path.exists(f"/proc/{process}")


def test_the_pictures_are_those_of_threads(tree):
    assert same(once(tree, "processes"), once(tree, "threads"))


def test_workers_begin_with_the_first_batch_and_end_with_the_loader(loader):
    assert not workers_of(loader)
    list(loader.train(0)), list(loader.validation())
    workers = workers_of(loader)
    assert len(workers) == 2 and all(map(is_there, workers))
    loader.close()
    assert not any(map(is_there, workers))
    with pytest.raises(IndexError):
        next(loader.train(0))
    assert not workers_of(loader)


@pytest.mark.parametrize("when", ["idle", "at work"])
def test_a_killed_worker_ends_the_pass_with_its_number(loader, when):
    batches = loader.train(0)
    next(batches)
    worker = workers_of(loader)[1]
    os.kill(worker, signal.SIGKILL)
    if when == "idle":
        wait_until(lambda: not loader.renderer.workers[1].process.is_alive(), seconds=60)
    with pytest.raises(
        WorkerLost, match=f"loader process {worker} was ended by SIGKILL, perhaps because memory ran out"
    ):
        list(batches)


def test_workers_end_when_their_rank_is_gone(loader):
    next(loader.train(0))
    workers = loader.renderer.workers
    for worker in workers:  # as the system does when a process ends
        worker.pipe.close()
    for worker in workers:
        worker.process.join(60)
        assert worker.process.exitcode == 0


def test_an_error_that_is_not_expected_comes_with_its_place(loader):
    loader.renderer.filler.fill = lambda *given: 1 / 0
    with pytest.raises(
        RuntimeError, match=r"^loader process \d+: ZeroDivisionError: division by zero\nTraceback"
    ) as found:
        next(loader.train(0))
    assert "test_processes.py" in found.value.__notes__[0]


def test_a_pass_does_not_go_on_after_another_one_has_begun(loader, tree):
    """Their batches share memory."""
    for left in (loader.train(0), loader.train(0, 4)):  # requests still to be made, or all made
        next(left)
        assert same(list(loader.train(1)), once(tree, "threads", epoch=1))
        with pytest.raises(RuntimeError, match="a pass of the loader went on after another one had begun"):
            next(left)


def test_the_pass_after_a_bad_file_is_whole(loader, tree):
    path = tree / "train" / "disc" / "0003.JPEG"
    data = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(DataError, match=r"0003\.JPEG"):
            list(loader.train(0))
    finally:
        path.write_bytes(data)
    assert same(list(loader.train(0)), once(tree, "threads"))


def test_batches_of_another_size_follow(loader, tree):
    for phase in (LARGE, PHASE, LARGE):
        loader.set_phase(phase)
        assert same(list(loader.train(0)), once(tree, "threads", phase=phase))


def test_memory_that_a_smaller_batch_leaves_goes_back():
    slot = Slot()
    for size, most in (
        (4_000, 4_000),
        (1_000, 4_000),
        (4_000_000, 4_000_000),
        (1_000_000, 1_000_000),
        (999_999, 1_000_000),
    ):
        slot.fit(size)
        slot.batch((size,)).fill_(7)
        held = 512 * os.fstat(slot.file.fileno()).st_blocks
        assert size <= held <= most + HUGE_PAGE
    assert torch.equal(slot.batch((10,)), torch.full((10,), 7, dtype=torch.uint8))
    slot.file.close()


def test_a_process_that_cannot_start_is_one_line(loader):
    least = max(map(int, os.listdir("/proc/self/fd"))) + 1
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, before[1]))
    try:
        with pytest.raises(
            ConfigError, match=r"--workers 2: process \d of the loader cannot be started \(Too many open"
        ):
            next(loader.train(0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_systems_that_cannot_share_memory_have_threads(tree, tmp_path, monkeypatch):
    files = shutil.copytree(tree, tmp_path / "files", ignore=shutil.ignore_patterns("*.np?", "*.bin", "manifest.json"))
    adopt(files)
    schedule, config = Schedule.parse(PHASES), Config(data=str(files), phases=PHASES, device="cpu")
    assert loader_name(config, schedule) == "processes"
    monkeypatch.delattr(os, "memfd_create")
    assert loader_name(config, schedule) == "threads"
    with pytest.raises(ConfigError, match=r"--loader processes: needs Linux .* Use --loader threads"):
        check_augmentation(config, "processes", schedule)
