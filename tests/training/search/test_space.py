"""The space of a search: the start is in it, every choice is a schedule, a bad file is one line."""

import json
import random
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution

from phases import Schedule
from training.config.config import with_values
from training.config.recipes.registry import recipe_config
from training.errors import ConfigError
from training.search.first import first_choices
from training.search.space import choices_of, flags_of, moved, phases_of, settings_of, space_of, start_of


@pytest.mark.parametrize(
    "name",
    [
        "toy",
        "cifar10-demo",
        "cifar10-94",
        "cifar10-94-fulcrum",
        "imagenette-5",
        "imagenet18-8",
        "alibaba-1",
        "torchvision-v1",
        "cosine-restarts",
    ],
)
def test_the_starts_own_choices_are_its_schedule(name):
    start = start_of(recipe_config(name))
    again = Schedule.parse(phases_of(start, choices_of(start)))
    data = tuple(replace(phase, keep_dl=False) for phase in start.schedule.data)
    assert (again.data, again.total_epochs) == (data, start.schedule.total_epochs)
    assert again.momentum == start.schedule.momentum and len(again.lr) == len(start.schedule.lr)
    assert moved(start, start.schedule.total_epochs) == {}
    for mine, its in zip(again.lr, start.schedule.lr, strict=True):
        assert replace(mine, first=0, last=0) == replace(its, first=0, last=0)
        assert (mine.first, mine.last) == pytest.approx((its.first, its.last))


@pytest.mark.parametrize("name", ["cifar10-94", "cifar10-94-fulcrum", "imagenette-5"])
def test_every_choice_is_a_schedule_with_its_epochs_peak_and_validation_size(name):
    start, draw = start_of(recipe_config(name)), random.Random(0)
    space = space_of(start, name == "imagenette-5", "")
    for _ in range(50):
        chosen = choices_of(start) | {key: drawn(found, draw) for key, found in space.distributions.items()}
        made = Schedule.parse(phases_of(start, chosen))
        assert made.total_epochs == pytest.approx(chosen["epochs"]) and made.data[0].epoch == 0
        assert max(ramp.first for ramp in made.lr) == pytest.approx(chosen["lr"])
        assert {phase.val_sz for phase in made.data} <= {phase.val_sz for phase in start.schedule.data}
        last = made.lr[-1]
        assert last.last <= last.first * (1 + 1e-9)  # the tail of Fulcrum's recipe rose


def test_no_end_of_a_space_file_makes_a_constant_tail_rise():
    start = start_of(recipe_config("cifar10-94-fulcrum"))
    *_, tail = Schedule.parse(phases_of(start, choices_of(start) | {"lr": 0.3, "lr_end": 0.2})).lr
    assert tail.first == pytest.approx(0.05 * 0.3) and tail.last == pytest.approx(tail.first)


def test_neighbours_of_a_recipe_with_a_tail_of_lookahead_keep_it():
    """It began after the end of a run that was 0.85 times as long."""
    start = start_of(recipe_config("cifar10-94-fulcrum"))
    first = first_choices(choices_of(start), space_of(start, False, ""))
    assert len({made["epochs"] for made in first}) == 4
    for made in first:
        schedule = Schedule.parse(phases_of(start, made))
        config = with_values(start.config, settings_of(start, made))
        assert config.lookahead_from == pytest.approx(8.25 / 8.875 * schedule.total_epochs, abs=1e-5)
        assert config.lookahead_from > schedule.lr[-1].start and config.eval_from == schedule.epochs - 1
        assert config.whitening_epochs == pytest.approx(0.2 / 8.875 * schedule.total_epochs, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "epochs", "found"),
    [
        ("cifar10-94", 9.8, {"eval_from": 9, "whitening_epochs": 2}),
        ("cifar10-94", 17.5, {"eval_from": 17, "whitening_epochs": 4}),
        ("cifar10-94", 1, {"eval_from": 0, "whitening_epochs": 1}),
        ("imagenette-80", 40, {"mix_off_epoch": 36}),
        ("imagenette-80", 0.5, {"mix_off_epoch": 1}),  # 0 would mix to the end
        ("imagenette-5", 2.5, {}),
    ],
)
def test_settings_that_name_an_epoch_move_with_the_length(name, epochs, found):
    start = start_of(recipe_config(name))
    assert moved(start, epochs) == found
    words = flags_of(start, choices_of(start) | {"epochs": epochs})
    told = dict(zip(words[::2], words[1::2], strict=True))
    assert all(told[f"--{flag.replace('_', '-')}"] == f"{value}" for flag, value in found.items())


def drawn(found, draw):
    if isinstance(found, CategoricalDistribution):
        return draw.choice(found.choices)
    if found.step:
        return found.low + found.step * draw.randrange(round((found.high - found.low) / found.step) + 1)
    return draw.uniform(found.low, found.high)


def test_a_file_changes_ranges_and_fixes_values(tmp_path):
    path = tmp_path / "space.json"
    path.write_text(json.dumps({"lr": {"low": 0.1, "high": 0.3}, "size_1": {"choices": [16, 20]}, "tta": "none"}))
    space = space_of(start_of(recipe_config("cifar10-demo")), False, str(path))
    assert space.fixed == {"tta": "none"} and "tta" not in space.distributions
    assert space.distributions["lr"].high == 0.3 and space.distributions["size_1"].choices == (16, 20)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must be an object"),
        ('{"lrr": 1}', "unknown key 'lrr'. Known: epochs, "),
        ('{"lr": {"low": 0.3, "high": 0.3}}', "'lr': an empty range from 0.3 to 0.3"),
        ('{"lr": {"low": 0.3, "high": 0.1}}', "'lr': "),
        ('{"lr": {"low": 0.3}}', "write low and high"),
        ('{"size_1": {"choices": []}}', "'size_1': "),
        ('{"tta": {"low": 0.0, "high": 1.0}}', "'tta': 0.0 must be a text"),
        ('{"lr": {"choices": ["high"]}}', "'lr': 'high' must be a number"),
        ('{"momentum": "flip"}', "'momentum': 'flip' must be a number"),
        ('{"epochs": NaN}', "'epochs': nan must be a finite number"),
        ('{"lr": {"low": 0.1, "high": 1e999}}', "'lr': inf must be a finite number"),
        ('{"lr": null}', "None is no number, text or range"),
        ('{"lr": {"choices": [0.1, null]}}', "'lr': None must be a number"),
        ('{"tta": {"choices": ["flip", null]}}', "'tta': None must be a text"),
        ('{"lr": {"choices": [true, 0.1]}}', "'lr': True must be a number"),
        ('{"lr": {"low": null, "high": 0.1}}', "'lr': None must be a number"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, text, found):
    path = tmp_path / "space.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"^--space ") as error:
        space_of(start_of(recipe_config("cifar10-demo")), False, str(path))
    assert found in str(error.value) and "\n" not in str(error.value)
