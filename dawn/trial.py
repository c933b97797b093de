"""One run as a trial of its recipe: did it reach the target, when, and how good was it at the end?"""

import math
from dataclasses import dataclass

from dawn.records import Validation
from dawn.run import Run
from dawn.survival import Times

HIT, MISS, DIVERGED, CENSORED = "hit", "miss", "diverged", "cut off"


@dataclass(frozen=True)
class Trial:
    """seconds: to the target; infinity for a miss or a divergence; for a run cut off, how far it had come."""

    name: str
    seed: int
    outcome: str
    seconds: float
    duration: float  # seconds on the same clock to the end of the run
    epochs: int | None  # trained up to the target
    final: Validation | None  # the last evaluation, of a run that was trained to the end of its schedule
    evaluations: int  # looks at the target
    reached_at_end: bool | None  # does `final` reach the target?


def trial(run: Run, clock: str = "total") -> Trial:
    """The run must have a target. A run that reached it counts as a hit whatever happened later."""
    hit, start = run.hit(), run.start
    outcome = _outcome(run)
    duration = run.stop.clock[clock] if run.stop else run.rows[-1].clock[clock] if run.rows else 0.0
    evaluated = [row.validation for row in run.rows if row.validation]
    final = evaluated[-1] if evaluated and len(run.rows) == start.total_epochs else None
    return Trial(
        name=run.path.parent.name or run.path.parent.resolve().name,
        seed=start.seed,
        outcome=outcome,
        seconds=hit.clock[clock] if hit else duration if outcome == CENSORED else math.inf,
        duration=duration,
        epochs=hit.epoch + 1 if hit else None,
        final=final,
        evaluations=len(evaluated),
        reached_at_end=final.reaches(start.metric, start.target) if final else None,
    )


def _outcome(run: Run) -> str:
    """Preempted, crashed and running runs are cut off, unless all of the schedule had been trained before."""
    if run.hit():
        return HIT
    if run.stop and run.stop.outcome == "diverged":
        return DIVERGED
    ended = run.stop and run.stop.outcome in ("finished", "finished_without_target")
    return MISS if ended or len(run.rows) == run.start.total_epochs else CENSORED


def times_of(trials: list[Trial]) -> Times:
    return Times(
        tuple(t.seconds for t in trials if t.outcome == HIT),
        sum(t.outcome in (MISS, DIVERGED) for t in trials),
        tuple(t.seconds for t in trials if t.outcome == CENSORED),
    )
