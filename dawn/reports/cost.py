"""What a run cost until its target: hours on each clock, dollars by a price table or a price of one's own, and
energy where the log holds it."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dawn.dawnbench.tasks import target_text, task_of
from dawn.filekind import wrong_kind
from dawn.runlog.fields import Fields
from dawn.runlog.records import CLOCKS, Row
from dawn.runlog.run import Run
from dawn.runlog.writer import RunError
from dawn.tables import Table

JOULES_PER_KWH = 3_600_000
MEANINGS = {
    "dawn": "DAWNBench's cost: hours of the TSV times the price",
    "total": "with evaluation and checkpoints",
    "prepare_train": "training, and what is done once with the data or the seed",
    "train": "training steps and data wait only",
    "cold": "with program start and warm-up: nearest to what a cloud bills",
}
TABLE = Path(__file__).with_name("prices.json")  # on-demand prices that entries of DAWNBench state
MAX_BYTES = 1_000_000
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Price:
    """dollars: US dollars per hour of everything that ran; source: who says so, and of which day."""

    dollars: float
    source: str


def dollars(run: Run, row: Row, price: Price, clock: str = "dawn") -> float:
    """Until the end of this row's evaluation."""
    return run.hours(row, clock) * price.dollars


def energy_joules(run: Run, rows: Sequence[Row]) -> float | None:
    """Of these epochs together; None where one of them has no whole measurement, because a part of a sum is no sum.

    The counter of an epoch that was resumed in its middle began at the resume.
    """
    places = ((start.attempt, start.resumed_from) for start in run.resumes)
    partial = {(attempt, at.epoch) for attempt, at in places if at and at.step}
    joules = [None if (row.attempt, row.epoch) in partial else row.energy_joules for row in rows]
    return None if not joules or None in joules else sum(joules)


def cost_tables(run: Run, price: Price | None) -> list[Table]:
    """One table for the run's own target and one for DAWNBench's where that is another; then until the last
    evaluation. RunError if there is none."""
    start, task = run.start, task_of(run.start.task)
    targets = dict.fromkeys([(start.metric, start.target), (task.metric, task.target)])
    tables = [_target_table(run, price, *target) for target in targets if target[1] is not None]
    return [*tables, _table(run, price, "to the last evaluation", run.evaluations[-1]), _notes(run, price)]


def _target_table(run: Run, price: Price | None, metric: str, target: float) -> Table:
    row, name = run.hit(metric, target), f"to {target_text(metric, target)}"
    return _table(run, price, f"{name}, epoch {row.until}", row) if row else Table(f"{name}: not reached", (), ())


def _table(run: Run, price: Price | None, title: str, row: Row) -> Table:
    rows = []
    for clock in sorted(CLOCKS, key=list(MEANINGS).index):
        money = f"{dollars(run, row, price, clock):.4f}" if price else "-"
        rows.append((f"T_{clock}", f"{run.hours(row, clock):.6f}", money, MEANINGS[clock]))
    joules = energy_joules(run, [before for before in run.rows if before.epoch <= row.epoch])
    if joules is not None:
        watts = joules / row.clock["total"]
        rows.append(("energy", f"{joules / JOULES_PER_KWH:.6f} kWh", "-", f"of the devices, {watts:.0f} W on average"))
    return Table(title, ("clock", "hours", "dollars", "counts"), tuple(rows))


def _notes(run: Run, price: Price | None) -> Table:
    none = "unknown: give --cost-per-hour or --instance"
    rows = [("price", f"{price.dollars:.10g} dollars per hour, {price.source}" if price else none)]
    if run.resumes:
        gaps = [start.resumed_from.gap_seconds if start.resumed_from else None for start in run.resumes]
        known = "an unknown time" if None in gaps else f"{sum(gaps):.1f} s"
        rows.append(("resumed", f"{known} between the attempts is on no clock; a machine that stayed up costs it too"))
    if all(row.energy_joules is None for row in run.rows):
        rows.append(("energy", "not in the log"))
    elif energy_joules(run, run.rows) is None:
        rows.append(("energy", "missing or measured in part in some epochs, so sums over them are left out"))
    return Table("notes", (), tuple(rows))


def own_price(dollars: float, source: str | None) -> Price:
    """RunError for a price that is none."""
    if not (math.isfinite(dollars) and dollars >= 0):
        raise RunError(f"cost per hour is {dollars}. Give US dollars per hour, 0 or more.")
    return Price(dollars, source or "given on the command line, without a source")


def listed_price(instance: str, machines: int = 1, table: Path = TABLE) -> Price:
    """Of so many instances of this name. RunError for an unknown name and for a table that cannot be used."""
    if machines < 1:
        raise RunError(f"--machines is {machines}. Give 1 or more.")
    rows = {row["instance"]: row for row in load_table(table)}
    if instance not in rows:
        raise RunError(f"unknown instance {instance!r:.60}. Known: {', '.join(rows)}; or give --cost-per-hour.")
    row = rows[instance]
    many = f"{machines} x " if machines > 1 else ""
    said = f"{many}{row['instance']} ({row['provider']}, {row['hardware']}), {row['date']}: {row['source']}"
    return Price(machines * row["dollars_per_hour"], said)


def load_table(path: Path) -> list[dict]:
    """A list of objects with instance, provider, hardware, dollars_per_hour, date, source; each one checked."""
    try:
        with open(path, "rb") as file:
            rows = json.loads(file.read(MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}. Give a JSON file of prices.") from None
    except (ValueError, RecursionError) as error:
        reason = wrong_kind(path) or f"not JSON ({str(error).splitlines()[0]})"
        raise RunError(f"{path}: {reason}. Give a JSON file of prices.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path}: no list of objects. See dawn/reports/prices.json for the fields.")
    for number, row in enumerate(rows, 1):
        fields = Fields(f"{path}, price {number}", row)
        for name in ("instance", "provider", "hardware", "source"):
            fields.text(name)
        fields.number("dollars_per_hour", 0)
        if not DAY.fullmatch(fields.text("date")):
            raise RunError(f"{fields.where}: 'date' is {row['date']!r:.60}. It must look like 2026-11-22.")
    return rows
