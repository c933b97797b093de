"""The expected time with restarts."""

import math

import pytest

from training.search.objective import SEED_SD, Evidence, log_expected_seconds, seed_deviation


def expected(*accuracies, images=10**9, target=94.0, seconds=100.0, sd=0.3):
    return math.exp(log_expected_seconds(Evidence(seconds, accuracies, images), target, sd))


def test_far_above_the_target_it_is_the_time_of_one_run():
    assert expected(99.0) == pytest.approx(100.0)


def test_at_the_target_every_second_run_reaches_it():
    assert expected(*[94.0] * 4) == pytest.approx(200.0)


def test_one_run_in_three_costs_three_runs():
    below = 0.4307273 * 0.3  # the normal distribution's quantile of one third
    assert expected(*[94 - below] * 10_000) == pytest.approx(300.0, rel=1e-3)


def test_a_single_lucky_trial_is_worth_less_than_many_of_its_mean():
    assert expected(94.3) > expected(94.3, 94.3, 94.3) > expected(*[94.3] * 100)


def test_few_held_out_images_are_worth_less_than_many():
    assert expected(94.3, images=1000) > expected(94.3, images=5000)


def test_a_slow_sure_schedule_and_a_fast_one_that_misses():
    assert expected(94.6, seconds=150.0) < expected(93.7, seconds=100.0)


def test_hopeless_choices_are_still_in_order():
    assert log_expected_seconds(Evidence(1.0, (10.0,), 5000), 94, 0.3) > log_expected_seconds(
        Evidence(1.0, (50.0,), 5000), 94, 0.3
    )


def test_the_deviation_comes_from_repeats_once_there_are_five_runs():
    assert seed_deviation([[94.0], [93.0, 95.0]]) == SEED_SD
    assert seed_deviation([[94.0, 96.0, 95.0], [93.0, 95.0, 94.0]]) == pytest.approx(1.0)
