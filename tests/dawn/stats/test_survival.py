"""Median, curve and restricted mean of times to target, with misses and runs that were cut off."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dawn.stats.survival import Times, curve, logrank, median, restricted_mean

# Remission in weeks of 21 patients on 6-mercaptopurine (Freireich et al. 1963), the usual textbook example
WEEKS = Times((6, 6, 6, 7, 10, 13, 16, 22, 23), 0, (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35))
PLACEBO = Times((1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23))
PUBLISHED = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}


def test_curve_is_the_published_one():
    steps = curve(WEEKS)
    assert {step.time: round(step.waiting, 3) for step in steps} == PUBLISHED
    assert median(WEEKS).value == 23
    # as in R with conf.type = "log-log"
    assert (median(WEEKS).low, median(WEEKS).high) == (13, math.inf)
    assert logrank(WEEKS, PLACEBO) == pytest.approx(4.17e-5, rel=0.01)  # chi-square 16.79 on one degree of freedom


@pytest.mark.parametrize(
    ("n", "low", "high", "confidence"),
    [(6, 1, 6, 0.969), (10, 2, 9, 0.979), (15, 4, 12, 0.965), (20, 6, 15, 0.959), (25, 8, 18, 0.957),
     (50, 18, 33, 0.967)],
)  # fmt: skip
def test_median_interval_has_the_tabulated_ranks(n, low, high, confidence):
    estimate = median(Times(tuple(float(i) for i in range(1, n + 1))))
    assert (estimate.value, estimate.low, estimate.high) == ((n + 1) / 2, low, high)
    assert estimate.confidence == pytest.approx(confidence, abs=0.0006)


@pytest.mark.parametrize("n", range(6, 40))
def test_median_interval_is_scipys(n):
    times = np.random.default_rng(n).lognormal(size=n)
    interval = stats.quantile_test(times, q=1, p=0.5).confidence_interval(0.95)
    estimate = median(Times(tuple(times)))
    assert estimate.value == pytest.approx(np.median(times))
    assert (estimate.low, estimate.high) == (interval.low, interval.high)


@pytest.mark.parametrize(("n", "confidence"), [(2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375)])
def test_few_runs_say_what_little_they_cover(n, confidence):
    estimate = median(Times(tuple(range(1, n + 1))))
    assert (estimate.low, estimate.high, estimate.confidence) == (1, n, confidence)


def test_median_of_none_and_one():
    assert median(Times()).value is None
    assert median(Times(censored=(3.0, 4.0))).value is None
    one = median(Times((7.0,)))
    assert (one.value, one.low, one.high, one.note) == (7, None, None, "one run has no interval")
    miss = median(Times((), misses=1))
    assert miss.value == math.inf and miss.low is None and "runs miss" in miss.note


@pytest.mark.parametrize("hits", range(8))
def test_median_with_misses_is_that_of_infinities(hits):
    """As numpy has it for a list with infinities in it."""
    times = Times(tuple(float(i + 1) for i in range(hits)), 7 - hits)
    assert median(times).value == np.median([*times.hits, *[np.inf] * times.misses])
    assert median(times).high == (7.0 if hits == 7 else math.inf)
    assert bool(median(times).note) == (hits < 4)


def test_half_hits_is_not_reached():
    assert median(Times((1.0, 2.0), 2)).value == math.inf


def test_ties():
    tied = Times((5.0, 5.0, 5.0, 9.0, 9.0, 9.0))
    assert median(tied).value == 7 and [step.waiting for step in curve(tied)] == pytest.approx([0.5, 0])
    assert median(Times((5.0,) * 10)).value == 5


def test_cut_off_runs():
    assert median(Times((1.0, 2.0, 3.0), censored=(2.5,))).value == 2.5  # the curve lies on 1/2 from 2 to 3
    assert median(Times((1.0,), censored=(2.0, 2.0, 2.0))).value is None  # any of them may have hit
    assert median(Times((1.0,), 9, (2.0,))).value == math.inf  # whatever it would have done


def cases():
    return [Times((1.0, 2.0, 4.0)), Times((1.0, 3.0), 2), Times((1.0, 2.0, 6.0), 1, (3.0,)), Times((), 3), WEEKS]


@pytest.mark.parametrize("times", cases())
def test_a_run_cut_off_at_once_changes_nothing(times):
    with_it = replace(times, censored=(*times.censored, 0.0))
    assert median(with_it).value == median(times).value
    assert restricted_mean(with_it, 5.0).value == pytest.approx(restricted_mean(times, 5.0).value)


@pytest.mark.parametrize("times", cases())
def test_order_changes_nothing(times):
    turned = replace(times, hits=times.hits[::-1], censored=times.censored[::-1])
    assert median(turned) == median(times) and restricted_mean(turned, 4.5) == restricted_mean(times, 4.5)


@pytest.mark.parametrize("times", [case for case in cases() if case.hits])
def test_turning_a_hit_into_a_miss_never_lowers_anything(times):
    for number in range(len(times.hits)):
        worse = replace(times, hits=times.hits[:number] + times.hits[number + 1 :], misses=times.misses + 1)
        before, after = median(times).value, median(worse).value
        assert after is None or before is None or after >= before
        assert restricted_mean(worse, 5.0).value >= restricted_mean(times, 5.0).value - 1e-12


def test_restricted_mean_is_the_mean_of_the_cut_times():
    for hits, misses, horizon in itertools.product([(1.0, 2.0, 7.0), (3.0,), ()], (0, 2), (0.5, 2.0, 6.5, 100.0)):
        if hits or misses:
            times = [min(time, horizon) for time in [*hits, *[math.inf] * misses]]
            assert restricted_mean(Times(hits, misses), horizon).value == pytest.approx(np.mean(times))


def test_restricted_mean_stops_where_knowledge_does():
    cut = Times((1.0,), censored=(4.0,))
    assert restricted_mean(cut, 4.0).value == pytest.approx(1 + 0.5 * 3)
    assert restricted_mean(cut, 4.1).value is None and "4 s" in restricted_mean(cut, 4.1).note


def test_logrank_at_the_edges():
    assert logrank(Times((), 3), Times((), 2)) is None and logrank(Times((1.0,)), Times()) is None
    assert logrank(PLACEBO, PLACEBO) == pytest.approx(1)
    assert logrank(Times((1.0, 2.0, 3.0, 4.0)), Times((), 4)) < 0.05
