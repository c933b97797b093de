"""The engine of many machines: chunks of items as plain tasks of a Ray cluster.

Ray starts the tasks of a lost worker or machine again; results come back in order, and only what has come back counts
(the journal of trees/journal.py). Every machine must see the data under the same path, and have the same packages:
they decide the bytes.
"""

import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from data_prep.engines.base import Item, Result
from data_prep.errors import DataError
from data_prep.workers import default_workers, keep_freed_memory

INSTALL = "pip install '.[ray]' in dawn-harness's folder, or pip install ray"
ADDRESS = "RAY_ADDRESS"  # Ray's own variable
RETRIES = 5  # of a chunk whose worker or machine is lost
SECONDS = 60  # without a result, before a note
REACHED_IN = 10  # seconds
# What a client of HTTP/2 begins with, and an empty frame of settings; a server answers with its own (RFC 9113, 3.4).
SETTINGS = b"\4"  # type of a frame: its fourth byte
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0" + SETTINGS + bytes(5)
SECONDS_BETWEEN = 5  # looks at how many CPUs there are
AHEAD = 4  # chunks for a CPU that are asked for: results come in order, and a lost machine is noticed late
LARGEST_CHUNK = 1024  # items
PARTS = 8  # chunks for a CPU, of the items that are left: few tasks (each waits for the disk), and an even end
Facts = dict[str, str]


@contextmanager
def ray_engine(workers: int, roots: Sequence[str]) -> Iterator["RayEngine"]:
    """An engine on the cluster that RAY_ADDRESS names, else on one that runs on this machine, else on a new one here.

    Every machine is asked first whether it has the same packages and sees `roots`, or of a folder that is still to be
    made the first one above it that is there. Raises: DataError.
    """
    ray = _installed()
    workers = _connect(ray, workers)
    try:
        facts = _facts_function()()
        _ask_machines(ray, facts, [_nearest(root) for root in roots])
        yield RayEngine(ray, workers, facts)
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class RayEngine:
    """See base.Engine."""

    ray: ModuleType
    workers: int  # tasks at the same time; 0: one for each CPU of the cluster
    facts: Facts  # of this machine

    def map(self, function: Callable[[Item], Result], items: Sequence[Item], chunk: int) -> Iterator[Result]:
        task = self.ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(_run_chunk)
        common = self.ray.put((self.facts, function))
        start, cpus, asked = 0, self._cpus(), time.monotonic()
        pending: deque = deque()
        try:
            while start < len(items) or pending:
                if time.monotonic() - asked > SECONDS_BETWEEN:
                    cpus, asked = self._cpus(), time.monotonic()
                while start < len(items) and len(pending) < (self.workers or AHEAD * cpus):
                    size = max(chunk, min(LARGEST_CHUNK, (len(items) - start) // (PARTS * cpus)))
                    pending.append(task.remote(common, items[start : start + size]))
                    start += size
                yield from self._result(pending.popleft())
        finally:
            for reference in pending:
                self.ray.cancel(reference)

    def _cpus(self) -> int:
        """Of the machines that are there now: some may come or go."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 0)))

    def _result(self, reference) -> list:
        errors = self.ray.exceptions
        while True:
            try:
                return self.ray.get(reference, timeout=SECONDS)
            except errors.GetTimeoutError:
                print(f"note: no result for {SECONDS} s; the cluster has {self._cpus()} CPUs", file=sys.stderr)
            except errors.RayTaskError as error:
                raise _own_error(error) from None
            except errors.RayError as error:
                raise DataError(
                    f"a worker of the Ray cluster was lost {RETRIES + 1} times at the same images, perhaps for memory "
                    f"({_line(error)}). Run the same command again, with fewer --workers."
                ) from None


def _run_chunk(common: tuple[Facts, Callable[[Item], Result]], items: Sequence[Item]) -> list[Result]:
    """In a worker. What it wrote is on the disk before anybody is told."""
    facts, function = common
    _begin_worker(tuple(facts.items()))
    results = [function(item) for item in items]
    os.sync()
    return results


@cache
def _begin_worker(facts: tuple[tuple[str, str], ...]) -> None:
    """Once in a process: machines that joined later have not been asked."""
    _compare(socket.gethostname(), dict(facts), _facts_function()())
    keep_freed_memory()


def _installed() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise DataError(f"--engine ray: Ray is not installed. Install the extra: {INSTALL}") from None
    return ray


def _connect(ray: ModuleType, workers: int) -> int:
    """How many tasks may run at the same time; 0: as many as the cluster, which may be new and as large, has CPUs."""
    address = os.environ.get(ADDRESS, "")
    _reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address in ("", "auto"):
            with suppress(ConnectionError):  # none runs here
                ray.init("auto", **quiet)
                return workers
        elif address != "local":
            ray.init(address, **quiet)
            return workers
        ray.init("local", num_cpus=workers or default_workers(), **quiet)
        return 0
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise DataError(f"--engine ray: no connection to the Ray cluster {address or 'here'}: {_line(error)}") from None


def _reachable(address: str) -> None:
    """Raises: DataError where nobody listens, or nobody who speaks gRPC; Ray itself would try for minutes."""
    if address in ("", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not (host and port.isdecimal()):
        raise DataError(f"{ADDRESS}={address}: give HOST:PORT of the cluster's head, such as 10.0.0.1:6379")
    try:
        place = (host.strip("[]"), int(port))
        with socket.create_connection(place, timeout=REACHED_IN) as link, link.makefile("rb") as answer:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                link.sendall(GREETING)
                if answer.read(4)[3:] != SETTINGS:
                    raise OSError("another service")
    except (OSError, OverflowError, UnicodeError) as error:
        raise DataError(
            f"{ADDRESS}={address}: no Ray cluster answers there ({error}). Start one (ray start --head), or correct "
            "the address."
        ) from None


def _nearest(folder: str) -> str:
    """`folder`, or the first one above it that is there."""
    folder = os.path.abspath(folder)
    return folder if os.path.isdir(folder) else _nearest(os.path.dirname(folder))


def _ask_machines(ray: ModuleType, facts: Facts, roots: list[str]) -> None:
    """Raises: DataError for the first machine that has other packages or does not see `roots`."""
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0)(_facts_function())
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    asked = [
        task.options(scheduling_strategy=affinity(node["NodeID"], soft=False)).remote(tuple(roots)) for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        try:
            theirs = ray.get(answer)
        except ray.exceptions.RayError:  # lost just now; a machine that comes later is asked with its first task
            continue
        _compare(node["NodeManagerAddress"], facts | dict.fromkeys(roots, "there"), theirs)


def _compare(machine: str, here: Facts, there: Facts) -> None:
    for name, value in here.items():
        if there[name] == value:
            continue
        if name.startswith("/"):
            raise DataError(f"{name}: not there on the machine {machine}. Mount the same disk there, at the same path.")
        raise DataError(
            f"the machine {machine} has {name} {there[name] or 'not at all'}, this one {value}. Install the same on "
            "every machine of the cluster."
        )


def _facts_function() -> Callable[..., Facts]:
    """A function of its own, so that Ray sends its code and not its name: the package may be missing there."""

    def facts(roots: tuple[str, ...] = ()) -> Facts:
        import hashlib
        import os
        from importlib import metadata, util
        from pathlib import Path

        found, code = util.find_spec("data_prep"), ""
        if found:
            folder, digest = Path(found.origin).parent, hashlib.sha256()
            for path in sorted(folder.rglob("*.py")):
                digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + path.read_bytes())
            code = f"of code {digest.hexdigest()[:12]}"
        versions = {}
        for name in ("numpy", "pillow", "simplejpeg", "cykooz.resizer"):
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = ""
        return {"data_prep": code} | versions | {root: "there" if os.path.isdir(root) else "" for root in roots}

    return facts


def _own_error(error: Exception) -> Exception:
    """The error of our function as it was, without the traceback of the other machine."""
    cause = error.cause
    if isinstance(cause, FileNotFoundError):
        return DataError(
            f"{cause.filename}: not there on the machine {error.ip}. Every machine must see the same disk."
        )
    if isinstance(cause, DataError | OSError):
        return cause
    if isinstance(cause, ModuleNotFoundError):
        return DataError(f"the machine {error.ip} has no {cause.name}. Install the same on every machine.")
    return error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
