"""One run, read from its log: the attempts merged into the epochs that count, the phases that were executed, and the
rules that a log must keep. Every report starts from a Run."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from dawn.filekind import wrong_kind
from dawn.runlog.clock import RUN_LABELS
from dawn.runlog.fields import Fields
from dawn.runlog.records import CLOCKS, PREPARE_LABELS, Row, Start, Stop, row_record, start_record, stop_record
from dawn.runlog.writer import RunError, read_lines

LOG_NAME = "run.jsonl"
SAME_IN_ALL_ATTEMPTS = ("run_id", "task", "metric", "target", "total_epochs")
ROUNDING_SECONDS = 1e-6  # of sums of floats; the clock itself counts whole nanoseconds
# DAWNBench lets evaluation and checkpoints be left out; MLPerf counts the evaluation.
EXCLUDED = {"total": (), "dawn": ("eval", "checkpoint")}  # labels that a clock leaves out
PHASE_FIELDS = ("size", "batch_size", "global_batch_size")


@dataclass(frozen=True)
class Run:
    """attempts: the start line of each; rows, phases and stop: what is left of them after the later attempts."""

    path: Path
    attempts: tuple[Start, ...]
    phases: tuple[dict[str, Any], ...]  # phase lines as logged
    rows: tuple[Row, ...]  # epochs from start.first_epoch on, without a hole
    stop: Stop | None
    torn: bool  # the log ends in half a line

    @property
    def start(self) -> Start:
        """Of the first attempt."""
        return self.attempts[0]

    @property
    def latest(self) -> Start:
        """Of the last attempt: the hardware and versions at the end."""
        return self.attempts[-1]

    @property
    def resumes(self) -> tuple[Start, ...]:
        """The later attempts; one whose resumed_from is None began again from nothing, with its clock at 0."""
        return self.attempts[1:]

    @property
    def tells_prepare(self) -> bool:
        """Whether the log itself has T_prepare_train."""
        return all(attempt.tells_prepare for attempt in self.attempts)

    @property
    def is_evaluated(self) -> bool:
        return any(row.validation for row in self.rows)

    @property
    def evaluations(self) -> tuple[Row, ...]:
        """The rows with a validation; RunError if there is none."""
        rows = tuple(row for row in self.rows if row.validation is not None)
        if not rows:
            raise RunError(f"{self.path}: {self.lack}")
        return rows

    @property
    def lack(self) -> str:
        """Why there is no report of a run without an evaluation, and what to do about it."""
        if self.stop is None or self.stop.outcome == "preempted":
            return "no evaluation yet. Reports need at least one; let the run go on."
        return f"no evaluation, the run has ended ({self.stop.outcome}). Reports need one; `study` counts such runs."

    def hit(self, metric: str | None = None, target: float | None = None) -> Row | None:
        """The first row whose validation is at or above the target (default: the run's own), None if there is none."""
        metric, target = metric or self.start.metric, self.start.target if target is None else target
        hits = (row for row in self.rows if row.validation and row.validation.reaches(metric, target))
        return next(hits, None)

    def hours(self, row: Row, clock: str = "dawn") -> float:
        """Hours on one of the clocks (total, dawn, train, cold) at the end of this row's evaluation."""
        return row.clock[clock] / 3600


def log_path(path: str | os.PathLike[str]) -> Path:
    """The run log of a run folder, or the file itself."""
    path = Path(path)
    return path / LOG_NAME if path.is_dir() else path


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run folder or its run.jsonl. RunError, one line with the line number, for a log that cannot be so."""
    return read_run_and_events(path)[0]


def read_run_and_events(path: str | os.PathLike[str]) -> tuple[Run, list[dict[str, Any]]]:
    """The run and every whole line of its log, those too that are no part of the result; raises as read_run."""
    path = log_path(path)
    events, torn = read_lines(path)
    merge = Merge(path)
    for number, event in enumerate(events, start=1):
        merge.add(Fields(f"{path}, line {number}", event))
    if not merge.attempts:
        if torn and (kind := wrong_kind(path)):
            raise RunError(f"{path}: {kind}.")
        raise RunError(f"{path}: no start line, the log is empty. Start the run again in a new folder.")
    return Run(path, tuple(merge.attempts), tuple(merge.phases), tuple(merge.rows), merge.stop, torn), events


class Merge:
    """Takes the lines in order. A start line voids what earlier attempts said about the epochs it trains again."""

    def __init__(self, path: Path):
        self.path = path
        self.attempts: list[Start] = []
        self.phases: list[dict[str, Any]] = []
        self.rows: list[Row] = []
        self.stop: Stop | None = None

    def add(self, fields: Fields) -> None:
        takers: dict[str, Callable[[Fields], None]] = {
            "start": self._start, "phase": self._phase, "epoch": self._epoch, "stop": self._stop,
        }  # fmt: skip
        take = takers.get(fields.values["event"])
        if take is None:
            return  # other events are no part of the result
        if take != self._start:
            if not self.attempts:
                raise RunError(f"{fields.where}: comes before any start line. Restore the lines before it.")
            self._expect(fields, "attempt", len(self.attempts) - 1)
            if self.stop is not None:
                raise RunError(f"{fields.where}: comes after the stop of its attempt. Restore the order of the log.")
        take(fields)

    def _start(self, fields: Fields) -> None:
        self._expect(fields, "attempt", len(self.attempts))
        start = start_record(fields)
        for name in SAME_IN_ALL_ATTEMPTS if self.attempts else ():
            self._expect(fields, name, getattr(self.attempts[0], name))
        if start.resumed_from and not self.attempts:
            raise RunError(f"{fields.where}: 'resumed_from' in the first attempt. Restore the lines before it.")
        epoch = start.resumed_from.epoch if start.resumed_from else start.first_epoch
        kept = epoch - start.first_epoch
        if not 0 <= kept <= len(self.rows):
            raise RunError(f"{fields.where}: resumes at epoch {epoch}, but the log holds {len(self.rows)} epochs.")
        self.rows = self.rows[:kept]
        self.phases = [phase for phase in self.phases if phase["epoch"] < epoch]
        self.stop = None
        self.attempts.append(start)

    def _phase(self, fields: Fields) -> None:
        epoch = self.attempts[0].first_epoch + len(self.rows)
        if fields.values.get("epoch") != epoch + 0.5:  # where it begins inside the epoch
            self._expect(fields, "epoch", epoch)
        for name in ("size", "batch_size", "global_batch_size"):
            fields.count(name, 1)
        self.phases.append(fields.values)

    def _epoch(self, fields: Fields) -> None:
        self._expect(fields, "epoch", self.attempts[0].first_epoch + len(self.rows))
        before = self.rows[-1] if self.rows else None
        row = with_prepare_train(row_record(fields), before)
        phase = self.phases[-1] if self.phases else None
        if problem := broken_rule(row, before, phase, self.attempts[0].dataset["validation_images"]):
            raise RunError(f"{fields.where}: {problem}. Restore this line of the log.")
        self.rows.append(row)

    def _stop(self, fields: Fields) -> None:
        stop = stop_record(fields)
        if problem := broken_stop(stop, self.rows[-1] if self.rows else None):
            raise RunError(f"{fields.where}: {problem}. Restore this line of the log.")
        self.stop = stop

    def _expect(self, fields: Fields, name: str, wanted: Any) -> None:
        value = fields.values.get(name)
        if type(value) is not type(wanted) or value != wanted:
            raise RunError(f"{fields.where}: {name!r} is {value!r:.60}, expected {wanted!r}. Restore the log.")


def with_prepare_train(row: Row, before: Row | None) -> Row:
    """Of an older log: what its labels add up to, without the time for the first weights, which it does not tell."""
    if row.clock["prepare_train"]:
        return row
    passed = sum(row.seconds[label] for label in PREPARE_LABELS) + (before.clock["prepare_train"] if before else 0.0)
    return replace(row, clock=row.clock | {"prepare_train": passed})


def broken_rule(row: Row, before: Row | None, phase: dict[str, Any] | None, validation_images: int) -> str | None:
    """The first rule that `row` breaks, as a sentence. `phase`: the phase line that holds, `validation_images`: how
    many the dataset has."""
    return next(_broken(row, before, phase, validation_images), None)


def broken_stop(stop: Stop, last: Row | None) -> str | None:
    """The same for a stop line; `last`: the last epoch line."""
    if last and stop.clock["total"] < last.clock["total"]:
        return "stops before its last epoch ended"
    for clock, out in EXCLUDED.items():
        passed = sum(stop.seconds[name] for name in RUN_LABELS if name not in out)
        if abs(stop.clock[clock] - passed) > ROUNDING_SECONDS:
            return f"clock {clock!r} is {stop.clock[clock]:.6f} s, its 'seconds' are {passed:.6f}"
    return None


def _broken(row: Row, before: Row | None, phase: dict[str, Any] | None, validation_images: int) -> Iterator[str]:
    then = before.clock if before else dict.fromkeys(CLOCKS, 0.0)
    for clock in ("total", "dawn"):
        if row.clock[clock] <= then[clock]:
            yield f"clock {clock!r} does not go forward"
    for clock in ("prepare_train", "train", "cold"):
        if row.clock[clock] < then[clock]:
            yield f"clock {clock!r} goes back"
    if not row.clock["train"] <= row.clock["dawn"] <= row.clock["total"] <= row.clock["cold"]:
        yield "the clocks contradict each other (train <= dawn <= total <= cold)"
    if not row.clock["train"] <= row.clock["prepare_train"] <= row.clock["cold"]:
        yield "the clocks contradict each other (train <= prepare_train <= cold)"
    if before and row.images_seen <= before.images_seen:
        yield "'images_seen' does not grow"
    yield from _broken_sums(row, before)
    yield from (
        f"{name!r} is {getattr(row, name)}, {phase[name]} in the phase line"
        for name in PHASE_FIELDS
        if phase and getattr(row, name) != phase[name]
    )
    if before and before.end is not None:
        yield "comes after an epoch that was cut short"
    # Loaders have dropped and doubled validation images unnoticed (DALI#2881, #3855), and the percentage moves.
    if row.validation and row.validation.images != validation_images:
        yield f"validated on {row.validation.images} images, the dataset has {validation_images}"


def _broken_sums(row: Row, before: Row | None) -> Iterator[str]:
    """The ledger adds up to the clocks, and steps to images."""
    seconds = {clock: sum(row.seconds[n] for n in RUN_LABELS if n not in out) for clock, out in EXCLUDED.items()}
    seconds["train"] = row.seconds["data"] + row.seconds["train"]
    for clock, passed in seconds.items():
        went = row.clock[clock] - (before.clock[clock] if before else 0.0)
        if abs(went - passed) > ROUNDING_SECONDS:
            yield f"clock {clock!r} went on by {went:.6f} s, its 'seconds' are {passed:.6f}"
    if before and abs(_setup(row) - _setup(before)) > ROUNDING_SECONDS:
        yield "clock 'cold' went on by another time than 'total'"
    prepared = row.clock["prepare_train"] - sum(row.seconds[label] for label in PREPARE_LABELS)
    if abs(prepared - before.clock["prepare_train"]) > ROUNDING_SECONDS if before else prepared < -ROUNDING_SECONDS:
        yield "clock 'prepare_train' went on by another time than its 'seconds'"
    made, steps = row.images_of_parts, sum(part["steps"] for part in row.parts) if row.parts else row.steps
    if (row.images, row.steps) != (made, steps):
        yield f"'images' is {row.images}, but {row.steps} steps of {row.global_batch_size} make {made}"
    if row.images_seen != (before.images_seen if before else 0) + row.images:
        yield f"'images_seen' is {row.images_seen}, not the sum of the epochs so far"


def _setup(row: Row) -> float:
    return row.clock["cold"] - row.clock["total"]


@dataclass(frozen=True)
class Span:
    """Epochs in a row that share `value`."""

    value: Any
    rows: tuple[Row, ...]

    @property
    def epochs(self) -> str:
        """Counted from 1, as in the TSV: `3` or `3-7`. Where one of both ends lies inside an epoch, the epochs trained
        before and after: `2.5-7` or `0-7.65`."""
        begin, last = self.rows[0].epoch, self.rows[-1].until
        if begin % 1 or last % 1:
            return f"{begin:g}-{last:g}"
        first = begin + 1
        return f"{first}" if first == last else f"{first}-{last}"

    def seconds(self, *labels: str) -> float:
        return sum(row.seconds[label] for row in self.rows for label in labels)

    @property
    def images_per_second(self) -> float:
        """Training images over the time of training steps and data wait; 0.0 if the log holds no such time."""
        seconds = self.seconds("data", "train")
        return sum(row.images for row in self.rows) / seconds if seconds else 0.0


def spans(rows: Sequence[Row], value: Callable[[Row], Any]) -> list[Span]:
    return [Span(key, tuple(group)) for key, group in groupby(rows, value)]


def divided(rows: Sequence[Row]) -> list[Row]:
    """The rows with each epoch of two parts as two, which have their own sizes, steps and places; everything that is
    timed or validated is still that of the whole epoch."""
    result = []
    for row in rows:
        ends = [part["start"] for part in row.parts[1:]] + [row.until]
        for part, end in zip(row.parts, ends, strict=False):
            images = part["steps"] * part["global_batch_size"]
            own = {name: part[name] for name in (*PHASE_FIELDS, "steps")}
            result.append(replace(row, **own, images=images, epoch=part["start"], end=end, parts=()))
        result += [] if row.parts else [row]
    return result


def executed_phases(rows: Sequence[Row]) -> list[Span]:
    """Spans of equal (image size, batch size per device, global batch size)."""
    return spans(rows, lambda row: (row.size, row.batch_size, row.global_batch_size))
