"""Estimates and intervals against scipy, published values and arithmetic by hand, and at the edges."""

import math

import numpy as np
import pytest
from scipy import stats

from dawn.stats.estimates import (
    geometric_mean,
    least_mean,
    least_rate,
    mean,
    paired_difference,
    pairs_needed,
    rate,
    restart_time,
    runs_for_rate,
    runs_needed,
    spreads,
    welch_difference,
)

A = [58.0, 61.5, 59.2, 60.1, 57.7]
B = [80.8, 79.4, 83.3, 81.0, 80.2]


@pytest.mark.parametrize(("hits", "runs", "low"), [(5, 5, 0.57), (10, 10, 0.72), (25, 25, 0.87)])
def test_wilson_when_all_hit(hits, runs, low):
    estimate = rate(hits, runs)
    assert (estimate.value, estimate.high) == (1.0, pytest.approx(1.0))
    assert estimate.low == pytest.approx(low, abs=0.005)


@pytest.mark.parametrize(("hits", "runs"), [(0, 1), (1, 1), (0, 5), (4, 5), (7, 20)])
def test_wilson_is_the_closed_form(hits, runs):
    z, p = stats.norm.ppf(0.975), hits / runs
    centre = (p + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z * math.sqrt(p * (1 - p) / runs + z**2 / (4 * runs**2)) / (1 + z**2 / runs)
    estimate = rate(hits, runs)
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half))
    flipped = rate(runs - hits, runs)
    assert (1 - flipped.high, 1 - flipped.low) == pytest.approx((estimate.low, estimate.high))


def test_rate_of_no_runs_is_not_known():
    assert rate(0, 0).value is None and rate(0, 0).note and least_rate(0, 0) == 0


def test_exact_bound_of_all_hits_is_a_root():
    for n in (1, 5, 58, 59):
        assert least_rate(n, n) == pytest.approx(0.05 ** (1 / n))
    assert least_rate(58, 58) < 0.95 <= least_rate(59, 59) and runs_for_rate(0.95) == 59


def test_mean_is_scipys_t_interval():
    interval = stats.ttest_1samp(A, 0).confidence_interval(0.95)
    estimate = mean(A)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((np.mean(A), interval.low, interval.high))
    one_sided = stats.ttest_1samp(A, 0, alternative="greater").confidence_interval(0.95)
    assert least_mean(A) == pytest.approx(one_sided.low)


def test_means_of_none_and_one():
    assert mean([]).value is None and mean([3.0]).value == 3.0 and mean([3.0]).low is None
    assert least_mean([3.0]) is None and least_mean([]) is None
    same = mean([2.0, 2.0, 2.0])
    assert same.low == same.value == same.high == 2.0


def test_geometric_mean_by_hand():
    estimate = geometric_mean([50.0, 200.0])
    half = stats.t.ppf(0.975, 1) * math.log(2)  # log 50 and log 200 lie log 2 from their mean
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (100.0, 100 * math.exp(-half), 100 * math.exp(half))
    )


def test_restart_time_is_time_spent_over_hits():
    estimate = restart_time([100.0, 110.0, 90.0], [200.0], [])
    assert estimate.value == pytest.approx(500 / 3)
    p, hit, miss = 3 / 4, 100.0, 200.0
    assert estimate.value == pytest.approx(hit + (1 - p) / p * miss)
    assert estimate.low < estimate.value < estimate.high


def test_restart_time_at_the_edges():
    assert restart_time([], [], []).value is None
    assert restart_time([], [10.0], []).value == math.inf
    assert restart_time([10.0], [20.0], []).value == 30 and restart_time([10.0], [20.0], []).low is None
    sure, longer = restart_time([10.0, 10.0], [], [12.0]), restart_time([10.0, 10.0], [], [24.0])
    assert sure.value == longer.value == 10 and sure.low == pytest.approx(10) and longer.high > sure.high > 10


@pytest.mark.parametrize("turned", range(4))
def test_turning_a_hit_into_a_miss_never_lowers_the_restart_time(turned):
    hits, longest = [100.0, 110.0, 90.0, 120.0], 120.0
    left = [time for number, time in enumerate(hits) if number != turned]
    assert restart_time(left, [longest], []).value > restart_time(hits, [], []).value


def test_differences_are_scipys():
    paired, interval = paired_difference(A, B), stats.ttest_rel(A, B).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((interval.low, interval.high))
    welch, interval = welch_difference(A, B[:4]), stats.ttest_ind(A, B[:4], equal_var=False).confidence_interval(0.95)
    assert (welch.value, welch.low, welch.high) == pytest.approx((np.mean(A) - np.mean(B[:4]), *interval))


def test_differences_at_the_edges():
    assert welch_difference([], A).value is None
    assert welch_difference([1.0], A).low is None and welch_difference([1.0], [3.0]).value == -2
    same = welch_difference([2.0, 2.0], [1.0, 1.0])
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("effect", "each", "pairs"), [(1.0, 17, 10), (0.8, 26, 15), (0.5, 64, 34), (0.2, 394, 199)])
def test_runs_needed_are_the_published_ones(effect, each, pairs):
    """Cohen 1988, tables 2.4.1, and G*Power: two-sided t test, 5 %, power 80 %."""
    unit = np.array([-1.0, 1.0]) / math.sqrt(2)  # standard deviation 1
    assert runs_needed(list(unit + effect), list(unit)) == each
    assert pairs_needed(list(unit + effect)) == pairs


def test_runs_needed_at_the_edges():
    assert pairs_needed([1.0, -1.0]) is None and runs_needed([1.0, 2.0], [2.0, 1.0]) is None  # no difference
    assert pairs_needed([1.0, 1.0]) == 2 and runs_needed([1.0, 1.0], [2.0, 2.0]) == 2  # no spread
    assert pairs_needed([1e-9 + 1, 1e-9 - 1]) is None  # more than a million


def test_spreads_of_a_known_table():
    """Means 2 and 6, within 2, among 16: 16 = 2 + 2 times the variance between."""
    within, between = spreads([[1.0, 3.0], [], [5.0, 7.0]])
    assert (within.value, between.value) == (pytest.approx(math.sqrt(2)), pytest.approx(math.sqrt(7)))
    assert between.note == "F test of no difference: p = 0.11"


def test_groups_that_differ_less_than_their_members_have_no_spread_between_them():
    within, between = spreads([[1.0, 9.0], [2.0, 8.0], [4.0, 6.0]])
    assert within.value > 3 and between.value == 0


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_spreads_need_two_groups_and_a_second_value_in_one(groups):
    assert [spread.value for spread in spreads(groups)] == [None, None]
