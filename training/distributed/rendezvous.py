"""How the processes of one start find each other: the network interface, and a name that tells this start from an
earlier one whose words are still in the store."""

import fcntl
import ipaddress
import os
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar
from urllib.parse import urlsplit

import torch.distributed as dist

from training.distributed.launcher import Ranks, because, named

Result = TypeVar("Result")
POLL_SECONDS = 0.02
FIRST_LINE_SECONDS, LINE_SECONDS = 5.0, 60.0  # of a rank that waits for the others
ANYWHERE = "192.0.2.1"  # an address of no machine (RFC 5737): the way to it is the default route
SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


def name_of_start(store: dist.Store, rank: int, world_size: int, timeout_seconds: float, missing: set[int]) -> str:
    """A name that this start alone has, the same on all ranks. torchrun keeps one store over its restarts, with the
    addresses of processes that are gone; and on several machines each torchrun counts restarts of its own, so their
    number is no name. Every rank asks under a word of its own, which only the rank 0 of the same start answers.
    `missing`: holds the ranks that this one still waits for.

    Raises: RuntimeError when a rank does not come within `timeout_seconds`.
    """
    # Seen on two machines of which one lost a rank: one torchrun had counted 1 restart and the other 0, and the ranks
    # waited for each other under two prefixes until the time-out.
    own = uuid.uuid4().hex
    if rank:
        store.set(f"asks {rank}", own)
        name = store.get(f"answer {own}").decode()
        store.set(f"here {name} {rank}", "")
        missing.clear()
        return name
    end = time.monotonic() + timeout_seconds
    while missing:
        if time.monotonic() > end:
            raise RuntimeError(f"{named(sorted(missing))} did not come")
        for other in sorted(missing):
            if store.check([f"asks {other}"]):  # perhaps of a process that is gone: then nobody reads the answer
                store.set(f"answer {store.get(f'asks {other}').decode()}", own)
            if store.check([f"here {own} {other}"]):
                missing.remove(other)
        time.sleep(POLL_SECONDS if missing else 0)
    return own


def while_told(meet: Callable[[], Result], line: Callable[[], str]) -> Result:
    """What `meet` returns or raises; while it waits, `line` after 5 s and then each minute. In a thread of its own,
    because torch does not look at signals while it waits, and Ctrl-C would have to wait too."""
    found: Future[Result] = Future()

    def work() -> None:
        try:
            found.set_result(meet())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    seconds = FIRST_LINE_SECONDS
    while not wait([found], seconds).done:
        print(line(), file=sys.stderr, flush=True)
        seconds = LINE_SECONDS
    return found.result()


def waiting_line(url: str, ranks: Ranks, missing: set[int]) -> str:
    """`missing`: the ranks that this one has not met, as far as it knows."""
    address = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}" if url == "env://" else url
    return (
        f"rank {ranks.rank}: waiting at {address} for {named(sorted(missing)) or 'the other ranks'} of "
        f"{ranks.world_size}, because the environment has {because()}. Unset these to train alone"
    )


def choose_interface(url: str, ranks: Ranks) -> None:
    """For a run on several machines, unless the user has chosen one: the interface on the way to the meeting place."""
    if ranks.world_size > ranks.local_world_size and "GLOO_SOCKET_IFNAME" not in os.environ:
        meeting_place = urlsplit(url).hostname or os.environ.get("MASTER_ADDR", ANYWHERE)
        for host in (meeting_place, ANYWHERE):  # its own machine may know it by a loopback address
            if name := interface_towards(host):
                os.environ["GLOO_SOCKET_IFNAME"] = name
                return


def interface_towards(host: str) -> str | None:
    """Name of the interface that packets to `host` leave by; None for a loopback address, and where there is no way.
    Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        own = probe.getsockname()[0]
        if ipaddress.ip_address(own).is_loopback:
            return None
        return next((name for _, name in socket.if_nameindex() if address_of(name, probe) == own), None)


def address_of(interface: str, probe: socket.socket) -> str | None:
    """Its first IPv4 address."""
    try:
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    except OSError:
        return None
