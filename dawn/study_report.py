"""A study as tables for people and as JSON for programs."""

import json
import math
from typing import Any

from dawn.estimates import Estimate
from dawn.study import Study
from dawn.tables import Table, counted, plain
from dawn.tasks import METRIC_NAMES
from dawn.trial import HIT, Trial


def study_tables(study: Study) -> list[Table]:
    clock, metric = study.clock, study.metric
    header = ("run", "seed", "outcome", f"{clock}, s", "epochs", f"{METRIC_NAMES[metric]} at the end")
    title = plain(f"{study.title}: {counted(len(study.trials), 'seed')}, target {study.target}", 200)
    return [
        Table(title, header, tuple(_trial_row(trial, metric) for trial in study.trials)),
        estimate_table("statistics", study.estimates),
        Table("claims", ("claim", "verdict", "evidence"), tuple((c.text, c.verdict, c.evidence) for c in study.claims)),
        *([Table("notes", (), tuple((plain(note, 300),) for note in study.notes))] if study.notes else []),
    ]


def _trial_row(trial: Trial, metric: str) -> tuple[str, ...]:
    seconds = f"{trial.seconds:.3f}" if trial.outcome == HIT else f"- ({trial.duration:.3f} spent)"
    final = "-"
    if trial.final:
        final = f"{trial.final.percent(metric):.6g} % ({trial.final.correct(metric)} of {trial.final.images})"
    return plain(trial.name), str(trial.seed), trial.outcome, seconds, str(trial.epochs or "-"), final


def estimate_table(title: str, estimates: dict[str, Estimate]) -> Table:
    header = ("statistic", "value", "interval", "confidence", "note")
    return Table(title, header, tuple((name, *_cells(estimate)) for name, estimate in estimates.items()))


def _cells(estimate: Estimate) -> tuple[str, str, str, str]:
    interval = "-" if estimate.low is None else f"{number(estimate.low)} to {number(estimate.high)}"
    confidence = "-" if estimate.confidence is None else f"{100 * estimate.confidence:.4g} %"
    return number(estimate.value), interval, confidence, estimate.note


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if math.isfinite(value) else "never"


def study_json(study: Study) -> str:
    """An infinite time is the text "infinity"; what the runs do not determine is null with a note."""
    fields = {name: getattr(study, name) for name in ("title", "target", "clock", "recipe_hash", "metric", "notes")}
    fields |= {
        "runs": [_trial_json(trial, study.metric) for trial in study.trials],
        "estimates": {name: estimate_json(estimate) for name, estimate in study.estimates.items()},
        "claims": [vars(claim) for claim in study.claims],
    }
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"


def _trial_json(trial: Trial, metric: str) -> dict[str, Any]:
    names = ("name", "seed", "outcome", "duration", "epochs", "evaluations", "reached_at_end")
    final = trial.final and {"correct": trial.final.correct(metric), "images": trial.final.images}
    return {name: getattr(trial, name) for name in names} | {"seconds": finite(trial.seconds), "final": final}


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    return {name: finite(value) if isinstance(value, float) else value for name, value in vars(estimate).items()}


def finite(value: float) -> float | str:
    return float(value) if math.isfinite(value) else "infinity"
