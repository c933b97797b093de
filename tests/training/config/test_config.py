"""Config: its fields are the flags; default < recipe < command line; what the flags do to the schedule."""

import argparse
from dataclasses import MISSING, FrozenInstanceError, fields, replace
from fractions import Fraction

import pytest

from dawn.runlog.records import Validation
from phases import Schedule
from training.config.config import Config, config_hash, differences, percentage, with_values
from training.config.parser import build_parser, config_from
from training.config.recipes.registry import RECIPES, recipe_config, recipe_lines
from training.config.schedule import resolved_schedule
from training.config.validate import RANGES
from training.errors import ConfigError, Outcome
from training.logs.metrics import parse_target

TOY = ["DATA", "--recipe", "toy"]


def fail(text: str):
    raise AssertionError(f"warned: {text}")


def test_every_field_has_a_flag_and_help():
    actions = {action.dest: action for action in build_parser()._actions}
    for item in fields(Config):
        action = actions[item.name]
        assert item.default is not MISSING and action.help
        if item.name != "data":
            assert f"--{item.name.replace('_', '-')}" in action.option_strings
    hidden = {name for name, action in actions.items() if action.help == argparse.SUPPRESS}
    assert hidden == {"inject_fault"}


def test_help_names_every_flag_and_default():
    text = " ".join(build_parser().format_help().split())
    for item in fields(Config):
        if item.name not in ("data", "inject_fault"):
            assert f"--{item.name.replace('_', '-')}" in text
    assert "(default: 0.9)" in text and "--no-tensorboard" in text


def test_every_number_has_a_range():
    numbers = {f.name for f in fields(Config) if f.metadata["kind"] in (int, float)}
    assert {name for name, _, _ in RANGES} == numbers


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_numbers_outside_their_range(name, low, high):
    kind = type(getattr(Config(), name))
    for value in (kind(low), kind(high)):
        assert getattr(Config(loss="bce", **{name: value}), name) == value  # --bce-threshold is refused without it
    for value in (low - 1, high * 2 + 1, float("nan")):
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} "):
            Config(**{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nesterov": True, "optimizer": "lamb"}, "--nesterov: --optimizer lamb has none"),
        ({"nesterov": True, "momentum": 0.0}, "--nesterov: --momentum is 0"),
        ({"trust_clip": True}, "--trust-clip: --optimizer sgd has none"),
        ({"optimizer": "lars", "weight_decay": 0.0}, "--weight-decay 0: lars adapts only"),
        ({"bce_threshold": 0.2}, "--bce-threshold 0.2: --loss ce has none"),
        ({"accumulate": 2, "compile": True, "compile_mode": "reduce-overhead"}, "--accumulate 2: CUDA graphs lose"),
        ({"mixup": 0.001}, "--mixup 0.001: must be 0"),
        ({"cutmix": 0.001}, "--cutmix 0.001: must be 0"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config(**settings)


def test_precedence_default_recipe_command_line():
    assert config_from(["DATA", "--phases", "toy"]).momentum == Config().momentum == 0.9
    assert config_from(TOY).momentum == recipe_config("toy").momentum == 0.85
    assert config_from([*TOY, "--momentum", "0.9"]).momentum == 0.9  # a default given on purpose counts
    assert config_from([*TOY, "--no-nesterov", "--target", ""]).nesterov is False
    assert config_from([*TOY, "--phases", "cifar10-94"]).phases == "cifar10-94"


def test_short_flags_of_2018():
    config = config_from([*TOY, "-p", "5", "--wd", "0.1", "-e"])
    assert (config.print_freq, config.weight_decay, config.evaluate) == (5, 0.1, True)


def test_config_is_frozen_and_hashable_by_content():
    config = Config()
    with pytest.raises(FrozenInstanceError):
        config.seed = 1
    hashes = [config_hash(c.training_fields([])) for c in (config, Config(), replace(config, seed=1))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_machine_settings_are_not_part_of_the_experiment():
    moved = replace(Config(), data="elsewhere", logdir="x", threads=3, print_freq=1, tensorboard=False)
    assert config_hash(moved.training_fields([])) == config_hash(Config().training_fields([]))


def test_differences_name_both_values():
    assert differences({"seed": 0, "flip": "none"}, {"seed": 1, "flip": "none"}) == ["seed: 0 in the checkpoint, 1 now"]


def test_with_values_refuses_names_that_are_no_field():
    assert with_values(Config(), {"seed": 4}).seed == 4
    with pytest.raises(ConfigError, match="'sede'"):
        with_values(Config(), {"sede": 4})


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_whole_configs(name):
    config = recipe_config(name)
    assert config.recipe == name and config.target
    assert Schedule.parse(config.phases).total_epochs > 0
    assert config_from(["DATA", "--recipe", name]) == replace(config, data="DATA")


def test_recipe_lines_are_one_line_each_with_a_sentence():
    lines = recipe_lines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert all(line.endswith(".") and "\n" not in line for line in lines)


@pytest.mark.parametrize("text", ["94", "93.5", "100", "0.1", "94.000000001"])
def test_targets_are_exact(text):
    assert percentage(text) == Fraction(text)


def test_no_target():
    assert percentage("") is None


@pytest.mark.parametrize(
    "text", ["0", "101", "abc", "-1", "1/2", "nan", "inf", "1e1", " 94", "94\n", "9" * 5000, "1e999999999", "٩٤"]
)
def test_targets_that_are_no_percentage(text):
    with pytest.raises(ConfigError, match="must be a percentage above 0 and up to 100"):
        Config(target=text)


@pytest.mark.parametrize(
    ("target", "correct", "images", "reached"),
    [("94", 9400, 10_000, True), ("94", 9399, 10_000, False), ("90", 54, 60, True), ("33.3", 333, 1000, True),
     ("33.3", 332, 1000, False), ("93.98", 46990, 50_000, True), ("100", 59, 60, False)],
)  # fmt: skip
def test_the_target_is_compared_on_integers(target, correct, images, reached):
    exact, facts = parse_target(Config(target=target)).percent, (images, 16, "model", "none", 5)
    for percent in (exact, float(target)):  # as the trainer has it, and as a report reads it in the log
        assert Validation(correct, images, *facts).reaches("top1", percent) is reached
        assert Validation(images, correct, *facts).reaches("top5", percent) is reached
    assert not Validation(images, images, *facts).reaches("top1", None)


def test_outcome_of_a_schedule_that_ended():
    assert parse_target(Config()).outcome(-1) is Outcome.FINISHED
    assert parse_target(Config(target="94")).outcome(-1) is Outcome.FINISHED_WITHOUT_TARGET
    assert parse_target(Config(target="94")).outcome(0) is Outcome.TARGET_REACHED


def test_exit_codes_are_distinct_but_for_success():
    codes = [outcome.exit_code for outcome in Outcome if outcome is not Outcome.FINISHED]
    assert len(set(codes)) == len(codes) and 2 not in codes and Outcome.FINISHED.exit_code == 0


def test_epochs_compresses_the_schedule():
    full, half = (resolved_schedule(config_from([*TOY, "--epochs", e]), 1, fail) for e in ("0", "3"))
    assert (full.total_epochs, half.total_epochs) == (6, 3)
    assert half.lr_at(1.5) == pytest.approx(full.lr_at(3.0))
    assert half.data_at(2).sz == full.data_at(5).sz


def test_batch_size_scales_every_phase_and_warns_once():
    warnings = []
    schedule = resolved_schedule(config_from([*TOY, "--batch-size", "30"]), 1, warnings.append)
    assert {phase.bs for phase in schedule.data} == {30}
    assert len(warnings) == 1 and "\n" not in warnings[0] and "60" in warnings[0] and "30" in warnings[0]


def test_scale_lr_follows_the_global_batch():
    plain = resolved_schedule(config_from(TOY), 1, fail)
    doubled = resolved_schedule(config_from([*TOY, "--scale-lr", "--batch-size", "120"]), 1, fail)
    spread = resolved_schedule(config_from([*TOY, "--scale-lr"]), 4, fail)
    assert doubled.lr_at(2.5) == pytest.approx(2 * plain.lr_at(2.5))
    assert spread.lr_at(2.5) == pytest.approx(4 * plain.lr_at(2.5))


def test_another_world_size_warns():
    warnings = []
    resolved_schedule(config_from(TOY), 8, warnings.append)
    assert len(warnings) == 1 and "8 devices" in warnings[0] and "--scale-lr" in warnings[0]


def test_a_schedule_without_quotes_around_it_is_told():
    split = ["data", "--phases", "[{ep:", "0,", "sz:", "32}]"]
    with pytest.raises(ConfigError, match=r"pieces of a schedule.*double quotes outside and single ones inside"):
        config_from(split)
