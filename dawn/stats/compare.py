"""Two recipes on one target: how much faster is A than B, and would more runs tell?"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dawn.dawnbench.tasks import METRIC_NAMES, target_text
from dawn.runlog.run import Run
from dawn.runlog.writer import RunError
from dawn.stats.estimates import Estimate, mean, paired_difference, pairs_needed, rate, runs_needed, welch_difference
from dawn.stats.runs import (
    CENSORED,
    DIVERGED,
    MISS,
    NOTED,
    SAME,
    Trial,
    changed_settings,
    circumstances,
    recipe_hash,
    some_of,
    times_of,
    trial,
)
from dawn.stats.study import estimate_json, estimate_table, number
from dawn.stats.survival import logrank, median
from dawn.tables import Table, counted, plain

COMPARABLE = ("task", "metric", "target", "dataset")
Sample = list[float] | None


@dataclass(frozen=True)
class Comparison:
    """A over B, A minus B. needed: runs of each recipe (pairs where paired), None: no number would do."""

    names: tuple[str, str]
    title: str
    paired: bool
    design: str  # how the intervals were made, in words
    sides: dict[str, tuple[Estimate, Estimate]]
    differences: dict[str, Estimate]
    needed: dict[str, int | None]
    notes: list[str]


def compare(runs_a: Sequence[Run], runs_b: Sequence[Run], clock: str = "total") -> Comparison:
    """Paired by seed where at least two seeds are in both: a seed fixes weights, order and augmentation.

    RunError where the two do not have the same target on the same dataset, and for a run that is on both sides.
    """
    _check_apart(runs_a, runs_b)
    _check_comparable(runs_a[0], runs_b[0])
    start = runs_a[0].start
    a, b = ([trial(run, clock) for run in runs] for runs in (runs_a, runs_b))
    notes = _notes(runs_a, runs_b) + _test_note(a, b)
    sides = _sides(a, b, start.metric, f"T_{clock}")
    notes += _cut_note(a, b)
    a, b = ([t for t in side if t.outcome != CENSORED] for side in (a, b))
    shared = sorted({t.seed for t in a} & {t.seed for t in b})
    paired = len(shared) >= 2
    if paired:
        left = sorted({t.seed for t in a + b} - set(shared))
        notes += [f"seeds of only one recipe, left out of the pairs: {', '.join(map(str, left))}"] * bool(left)
        a, b = ([next(t for t in side if t.seed == seed) for seed in shared] for side in (a, b))
    design = (
        f"paired by seed, {len(shared)} pairs: t interval of the differences"
        if paired
        else f"not paired ({counted(len(shared), 'seed')} in both): Welch's t interval"
    )
    samples = _samples(a, b, start.metric)
    differences, needed = _differences(samples, paired, f"T_{clock}")
    return Comparison(
        names=tuple(r[0].start.recipe or "no recipe" for r in (runs_a, runs_b)),
        title=f"target {target_text(start.metric, start.target)} on {start.task}",
        paired=paired,
        design=design,
        sides=sides,
        differences=differences,
        needed=needed,
        notes=notes,
    )


def _check_apart(runs_a: Sequence[Run], runs_b: Sequence[Run]) -> None:
    there = {run.path.resolve() for run in runs_a}
    if twice := next((run for run in runs_b if run.path.resolve() in there), None):
        raise RunError(f"{twice.path}: is in A and in B. Give every run on one side.")


def _check_comparable(a: Run, b: Run) -> None:
    for name in COMPARABLE:
        one, other = SAME[name](a), SAME[name](b)
        if one != other:
            raise RunError(
                f"{b.path}: {name} is {other!r:.60}, but {one!r:.60} in {a.path}. Compare runs with the same."
            )


def _sides(a: list[Trial], b: list[Trial], metric: str, clock: str) -> dict[str, tuple[Estimate, Estimate]]:
    def side(trials: list[Trial]) -> list[Estimate]:
        times = times_of(trials)
        finals = [t.final.percent(metric) for t in trials if t.final]
        epochs = [float(t.epochs) for t in trials if t.epochs]
        return [rate(len(times.hits), len(times.hits) + times.misses), median(times), mean(epochs), mean(finals)]

    final = f"{METRIC_NAMES[metric]} at the end of the schedule, mean"
    names = ("hit rate", f"median {clock} to target, s", "epochs to target, mean of the hits", final)
    return {name: pair for name, *pair in zip(names, side(a), side(b), strict=True)}


def _samples(a: list[Trial], b: list[Trial], metric: str) -> dict[str, tuple[Sample, Sample, str]]:
    """name -> (values of A, of B, what is wrong with them); values None where a run has none."""

    def column(trials: list[Trial], value: Callable[[Trial], float | None]) -> Sample:
        values = [value(t) for t in trials]
        return None if any(v is None for v in values) else values

    columns = {
        "time": (lambda t: math.log(t.seconds) if t.epochs else None, "a run did not reach the target"),
        "epochs": (lambda t: None if t.epochs is None else float(t.epochs), "a run did not reach the target"),
        "final": (lambda t: t.final.percent(metric) if t.final else None, "a run was not trained to the end"),
    }
    return {name: (column(a, value), column(b, value), lack) for name, (value, lack) in columns.items()}


def _differences(samples: dict, paired: bool, clock: str) -> tuple[dict[str, Estimate], dict[str, int | None]]:
    names = {
        "time": f"{clock} to target, A / B",
        "epochs": "epochs to target, A - B",
        "final": "accuracy at the end, A - B, points",
    }
    estimates, needed = {}, {}
    for key, (a, b, lack) in samples.items():
        if a is None or b is None:
            estimates[names[key]] = Estimate(None, note=f"not defined: {lack}")
            continue
        difference = paired_difference(a, b) if paired else welch_difference(a, b)
        estimates[names[key]] = difference.mapped(math.exp) if key == "time" else difference
        if min(len(a), len(b)) >= 2:
            pairs = [x - y for x, y in zip(a, b, strict=True)] if paired else []
            needed[names[key]] = pairs_needed(pairs) if paired else runs_needed(a, b)
    return estimates, needed


def _test_note(a: list[Trial], b: list[Trial]) -> list[str]:
    """Where a run misses, ranks are left: misses last. Runs that were cut off count as long as they ran."""
    if not any(t.outcome in (MISS, DIVERGED) for t in a + b):
        return []
    p = logrank(times_of(a), times_of(b))
    return ["log-rank test of the times, misses last: " + ("nothing can be said" if p is None else f"p = {p:.3g}")]


def _cut_note(a: list[Trial], b: list[Trial]) -> list[str]:
    """That a run was cut off is not its recipe's fault."""
    cut = [f"{name}, seed {t.seed}" for name, side in (("A", a), ("B", b)) for t in side if t.outcome == CENSORED]
    return [f"cut off before the end, left out of the differences: {'; '.join(cut)}"] if cut else []


def _notes(runs_a: Sequence[Run], runs_b: Sequence[Run]) -> list[str]:
    notes = ["A and B are the same recipe"] if recipe_hash(runs_a[0]) == recipe_hash(runs_b[0]) else []
    if runs_a[0].start.recipe == runs_b[0].start.recipe and (changed := changed_settings(runs_a[0], runs_b[0])):
        notes.append(f"the settings of A and B: {some_of([f'{name} {one} and {two}' for name, one, two in changed])}")
    for name, get in (NOTED | {"precision": SAME["precision"], "world size": SAME["world size"]}).items():
        one, other = ({str(get(run)) for run in runs} for runs in (runs_a, runs_b))
        if one != other:
            notes.append(f"A and B differ in {name}: {', '.join(sorted(one))} and {', '.join(sorted(other))}")
    notes += [f"A: {note}" for note in circumstances(runs_a)] + [f"B: {note}" for note in circumstances(runs_b)]
    return notes


def compare_tables(comparison: Comparison) -> list[Table]:
    a, b = (plain(name, 40) for name in comparison.names)
    rows = tuple((name, _text(one), _text(other)) for name, (one, other) in comparison.sides.items())
    needed = tuple((name, _needed(count, comparison.paired)) for name, count in comparison.needed.items())
    tables = [
        Table(f"A: {a}, B: {b}; {plain(comparison.title)}", ("", "A", "B"), rows),
        estimate_table(comparison.design, comparison.differences),
        Table("to tell them apart at these differences and spreads (5 %, power 80 %)", ("", "needed"), needed),
        Table("notes", (), tuple((plain(note, 300),) for note in comparison.notes)),
    ]
    return [table for table in tables if table.rows]


def _text(estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{number(estimate.value)}" + (f" ({estimate.note})" if estimate.note else "")
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def _needed(count: int | None, paired: bool) -> str:
    if count is None:
        return "no number of runs: there is no difference"
    return f"{count} pairs of runs" if paired else f"{count} runs of each"


def compare_json(comparison: Comparison) -> str:
    """As study_json."""
    fields = {name: getattr(comparison, name) for name in ("names", "title", "paired", "design", "needed", "notes")}
    fields |= {
        "sides": {name: [estimate_json(e) for e in pair] for name, pair in comparison.sides.items()},
        "differences": {name: estimate_json(e) for name, e in comparison.differences.items()},
    }
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"
