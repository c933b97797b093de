"""What race.py prints: every run, and each entrant beside the first."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from dawn import Run
from dawn.dawnbench.tasks import METRIC_NAMES
from dawn.stats.compare import compare
from dawn.stats.estimates import Estimate, mean, paired_difference
from dawn.stats.runs import HIT, trial
from dawn.stats.study import NOISE, number, time_estimates
from dawn.tables import Table, percent_text

Runs = dict[str, list[Run]]  # by entrant, in the order of the seeds, which all have in common


def run_table(runs: Runs, targets: Sequence[float]) -> Table:
    """Times to the highest target."""
    header = ("entrant", "seed", "outcome", "epochs", "at the end", "T_total to target", "T_dawn", "peak memory")
    rows = (run_row(name, run, max(targets)) for name, found in runs.items() for run in found)
    return Table(f"runs, target {max(targets):g} %", header, tuple(rows))


def run_row(name: str, run: Run, target: float) -> tuple[str, ...]:
    hit, outcome = run.hit(target=target), run.stop.outcome if run.stop else "interrupted"
    times = (f"{hit.clock[clock]:.1f} s" if hit else "-" for clock in ("total", "dawn"))
    last = [row.validation.percent(run.start.metric) for row in run.rows if row.validation][-1:]
    memory = max((row.peak_memory_bytes for row in run.rows), default=0) / 2**20
    end = f"{percent_text(last[0], target, 2)} %" if last else "-"
    return name, str(run.start.seed), outcome, str(len(run.rows)), end, *times, f"{memory:.0f} MiB"


def entrant_table(runs: Runs, targets: Sequence[float]) -> Table:
    """Differences are an entrant minus, or divided by, the first, seed by seed. The seconds to a target are the
    expected time with restarts: of all runs, misses too, for each hit."""
    first = next(iter(runs.values()))
    metric = METRIC_NAMES[first[0].start.metric]
    header = ("entrant", f"{metric} at the end, %", "points", "time of a run", *(f"s to {t:g} %" for t in targets))
    rows = (
        (name, *beside(found, first, max(targets)), *(to_target(found, t) for t in targets))
        for name, found in runs.items()
    )
    return Table(f"{len(first)} seeds, beside {next(iter(runs))}", header, tuple(rows))


def beside(ours: list[Run], first: list[Run], target: float) -> tuple[str, str, str]:
    """Accuracy, its difference in points, and the ratio of the seconds of whole runs."""
    finals = [t.final.percent(run.start.metric) for run in ours if (t := trial(run)).final]
    accuracy = "a run was not trained to the end"
    if len(finals) == len(ours):
        accuracy = interval(mean(finals), lambda x: percent_text(round(x, NOISE), target))
    if ours is first:
        return accuracy, "", "1"
    points = compare(ours, first).differences["accuracy at the end, A - B, points"]
    return accuracy, interval(points, "{:+.2f}".format), interval(seconds_ratio(ours, first))


def seconds_ratio(ours: list[Run], first: list[Run]) -> Estimate:
    """Geometric mean of T_total of whole runs, ours / first, seed by seed."""
    trials = [trial(run) for run in (*ours, *first)]
    if not all(t.final for t in trials):
        return Estimate(None)
    logs = [math.log(t.duration) for t in trials]
    return paired_difference(logs[: len(ours)], logs[len(ours) :]).mapped(math.exp)


def to_target(runs: list[Run], target: float) -> str:
    trials = [trial(aimed_at(run, target)) for run in runs]
    seconds = time_estimates(trials, max(t.duration for t in trials))["expected time with restarts, s"]
    return f"{interval(seconds)}, {sum(t.outcome == HIT for t in trials)} of {len(trials)} hit"


def aimed_at(run: Run, target: float) -> Run:
    return replace(run, attempts=tuple(replace(attempt, target=target) for attempt in run.attempts))


def interval(estimate: Estimate, shown: Callable[[float], str] = number) -> str:
    """The value and the ends of its interval, where it has them."""
    if estimate.value is None:
        return "-"
    found = (x for x in (estimate.value, estimate.low, estimate.high) if x is not None)
    value, *ends = map(shown, found)
    return f"{value} ({ends[0]} to {ends[1]})" if ends else value
