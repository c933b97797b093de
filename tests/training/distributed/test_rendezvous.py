"""How the processes of one start meet: the name that they agree on, in a store that outlives them, and the wait."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
import torch.distributed as dist

from data_prep.interrupt import own_interrupts
from training.distributed.launcher import Ranks
from training.distributed.rendezvous import name_of_start, waiting_line, while_told

SECONDS = 120


@pytest.fixture
def store():
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    store.set_timeout(timedelta(seconds=SECONDS))
    return store


def clients(store, count: int) -> list[dist.Store]:
    return [
        dist.TCPStore("localhost", store.port, is_master=False, timeout=timedelta(seconds=SECONDS))
        for _ in range(count)
    ]


def start(store, world_size: int, order=None) -> list[str]:
    """Every rank in a thread with a connection of its own; `order` in which they come."""
    with ThreadPoolExecutor(world_size) as pool:
        connections = clients(store, world_size)
        ranks = order or range(world_size)
        missing = {rank: others(rank, world_size) for rank in ranks}
        jobs = [
            pool.submit(name_of_start, connections[rank], rank, world_size, SECONDS, missing[rank]) for rank in ranks
        ]
        assert not any(job.exception() for job in jobs) and not any(missing.values())
        return [job.result() for job in jobs]


def others(rank: int, world_size: int) -> set[int]:
    """That this one waits for at first."""
    return {0} if rank else set(range(1, world_size))


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_all_ranks_of_a_start_agree_and_each_start_has_its_own_name(store, order):
    names = [start(store, 3, order) for _ in range(3)]
    assert all(len(set(found)) == 1 for found in names)
    assert len({found[0] for found in names}) == 3


def test_a_rank_that_died_while_it_waited_disturbs_nothing(store):
    store.set("asks 1", "of a process that is gone")
    store.set("asks 2", "of a process that is gone")
    assert len(set(start(store, 3))) == 1
    assert len(set(start(store, 2))) == 1  # another number of processes


def test_a_rank_that_never_comes_ends_the_wait(store):
    (connection,) = clients(store, 1)
    with pytest.raises(RuntimeError, match=r"^ranks 1-2, 4 did not come"):
        name_of_start(connection, 0, 5, 0.1, {1, 2, 4})


@pytest.fixture
def left_over(monkeypatch):
    """The variables of a launcher that is not there."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "node-a"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)


def test_a_rank_that_waits_says_for_whom_where_and_why(left_over):
    line = waiting_line("env://", Ranks(0, 0, 4, 4), {1, 2, 3})
    assert line.startswith("rank 0: waiting at node-a:29500 for ranks 1-3 of 4, because the environment has RANK=0, ")
    assert "WORLD_SIZE=4. Unset these" in line
    assert "waiting at tcp://h:4 for rank 0 of 4" in waiting_line("tcp://h:4", Ranks(1, 1, 4, 4), {0})
    assert "for the other ranks of 4" in waiting_line("tcp://h:4", Ranks(1, 1, 4, 4), set())


def test_the_line_comes_soon_and_then_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr("training.distributed.rendezvous.FIRST_LINE_SECONDS", 0.05)
    monkeypatch.setattr("training.distributed.rendezvous.LINE_SECONDS", 0.1)
    here = Event()
    lines = iter(("first", "second"))

    def line() -> str:
        text = next(lines)
        if text == "second":
            monkeypatch.setattr("training.distributed.rendezvous.LINE_SECONDS", SECONDS)
            here.set()
        return text

    assert while_told(lambda: here.wait(SECONDS), line) and capsys.readouterr().err == "first\nsecond\n"


def test_ctrl_c_ends_the_wait(handler):
    """torch waits for other ranks without looking at signals: Ctrl-C had no effect for ten minutes."""
    here = Event()  # never set: only the signal ends this

    def meet() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        here.wait(SECONDS)

    with pytest.raises(KeyboardInterrupt), own_interrupts():
        while_told(meet, lambda: "waiting")


def test_what_the_meeting_raises_is_raised():
    def meet() -> None:
        raise RuntimeError("nobody came")

    with pytest.raises(RuntimeError, match="nobody came"):
        while_told(meet, lambda: "waiting")
