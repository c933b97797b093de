"""The processes of one run as a group: sums, broadcasts, and decisions that all of them take alike.

Every decision that changes how often the ranks talk to each other is made here from a value that all of them have.
Numbers on the CPU travel by gloo, those on a GPU by NCCL. A process that is alone is a group of one.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from data_prep import DataError
from dawn import RunError
from training.config.config import Config
from training.distributed.failures import LastWords, is_lost
from training.distributed.launcher import Ranks, because, rendezvous_url
from training.distributed.rendezvous import choose_interface, name_of_start, waiting_line, while_told
from training.errors import ConfigError, PeerFailed, error_code, is_bad_input, summary

Result = TypeVar("Result")
WISHES = ("stop", "save")
ASK_SECONDS = 0.1  # between two times that the ranks tell their wishes
SOON_SECONDS = 5.0  # that a rank with bad input stays, to tell the others


class Group:
    """`words`: where a failing rank leaves its reason; None when this process is alone."""

    def __init__(self, ranks: Ranks | None = None, words: LastWords | None = None) -> None:
        self.rank, self.world_size = (ranks.rank, ranks.world_size) if ranks else (0, 1)
        self.words = words
        self.failed = False  # all ranks know
        self.wishes = dict.fromkeys(WISHES, False)
        self.asked: tuple[Tensor, dist.Work] | None = None  # wishes on their way
        self.answered: set[str] = set()  # wishes that the last answer granted
        self.granted: dict[str, bool] = {}  # of these, which `soon` has not told yet
        self.interval, self.steps_left, self.asked_at = 1, 0, float("-inf")

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Around what the ranks exchange. When it shows that a rank is gone, NCCL is aborted at once: on its way up the
        error stops clocks, which wait for the device, which would wait for that rank."""
        try:
            yield
        except RuntimeError as error:
            if self.words and is_lost(error):
                self.words.abort()
            raise

    def sum(self, numbers: Tensor) -> Tensor:
        """Over all ranks, in place."""
        if self.words:
            with self.exchange():
                dist.all_reduce(numbers)
        return numbers

    def least(self, numbers: Tensor) -> Tensor:
        """Over all ranks, in place."""
        if self.words:
            with self.exchange():
                dist.all_reduce(numbers, dist.ReduceOp.MIN)
        return numbers

    def spread(self, tensors: list[Tensor]) -> None:
        """Give all ranks rank 0's values."""
        with self.exchange():
            for tensor in tensors if self.words else ():
                dist.broadcast(tensor, 0)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, by rank."""
        values = [value] * self.world_size
        if self.words:
            with self.exchange():
                dist.all_gather_object(values, value)
        return values

    def any(self, *wishes: bool) -> list[bool]:
        """For each wish, whether a rank has it."""
        if not self.words:
            return list(wishes)
        flags = torch.tensor(wishes, dtype=torch.int32)
        with self.exchange():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return flags.bool().tolist()

    def soon(self, name: str, wish: bool) -> bool:
        """Whether a rank had the wish `name`, of WISHES, when they last went round (`ask`); granted once. Alone: this
        process's own."""
        if not self.words:
            return wish
        granted = self.granted.pop(name, False)
        self.wishes[name] = wish and not granted
        return granted

    def ask(self) -> None:
        """Once a step, by all ranks: about every ASK_SECONDS the wishes go round. The answer is taken when the next
        ones leave, so that no step waits for it.

        How many steps that is, all ranks take from the slowest rank's time of a step, which travels with the wishes; it
        at most doubles from one time to the next, as the first steps only fill a GPU's queue.
        """
        self.steps_left -= 1
        if not self.words or self.steps_left > 0:
            return
        now = time.monotonic()
        numbers = [float(self.wishes[name]) for name in WISHES] + [(now - self.asked_at) / self.interval]
        sent, self.asked_at, before = torch.tensor(numbers, dtype=torch.float64), now, self.asked
        with self.exchange():
            self.asked = sent, dist.all_reduce(sent, dist.ReduceOp.MAX, async_op=True)
            if before:
                before[1].wait()
                self.take(*before[0].tolist())
        self.steps_left = self.interval

    def take(self, *answer: float) -> None:
        """What was wished before it was granted the last time is not granted again."""
        *wished, seconds = answer
        new = {name for name, wish in zip(WISHES, wished, strict=True) if wish} - self.answered
        self.answered, self.granted = new, dict.fromkeys(new, True)
        self.interval = max(1, min(2 * self.interval, int(ASK_SECONDS / max(seconds, 1e-6))))

    def together(self, action: Callable[[], Result]) -> Result:
        """`action` on every rank. Bad input that one rank finds is raised on all, and says which: ConfigError,
        DataError, RunError on rank 0, PeerFailed on the others."""
        result, error = attempt(action)
        if self.words:
            errors = self.gather(error)
            rank = next((rank for rank, error in enumerate(errors) if error), 0)
            first = errors[rank]
            self.raise_everywhere(type(first)(f"rank {rank}: {first}") if rank else first)
        elif error:
            raise error
        return result

    def from_main(self, action: Callable[[], Result]) -> Result:
        """`action` on rank 0 alone, its result everywhere. Raises as `together`."""
        if not self.words:
            return action()
        box = list(attempt(action)) if self.rank == 0 else [None, None]
        with self.exchange():
            dist.broadcast_object_list(box)
        self.raise_everywhere(box[1])
        return box[0]

    @contextlib.contextmanager
    def held_by_main(self, make: Callable[[], contextlib.AbstractContextManager[Result]]) -> Iterator[Result]:
        """A context that rank 0 alone enters and leaves, and what it gives everywhere."""
        with contextlib.ExitStack() as held:
            yield self.from_main(lambda: held.enter_context(make()))

    def raise_everywhere(self, error: Exception | None) -> None:
        if error:
            self.failed = True
            raise error if self.rank == 0 else PeerFailed(str(error), error_code(error))

    def cause(self, error: Exception) -> Exception:
        """What to end with because of `error`: PeerFailed when another rank failed first, else `error` itself, and then
        the other ranks are told."""
        if not self.words or self.failed or isinstance(error, PeerFailed):
            return error
        other = None if is_bad_input(error) else self.words.reason(error)
        if not other:
            self.words.tell(summary(error), error_code(error))
            if self.rank and is_bad_input(error):  # rank 0 says it
                other = PeerFailed(str(error), error_code(error))
        return other or error


def attempt(action: Callable[[], Result]) -> tuple[Result | None, Exception | None]:
    try:
        return action(), None
    except (ConfigError, DataError, RunError) as error:
        return None, error


@contextlib.contextmanager
def open_group(config: Config, ranks: Ranks, alone: bool = False) -> Iterator[Group]:
    """The group of this run's processes for as long as the block lasts. `alone`: without the others when they do not
    come soon. Raises: ConfigError when they do not meet within --timeout-minutes; PeerFailed for whatever the block
    raises when the reason is another rank's."""
    if ranks.world_size == 1:
        yield Group()
        return
    url = rendezvous_url(config.dist_url)
    timeout = timedelta(seconds=SOON_SECONDS) if alone else timedelta(minutes=config.timeout_minutes)
    missing = set(range(1, ranks.world_size)) if ranks.rank == 0 else {0}
    try:
        store = while_told(lambda: met(config, url, ranks, timeout, missing), lambda: waiting_line(url, ranks, missing))
    except (RuntimeError, ValueError) as error:
        store, reason = None, " ".join(str(error).split())[:160]
        if not alone:
            raise ConfigError(
                f"the {ranks.world_size} processes did not meet at {url} ({reason}), though {because()}. "
                "Check --dist-url or the launcher's address, and that all were started"
            ) from None
    if store is None:
        yield Group()
        return
    with LastWords(store, ranks.rank, ranks.world_size) as words:
        group = Group(ranks, words)
        with left_alike(group, words):
            yield group


@contextlib.contextmanager
def left_alike(group: Group, words: LastWords) -> Iterator[None]:
    """Closes the process group, or aborts it where this rank fails alone. Raises: see open_group."""
    try:
        yield
    except BaseException as error:
        cause = group.cause(error) if isinstance(error, Exception) else error
        if not group.failed:
            words.abort()
        raise cause from (error if cause is not error else error.__cause__)
    finally:
        words.close()


def met(config: Config, url: str, ranks: Ranks, timeout: timedelta, missing: set[int]) -> dist.Store:
    """The store that the ranks met at, their process group being open. `missing`: holds the ranks that this one still
    waits for. Raises: RuntimeError, ValueError."""
    meeting, _, _ = next(dist.rendezvous(url, ranks.rank, ranks.world_size, timeout=timeout))
    name = name_of_start(meeting, ranks.rank, ranks.world_size, timeout.total_seconds(), missing)
    store = dist.PrefixStore(name, meeting)  # which still knows the addresses of the start before
    store.set_timeout(timeout)
    choose_interface(url, ranks)
    dist.init_process_group(backend(config), store=store, rank=ranks.rank, world_size=ranks.world_size, timeout=timeout)
    dist.all_reduce(torch.zeros(1))  # gloo connects lazily; a barrier would go by NCCL on a rank that has a GPU
    return store


def backend(config: Config) -> str:
    """gloo for the CPU; NCCL beside it where there is a GPU to train on."""
    if config.device == "cpu" or not torch.cuda.is_available() or config.dist_backend == "gloo":
        return "gloo"
    return "cpu:gloo,cuda:nccl"
