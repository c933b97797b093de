"""How the processes of one start recognise each other in a store that still holds the words of an earlier start."""

import time
import uuid

import torch.distributed as dist

POLL_SECONDS = 0.02


def name_of_start(store: dist.Store, rank: int, world_size: int, timeout_seconds: float) -> str:
    """A name that this start alone has, the same on all ranks. torchrun keeps one store over its restarts, with the
    addresses of processes that are gone; and on several machines each torchrun counts restarts of its own, so their
    number is no name. Every rank asks under a word of its own, which only the rank 0 of the same start answers.

    Raises: RuntimeError when a rank does not come within `timeout_seconds`.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"asks {rank}", own)
        name = store.get(f"answer {own}").decode()
        store.set(f"here {name} {rank}", "")
        return name
    missing, end = set(range(1, world_size)), time.monotonic() + timeout_seconds
    while missing:
        if time.monotonic() > end:
            raise RuntimeError(f"ranks {sorted(missing)[:4]} did not come")
        for other in missing:
            if store.check([f"asks {other}"]):  # perhaps of a process that is gone: then nobody reads the answer
                store.set(f"answer {store.get(f'asks {other}').decode()}", own)
        missing = {other for other in missing if not store.check([f"here {own} {other}"])}
        time.sleep(POLL_SECONDS if missing else 0)
    return own
