"""The numbers of the page: what its script draws from and its tables show, all taken from the run logs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawn.importers.curve import Curve
from dawn.reports.chart import UNITS
from dawn.runlog.clock import RUN_LABELS
from dawn.runlog.records import CLOCKS, METRICS, Row
from dawn.runlog.run import Run, Span, executed_phases
from dawn.runlog.steps import Step
from dawn.tables import plain

LOADER_LIMITS = 0.05  # share of data wait above which the loader is what limits, as in `python -m training probe`
MOST_STEPS = 1200  # points of logged steps in one page, so that it stays small


@dataclass(frozen=True)
class Shown:
    """A run of the page: `name` is one line of plain text, different for every run; `steps` as logged."""

    name: str
    run: Run
    steps: tuple[Step, ...]
    folder: str = ""  # end of its path, where the page shows several


def named(runs: list[tuple[Run, tuple[Step, ...]]], folders: bool) -> list[Shown]:
    """Recipe and seed; the folder behind names that would be the same, then a count."""
    names = [plain(f"{run.start.recipe or 'no recipe'}, seed {run.start.seed}", 60) for run, _ in runs]
    path = folder_tails([run.path for run, _ in runs]) if folders else [""] * len(runs)
    for more in (lambda i: plain(path[i], 40), lambda i: f"no. {i + 1}"):
        often = Counter(names)
        names = [name if often[name] == 1 else f"{name} ({more(i)})" for i, name in enumerate(names)]
    return [Shown(names[i], run, steps, plain(path[i], 60)) for i, (run, steps) in enumerate(runs)]


def folder_tails(logs: Sequence[Path]) -> list[str]:
    """The ends of the folders of these logs, only as long as it takes to tell them apart: `a/seed-0`, `b/seed-0`."""
    folders = [log.absolute().parent.parts for log in logs]
    for parts in range(1, max(map(len, folders)) + 1):
        tails = ["/".join(folder[-parts:]) for folder in folders]
        if len(set(tails)) == len(tails):
            return tails
    return [folder[-1] for folder in folders]


def page_data(shown: list[Shown], price: float | None) -> dict[str, Any]:
    """price: US dollars per hour or None. Times are seconds, accuracies percent, waits shares of 1."""
    longest = max((item.run.rows[-1].clock["total"] for item in shown if item.run.rows), default=0)
    _, seconds, unit = next(choice for choice in UNITS if longest <= choice[0])
    return {
        "unit": {"name": unit, "seconds": seconds},
        "price": price,
        "metric": shown[0].run.start.metric,
        "runs": [run_data(item, MOST_STEPS // len(shown)) for item in shown],
    }


def run_data(item: Shown, most_steps: int) -> dict[str, Any]:
    run, hit = item.run, item.run.hit()
    return {
        "name": item.name,
        "metric": run.start.metric,
        "target": run.start.target,
        "hit": None if hit is None else run.rows.index(hit),  # a place in the columns, no epoch: see --start-epoch
        "epochs": _columns(run.rows),
        "phases": [phase_data(span) for span in executed_phases(run.rows)],
        "ledger": ledger(run),
        "steps": _step_columns(item, most_steps),
    }


def _columns(rows: tuple[Row, ...]) -> dict[str, list[Any]]:
    """A list per quantity, an element per epoch; `epoch` counts from 1."""
    columns = {"epoch": [row.until for row in rows]}
    columns |= {name: [getattr(row, name) for row in rows] for name in ("size", "global_batch_size", "steps")}
    columns |= {name: [[short(end) for end in getattr(row, name)] for row in rows] for name in ("lr", "momentum")}
    columns |= {clock: [row.clock[clock] for row in rows] for clock in CLOCKS}
    for metric in METRICS:
        columns[metric] = [row.validation.percent(metric) if row.validation else None for row in rows]
    columns["rate"] = [short(Span(None, (row,)).images_per_second) for row in rows]
    columns["wait"] = [short(wait_share(Span(None, (row,)))) for row in rows]
    return columns


def short(value: float | None) -> float | None:
    """Seven digits, for quantities that nobody adds up."""
    return None if value is None else float(f"{value:.7g}")


def phase_data(span: Span) -> dict[str, Any]:
    """`first` and `end`: epochs trained before and after it; `begin` and `stop`: readings of each clock."""
    (size, batch, global_batch), rows = span.value, span.rows
    return {
        "epochs": span.epochs,
        "first": rows[0].epoch,
        "end": rows[-1].until,
        "size": size,
        "batch_size": batch,
        "global_batch_size": global_batch,
        "stop": {clock: rows[-1].clock[clock] for clock in CLOCKS},
        "seconds": {label: span.seconds(label) for label in RUN_LABELS},
        "rate": span.images_per_second,
        "wait": wait_share(span),
        "memory": _mebibytes(span),
        "verdict": verdict(span),
    }


def curve_data(curve: Curve) -> dict[str, Any]:
    """Another result as it was read; `seconds` count what `clock` says."""
    points = curve.points
    columns = {metric: [point.percent(metric) for point in points] for metric in METRICS}
    seconds, epochs = [point.hours * 3600 for point in points], [point.epoch for point in points]
    return {"name": plain(curve.name, 60), "clock": plain(curve.clock), "epoch": epochs, "seconds": seconds} | columns


def _mebibytes(span: Span) -> int | None:
    """The highest peak of the devices in these epochs; None where no epoch has one."""
    peaks = [row.peak_memory_bytes for row in span.rows if row.peak_memory_bytes is not None]
    return round(max(peaks) / 2**20) if peaks else None


def ledger(run: Run) -> dict[str, float]:
    """Seconds of the whole run; up to the last epoch line where the log has no stop line."""
    if run.stop:
        return {label: run.stop.seconds[label] for label in RUN_LABELS}
    return {label: sum(row.seconds[label] for row in run.rows) for label in RUN_LABELS}


def wait_share(span: Span) -> float | None:
    """Data wait as a share of training time; None where the log holds no training time."""
    seconds = span.seconds("data", "train")
    return span.seconds("data") / seconds if seconds else None


def verdict(span: Span) -> str:
    share = wait_share(span)
    if share is None:
        return "not known"
    return "the loader limits" if share > LOADER_LIMITS else "the model limits"


def thinned(item: Shown, most: int) -> tuple[tuple[Step, ...], int]:
    """Every k-th logged step, at most `most`, and k."""
    every = max(1, -(-len(item.steps) // max(1, most)))
    return item.steps[every - 1 :: every], every


def _step_columns(item: Shown, most: int) -> dict[str, Any]:
    steps, every = thinned(item, most)
    columns = {name: [short(getattr(step, name)) for step in steps] for name in ("loss", "rate", "wait", "lr")}
    known = {name: column for name, column in columns.items() if any(value is not None for value in column)}
    return {"every": every, "number": [step.number for step in steps]} | known
