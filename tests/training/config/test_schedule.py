"""Settings that are allowed but probably a mistake: each is warned about once, in one line, and nothing else is."""

import pytest

from training.config.config import with_values
from training.config.recipes.registry import RECIPES, recipe_config
from training.config.schedule import resolved_schedule


def told(name: str, world_size: int = 0, **settings) -> list[str]:
    """The warnings of a recipe with changes, on as many devices as its source had unless told."""
    lines: list[str] = []
    config = with_values(recipe_config(name), {"data": "/nowhere", "scale_lr": True, **settings})
    resolved_schedule(config, world_size or 8, lines.append)
    return lines


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_as_it_is_has_nothing_to_be_told(name):
    assert told(name) == []


def test_what_counts_epochs_and_comes_too_late():
    (line,) = told("imagenette-80", epochs=20)
    assert line.startswith("--mix-off-epoch 72 (of --recipe imagenette-80): the schedule has 20 epochs")
    (line,) = told("cifar10-94", epochs=10)
    assert line.startswith("--eval-from 13 (of --recipe cifar10-94): of the schedule's 10 epochs only the last")
    assert told("imagenette-80", epochs=20, mix_off_epoch=18) == told("cifar10-94", epochs=10, eval_from=9) == []
    assert told("imagenette-80", epochs=20, mixup=0.0) == []


def test_copies_of_an_image_that_are_mixed_with_each_other():
    (line,) = told("torchvision-v2", 2)
    assert "--repeated-augmentation 4 (of --recipe torchvision-v2): with fewer devices than that (2)" in line
    assert told("torchvision-v2", 4) == told("torchvision-v2", 1, mixup=0.0, cutmix=0.0) == []
