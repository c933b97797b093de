"""Validation counts every picture exactly once, however many ranks and however uneven their shares (the grid of
Composer's test_eval_with_nondivisible_dataset, with exact counts), and a run of three ranks."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from rank_processes import trained, world
from tiny_run import events, flags, train
from torch import nn
from tree_runs import PHASE, make_tree, tree_loader

from data_prep import load_manifest
from dawn.runlog.evaluations import read_evaluations
from dawn.runlog.records import Validation
from phases import DataPhase, Schedule
from training.__main__ import main
from training.config.config import Config
from training.data.loader import open_loader
from training.distributed.env import Env
from training.distributed.group import open_group
from training.distributed.launcher import ranks
from training.engine.evaluate import evaluate
from training.engine.near_ties import Referee
from training.engine.precision import Precision

SIZES, BATCHES = range(12, 17), (1, 2, 3, 4, 6)
FP32 = Precision("fp32", "cpu")
MEMORY = "[{'ep': 0, 'sz': 12, 'bs': 1}, {'ep': (0, 1), 'lr': 0.1}]"
Found = dict[tuple, tuple[tuple, int]]


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def some_ranks(request):
    """One rank is this process."""
    with world(request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def three():
    with world(3) as opened:
        yield opened


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """26 validation pictures, 10 of them odd."""
    return make_tree(tmp_path_factory.mktemp("trees") / "small", train=20, validation=16)


class Brightness(nn.Module):
    """Logits that depend on each picture alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3))
        return torch.cat([means, -means], 1)


class Sure(Brightness):
    """Surer of brighter pictures; another class wins where a shift brings a darker edge."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means, edge = images.mean((2, 3)), images[:, :, 0].mean(2)
        return torch.cat([means, 4 * (means - edge)], 1)


def memory_loader(toy, world_size: int, rank: int, size: int, batch: int):
    """The first `size` validation images of the toy set."""
    config = Config(data=str(toy), phases=MEMORY)
    env = Env(torch.device("cpu"), rank, world_size)
    loader = open_loader(config, Schedule.parse(MEMORY), load_manifest(toy), env, torch.float32)
    loader.set_phase(DataPhase(0, 12, 1, val_sz=12, val_bs=batch))
    loader.validation_data = tuple(part[:size] for part in loader.validation_data)
    loader.validation_images = size
    return loader


def picture_loader(tree, world_size: int, rank: int, size: int, batch: int, **phase):
    """`size` of the tree's validation pictures, odd ones among them."""
    loader = tree_loader(tree, "packed", replace(PHASE, val_sz=16, val_bs=batch, **phase), world_size, rank)
    folder = loader.indices[loader.root]
    rows = np.arange(size) * len(folder["validation"].labels) // size
    folder["validation"] = replace(
        folder["validation"], **{name: values[rows] for name, values in vars(folder["validation"]).items()}
    )
    loader.validation_images = size
    return loader


OPENED = {"memory": memory_loader, "tree": picture_loader}


@functools.cache
def counts_of_grid(kind: str, root, **phase) -> Found:
    """By (images, batch): Counts, and how many of them this rank saw."""
    found, here = {}, ranks()
    with open_group(Config(timeout_minutes=1), here) as group:
        for size in SIZES:
            for batch in BATCHES:
                loader = OPENED[kind](root, here.world_size, here.rank, size, batch, **phase)
                batches = list(loader.validation())
                counts = evaluate(Brightness(), batches, size, FP32, group=group)
                part = evaluate(Sure(), batches, size, FP32, "flip-shift-25", group, referee=Referee(Sure()))
                found[size, batch] = numbers(counts) + numbers(part), sum(len(b.targets) for b in batches)
                loader.close()
    return found


def numbers(seen: Validation) -> tuple[int, ...]:
    return seen.correct1, seen.correct5, seen.images, seen.k5


def check(found: list[Found], alone: Found) -> None:
    """The same counts on all ranks as in one process; shares that add up."""
    for key, (counts, _) in alone.items():
        assert [part[key][0] for part in found] == [counts] * len(found) and counts[2] == key[0]
        assert sum(part[key][1] for part in found) == key[0]


def test_every_image_of_arrays_counts_once(some_ranks, toy):
    check(some_ranks.call(counts_of_grid, "memory", toy), counts_of_grid("memory", toy))


@pytest.mark.parametrize("rect", [{}, {"rect_val": True}], ids=["square", "rectangular"])
def test_every_picture_of_a_tree_counts_once(some_ranks, tree, rect):
    """One process counts the same whatever its batch; ranks that have fewer batches than the others have none last."""
    alone = counts_of_grid("tree", tree, **rect)
    assert all(len({alone[size, batch][0] for batch in BATCHES}) == 1 for size in SIZES)
    check(some_ranks.call(counts_of_grid, "tree", tree, **rect), alone)


def test_a_rank_without_a_single_picture_takes_part(three, toy, tree):
    """One image for three ranks, and one batch that holds all pictures."""
    assert [f[1] for f in three.call(counted_once, "memory", toy, 1, 1)] == [1, 0, 0]
    assert [f[1] for f in three.call(counted_once, "tree", tree, 16, 99)] == [16, 0, 0]


def counted_once(kind: str, root, size: int, batch: int) -> tuple[tuple, int]:
    here = ranks()
    with open_group(Config(timeout_minutes=1), here) as group:
        loader = OPENED[kind](root, here.world_size, here.rank, size, batch)
        batches = list(loader.validation())
        loader.close()
        counts = evaluate(Brightness(), batches, size, FP32, group=group)
        assert counts.images == size and counts.correct5 <= size
        return numbers(counts), sum(len(b.targets) for b in batches)


def test_a_picture_that_is_lost_on_one_rank_is_noticed_on_all(three, toy):
    """Negative control."""
    found = three.attempt(one_lost, toy)
    assert {one.kind for one in found} <= {"AssertionError", "PeerFailed"}  # the later ones end because of the first
    assert all("validation saw 15 images of 16" in one.text for one in found)


def one_lost(toy) -> None:
    here = ranks()
    with open_group(Config(timeout_minutes=1), here) as group:
        batches = list(memory_loader(toy, 3, here.rank, 16, 1).validation())
        evaluate(Brightness(), batches[: 4 if here.rank == 2 else None], 16, FP32, group=group)


@pytest.mark.slow
def test_a_run_of_three_ranks_validates_uneven_shares_and_freezes_its_first_layer(three, toy, tmp_path):
    """60 images in batches of 7: rank 0 has three batches, as the others, the last of 6. The freezing ended the
    warm-up that more than two ranks need."""
    phases = "[{'ep': 0, 'sz': 12, 'bs': 20, 'val_bs': 7}, {'ep': (0, 2), 'lr': (0.1, 0.0)}]"
    more = ("--phases", phases, "--whitening-epochs", "1")
    assert [ended.code for ended in three.call(trained, flags(toy, tmp_path / "run", *more))] == [0, 0, 0]
    assert [epoch["validation"]["images"] for epoch in events(tmp_path / "run")] == [60, 60]
    assert [epoch["global_batch_size"] for epoch in events(tmp_path / "run")] == [60, 60]


def test_a_run_whose_last_rank_has_nothing_to_validate(three, toy, tmp_path, tree):
    """One batch for three ranks, in a tree; every rank leaves the loop of batches alike."""
    phases = "[{'ep': 0, 'sz': 32, 'bs': 2, 'val_bs': 99}, {'ep': (0, 1), 'lr': 0.01}]"
    more = ("--phases", phases, "--shift", "0", "--loader", "packed", "--workers", "1")
    assert [ended.code for ended in three.call(trained, flags(tree, tmp_path / "run", *more))] == [0, 0, 0]
    assert events(tmp_path / "run")[0]["validation"]["images"] == 26


def test_a_finished_run_is_evaluated_by_ranks_as_by_one_process(some_ranks, toy, tmp_path, capsys):
    """And kept once, by rank 0."""
    assert train(toy, tmp_path / "run", "--epochs", "1") == 0
    ways = ["--sizes", "16", "24", "--val-batch", "7", "--csv"]
    arguments = ["evaluate", str(tmp_path / "run"), *ways]
    capsys.readouterr()
    assert main(arguments) == 0
    alone = without_seconds(capsys.readouterr().out)
    ended = some_ranks.call(trained, arguments)
    assert [one.code for one in ended] == [0] * len(ended), ended[0].err
    assert without_seconds(ended[0].out) == alone and len(alone) == 5
    assert not any(one.out for one in ended[1:])
    assert [item.world_size for item in read_evaluations(tmp_path / "run")] == [len(ended)] * 4


def without_seconds(table: str) -> list[list[str]]:
    rows = [line.split(",") for line in table.splitlines()]
    place = rows[0].index("seconds")
    return [row[:place] + row[place + 1 :] for row in rows]
