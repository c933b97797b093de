"""Many seeds of one recipe: how often they reach the target, when, and how good they are at the end."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dawn.dawnbench.tasks import METRIC_NAMES, target_text
from dawn.runlog.run import Run
from dawn.stats.estimates import (
    Estimate,
    deviation,
    geometric_mean,
    least_mean,
    least_rate,
    mean,
    rate,
    restart_time,
    runs_for_rate,
    spreads,
)
from dawn.stats.runs import (
    CENSORED,
    DIVERGED,
    HIT,
    MISS,
    Trial,
    by_host,
    circumstances,
    recipe_hash,
    times_of,
    trial,
)
from dawn.stats.survival import Times, median, restricted_mean
from dawn.tables import Table, counted, percent_text, plain

SHARE = 0.95  # of runs, of the second claim
ACCURACY = "accuracy at the end, %"  # an estimate
NOISE = 9  # decimals of a percentage, beyond which a mean holds rounding alone
SHOWN, NOT_SHOWN, NOT_TESTED = "shown", "not shown", "not tested"


@dataclass(frozen=True)
class Claim:
    text: str
    verdict: str  # shown, not shown, or not tested
    evidence: str


@dataclass(frozen=True)
class Study:
    """Times are seconds on `clock`."""

    title: str
    target: str
    target_percent: float
    clock: str
    recipe_hash: str
    metric: str
    trials: list[Trial]
    estimates: dict[str, Estimate]
    claims: list[Claim]
    notes: list[str]


def study(runs: Sequence[Run], clock: str = "total", horizon: float | None = None) -> Study:
    """runs: of one recipe, see read_recipe. horizon: of the restricted mean; default the longest run."""
    start = runs[0].start
    trials = [trial(run, clock) for run in runs]
    horizon = max(t.duration for t in trials) if horizon is None else horizon
    wanted = target_text(start.metric, start.target)
    finals = [t.final.percent(start.metric) for t in trials if t.final]
    estimates = time_estimates(trials, horizon) | host_estimates(trials) | {ACCURACY: mean(finals)}
    claims = [mean_claim(trials, start.metric, start.target, wanted), share_claim(trials, wanted)]
    return Study(
        title=f"{start.recipe or 'no recipe'} on {start.task}, {start.model}",
        target=wanted,
        target_percent=start.target,
        clock=f"T_{clock}",
        recipe_hash=recipe_hash(runs[0]),
        metric=start.metric,
        trials=trials,
        estimates=estimates,
        claims=claims,
        notes=_notes(trials) + circumstances(runs),
    )


def time_estimates(trials: list[Trial], horizon: float) -> dict[str, Estimate]:
    times = times_of(trials)
    hits, misses = len(times.hits), times.misses
    lost = [t.duration for t in trials if t.outcome in (MISS, DIVERGED)]
    full = [t.duration for t in trials if t.final]
    return {
        "hit rate": rate(hits, hits + misses),
        "median time to target, s": median(times),
        "geometric mean of the times, s": _all_hit_mean(times),
        "expected time with restarts, s": restart_time(times.hits, lost, full),
        "restricted mean, s": _restricted(times, horizon),
    }


def host_estimates(trials: list[Trial]) -> dict[str, Estimate]:
    """Where the runs were made on several hosts: how much of the spread of log T is the hosts'. Empty otherwise."""
    hosts = by_host(trials)
    if not hosts:
        return {}
    logs = [[math.log(t.seconds) for t in of_host if t.outcome == HIT] for of_host in hosts.values()]
    logs = [group for group in logs if group]
    within, between = (spread.mapped(lambda sd: 100 * math.expm1(sd)) for spread in spreads(logs))
    averages = geometric_mean([math.exp(math.fsum(group) / len(group)) for group in logs])
    hits, many = sum(map(len, logs)), counted(len(hosts), "host")
    return {
        f"mean over {many}, s": replace(averages, note=averages.note or "each host counts once; its runs are alike"),
        "spread of the times within a host, %": replace(within, note=within.note or f"of {hits} hits"),
        "spread of the times between hosts, %": between,
    }


def _restricted(times: Times, horizon: float) -> Estimate:
    estimate = restricted_mean(times, horizon)
    return replace(estimate, note=estimate.note or f"to {horizon:.6g} s")


def _all_hit_mean(times: Times) -> Estimate:
    if times.misses or times.censored:
        return Estimate(None, note=f"only where every run hits; {times.misses + len(times.censored)} did not")
    return geometric_mean(times.hits)


def mean_claim(trials: list[Trial], metric: str, target: float, wanted: str) -> Claim:
    """One-sided t test of the mean final accuracy, over runs that were trained to the end whatever they reached."""
    text = f"the mean run ends at {wanted} or above"
    stopped = [t for t in trials if t.outcome == HIT and not t.final]
    diverged = [t for t in trials if t.outcome == DIVERGED]
    rate_first = hit_words(trials)
    if diverged:
        return Claim(
            text, NOT_SHOWN, f"{rate_first}; {len(diverged)} of {len(trials)} runs diverged and have no final accuracy"
        )
    if stopped:
        many = counted(len(stopped), "run")
        return Claim(text, NOT_TESTED, f"{rate_first}; {many} ended at the target: the last accuracy was chosen by it")
    finals = [t.final.percent(metric) for t in trials if t.final]
    least = least_mean(finals)
    if least is None:
        return Claim(
            text, NOT_TESTED, f"{rate_first}; {counted(len(finals), 'run')} trained to the end; a spread needs two"
        )
    average = percent_text(round(math.fsum(finals) / len(finals), NOISE), target, 4)
    spread = f"mean {average}, standard deviation {deviation(finals):.4f}, n = {len(finals)}"
    verdict = SHOWN if least >= target else NOT_SHOWN
    return Claim(text, verdict, f"{rate_first}; {spread}; one-sided 95 % lower bound {percent_text(least, target, 4)}")


def hit_words(trials: list[Trial]) -> str:
    """How often the target was reached: what no claim may leave out."""
    times = times_of(trials)
    ended = len(times.hits) + times.misses
    return f"{len(times.hits)} of {counted(ended, 'run')} hit" if ended else "no run has ended"


def share_claim(trials: list[Trial], wanted: str) -> Claim:
    """Exact one-sided binomial bound of the hit rate against SHARE."""
    times = times_of(trials)
    hits, n = len(times.hits), len(times.hits) + times.misses
    text = f"{100 * SHARE:.0f} % of runs reach {wanted}"
    if n == 0:
        return Claim(text, NOT_TESTED, hit_words(trials))
    least = least_rate(hits, n)
    need = f"; all of {runs_for_rate(SHARE)} runs would show it" if hits == n and least < SHARE else ""
    verdict = SHOWN if least >= SHARE else NOT_SHOWN
    return Claim(text, verdict, f"{hit_words(trials)}; exact one-sided 95 % lower bound {100 * least:.1f} %{need}")


def _notes(trials: list[Trial]) -> list[str]:
    notes = []
    if cut := [str(t.seed) for t in trials if t.outcome == CENSORED]:
        notes.append(f"cut off before the end, censored in the median, left out of rates: seed {', '.join(cut)}")
    ended = [t for t in trials if t.outcome != CENSORED]
    if 0 < len(ended) < 6:
        verb = "gives" if len(ended) == 1 else "give"
        notes.append(f"{counted(len(ended), 'run')} {verb} no 95 % interval of the median; 6 are the least")
    looks = sorted({t.evaluations for t in ended})
    if looks and looks[-1] > 1:
        late = [t for t in ended if t.reached_at_end is not None]
        many = f"{looks[0]}" if len(looks) == 1 else f"{looks[0]} to {looks[-1]}"
        notes.append(
            f"the target was looked at {many} times in a run, and the first success counts"
            + (f"; at the last look {sum(t.reached_at_end for t in late)} of {len(late)} reach it" if late else "")
        )
    return notes


def study_tables(study: Study) -> list[Table]:
    clock, metric = study.clock, study.metric
    header = ("run", "seed", "outcome", f"{clock}, s", "epochs", f"{METRIC_NAMES[metric]} at the end")
    title = plain(f"{study.title}: {counted(len(study.trials), 'seed')}, target {study.target}", 200)
    return [
        Table(title, header, tuple(_trial_row(trial, metric, study.target_percent) for trial in study.trials)),
        *_host_tables(study.trials),
        estimate_table("statistics", study.estimates, study.target_percent),
        Table("claims", ("claim", "verdict", "evidence"), tuple((c.text, c.verdict, c.evidence) for c in study.claims)),
        *([Table("notes", (), tuple((plain(note, 300),) for note in study.notes))] if study.notes else []),
    ]


def _host_tables(trials: list[Trial]) -> list[Table]:
    """Runs and times of each host, where there are several."""
    rows = []
    for host, of_host in by_host(trials).items():
        times = [t.seconds for t in of_host if t.outcome == HIT]
        average = number(geometric_mean(times).value) if times else "-"
        rows.append((host, str(len(of_host)), str(len(times)), average))
    header = ("host", "runs", "hits", "geometric mean of the times, s")
    return [Table("hosts", header, tuple(rows))] if rows else []


def _trial_row(trial: Trial, metric: str, target: float) -> tuple[str, ...]:
    seconds = f"{trial.seconds:.3f}" if trial.outcome == HIT else f"- ({trial.duration:.3f} spent)"
    final = "-"
    if trial.final:
        percent = percent_text(trial.final.percent(metric), target)
        final = f"{percent} % ({trial.final.correct(metric)} of {trial.final.images})"
    return plain(trial.name), str(trial.seed), trial.outcome, seconds, str(trial.epochs or "-"), final


def estimate_table(title: str, estimates: dict[str, Estimate], target: float | None = None) -> Table:
    """`target` (percent): an accuracy has the digits that tell it from this."""
    header = ("statistic", "value", "interval", "confidence", "note")
    return Table(title, header, tuple(_estimate_row(name, one, target) for name, one in estimates.items()))


def _estimate_row(name: str, estimate: Estimate, target: float | None) -> tuple[str, ...]:
    """A rate in percent; the ends of an interval with the decimals of the value."""
    if name == "hit rate":
        name, estimate = "hit rate, %", estimate.mapped(lambda share: 100 * share)
    decimals = None if estimate.value is None else decimals_of(estimate.value)
    if name == ACCURACY and decimals is not None:
        decimals = decimals_beside(target, decimals, estimate)
    value, low, high = (number(x, decimals) for x in (estimate.value, estimate.low, estimate.high))
    interval = "-" if estimate.low is None else f"{low} to {high}"
    confidence = "-" if estimate.confidence is None else f"{100 * estimate.confidence:.4g} %"
    return name, value, interval, confidence, estimate.note


def decimals_of(value: float) -> int | None:
    """That show five digits; None for what needs an exponent."""
    size = abs(value)
    if not math.isfinite(value) or size >= 1e5 or 0 < size < 1e-2:
        return None
    return max(0, 5 - len(f"{size:.0f}"))


def decimals_beside(target: float | None, decimals: int, estimate: Estimate) -> int:
    """At least so many, and enough to tell the value and the ends of its interval from the target."""
    shown = [round(x, NOISE) for x in (estimate.value, estimate.low, estimate.high) if x is not None]
    return max(decimals, *(len(percent_text(x, target, decimals).partition(".")[2]) for x in shown))


def number(value: float | None, decimals: int | None = None) -> str:
    """Five digits, or as many decimals; `never` for infinity."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "never"
    return f"{value:.5g}" if decimals is None else f"{value:.{decimals}f}"


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
    names = ("name", "seed", "outcome", "duration", "epochs", "evaluations", "reached_at_end", "host")
    final = trial.final and {"correct": trial.final.correct(metric), "images": trial.final.images}
    return {name: getattr(trial, name) for name in names} | {"seconds": finite(trial.seconds), "final": final}


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    return {name: finite(value) if isinstance(value, float) else value for name, value in vars(estimate).items()}


def finite(value: float) -> float | str:
    return float(value) if math.isfinite(value) else "infinity"
