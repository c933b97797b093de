"""Every recipe really trains: two short epochs of the toy tree through DALI and packed files, 20 steps on two ranks.

The model is a tiny one (with --tree its own), the images and batches small, the average of the weights as frequent as
so few steps ask for; everything else is the recipe's own.
"""

import pytest
from rank_processes import trained, world
from tiny_run import events

from data_prep.sources.toy import prepare_toy
from data_prep.trees.pack import pack_tree
from phases import Schedule
from training.__main__ import main
from training.config.recipes.registry import RECIPES, recipe_config

COPIES = (160, 320, 352)  # what the schedules read smaller images from
SMALL = ["--epochs", "2", "--size-factor", "0.25", "--scale-lr", "--target", "100", "--width", "0.125"]
QUIET = ["--no-tensorboard", "--no-chart", "--threads", "1", "--workers", "1", "--device", "cpu", "--precision", "fp32"]
QUICK = ("torchvision-v2",)  # not slow: it has nearly every part


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A toy dataset of 240 images that is its own smaller copies too."""
    root = prepared(tmp_path_factory.mktemp("recipes") / "tree")
    for size in COPIES:
        (root.parent / "tree-sz").mkdir(exist_ok=True)
        (root.parent / "tree-sz" / str(size)).symlink_to(root)
    return root


def prepared(root):
    prepare_toy(root, images=240)
    pack_tree(root)
    return root


def arguments(name: str, tree, folder, loader: str, batch: int, model: str = "timm/test_resnet") -> list[str]:
    """A recipe on image trees: what only the loader of small arrays has is left out. `model`: instead of ResNets."""
    config = recipe_config(name)
    model = [] if config.model == "cifarnet" else ["--model", model or config.model]
    arrays = ["--shift", "0", "--cutout", "0"] + (["--flip", "random"] if config.flip == "alternating" else [])
    average = ["--ema-every", "4"] if config.ema_decay else []
    given = ["--recipe", name, "--loader", loader, "--batch-size", str(batch), "--logdir", str(folder)]
    return [str(tree), *given, *model, *arrays, *average, *SMALL, *QUIET]


def marked(names):
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["dali", "packed"])
@pytest.mark.parametrize("name", marked(RECIPES))
def test_two_short_epochs_through_the_loaders_of_image_trees(name, loader, tree, tmp_path):
    code = main([*arguments(name, tree, tmp_path / "run", loader, 20), "--short-epoch"])
    assert code == 3  # ran to its end, short of 100 %
    rows = events(tmp_path / "run")
    assert len(rows) == 2 and all(row["validation"]["images"] == 60 for row in rows if row["validation"])
    assert rows[-1]["validation"] and all(0 < row["train_loss"] < 1000 for row in rows)
    assert events(tmp_path / "run", "start")[0]["loader"] == loader


@pytest.fixture(scope="module")
def two_ranks():
    with world(2) as pair:
        yield pair


def first_batch(name: str) -> int:
    """So that no phase has more than 12 images a step and rank."""
    schedule = Schedule.parse(name)
    return int(12 * schedule.data[0].bs / max(phase.bs for phase in schedule.compressed(2).data))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_twenty_steps_on_two_ranks(name, tree, tmp_path, two_ranks):
    ends = two_ranks.call(trained, arguments(name, tree, tmp_path / "run", "packed", first_batch(name)))
    assert [end.code for end in ends] == [3, 3], ends[0].err
    rows = events(tmp_path / "run")
    assert all(0 < row["train_loss"] < 1000 for row in rows)
    assert sum(row["images"] // row["global_batch_size"] for row in rows) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_twenty_steps_of_its_own_network_on_real_images(name, request, tmp_path, two_ranks):
    """pytest -m slow tests/end_to_end/test_recipes_runs.py -k own_network --tree data/imagenette"""
    if not (tree := request.config.getoption("--tree")):
        pytest.skip("needs --tree: a folder of real images")
    given = arguments(name, tree, tmp_path / "run", "threads", first_batch(name), model="")
    ends = two_ranks.call(trained, [*given, "--short-epoch", "--eval-every", "2"])
    assert [end.code for end in ends] == [3, 3], ends[0].err
    rows = events(tmp_path / "run")
    assert sum(row["images"] // row["global_batch_size"] for row in rows) == 22
    assert all(0 < row["train_loss"] < 1000 for row in rows) and rows[-1]["validation"]
