"""What a run's TensorBoard events say: its evaluations with their hours, and its batches. Tags as in 2018.

The hours are those of the 2018 script: wall time from the event `first` to the event `losses/test_5`. Accuracies are
as stored, mostly with 32 bits.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from dawn.importers.curve import again_note, swapped_note
from dawn.importers.tfevents_file import Scalar
from dawn.importers.tfevents_scalars import EventLog
from dawn.importers.times import hours_notes
from dawn.runlog.writer import RunError
from dawn.tables import counted

TEST_TAGS = {"top1": "losses/test_1", "top5": "losses/test_5"}
MOST = 2**53  # no count is larger


class Evaluation(NamedTuple):
    """epoch: epochs trained by then. hours: evaluation inside. eval_hours: of all evaluations up to the end of this
    one, None where the events do not tell it. Percents. wall_time: seconds since 1970, of its end."""

    epoch: int
    hours: float
    eval_hours: float | None
    top1: float
    top5: float
    wall_time: float

    def percent(self, metric: str) -> float:
        return {"top1": self.top1, "top5": self.top5}[metric]


def evaluations(log: EventLog) -> list[Evaluation]:
    """At least one, in order. Of several evaluations of an epoch the first counts, as nobody may look twice; what an
    attempt wrote before a resume hides it is none. `log.notes` tells what does not count.

    Epochs are the numbers under the tag `epoch` plus 1; where there are none, the evaluations are counted.
    """
    start = start_time(log)
    top1, top5 = (first_by_step(log, tag) for tag in TEST_TAGS.values())
    if top1.keys() != top5.keys():
        step = min(top1.keys() ^ top5.keys())
        raise RunError(f"{log.path}: at step {step} only one of {' and '.join(TEST_TAGS.values())} is there.")
    if not top1:
        raise RunError(f"{log.path}: no evaluation ({TEST_TAGS['top5']}). Give the events of a run that has one.")
    spent, epochs = eval_seconds(log, sorted(top1)), by_step(log, "epoch")
    rows = []
    for number, step in enumerate(sorted(top1), start=1):
        epoch = int(checked_value(log, epochs[step], 0, MOST)) + 1 if step in epochs else number
        percents = (checked_value(log, table[step], 0, 100) for table in (top1, top5))
        wall_time, seconds = top5[step].wall_time, spent.get(step)
        eval_hours = None if seconds is None else seconds / 3600
        rows.append(Evaluation(epoch, (wall_time - start) / 3600, eval_hours, *percents, wall_time))
    rows = first_of_each_epoch(log, rows)
    check_order(log, rows)
    log.notes += [*hours_notes(f"{log.path}", rows[-1].hours), *swapped_note(rows)]
    return rows


def first_of_each_epoch(log: EventLog, rows: list[Evaluation]) -> list[Evaluation]:
    kept: list[Evaluation] = []
    for row in rows:
        if kept and row.epoch == kept[-1].epoch:
            log.notes.append(again_note(row.epoch, row.hours, row.top1, row.top5))
        else:
            kept.append(row)
    return kept


def first_by_step(log: EventLog, tag: str) -> dict[int, Scalar]:
    """The first one of each step; further ones are told."""
    found: dict[int, list[Scalar]] = {}
    for scalar in log.of(tag):
        found.setdefault(scalar.step, []).append(scalar)
    for step, scalars in found.items():
        if len(scalars) > 1:
            values = ", ".join(f"{scalar.value:.10g}" for scalar in scalars[1:4])
            more = ", ..." if len(scalars) > 4 else ""
            log.notes.append(
                f"{tag} has {len(scalars)} values at step {step}. The first counts ({scalars[0].value:.10g}), the "
                f"others do not ({values}{more}). Evaluations of different epochs need different steps."
            )
    return {step: scalars[0] for step, scalars in found.items()}


def by_step(log: EventLog, tag: str) -> dict[int, Scalar]:
    """The first one of each step."""
    return {scalar.step: scalar for scalar in reversed(log.of(tag))}


def eval_seconds(log: EventLog, steps: list[int]) -> dict[int, float]:
    """The running sum of times/eval_sec at each of these steps, up to the first that lacks it."""
    seconds, sums, total = by_step(log, "times/eval_sec"), {}, 0.0
    for step in steps:
        if step not in seconds:
            break
        total += checked_value(log, seconds[step], 0, MOST)
        sums[step] = total
    return sums


def start_time(log: EventLog) -> float:
    """Wall time of the first event `first`. RunError where the log begins in the middle of a run."""
    if log.sessions and log.sessions[0].gap_seconds is None and log.sessions[0].step > 1:
        raise RunError(
            f"{log.path}: goes on at step {log.sessions[0].step} of a resumed run. Give the folder with all its files."
        )
    first = log.of("first")
    if not first:
        raise RunError(f"{log.path}: no event 'first', which marks the start. Give the events of a whole run.")
    return first[0].wall_time


def check_order(log: EventLog, rows: list[Evaluation]) -> None:
    """RunError unless the hours never go back and the epochs grow."""
    hours, epoch = 0.0, 0
    for row in rows:
        if not (math.isfinite(row.hours) and row.hours >= hours):
            raise RunError(
                f"{log.path}: the time goes back at epoch {row.epoch} ({hours!r} h to {row.hours!r} h). Was the clock "
                "set back? Make the reports from run.jsonl."
            )
        if row.epoch <= epoch:
            raise RunError(f"{log.path}: epoch {row.epoch} after epoch {epoch}. The events are of more than one run.")
        hours, epoch = row.hours, row.epoch


def checked_value(log: EventLog, scalar: Scalar, least: float, most: float) -> float:
    if not least <= scalar.value <= most:
        raise RunError(f"{log.path}: {scalar.tag} is {scalar.value!r} at step {scalar.step}. No run has that.")
    return scalar.value


def gap_note(log: EventLog, until: float) -> list[str]:
    """What the hours up to a wall time hold besides the run's own clocks; empty for a run in one go."""
    gaps = [s.gap_seconds for s in log.sessions if s.gap_seconds is not None and s.wall_time <= until]
    if not gaps:
        return []
    return [
        f"resumed {counted(len(gaps), 'time')}: the hours hold {sum(gaps):.1f} s between the attempts, with the "
        "work that was lost. The clocks of run.jsonl leave that out: python -m dawn tsv RUN."
    ]


def batches(log: EventLog) -> Iterator[Scalar]:
    """sizes/batch times the devices (sizes/world) of the attempt that wrote it."""
    world = None
    for scalar in log.scalars:
        if scalar.tag == "sizes/world":
            world = checked_value(log, scalar, 1, MOST)
        elif scalar.tag == "sizes/batch":
            if world is None:
                raise RunError(f"{log.path}: no sizes/world, the number of devices. Give the events of a whole run.")
            yield scalar._replace(value=scalar.value * world)
