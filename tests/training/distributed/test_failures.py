"""A rank that fails beside one that waits: the exchange between GPUs is aborted and not waited for.

torch's "fake" backend stands where NCCL would: its exchanges do nothing. The tests watch how it is ended.
"""

import threading

import pytest
import torch
import torch.distributed as dist
import torch.testing._internal.distributed.fake_pg

from training.distributed.failures import LastWords
from training.distributed.group import Group, left_alike
from training.distributed.launcher import Ranks
from training.errors import ConfigError, PeerFailed

SECONDS = 60  # on a slow and busy machine


class Ends:
    """How the process group's parts are ended: of the GPUs' backend `abort`, of the whole `shutdown`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.aborted = threading.Event()

    def abort(self, backend: dist.Backend) -> None:
        self.calls.append(f"abort {backend.name()}")
        self.aborted.set()


@pytest.fixture
def ends(monkeypatch):
    found, shutdown = Ends(), dist.ProcessGroup.shutdown

    def shut_down(group: dist.ProcessGroup) -> None:
        found.calls.append("shutdown")
        shutdown(group)

    monkeypatch.setattr(torch._C._distributed_c10d.FakeProcessGroup, "abort", lambda backend: found.abort(backend))
    monkeypatch.setattr(dist.ProcessGroup, "shutdown", shut_down)
    return found


@pytest.fixture(params=["cpu:gloo,cuda:fake"])
def group(request):
    """Rank 0 of two as `met` leaves it, but that its process group has one process."""
    store = dist.HashStore()
    dist.init_process_group(request.param, store=store, rank=0, world_size=1)
    words = LastWords(store, 0, 2)
    yield Group(Ranks(0, 0, 2, 2), words)
    if dist.is_initialized():
        dist.destroy_process_group()


def test_a_failing_rank_aborts_nccl_and_waits_for_nobody(group, ends):
    """destroy_process_group() waited for --timeout-minutes: NCCL wants all ranks to come."""
    with pytest.raises(ZeroDivisionError), left_alike(group, group.words):
        raise ZeroDivisionError
    assert ends.calls == ["abort fake"]


def test_a_run_that_ends_well_leaves_together(group, ends):
    with left_alike(group, group.words):
        pass
    assert ends.calls == ["shutdown"]


def test_bad_input_that_all_ranks_know_of_is_left_together(group, ends):
    group.failed = True
    with pytest.raises(ConfigError), left_alike(group, group.words):
        raise ConfigError("no such folder")
    assert ends.calls == ["shutdown"]


def test_a_rank_that_waits_for_its_gpu_is_freed_when_another_fails(group, ends):
    """It reads a number that NCCL's kernel, and so the failed rank, would have to finish first."""
    failure = pytest.raises(PeerFailed, match="rank 1: DataError: broken")
    with group.words, failure as found, left_alike(group, group.words):
        LastWords(group.words.store, 1, 2).tell("DataError: broken", 2)
        assert ends.aborted.wait(SECONDS)
        raise dist.DistBackendError("NCCL communicator was aborted")
    assert ends.calls == ["abort fake"] and found.value.exit_code == 2


def test_nccl_is_aborted_before_the_clocks_wait_for_the_gpu(group, ends):
    """gloo notices that a rank is gone; the error then leaves the blocks of the clock, which synchronise."""
    with pytest.raises(RuntimeError, match="Connection closed"), group.exchange():
        raise RuntimeError("[pair.cc:5] Connection closed by peer [127.0.0.1]:1")
    assert ends.calls == ["abort fake"]
    with pytest.raises(RuntimeError), group.exchange():
        raise RuntimeError("of another kind")
    assert ends.calls == ["abort fake"]


@pytest.mark.parametrize("group", ["gloo"], indirect=True)
def test_gloo_needs_no_abort(group, ends):
    """It notices by itself, also where it serves GPUs (--dist-backend gloo)."""
    with pytest.raises(ZeroDivisionError), left_alike(group, group.words):
        raise ZeroDivisionError
    assert ends.calls == ["shutdown"]
