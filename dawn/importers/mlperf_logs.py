"""Curves from MLPerf training logs of resnet: `:::MLPv0.5.0`, `:::MLL` (0.6) and `:::MLLOG` (from 0.7 on) lines."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dawn.importers.curve import Curve, Point, Points
from dawn.importers.lines import TORN, Line, inside, percent_of
from dawn.importers.options import Options
from dawn.importers.times import UNITS, unit_since_1970
from dawn.runlog.fields import Fields
from dawn.runlog.writer import RunError
from dawn.tables import counted

MARK = re.compile(r":::ML(?:LOG|L|Pv[\d.]+)(?=\s)")
HEAD = re.compile(r":::ML(?:L|Pv[\d.]+ (?P<name>\S+)) (?P<time>\d+(?:\.\d+)?) (?:\(.*?\) )?(?P<key>\w+)(?::\s*|$)")
SAME_SECONDS = 10.0  # what processes log for one event lies closer together, two events lie further apart
LEAST_SECONDS = 10.0  # nobody evaluates ImageNet sooner
BEFORE_START = {"init_start", "submission_benchmark", "cache_clear", "run_clear_caches", "run_set_random_seed"}


class Record(NamedTuple):
    """unit: of `time`. epoch: as logged. A field that the record has not is None."""

    fields: Fields  # for messages and checks
    key: str
    time: float
    unit: str
    value: Any
    metadata: dict[str, Any]


@dataclass
class Submission:
    """One run of a log while it is read. Seconds since 1970, or on whatever clock the log has."""

    start: float
    where: str
    evaluations: list[tuple[float, float, float]] = field(default_factory=list)  # epoch, seconds, fraction
    notes: list[str] = field(default_factory=list)
    stop: float | None = None
    next_begins: bool = False  # what comes before a run_start was seen after this one
    from_zero: bool = False  # epochs are counted from 0


def is_mlperf(line: Line) -> bool:
    return MARK.search(line.text) is not None


def mlperf_curves(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """One curve for each run with an evaluation; what several processes log alike counts once."""
    runs: list[Submission] = []
    for line in lines:
        for record in records(line):
            if record is None:
                for run in runs[-1:]:
                    run.notes.append(
                        f"a record in line {line.number} is cut off and was left out" if line.whole else TORN
                    )
            else:
                take(runs, record)
    if not runs:
        raise RunError(f"{where}: no run_start among its MLPerf lines. Give the log of a whole run.")
    abandoned = [f"the run_start in {run.where} has no evaluation: left out" for run in runs if not run.evaluations]
    counted_runs = [run for run in runs if run.evaluations] or runs[:1]
    clock = "from run_start (MLPerf): evaluation inside, initialisation outside"
    curves = []
    for number, run in enumerate(counted_runs, start=1):
        points = points_of(run)
        notes = (*run.notes, *points.notes, *(abandoned if run.evaluations else []))
        label = f"{name}-{number}" if len(counted_runs) > 1 else name
        curves.append(Curve(label, "mllog", tuple(points.points), clock, True, False, notes))
    return curves


def records(line: Line) -> Iterator[Record | None]:
    """Those of a line, mostly one; a killed writer's next run may stand behind it. None for one that is cut off."""
    marks = [match.start() for match in MARK.finditer(line.text)]
    for begin, end in zip(marks, [*marks[1:], None], strict=False):
        part = line._replace(text=line.text[begin:end], whole=line.whole and end is None)
        yield mllog_record(part) if part.text.startswith(":::MLLOG") else older_record(part)


def mllog_record(line: Line) -> Record | None:
    fields = line.fields(line.text.removeprefix(":::MLLOG").lstrip())
    if fields is None:
        return None
    key, time = str(fields.values.get("key")), fields.number("time_ms")
    return Record(fields, key, time, "milliseconds", fields.values.get("value"), inside(fields, "metadata"))


def older_record(line: Line) -> Record | None:
    """`:::MLPv0.5.0 resnet 1541635718.123 (file:1) key: VALUE`, and `:::MLL 1558767599.999 key: {"value": ...,
    "metadata": {...}}`; without a value there is no colon."""
    head = HEAD.match(line.text)
    if not head:
        return line.bad("not a record of MLPerf 0.5 or 0.6")
    if head["name"] not in (None, "resnet"):
        wrong_benchmark(line.where, head["name"])
    key, rest = head["key"], line.text[head.end() :].strip()
    fields = Fields(line.where, {})
    if key in TAKEN and rest:
        try:
            value, _ = json.JSONDecoder().raw_decode(rest)
        except (ValueError, RecursionError):
            return line.bad("not JSON")
        fields = Fields(line.where, value if isinstance(value, dict) else {"value": value})
    metadata = inside(fields, "metadata") or fields.values
    return Record(fields, key, float(head["time"]), "seconds", fields.values.get("value"), metadata)


def take(runs: list[Submission], record: Record) -> None:
    if record.key in BEFORE_START:
        for run in runs[-1:]:
            run.next_begins = True
    if record.key in TAKEN:
        TAKEN[record.key](runs, record)


def seconds_of(run_notes: list[str], record: Record) -> float:
    """On the clock of the log; another unit than the format's is told once."""
    unit = unit_since_1970(record.time) or record.unit
    if unit != record.unit:
        note = f"its times ({record.time!r}) are in {unit}, not in {record.unit}, and were read so"
        run_notes += [] if any("were read so" in before for before in run_notes) else [note]
    return record.time * UNITS[unit]


def run_start(runs: list[Submission], record: Record) -> None:
    """Another process logs its start within seconds. A new attempt starts later, or after its own initialisation."""
    notes: list[str] = []
    start = seconds_of(notes, record)
    earlier = runs if unit_since_1970(record.time) else runs[-1:]  # a clock from 0 begins again with each run
    same = next((run for run in earlier if abs(start - run.start) <= SAME_SECONDS and not is_over(run)), None)
    if same is None:
        runs.append(Submission(start, record.fields.where, notes=notes))
    else:
        runs.sort(key=lambda run: run is same)


def is_over(run: Submission) -> bool:
    """Whether a run_start at the same time as that of `run` begins another run all the same."""
    if run.evaluations or run.stop is not None:
        return not unit_since_1970(run.start)
    return run.next_begins


def run_stop(runs: list[Submission], record: Record) -> None:
    if not runs or runs[-1].stop is not None:
        return
    run = runs[-1]
    run.stop = seconds_of(run.notes, record)
    status = record.metadata.get("status", "success" if record.metadata.get("success", True) is True else "aborted")
    run.notes += [] if status in (None, "success") else [f"run_stop says status {str(status)[:40]!r}"]


def eval_accuracy(runs: list[Submission], record: Record) -> None:
    if not runs:
        raise RunError(f"{record.fields.where}: eval_accuracy before run_start. Restore the lines before it.")
    metadata = Fields(f"{record.fields.where}: metadata", record.metadata)
    epoch = metadata.number("epoch" if "epoch" in metadata.values else "epoch_num", 0)
    fraction, run = record.fields.number("value", 0, 1), runs[-1]
    seconds = seconds_of(run.notes, record)
    is_same = any(e == epoch and f == fraction and abs(s - seconds) <= SAME_SECONDS for e, s, f in run.evaluations)
    if not is_same:  # of another process
        run.evaluations.append((epoch, seconds, fraction))


def train_epoch(runs: list[Submission], record: Record) -> None:
    """Logs of 0.5 tell whether their epochs count from 0."""
    if runs and record.fields.values.get("value") == 0:
        runs[-1].from_zero = True


def submission_benchmark(runs: list[Submission], record: Record) -> None:
    if record.value != "resnet":
        wrong_benchmark(record.fields.where, record.value)


def wrong_benchmark(where: str, name: object) -> None:
    raise RunError(f"{where}: the benchmark is {name!r:.40}. Only that of resnet has a top-1 accuracy.")


TAKEN = {
    "run_start": run_start,
    "run_stop": run_stop,
    "eval_accuracy": eval_accuracy,
    "train_epoch": train_epoch,
    "submission_benchmark": submission_benchmark,
}


def points_of(run: Submission) -> Points:
    """Nothing after the stop counts, and of an epoch the first evaluation; all else is told."""
    found = Points()
    in_time = [item for item in run.evaluations if run.stop is None or item[1] <= run.stop]
    late = [item for item in run.evaluations if item not in in_time]
    if late:
        _, seconds, fraction = late[0]
        found.notes.append(
            f"{counted(len(late), 'evaluation')} after run_stop left out, the first with "
            f"{percent_of(fraction):.10g} % at {(seconds - run.start) / 3600:.6g} h"
        )
    epochs = [epoch for epoch, _, _ in in_time]
    is_constant = len(epochs) > 1 and len(set(epochs)) == 1
    if is_constant:
        found.notes.append(f"all {len(epochs)} evaluations say epoch {epochs[0]:g}: they were counted instead")
    for number, (epoch, seconds, fraction) in enumerate(in_time, start=1):
        epoch = number if is_constant else epoch + run.from_zero
        point = Point(epoch, (seconds - run.start) / 3600, percent_of(fraction), None)
        if found.points and epoch < found.points[-1].epoch:
            found.notes.append(
                f"the epoch goes back from {found.points[-1].epoch:g} to {epoch:g}: the later one is left out"
            )
        else:
            found.add(point)
    last = found.points[-1].hours * 3600 if found.points else LEAST_SECONDS
    if 0 < last < LEAST_SECONDS:
        found.notes.append(
            f"its last evaluation is {last:.3g} s after run_start. See whether time_ms is in milliseconds"
        )
    return found
