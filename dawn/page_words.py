"""Numbers of the page in words."""

from dawn.chart import UNITS
from dawn.records import Row
from dawn.run import Run
from dawn.tasks import METRIC_NAMES, target_text


def result_in_words(run: Run) -> str:
    hit, rows, metric = run.hit(), [row for row in run.rows if row.validation], run.start.metric
    if hit:
        wanted, seconds = target_text(metric, run.start.target), hit.clock["total"]
        return f"{wanted} reached in epoch {hit.epoch + 1}, T_total {seconds:.2f} s"
    if not rows:
        return "no evaluation"
    best = f"best {METRIC_NAMES[metric]} {max(row.validation.percent(metric) for row in rows):.6g} %"
    return best if run.start.target is None else f"target not reached, {best}"


def clock_text(seconds: float) -> str:
    """As in `58.03 s`, `17.08 min`, `2.96 h`."""
    _, scale, unit = next(choice for choice in UNITS if seconds <= choice[0])
    return f"{seconds / scale:.2f} {unit}"


def accuracy_texts(row: Row) -> list[str | None]:
    """Of each metric in percent; None where the epoch was not validated."""
    return [f"{row.validation.percent(metric):.3f}" if row.validation else None for metric in METRIC_NAMES]


def number_text(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def ramp_text(pair: tuple[float, float]) -> str:
    first, last = (f"{value:.6g}" for value in pair)
    return first if first == last else f"{first} to {last}"
