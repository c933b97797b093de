"""Estimates from a handful of runs, each with an interval that holds for a handful: rates, means, ratios.

Nothing here knows what a run is. A statistic that the data does not determine has value None and a note that says why;
infinity means that the target is not reached. Times until something are in survival.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

CONFIDENCE = 0.95
POWER = 0.8  # of the number of runs that a comparison needs
MOST_RUNS = 10**6


@dataclass(frozen=True)
class Estimate:
    """low and high cover with at least (exact methods) or about (t, Wilson) `confidence`; None: no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    note: str = ""

    def mapped(self, function: Callable[[float], float]) -> "Estimate":
        """An increasing function of the value and both ends."""
        value, low, high = (None if x is None else function(x) for x in (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high)


def rate(hits: int, runs: int) -> Estimate:
    """Wilson's score interval (Wilson 1927): good at every n on average over p, not at every p."""
    from scipy import stats

    if runs == 0:
        return Estimate(None, note="no run has ended")
    interval = stats.binomtest(hits, runs).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(hits / runs, interval.low, interval.high, CONFIDENCE)


def least_rate(hits: int, runs: int) -> float:
    """Exact one-sided 95 % lower bound of a rate (Clopper and Pearson 1934); 0 without runs."""
    from scipy import stats

    return stats.binomtest(hits, runs, alternative="greater").proportion_ci(CONFIDENCE, "exact").low if runs else 0.0


def runs_for_rate(share: float) -> int:
    """How many runs, all of them hits, show that at least `share` of runs hit: 59 for 0.95."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(share))


def mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Arithmetic mean with Student's t interval."""
    from scipy import stats

    n = len(values)
    if n == 0:
        return Estimate(None, note="no run")
    value = math.fsum(values) / n
    if n == 1:
        return Estimate(value, note="one run has no interval")
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * deviation(values) / math.sqrt(n)
    return Estimate(value, value - half, value + half, confidence)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of the sample (n - 1); 0 for values that are all the same."""
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def least_mean(values: Sequence[float]) -> float | None:
    """One-sided 95 % lower bound of the mean (Student's t); None for fewer than two values."""
    # Whether the mean reaches a target is one claim, how many runs do is another: of runs whose mean just does, about
    # half miss it.
    return mean(values, 2 * CONFIDENCE - 1).low


def spreads(groups: Sequence[Sequence[float]]) -> tuple[Estimate, Estimate]:
    """Standard deviations within and between groups, in a model of random group effects: value = mean + group + rest.

    One-way analysis of variance, method of moments, for groups of any sizes (Searle, Casella, McCulloch 1992, ch. 3.6).
    A between variance that comes out negative is 0. The note of the second has the F test of no difference.
    """
    from scipy import stats

    groups = [group for group in groups if group]
    k, n = len(groups), sum(map(len, groups))
    if k < 2 or n == k:
        reason = "one group" if k < 2 else "one value in each group"
        return Estimate(None, note=reason), Estimate(None, note=reason)
    means = [math.fsum(group) / len(group) for group in groups]
    grand = math.fsum(map(math.fsum, groups)) / n
    rest = math.fsum((x - m) ** 2 for group, m in zip(groups, means, strict=True) for x in group) / (n - k)
    among = math.fsum(len(group) * (m - grand) ** 2 for group, m in zip(groups, means, strict=True)) / (k - 1)
    size = (n - sum(len(group) ** 2 for group in groups) / n) / (k - 1)
    p = float(stats.f.sf(among / rest, k - 1, n - k)) if rest else (0.0 if among else 1.0)
    between = math.sqrt(max(0.0, among - rest) / size)
    return Estimate(math.sqrt(rest)), Estimate(between, note=f"F test of no difference: p = {p:.2g}")


def geometric_mean(times: Sequence[float]) -> Estimate:
    """exp of the mean of log T, with exp of its t interval."""
    return mean([math.log(time) for time in times]).mapped(math.exp)


def restart_time(hits: Sequence[float], misses: Sequence[float], full: Sequence[float]) -> Estimate:
    """Expected time to the target when a run that misses is followed by another: time spent in all runs / hits.

    hits: times to the target; misses: durations of the runs that missed; full: durations of the runs that were trained
    to the end, which say what a miss would have cost where none was seen. The interval joins Wilson's for the hit
    rate and the t interval of the mean hit, each at 97.5 % (Bonferroni: together at least 95 %); the duration
    of a miss is taken as measured.
    """
    from scipy import stats

    h, n = len(hits), len(hits) + len(misses)
    if n == 0:
        return Estimate(None, note="no run has ended")
    if h == 0:
        return Estimate(math.inf, note="no run hit")
    value = (math.fsum(hits) + math.fsum(misses)) / h
    if h == 1:
        return Estimate(value, note="one hit has no interval")
    each = (1 + CONFIDENCE) / 2
    miss = math.fsum(misses) / len(misses) if misses else math.fsum(full) / len(full) if full else max(hits)
    share, hit = stats.binomtest(h, n).proportion_ci(each, "wilson"), mean(hits, each)
    low, high = ((time + (1 / p - 1) * miss) for time, p in ((hit.low, share.high), (hit.high, share.low)))
    return Estimate(value, max(0.0, low), high, CONFIDENCE, "" if misses else "what a miss costs is assumed")


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Mean of a - b, pair by pair, with a t interval."""
    return mean([x - y for x, y in zip(a, b, strict=True)])


def welch_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Difference of the means of two samples with Welch's t interval: unequal variances, Satterthwaite's freedom."""
    from scipy import stats

    if not a or not b:
        return Estimate(None, note="no run on one side")
    value = math.fsum(a) / len(a) - math.fsum(b) / len(b)
    if min(len(a), len(b)) < 2:
        return Estimate(value, note="one run on a side has no interval")
    parts = [deviation(side) ** 2 / len(side) for side in (a, b)]
    if sum(parts) == 0:
        return Estimate(value, value, value, CONFIDENCE)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(sum(parts))
    return Estimate(value, value - half, value + half, CONFIDENCE)


def pairs_needed(differences: Sequence[float]) -> int | None:
    """Pairs that a t test at 5 % needs to see this mean difference with this spread 4 times in 5; None: over 1e6."""
    spread, size = deviation(differences), abs(math.fsum(differences) / len(differences))
    return _runs_needed(size, spread, lambda n: (n - 1, math.sqrt(n)))


def runs_needed(a: Sequence[float], b: Sequence[float]) -> int | None:
    """Runs of each of two recipes that a t test needs likewise, the spread being pooled; None: over 1e6."""
    spread = math.sqrt((deviation(a) ** 2 + deviation(b) ** 2) / 2)
    size = abs(math.fsum(a) / len(a) - math.fsum(b) / len(b))
    return _runs_needed(size, spread, lambda n: (2 * n - 2, math.sqrt(n / 2)))


def _runs_needed(size: float, spread: float, design: Callable[[int], tuple[int, float]]) -> int | None:
    """Smallest n >= 2 with the power of the two-sided t test, by the noncentral t distribution."""
    from scipy import stats

    if size == 0:
        return None
    if size > 1000 * spread:
        return 2

    def power(n: int) -> float:
        freedom, factor = design(n)
        return stats.nct.sf(stats.t.ppf((1 + CONFIDENCE) / 2, freedom), freedom, size / spread * factor)

    low, high = 1, 2  # power(low) is too little
    while power(high) < POWER:
        low, high = high, high * 2
        if low > MOST_RUNS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high
