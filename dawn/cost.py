"""What a run cost until its target: hours on each clock, dollars, and energy where the log holds it."""

from collections.abc import Sequence

from dawn.prices import Price
from dawn.records import CLOCKS, Row
from dawn.run import Run
from dawn.tables import Table
from dawn.tasks import target_text, task_of

JOULES_PER_KWH = 3_600_000
MEANINGS = {
    "dawn": "DAWNBench's cost: hours of the TSV times the price",
    "total": "with evaluation and checkpoints",
    "train": "training steps and data wait only",
    "cold": "with program start and warm-up: nearest to what a cloud bills",
}


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
    return _table(run, price, f"{name}, epoch {row.epoch + 1}", row) if row else Table(f"{name}: not reached", (), ())


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
