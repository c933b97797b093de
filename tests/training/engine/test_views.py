"""Test-time augmentation beside plain torch code, and the same counts for every batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training.config.config import TTA as NAMES
from training.data.loader import Batch
from training.engine.evaluate import VIEWS, evaluate, predict
from training.engine.near_ties import Referee
from training.engine.precision import Precision
from training.engine.views import TTA
from training.models.cifarnet import CifarNet

FP32 = Precision("fp32", "cpu")
CLASSES = 10


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def targets(count: int) -> torch.Tensor:
    return torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(3)
    return CifarNet(CLASSES, 0.125).eval()


def cut(batch: int, count: int) -> list[Batch]:
    every, labels, rows = images(count), targets(count), torch.arange(count)
    parts = [slice(begin, begin + batch) for begin in range(0, count, batch)]
    return [Batch(every[part], labels[part], rows[part]) for part in parts]


def mirrored(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return 0.5 * model(x) + 0.5 * model(x.flip(3))


@torch.no_grad()
def six_views(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean logits of the image and its mirror image, and of the same of the two shifted copies: as airbench94 says."""
    padded, size = F.pad(x, (1, 1, 1, 1), "reflect"), x.shape[-1]
    copies = padded[:, :, :size, :size], padded[:, :, 2:, 2:]
    return mirrored(model, x), torch.stack([mirrored(model, copy) for copy in copies]).mean(0)


def test_the_flag_names_every_way():
    assert tuple(TTA) == NAMES
    assert VIEWS == {"none": 1, "flip": 2, "flip-shift": 6, "flip-shift-25": 2.25}
    assert all(sum(view.weight for view in ways.views) == pytest.approx(1) for ways in TTA.values())


def test_flip_shift_is_airbench94s_second_level(model):
    straight, shifted = six_views(model, images(20))
    expected = 0.5 * straight + 0.5 * shifted
    with torch.no_grad():
        torch.testing.assert_close(predict(model, images(20), FP32, "flip-shift"), expected)


@pytest.mark.parametrize("batch", [1, 7, 101])
@pytest.mark.parametrize("referee", [False, True], ids=["rounding", "referee"])
def test_only_the_least_sure_quarter_gets_all_views(model, batch, referee):
    """The mean of six views for 26 of 101 images, of the others the logits of the image alone."""
    with torch.no_grad():
        logits = model(images(101))
        least = logits.softmax(1).amax(1).argsort()[:26]
        straight, shifted = six_views(model, images(101)[least])
    logits[least] = straight / 3 + shifted * 2 / 3
    kept = Kept()
    judge = Referee(model) if referee else None
    seen = evaluate(model, cut(batch, 101), 101, FP32, "flip-shift-25", meters=[kept], referee=judge)
    order = torch.cat(kept.rows)
    assert sorted(order.tolist()) == list(range(101))
    torch.testing.assert_close(torch.cat(kept.logits).float(), logits[order])
    assert seen.correct1 == int((logits.argmax(1) == targets(101)).sum()) and seen.tta == "flip-shift-25"


class Kept:
    def __init__(self) -> None:
        self.rows, self.logits = [], []

    def update(self, batch: Batch, logits: torch.Tensor) -> None:
        self.rows.append(batch.rows)
        self.logits.append(logits)


class Level(nn.Module):
    """Surer of brighter images; of the shifted copies it says another class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level, edge = x[:, 0, 1, 1].abs(), x[:, 0, 0, 0]
        return torch.stack([level, 8 * (edge - x[:, 0, 1, 1])], 1)


def levels(values: torch.Tensor) -> torch.Tensor:
    x = values[:, None, None, None].repeat(1, 3, 4, 4)
    x[:, :, 2:, :], x[:, :, :, 2:] = 0, 0
    return x.float()


def test_of_images_that_are_equally_sure_all_or_none_get_all_views():
    """Eight equal images, a quarter of which is wanted: the batches cannot decide which two."""
    same = [Batch(levels(torch.full((size,), 2.0)), torch.zeros(size, dtype=torch.int64)) for size in (3, 5)]
    kept = Kept()
    evaluate(Level(), same, 8, FP32, "flip-shift-25", meters=[kept])
    assert len(torch.cat(kept.logits).unique(dim=0)) == 1


def test_an_image_that_float32_finds_as_sure_as_its_neighbour_is_chosen_in_float64():
    """Of four images one is wanted; the two least sure differ by less than float32 can tell."""

    class Wide(nn.Module):
        def forward(self, x):
            return torch.stack([1 + x[:, 0, 0, 0] * 1e-9, torch.zeros(len(x), dtype=x.dtype)], 1)

    x = torch.tensor([2.0, 1.0, 1e9, 1e9])[:, None, None, None].repeat(1, 3, 4, 4)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        rows = torch.tensor(order)
        judge, kept = Referee(Wide()), Kept()
        batch = Batch(x[rows], torch.zeros(4, dtype=torch.int64), rows)
        evaluate(Wide(), [batch], 4, FP32, "flip-shift-25", meters=[kept], referee=judge)
        assert [1] in [part.tolist() for part in kept.rows] and judge.settled == 2


def test_a_nan_is_never_among_the_least_sure():
    class Broken(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0, 0, 0], -x[:, 0, 0, 0]], 1)

    x = torch.tensor([float("nan"), 1.0, 2.0, 3.0])[:, None, None, None].repeat(1, 3, 4, 4)
    seen = evaluate(Broken(), [Batch(x, torch.zeros(4, dtype=torch.int64))], 4, FP32, "flip-shift-25")
    assert (seen.correct1, seen.images) == (3, 4)
