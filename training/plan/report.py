"""A plan as tables and as JSON. No torch."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dawn.runlog.records import CLOCKS
from dawn.tables import Table
from training.plan.forecast import Forecast, Row

LIMITED = 0.95  # of the model's own rate: below it the loader is what limits
COLUMNS = (
    "epochs", "px", "batch", "steps", "loader/s", "model/s", "joint/s", "step", "limit", "validation", "switch",
    "memory", "seconds",
)  # fmt: skip


def tables(plan: Forecast, dollars_per_hour: float | None = None) -> list[Table]:
    return [phase_table(plan), clock_table(plan, dollars_per_hour)]


def phase_table(plan: Forecast) -> Table:
    kind = "EXTRAPOLATED, " if plan.is_extrapolated else ""
    units = "images/s, and seconds of a step, a validation and in all"
    title = f"{plan.name}: {kind}{plan.precision} on {plan.device}; {units}"
    return Table(title, COLUMNS, tuple(phase_row(row) for row in plan.rows))


def phase_row(row: Row) -> tuple[str, ...]:
    item, step = row.stretch, row.step
    check = f"{item.checks} x {row.check.value / item.checks:.2f}" if item.checks else "-"
    return (
        f"{item.start:g}-{item.start + item.epochs:g}",
        f"{item.training.size}",
        f"{item.training.batch}",
        f"{item.steps:,}",
        *(rate_text(item.training.batch, seconds) for seconds in (step.loader, step.model, step.joint)),
        f"{'' if row.is_measured else '~'}{step.joint:.3g}",
        limit(step.loader, step.model, step.joint),
        check,
        f"{row.switch.value:.2f}" if item.enters else "-",
        f"{step.peak_bytes / 2**30:.2f} GiB" if step.peak_bytes else "-",
        f"{row.seconds:,.1f}",
    )


def rate_text(batch: int, seconds: float) -> str:
    """0 seconds: not known."""
    return f"{batch / seconds:,.0f}" if seconds else "-"


def limit(loader: float, model: float, joint: float) -> str:
    """What an epoch waits for, from seconds a batch. A loader that alone is the faster of the two can only slow the
    model down by what it takes from it: cores, or the GPU that decodes."""
    if model >= LIMITED * joint:
        return "model"
    return "loader" if loader > model else "shared"


def clock_table(plan: Forecast, dollars_per_hour: float | None) -> Table:
    """Seconds with their interval; then dollars, then hours."""
    rows = []
    for clock, seconds in plan.clocks.items():
        low, high = plan.intervals[clock]
        money = (f"{seconds / 3600 * dollars_per_hour:.4f}",) if dollars_per_hour is not None else ()
        rows.append(
            (
                f"T_{clock}",
                f"{seconds:,.1f}",
                f"{low:,.1f} to {high:,.1f}",
                *money,
                f"{seconds / 3600:.4f}",
                CLOCKS[clock],
            )
        )
    dollars = ("dollars",) if dollars_per_hour is not None else ()
    title = "planned clocks, extrapolated" if plan.is_extrapolated else "planned clocks"
    return Table(title, ("clock", "seconds", "interval", *dollars, "hours", "counts"), tuple(rows))


def comparison(plans: Sequence[Forecast]) -> Table:
    """The schedules side by side; ratios are to the first."""
    first = plans[0].clocks["total"]
    rows = tuple(
        (
            plan.name,
            f"{plan.rows[-1].stretch.start + plan.rows[-1].stretch.epochs:g}",
            f"{sum(row.stretch.steps for row in plan.rows):,}",
            f"{plan.clocks['total']:,.1f}",
            f"{plan.intervals['total'][0]:,.1f} to {plan.intervals['total'][1]:,.1f}",
            f"{plan.clocks['total'] / first:.3f}",
            f"{plan.clocks['train']:,.1f}",
            f"{plan.ledger['eval'].value:,.1f}",
            plan.accuracy.text if plan.accuracy else "-",
        )
        for plan in plans
    )
    header = (
        "schedule",
        "epochs",
        "steps",
        "T_total",
        "interval",
        "ratio",
        "T_train",
        "validation",
        "top-1, %",
    )
    return Table("schedules side by side, seconds", header, rows)


def as_json(plan: Forecast, dollars_per_hour: float | None = None) -> dict[str, Any]:
    """The clocks in seconds under their names, T_total first; then what they are made of."""
    clocks = {f"T_{clock}": seconds for clock, seconds in plan.clocks.items()}
    money = {} if dollars_per_hour is None else {"dollars": clocks["T_total"] / 3600 * dollars_per_hour}
    kind = {"interval_factor": plan.factor} if plan.is_extrapolated else {}
    return clocks | {
        "intervals": {f"T_{clock}": list(both) for clock, both in plan.intervals.items()},
        "schedule": plan.name,
        "precision": plan.precision,
        "device": plan.device,
        "extrapolated": plan.is_extrapolated,
        **kind,
        "ledger": {label: time.value for label, time in plan.ledger.items()},
        **money,
        "peak_memory_bytes": plan.peak_bytes,
        "accuracy": asdict(plan.accuracy) if plan.accuracy else None,
        "phases": [phase_json(row) for row in plan.rows],
    }


def accuracy_line(plan: Forecast) -> str:
    """Never without its source."""
    if plan.accuracy is None:
        return f"{plan.name}: top-1 at the end -: no measured recipe or published study supports a number"
    return f"{plan.name}: top-1 at the end {plan.accuracy.text} %, from {plan.accuracy.source}"


def phase_json(row: Row) -> dict[str, Any]:
    item, step = row.stretch, row.step
    return {
        "start": item.start,
        "epochs": item.epochs,
        "size": item.training.size,
        "batch": item.training.batch,
        "steps": item.steps,
        "step_seconds": step.joint,
        "loader_seconds": step.loader,
        "model_seconds": step.model,
        "limit": limit(step.loader, step.model, step.joint),
        "measured": row.is_measured,
        "validations": item.checks,
        "validation_seconds": row.check.value,
        "switch_seconds": row.switch.value,
        "peak_memory_bytes": step.peak_bytes,
        "seconds": row.seconds,
    }
