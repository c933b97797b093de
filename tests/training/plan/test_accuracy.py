"""What a plan says of the accuracy at the end, and when it says nothing."""

import json
from dataclasses import replace

import pytest

from phases import Schedule, load_preset
from training.config.recipes.registry import recipe_config
from training.config.schedule import resolved_schedule
from training.plan.accuracy import MEASURED, accuracy_of


def told(recipe, dataset="cifar10", processes=1, **changes):
    config = replace(recipe_config(recipe), **changes)
    return accuracy_of(config, resolved_schedule(config, 1, lambda text: None), dataset, processes)


@pytest.mark.parametrize(("recipe", "low", "high"), [("cifar10-demo", 85.6, 86.8), ("cifar10-94", 93.9, 94.3)])
def test_a_measured_recipe_has_the_interval_of_one_more_run(recipe, low, high):
    found = told(recipe)
    assert found.percent == MEASURED[recipe].mean and "docs/benchmarks.md" in found.source
    assert (round(found.low, 1), round(found.high, 1)) == (low, high)


def test_another_seed_is_the_same_recipe():
    assert told("cifar10-94", seed=7) == told("cifar10-94")


def test_what_changes_nothing_that_is_learned_keeps_the_number():
    """The very command of docs/benchmarks.md had none."""
    free = {"eval_from": 4, "target": "88", "stop_at_target": True, "device": "cpu", "compile": True}
    changed = told("imagenette-5", "imagenette", **free, loader="dali", precision="bf16")
    assert changed == told("imagenette-5", "imagenette") and changed.percent == 88.0


@pytest.mark.parametrize("change", [{"precision": "fp32"}, {"loader": "synthetic"}, {"loader": "/x/mine.py:loader"}])
def test_another_precision_or_other_images_have_no_number(change):
    assert told("cifar10-94", **change) is None


@pytest.mark.parametrize("change", [{"label_smoothing": 0.0}, {"holdout": 0.1}, {"width": 0.5}, {"batch_size": 500}])
def test_another_experiment_has_no_number(change):
    assert told("cifar10-94", **change) is None


def test_another_dataset_more_processes_or_a_recipe_without_runs_has_no_number():
    assert told("cifar10-demo", dataset="toy") is None
    assert told("cifar10-demo", processes=8) is None
    assert told("toy", dataset="toy") is None


def test_an_epoch_less_costs_what_the_study_says():
    whole, less = told("cifar10-94"), told("cifar10-94", epochs=13)
    assert whole.percent - less.percent == pytest.approx(0.27)
    assert less.high - less.low == pytest.approx(whole.high - whole.low + 0.06)
    assert "Fulcrum" in less.source and told("cifar10-94", epochs=11) is None


def test_a_start_at_28_px_gains_what_24_px_cost():
    phases = [phase for phase in load_preset("cifar10-94")["phases"] if phase.get("sz") != 24]
    larger = json.dumps([phases[0] | {"ep": 0}, *phases[1:]])
    assert told("cifar10-94", phases=larger).percent == pytest.approx(94.13 + 0.12)
    assert told("cifar10-94", phases=larger.replace("28", "20")) is None


def test_the_slope_is_for_the_recipe_near_its_target_alone():
    assert told("cifar10-demo", epochs=3) is None
    assert Schedule.parse("cifar10-94").total_epochs == 14
