"""Time to the target of several runs, of which some miss it and some were cut off.

A miss (the schedule ended, or the run diverged) is T = infinity, not a censored run: it stays in the risk set to the
end. Only a run that was cut off by something that is not the recipe's fault (preemption, a crash) is censored, at the
time it had reached. Then the Kaplan-Meier curve is the share of runs that have not reached the target yet; without
censored runs it is the empirical distribution.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

from dawn.stats.estimates import CONFIDENCE, Estimate


@dataclass(frozen=True)
class Times:
    """hits: times to the target; misses: how many never reach it; censored: times at which runs were cut off."""

    hits: tuple[float, ...] = ()
    misses: int = 0
    censored: tuple[float, ...] = ()

    @property
    def unresolved(self) -> int:
        """Runs cut off at or after the last hit: nothing says how many of them would have hit."""
        return sum(time >= max(self.hits, default=0.0) for time in self.censored)

    @property
    def end(self) -> float:
        """The last time at which something happened."""
        return max((*self.hits, *self.censored), default=0.0)


@dataclass(frozen=True)
class Step:
    """From `time` on the share `waiting` has not reached the target; low and high: its 95 % interval (log-log)."""

    time: float
    waiting: float
    low: float
    high: float


def curve(times: Times) -> list[Step]:
    """The Kaplan-Meier curve, a step at each hit."""
    if not times.hits:
        return []
    survival = _ecdf(times).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined where S is 0 or 1, as _step knows
        interval = survival.confidence_interval(CONFIDENCE, method="log-log")
    values = zip(
        survival.quantiles, survival.probabilities, interval.low.probabilities, interval.high.probabilities, strict=True
    )
    hits = set(times.hits)
    return [_step(*(float(x) for x in value)) for value in values if value[0] in hits]


def _ecdf(times: Times) -> Any:
    from scipy import stats

    never = 2 * times.end + 1  # scipy wants a finite number: later than everything else
    return stats.ecdf(stats.CensoredData(list(times.hits), right=[*times.censored, *[never] * times.misses]))


def _step(time: float, waiting: float, low: float, high: float) -> Step:
    """Greenwood's variance is undefined at S = 0: there the interval is everything up to 1."""
    return Step(time, waiting, 0.0 if math.isnan(low) else low, 1.0 if math.isnan(high) else high)


def median(times: Times) -> Estimate:
    """Where the curve crosses 1/2; between two hits where it lies on 1/2, so it is the usual median without censoring.

    Its interval is distribution-free: order statistics, or with censored runs the inverted interval of the curve
    (Brookmeyer and Crowley 1982). An end can be infinite.
    """
    if not times.hits and not times.misses:
        return Estimate(None, note="no run has ended")
    value, note = _median_value(times)
    if times.censored:
        steps = curve(times)
        low, high = (next((s.time for s in steps if getattr(s, end) <= 0.5), math.inf) for end in ("low", "high"))
        return Estimate(value, low, high, CONFIDENCE, note)
    if len(times.hits) + times.misses == 1:
        return Estimate(value, note=note or "one run has no interval")
    low, high, confidence = _order_statistics(times)
    return Estimate(value, low, high, confidence, note)


def _median_value(times: Times) -> tuple[float | None, str]:
    steps = curve(times)
    for number, step in enumerate(steps):
        if math.isclose(step.waiting, 0.5, abs_tol=1e-9):
            after = steps[number + 1].time if number + 1 < len(steps) else math.inf
            if math.isinf(after) and times.unresolved:
                break
            return (step.time + after) / 2, "" if math.isfinite(after) else "not reached: half of the runs miss"
        if step.waiting < 0.5:
            return step.time, ""
    waiting = steps[-1].waiting if steps else 1.0
    left = times.misses + times.unresolved
    if times.unresolved and waiting * times.misses / left <= 0.5:
        return None, "not known: too many runs were cut off"
    return math.inf, "not reached: at least half of the runs miss"


def _order_statistics(times: Times) -> tuple[float, float, float]:
    """The narrowest (low, high) of equal ranks from both ends that covers the median with 95 %, and what it covers.

    Of two runs or more; fewer than 6 do not give 95 %: then the smallest and the largest.
    """
    from scipy import stats

    ordered = [*sorted(times.hits), *[math.inf] * times.misses]
    n = len(ordered)
    outside = [2 * float(stats.binom.cdf(rank - 1, n, 0.5)) for rank in range(1, n // 2 + 1)]
    # Of five runs the smallest and the largest cover 93.75 %, of six 96.9 %.
    rank = max([1, *(i for i, share in enumerate(outside, start=1) if share <= 1 - CONFIDENCE)])
    return ordered[rank - 1], ordered[n - rank], 1 - outside[rank - 1]


def restricted_mean(times: Times, horizon: float) -> Estimate:
    """Mean of min(T, horizon), the area under the curve up to there: defined whatever misses."""
    if not times.hits and not times.misses:
        return Estimate(None, note="no run has ended")
    if not times.misses and times.unresolved and horizon > times.end:
        return Estimate(None, note=f"not known beyond {times.end:.6g} s, where the last run was cut off")
    area, since, waiting = 0.0, 0.0, 1.0
    for step in curve(times):
        if step.time >= horizon:
            break
        area += waiting * (step.time - since)
        since, waiting = step.time, step.waiting
    return Estimate(area + waiting * (horizon - since))


def logrank(a: Times, b: Times) -> float | None:
    """Two-sided p of the log-rank test that both have the same time to the target; None where nothing can be said."""
    from scipy import stats

    if not (a.hits or b.hits) or not all(t.hits or t.misses or t.censored for t in (a, b)):
        return None
    never = 2 * max(a.end, b.end) + 1
    samples = [stats.CensoredData(list(t.hits), right=[*t.censored, *[never] * t.misses]) for t in (a, b)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0 where every hit is at a time with one run left
        p = float(stats.logrank(*samples).pvalue)
    return None if math.isnan(p) else p
