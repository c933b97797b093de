"""Do the intervals cover what they say? Seeded draws from known distributions; every nominal value is 95 %."""

import math
from functools import cache

import numpy as np
import pytest

from dawn.stats.estimates import geometric_mean, mean, paired_difference, rate, restart_time, welch_difference
from dawn.stats.survival import Times, median

DRAWS = 2000
SLACK = 3 * math.sqrt(0.95 * 0.05 / DRAWS)  # three standard errors of the simulation


def share_covered(draw, truth: float, draws: int = DRAWS) -> float:
    """Of the intervals of `draw(generator)`."""
    generator = np.random.default_rng(20261124)
    estimates = (draw(generator) for _ in range(draws))
    return sum(e.low <= truth <= e.high for e in estimates) / draws


@pytest.mark.parametrize("n", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 10))])
def test_mean_of_normal_values(n):
    assert share_covered(lambda g: mean(g.normal(94, 0.1, n).tolist()), 94) == pytest.approx(0.95, abs=SLACK)


def test_geometric_mean_of_lognormal_times():
    share = share_covered(lambda g: geometric_mean(g.lognormal(4, 0.3, 6).tolist()), math.exp(4))
    assert share == pytest.approx(0.95, abs=SLACK)


@pytest.mark.parametrize("n", [5, 10, 25])
def test_wilson_over_all_rates(n):
    """Its coverage swings with p and is nominal on the average over p, which is what a study of unknown p gets."""
    cached = cache(rate)
    generator = np.random.default_rng(1)
    truths = generator.uniform(size=20_000)
    hits = generator.binomial(n, truths)
    covered = [cached(int(h), n).low <= p <= cached(int(h), n).high for h, p in zip(hits, truths, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "miss"),
    [pytest.param(6, 0.0, marks=pytest.mark.slow), (10, 0.2), pytest.param(25, 0.3, marks=pytest.mark.slow)],
)
def test_median_with_misses(n, miss):
    """Distribution-free, so at least 95 %. The median of the mixture is the 0.5 / (1 - miss) quantile of the hits."""
    truth = -math.log(1 - 0.5 / (1 - miss))

    def draw(g):
        hits = g.exponential(size=n - g.binomial(n, miss))
        return median(Times(tuple(hits), n - len(hits)))

    assert share_covered(draw, truth, 1000) >= 0.95 - SLACK


@pytest.mark.slow
def test_median_with_runs_cut_off():
    """Kaplan and Meier's is an approximation for many runs; the log-log form is close at 25."""

    def draw(g):
        times, cut = g.exponential(size=25), g.exponential(3.0, size=25)
        return median(Times(tuple(times[times <= cut]), 0, tuple(cut[times > cut])))

    assert share_covered(draw, math.log(2), 1000) >= 0.95 - 1.5 * SLACK


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "p"),
    [
        (6, 0.9),
        pytest.param(10, 0.8, marks=pytest.mark.slow),
        pytest.param(10, 0.5, marks=pytest.mark.slow),
        pytest.param(30, 0.95, marks=pytest.mark.slow),
    ],
)
def test_restart_time_is_conservative(n, p):
    truth = 100 + (1 - p) / p * 150

    def draw(g):
        hits = g.binomial(n, p)
        times = g.normal(100, 5, hits).tolist()
        estimate = restart_time(times, [150.0] * (n - hits), [150.0])
        return estimate if estimate.low is not None else restart_time([1.0, 1e9], [1e9], [])  # nothing said: covered

    assert share_covered(draw, truth) >= 0.95 - SLACK


def test_differences():
    def pairs(g):
        shared = g.normal(0, 1, 8)  # what a seed does to both recipes
        return paired_difference((shared + g.normal(0.3, 0.1, 8)).tolist(), (shared + g.normal(0, 0.1, 8)).tolist())

    assert share_covered(pairs, 0.3) == pytest.approx(0.95, abs=SLACK)

    def samples(g):
        return welch_difference(g.normal(0.3, 0.1, 8).tolist(), g.normal(0, 0.3, 6).tolist())

    assert share_covered(samples, 0.3, 1000) == pytest.approx(0.95, abs=1.5 * SLACK)
