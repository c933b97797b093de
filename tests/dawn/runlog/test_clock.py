"""The clock: every nanosecond belongs to one label, and the readings are exact sums."""

import os
import random
import subprocess
import sys
import time

import pytest
from dawn_script import SECOND, FakeTime

from dawn import Clock, process_start_ns
from dawn.runlog.clock import LABELS, RUN_LABELS


def started(now: FakeTime, **arguments) -> Clock:
    clock = Clock(now=now, **arguments)
    clock.start()
    return clock


def test_scripted_run_is_exact_to_the_nanosecond():
    now = FakeTime()
    clock = Clock(now=now, origin_ns=now() - 7)
    now.ns += 1_000_000_003
    with clock.during("prepare"):
        now.ns += 17
    clock.switch("warm")
    now.ns += 20
    clock.start()
    durations = {"data": 5, "train": 1_000_000_007, "eval": 300_000_001, "checkpoint": 40_000_009, "switch": 11}
    for label, ns in durations.items():
        with clock.during(label):
            now.ns += ns
    now.ns += 13  # other
    total = sum(durations.values()) + 13
    assert clock.state_dict()["ns"] == {
        "init": 1_000_000_010, "prepare": 17, "warm": 20, **durations, "inspect": 0, "other": 13,
    }  # fmt: skip
    assert clock.readings() == {
        "total": total / 1e9,
        "dawn": (total - 300_000_001 - 40_000_009) / 1e9,
        "prepare_train": (17 + 11 + 1_000_000_012) / 1e9,
        "train": 1_000_000_012 / 1e9,
        "cold": (total + 1_000_000_047) / 1e9,
    }
    assert clock.setup_seconds() == {"init": 1.00000001, "prepare": 1.7e-8, "warm": 2e-8}
    assert clock.snapshot() == {"seconds": clock.seconds(), "clock": clock.readings()}


@pytest.mark.parametrize("seed", range(20))
def test_labels_always_add_up_to_the_wall_time(seed):
    rng, now = random.Random(seed), FakeTime()
    origin = now() - rng.randrange(10**9)
    clock = Clock(now=now, origin_ns=origin)
    for _ in range(5):
        now.ns += rng.randrange(10**10)
        clock.switch(rng.choice(["init", "prepare", "warm"]))
    clock.start()
    run_start = now()
    for _ in range(200):
        now.ns += rng.randrange(10**10)
        clock.switch(rng.choice(RUN_LABELS))
        ledger = clock.state_dict()["ns"]
        assert sum(ledger.values()) == now() - origin
        assert sum(ledger[label] for label in RUN_LABELS) == now() - run_start
        assert min(ledger.values()) >= 0


def test_open_label_counts_up_to_now():
    now = FakeTime()
    clock = started(now)
    now.pass_seconds(2)
    assert clock.seconds()["other"] == 2.0
    now.pass_seconds(1)
    assert clock.readings()["total"] == 3.0


def test_during_nests_and_survives_exceptions():
    now = FakeTime()
    clock = started(now)
    with pytest.raises(KeyError), clock.during("train"):
        now.pass_seconds(1)
        with clock.during("data"):
            now.pass_seconds(2)
        assert clock.label == "train"
        with clock.during("eval"):
            now.pass_seconds(4)
            raise KeyError
    assert clock.label == "other"
    assert clock.seconds() == dict.fromkeys(LABELS, 0.0) | {"train": 1.0, "data": 2.0, "eval": 4.0}


def test_sync_comes_before_the_stamp_and_is_spared_inside_a_step():
    now, calls = FakeTime(), []

    def sync() -> None:
        calls.append(now())
        now.pass_seconds(1)  # the device needs another second

    clock = Clock(now=now, sync=sync)
    clock.start()
    assert len(calls) == 1 and clock.setup_seconds()["init"] == 1.0  # the wait belongs to the label that caused it
    clock.switch("train")
    assert len(calls) == 2 and clock.seconds()["other"] == 1.0
    clock.switch("data")
    clock.switch("train")
    with clock.during("data"):
        pass
    assert len(calls) == 2
    clock.switch("eval")
    assert len(calls) == 3 and clock.seconds()["train"] == 1.0


def drive(clock: Clock, now: FakeTime, script: list[tuple[str, int]]) -> None:
    for label, ns in script:
        clock.switch(label)
        now.ns += ns


@pytest.mark.parametrize("seed", range(5))
def test_resumed_clock_equals_an_undisturbed_one_wherever_it_was_killed(seed):
    rng = random.Random(seed)
    script = [(rng.choice(RUN_LABELS), rng.randrange(1, 10**10)) for _ in range(30)]
    now = FakeTime()
    undisturbed = Clock(now=now)
    now.pass_seconds(3)
    undisturbed.start()
    drive(undisturbed, now, script)
    for cut in range(len(script) + 1):
        now = FakeTime()
        first = Clock(now=now)
        now.pass_seconds(3)
        first.start()
        drive(first, now, script[:cut])
        state = first.state_dict()
        drive(first, now, [("train", 10**9)])  # thrown away
        now = FakeTime(123)  # the machine was started again: its clock begins anew
        second = Clock(now=now)
        second.load_state_dict(state)
        now.pass_seconds(77)  # setup of the second attempt: in no reading
        second.start()
        drive(second, now, script[cut:])
        assert second.state_dict() == undisturbed.state_dict()
        assert second.readings() == undisturbed.readings()
        assert second.setup_seconds()["init"] == 77.0


def test_lap_is_the_ledger_since_the_last_lap_and_survives_a_resume():
    now = FakeTime()
    clock = started(now)
    with clock.during("train"):
        now.pass_seconds(1)
    assert clock.lap() == {"seconds": dict.fromkeys(RUN_LABELS, 0.0) | {"train": 1.0}, "clock": clock.readings()}
    with clock.during("train"):
        now.pass_seconds(2)
    resumed = Clock(now=now)
    resumed.load_state_dict(clock.state_dict())
    resumed.start()
    with resumed.during("eval"):
        now.pass_seconds(4)
    assert resumed.lap()["seconds"] == dict.fromkeys(RUN_LABELS, 0.0) | {"train": 2.0, "eval": 4.0}
    assert resumed.readings()["total"] == 7.0


def test_wall_clock_is_never_read(monkeypatch):
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, lambda: pytest.fail("the wall clock may jump"))
    clock = Clock(origin_ns=process_start_ns())
    clock.start()
    with clock.during("train"):
        pass
    assert clock.readings()["cold"] >= clock.readings()["total"] >= 0


def test_bad_labels_and_wrong_order_are_refused():
    now = FakeTime()
    clock = Clock(now=now)
    with pytest.raises(ValueError, match="unknown clock label 'evaluation'"):
        clock.switch("evaluation")
    with pytest.raises(ValueError, match="'train' counts only after"):
        clock.switch("train")
    clock.start()
    with pytest.raises(ValueError, match="'warm' counts only before"):
        clock.switch("warm")
    with pytest.raises(ValueError, match="started already"):
        clock.start()
    with pytest.raises(ValueError, match="before start"):
        clock.load_state_dict(clock.state_dict())
    with pytest.raises(ValueError, match="future"):
        Clock(now=now, origin_ns=now() + 1)


def test_the_state_of_a_clock_without_the_label_prepare_is_taken_with_none_of_it():
    now = FakeTime()
    clock = Clock(now=now)
    state = clock.state_dict()
    del state["ns"]["prepare"]
    clock.load_state_dict(state | {"ns": state["ns"] | {"switch": 3 * SECOND}})
    now.pass_seconds(1)
    clock.start()
    assert clock.readings()["prepare_train"] == 3.0


@pytest.mark.parametrize("broken", [None, {}, {"train": -1}, {"train": 1.5}, {"train": True}, {"extra": 1}])
def test_broken_clock_state_is_refused(broken):
    clock = Clock(now=FakeTime())
    state = clock.state_dict()
    state["ns"] = state["ns"] | broken if broken else broken
    with pytest.raises(ValueError, match="clock state"):
        clock.load_state_dict(state)


def test_process_start_is_between_our_parent_s_launch_and_now():
    code = "import time, dawn; print(dawn.process_start_ns(), time.monotonic_ns())"
    before = time.monotonic_ns()
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    if output[0] == "None":
        pytest.skip("this system does not tell when a process started")
    tick = SECOND // os.sysconf("SC_CLK_TCK")
    assert before - 2 * tick <= int(output[0]) <= int(output[1])
