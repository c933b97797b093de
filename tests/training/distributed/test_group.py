"""Two real processes as a group: what they sum, ask and tell each other, and that both end alike."""

import contextlib
import time
from pathlib import Path

import pytest
import torch
from rank_processes import Failed, world
from torch import distributed as dist
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from data_prep import DataError
from dawn import RunError
from training.config.config import Config
from training.distributed.group import Group, open_group
from training.distributed.launcher import ranks
from training.engine.warmup import norms_alone
from training.errors import ConfigError

CONFIG = Config(timeout_minutes=1)


@pytest.fixture(scope="module")
def two():
    with world(2) as opened:
        yield opened


@contextlib.contextmanager
def meeting():
    with open_group(CONFIG, ranks()) as group:
        yield group


def norms_of_the_preflight() -> tuple:
    """The groups of a synchronised norm; it takes no images on a CPU."""
    norm = nn.SyncBatchNorm(3)
    with meeting():
        with norms_alone(norm):
            alone = dist.get_process_group_ranks(norm.process_group)
        return alone, norm.process_group


def test_in_the_preflight_a_synchronised_norm_waits_for_no_other_rank(two):
    assert two.call(norms_of_the_preflight) == [([0], None), ([1], None)]


# sums and questions


def sums() -> tuple:
    with meeting() as group:
        rank = group.rank
        numbers = torch.tensor([1.5, 10.0]) * (rank + 1)
        added = group.sum(numbers)
        large = group.sum(torch.tensor(2**53 + rank))  # of whole numbers: a float64 would lose the last
        least = group.least(torch.tensor([rank, 5 - rank]))
        return added.tolist(), added is numbers, int(large), least.tolist(), group.world_size


def test_sum_and_least_are_over_all_ranks_and_in_place(two):
    expected = ([4.5, 30.0], True, 2**54 + 1, [0, 4], 2)
    assert two.call(sums) == [expected, expected]


def questions() -> list:
    with meeting() as group:
        first = group.rank == 0
        return [group.any(False), group.any(first), group.any(not first, False, True), group.any(first, not first)]


def test_any_answers_each_wish_alike_on_all_ranks(two):
    expected = [[False], [True], [True, False, True], [True, True]]
    assert two.call(questions) == [expected, expected]


class Sent(TorchDispatchMode):
    """How often the ranks exchanged something."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.namespace == "c10d"
        return function(*args, **(kwargs or {}))


def wishes_on_their_way(steps: int, first: int, seconds: float) -> tuple[dict[str, list[int]], int]:
    """In which of `steps` steps of `seconds` a wish is granted that rank 1 has from step `first` on until then, and
    how often the ranks talked."""
    found: dict[str, list[int]] = {"stop": [], "save": []}
    with meeting() as group, Sent() as sent:
        for number in range(steps):
            group.ask()
            wish = number >= first and group.rank == 1 and not found["stop"]
            for name, wanted in (("stop", wish), ("save", False)):
                found[name] += [number] if group.soon(name, wanted) else []
            time.sleep(seconds)
    return found, sent.count


def test_a_wish_is_granted_once_and_on_all_ranks_alike(two):
    """The answer travels while the next steps compute."""
    (granted, _), other = two.call(wishes_on_their_way, 20, 2, 0.06)  # the ranks ask at every step of 0.06 s
    assert other[0] == granted and len(granted["stop"]) == 1 and granted["save"] == []
    assert 4 <= granted["stop"][0] <= 5


def test_quick_steps_do_not_talk_each_time(two):
    """Two exchanges a step took 0.2 to 0.6 ms of each step's time. Both wishes go round together, every 0.1 s."""
    (granted, sent), other = two.call(wishes_on_their_way, 1000, 100, 0.0)
    assert other == (granted, sent) and len(granted["stop"]) == 1 and granted["stop"][0] > 100
    assert sent < 500


def a_rank_that_is_late(sign: Path) -> bool:
    """Whether rank 0 had its answer before rank 1 asked: that one asks when it sees so, or after half a minute."""
    with meeting() as group:
        group.ask()
        group.any(False)  # both are here
        end = time.monotonic() + 30
        while group.rank and not sign.exists() and time.monotonic() < end:
            time.sleep(0.01)
        in_time = sign.exists() or not group.rank
        group.ask()
        sign.touch()
        return in_time


def test_asking_does_not_wait_for_a_rank_that_has_not_asked_yet(two, tmp_path):
    assert two.call(a_rank_that_is_late, tmp_path / "answered") == [True, True]


def values() -> tuple:
    with meeting() as group:
        weights = [torch.full((3,), float(group.rank + 1)), torch.tensor(group.rank)]
        group.spread(weights)
        return group.gather({"rank": group.rank}), [weight.tolist() for weight in weights]


def test_gather_is_by_rank_and_spread_is_rank_0s(two):
    expected = ([{"rank": 0}, {"rank": 1}], [[1.0, 1.0, 1.0], 0])
    assert two.call(values) == [expected, expected]


# what one of them finds


def checked_by_all(wrong_on: int, kind: type) -> int:
    def check() -> int:
        if ranks().rank == wrong_on:
            raise kind("no such folder")
        return ranks().rank

    with meeting() as group:
        return group.together(check)


@pytest.mark.parametrize("kind", [ConfigError, DataError, RunError])
@pytest.mark.parametrize("wrong_on", [0, 1])
def test_bad_input_that_one_rank_finds_is_raised_on_both(two, wrong_on, kind):
    first, second = two.attempt(checked_by_all, wrong_on, kind)
    assert (first.kind, first.text) == (kind.__name__, "rank 1: no such folder" if wrong_on else "no such folder")
    assert (second.kind, second.text) == ("PeerFailed", first.text)


def test_together_gives_each_rank_its_own_result(two):
    assert two.call(checked_by_all, -1, ConfigError) == [0, 1]


def decided_by_main(error: Exception | None) -> tuple:
    calls = []

    def decide() -> str:
        calls.append(ranks().rank)
        if error:
            raise error
        return "epoch 3"

    with meeting() as group:
        return group.from_main(decide), calls


def test_from_main_asks_rank_0_alone_and_tells_all(two):
    assert two.call(decided_by_main, None) == [("epoch 3", [0]), ("epoch 3", [])]


REFUSALS = [
    ConfigError("--logdir x: in use"),
    DataError("train/1.JPEG: cannot be read"),
    RunError("run.jsonl, line 2: not JSON"),
]


@pytest.mark.parametrize("error", REFUSALS)
def test_what_rank_0_refuses_all_refuse(two, error):
    """A log that cannot be read ended the other ranks with a traceback about their connection."""
    first, second = two.attempt(decided_by_main, error)
    assert (first.kind, second.kind) == (type(error).__name__, "PeerFailed")
    assert first.text == second.text == str(error)


def held() -> list:
    steps = []

    @contextlib.contextmanager
    def lock():
        steps.append("taken")
        yield "the folder"
        steps.append("given back")

    with meeting() as group:
        with group.held_by_main(lock) as folder:
            steps.append(folder)
        return steps


def test_a_context_of_rank_0_is_entered_and_left_there_alone(two):
    assert two.call(held) == [["taken", "the folder", "given back"], ["the folder"]]


# meeting


def meet_alone() -> None:
    if ranks().rank == 0:
        with open_group(Config(timeout_minutes=0.02), ranks()):
            pass


def test_processes_that_do_not_meet_say_so_in_one_line_and_in_time(two):
    begin = time.monotonic()
    first, second = two.attempt(meet_alone)
    assert isinstance(first, Failed) and first.kind == "ConfigError" and second is None
    assert first.text.startswith("the 2 processes did not meet at env:// (") and "\n" not in first.text
    assert time.monotonic() - begin < 90  # it was told to wait for a second


# alone


def test_a_process_that_is_alone_is_a_group_of_one():
    with open_group(CONFIG, ranks()) as group:
        assert not torch.distributed.is_initialized()
        assert group.sum(torch.tensor(3)) == 3 and group.any(True, False) == [True, False]
        assert group.soon("stop", True) and group.gather("a") == ["a"] and group.from_main(lambda: 5) == 5
        with pytest.raises(ConfigError, match="no"), group.held_by_main(refuse):
            pass
        with pytest.raises(DataError):
            Group().together(unreadable)


def refuse():
    raise ConfigError("no")


def unreadable() -> None:
    raise DataError("unreadable")
