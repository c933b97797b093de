"""The name that the processes of one start agree on, in a store that outlives them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from training.distributed.rendezvous import name_of_start

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
        jobs = [pool.submit(name_of_start, connections[rank], rank, world_size, SECONDS) for rank in ranks]
        return [job.result() for job in jobs]


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
    with pytest.raises(RuntimeError, match=r"\[1\] did not come"):
        name_of_start(connection, 0, 2, 0.1)
