"""The clock: a ledger that gives every nanosecond of a run to exactly one label.

At any moment one label is open, so the labels always add up to the time since the origin. All benchmark clocks
(T_total, T_dawn, T_prepare_train, T_train, T_cold) are sums over this ledger. Nothing here reads the wall clock and
nothing here knows about torch: the time source and the device synchronisation are arguments. One thread uses a clock.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Compiling takes 20 to 300 s, which MLPerf leaves out, AlgoPerf counts, and DAWNBench leaves to the submitter:
# a ledger can answer all three.
# Before start(): imports and building; what the seed decides (the first weights); warm-up on random data.
SETUP_LABELS = ("init", "prepare", "warm")
RUN_LABELS = ("data", "train", "eval", "checkpoint", "switch", "inspect", "other")  # after start(): together T_total
NEWER_LABELS = {"prepare", "inspect"}  # logs and checkpoints of older code do not have them: 0 s
LABELS = SETUP_LABELS + RUN_LABELS
DEFINITION = (
    "T_total = all time from the first read of training data on; T_dawn = T_total - evaluation - checkpoints; "
    "T_prepare_train = T_train + all that depends on the data or the seed and is done once: the first weights, "
    "setting a phase, whitening; "
    "T_train = data wait + training steps; T_cold = T_total + program start and warm-up of the first attempt."
)


class Clock:
    """Opens in label `init` at `origin_ns` (see process_start_ns), or now.

    now: integer nanoseconds of a clock that never goes back.
    sync: waits for the device; called before the stamp of every change of label, except to and from `data`: those
    happen inside a step, where the host must not wait. So on a GPU `data` is time the host waited for images.
    """

    def __init__(
        self,
        now: Callable[[], int] = time.monotonic_ns,
        sync: Callable[[], None] = lambda: None,
        origin_ns: int | None = None,
    ):
        self._now, self._sync = now, sync
        self._since = now() if origin_ns is None else origin_ns  # stamp at which the open label was opened
        self._ns = dict.fromkeys(LABELS, 0)  # closed time of this ledger
        self._lap_ns = dict.fromkeys(RUN_LABELS, 0)  # the run labels at the last lap()
        self._first_setup_ns: dict[str, int] | None = None  # setup of the first attempt, in a resumed clock
        self.label = "init"  # the open label
        self.started = False
        if now() < self._since:
            raise ValueError(f"clock origin {self._since} ns lies in the future. Give a stamp of the same clock.")

    def switch(self, label: str) -> None:
        """From now on time counts for `label`. Setup labels only before start(), run labels only after it."""
        self._check(label)
        if label != "data" and self.label != "data":
            self._sync()
        self._open(label)

    @contextmanager
    def during(self, label: str) -> Iterator[None]:
        """Count for `label` inside the block, then for the label before it again, also after an exception."""
        before = self.label
        self.switch(label)
        try:
            yield
        finally:
            self.switch(before)

    def start(self) -> None:
        """Run start: from here on T_total counts; label `other`. Call it just before training data is first read."""
        if self.started:
            raise ValueError("the clock has been started already. Call start() once, outside of during().")
        self._sync()
        self._open("other")
        self.started = True

    def seconds(self) -> dict[str, float]:
        """Every label with the open one up to now. In a resumed clock the run labels go on from the stored counts,
        while `init`, `prepare` and `warm` are those of this process."""
        return _seconds(self._ledger())

    def setup_seconds(self) -> dict[str, float]:
        """`init`, `prepare` and `warm` of this process."""
        return _seconds({label: ns for label, ns in self._ledger().items() if label in SETUP_LABELS})

    def readings(self) -> dict[str, float]:
        """The clocks in seconds: total, dawn, prepare_train, train, cold. No device sync: read them after a switch."""
        return self._readings(self._ledger())

    def snapshot(self) -> dict[str, dict[str, float]]:
        """seconds() and readings() of the same instant, under the names of the run log: `seconds`, `clock`."""
        ledger = self._ledger()
        return {"seconds": _seconds(ledger), "clock": self._readings(ledger)}

    def lap(self) -> dict[str, dict[str, float]]:
        """`seconds` of the run labels since the last lap (or start) and `clock`, of one instant: for an epoch line.

        The last lap is part of the state, so the lap of an epoch that was resumed in its middle is a whole one.
        """
        ledger = self._ledger()
        since_lap = {label: ledger[label] - self._lap_ns[label] for label in RUN_LABELS}
        self._lap_ns = {label: ledger[label] for label in RUN_LABELS}
        return {"seconds": _seconds(since_lap), "clock": self._readings(ledger)}

    def state_dict(self) -> dict[str, dict[str, int]]:
        """Integers (nanoseconds): the run labels up to now, the setup of the FIRST attempt, the last lap."""
        ledger = self._ledger()
        return {"ns": ledger | self._setup_ns(ledger), "lap_ns": dict(self._lap_ns)}

    def load_state_dict(self, state: dict[str, dict[str, int]]) -> None:
        """Go on from the stored counts; call it before start().

        T_cold of a resumed run = T_total + setup of the first attempt. The setup of this process is in
        setup_seconds() and, seen from outside, part of the gap between the attempts.
        """
        if self.started:
            raise ValueError("the clock runs already. Load its state before start().")
        ns, lap_ns = _checked(state, "ns", LABELS), _checked(state, "lap_ns", RUN_LABELS)
        self._first_setup_ns = {label: ns[label] for label in SETUP_LABELS}
        self._ns |= {label: ns[label] for label in RUN_LABELS}
        self._lap_ns = lap_ns

    def _check(self, label: str) -> None:
        if label not in self._ns:
            raise ValueError(f"unknown clock label {label!r}. Known: {', '.join(LABELS)}.")
        if (label in RUN_LABELS) != self.started:
            raise ValueError(f"clock label {label!r} counts only {'before' if self.started else 'after'} start().")

    def _open(self, label: str) -> None:
        stamp = self._now()
        self._ns[self.label] += stamp - self._since
        self._since, self.label = stamp, label

    def _ledger(self) -> dict[str, int]:
        ledger = dict(self._ns)
        ledger[self.label] += self._now() - self._since
        return ledger

    def _setup_ns(self, ledger: dict[str, int]) -> dict[str, int]:
        return self._first_setup_ns or {label: ledger[label] for label in SETUP_LABELS}

    def _readings(self, ledger: dict[str, int]) -> dict[str, float]:
        return _seconds(clocks_of(ledger | self._setup_ns(ledger)))


def clocks_of(ledger: Mapping[str, float]) -> dict[str, float]:
    """What every clock shows for a ledger with all labels, in the ledger's unit; total comes first."""
    total = sum(ledger[label] for label in RUN_LABELS)
    train = ledger["data"] + ledger["train"]
    return {
        "total": total,
        "dawn": total - ledger["eval"] - ledger["checkpoint"],
        "prepare_train": ledger["prepare"] + ledger["switch"] + train,
        "train": train,
        "cold": total + sum(ledger[label] for label in SETUP_LABELS),
    }


def process_start_ns() -> int | None:
    """When the operating system started this process, on the clock of time.monotonic_ns; None where it is not told.

    Linux only, to 10 ms: field 22 of /proc/self/stat (clock ticks since boot, proc_pid_stat(5)).
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # the name before ')' may hold spaces
        started = int(fields[19]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return time.monotonic_ns() - age if age >= 0 else None


def _seconds(ledger: dict[str, int]) -> dict[str, float]:
    return {name: ns / 1e9 for name, ns in ledger.items()}


def _checked(state: dict[str, dict[str, int]], name: str, labels: tuple[str, ...]) -> dict[str, int]:
    counts = state.get(name) if isinstance(state, dict) else None
    if isinstance(counts, dict):
        counts = {label: 0 for label in labels if label in NEWER_LABELS} | counts
    if not isinstance(counts, dict) or set(counts) != set(labels):
        raise ValueError(f"clock state: {name!r} must hold exactly {', '.join(labels)}. Use what state_dict() gave.")
    for label, ns in counts.items():
        if type(ns) is not int or ns < 0:
            raise ValueError(f"clock state: {name}.{label} is {ns!r}. It must be a whole number of nanoseconds, >= 0.")
    return {label: counts[label] for label in labels}
