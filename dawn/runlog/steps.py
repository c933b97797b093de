"""The logged training steps of a run that count: those that no later attempt trained again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dawn.runlog.fields import is_number
from dawn.runlog.records import Row
from dawn.runlog.run import Run


@dataclass(frozen=True)
class Step:
    """A "step" line. What it does not hold, or holds as something else than a number, is None."""

    epoch: int  # from 0
    step: int  # from 1
    number: int  # steps of the run up to here
    position: float  # epochs trained up to here
    loss: float | None
    rate: float | None  # images per second since the logged step before
    wait: float | None  # share of that time that waited for data
    lr: float | None


def logged_steps(run: Run, events: Sequence[dict[str, Any]]) -> tuple[Step, ...]:
    """`events`: all lines of the log of `run`. Steps in a wrong order or without their place are left out."""
    lines = _counted(events)
    steps: list[Step] = []
    for epoch, group in groupby(lines, lambda line: line["epoch"]):
        steps += _steps_of(run, epoch, list(group))
    return tuple(steps)


def _counted(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Step lines whose place grows; a start line voids those after the checkpoint that it went on from."""
    lines: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "start":
            at = event.get("resumed_from") or {"epoch": 0, "step": 0}
            lines = [line for line in lines if _place(line) <= (at["epoch"], at["step"])]
        elif event["event"] == "step" and _has_place(event) and (not lines or _place(lines[-1]) < _place(event)):
            lines.append(event)
    return lines


def _steps_of(run: Run, epoch: int, lines: list[dict[str, Any]]) -> list[Step]:
    place = epoch - run.start.first_epoch
    if not 0 <= place <= len(run.rows):
        return []  # an epoch that lies beyond a hole of the log
    before = sum(row.steps for row in run.rows[:place])
    row = run.rows[place] if place < len(run.rows) else None
    steps = row.steps if row else (run.rows[-1].steps if run.rows else 0)
    steps = max(steps, lines[-1]["step"])  # of an epoch that was never finished: what is known
    return [_step(line, before + line["step"], _position(row, epoch, line["step"], steps)) for line in lines]


def _position(row: Row | None, epoch: int, step: int, steps: int) -> float:
    """Where the `step`-th step of an epoch (from 1) ends, in epochs; `row`: its line, once it has one."""
    parts = row.parts if row else ()
    begin, end, first = epoch, row.until if row else epoch + 1, 0
    for number, part in enumerate(parts):
        begin, steps = part["start"], part["steps"]
        end = parts[number + 1]["start"] if number + 1 < len(parts) else row.until
        if step <= first + steps:
            break
        first += steps if number + 1 < len(parts) else 0
    return begin + (end - begin) * ((step - first) / max(steps, 1))


def _step(line: dict[str, Any], number: int, position: float) -> Step:
    milliseconds, waited = _number(line, "times/step"), _number(line, "times/data")
    batch = _number(line, "sizes/batch_total")
    return Step(
        epoch=line["epoch"],
        step=line["step"],
        number=number,
        position=position,
        loss=_number(line, "losses/xent"),
        rate=batch * 1000 / milliseconds if batch is not None and milliseconds else None,
        wait=waited / milliseconds if waited is not None and milliseconds else None,
        lr=_number(line, "sizes/lr"),
    )


def _number(line: dict[str, Any], name: str) -> float | None:
    value = line.get(name)
    return value if is_number(value) else None


def _has_place(line: dict[str, Any]) -> bool:
    return all(type(line.get(name)) is int and line[name] >= least for name, least in (("epoch", 0), ("step", 1)))


def _place(line: dict[str, Any]) -> tuple[int, int]:
    return line["epoch"], line["step"]
