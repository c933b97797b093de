"""Images near a tie are decided in float64, so that rounding decides nothing."""

import torch
from torch import nn

from training.data.loader import Batch
from training.engine.evaluate import evaluate
from training.engine.near_ties import MARGIN, Referee, near_ties
from training.engine.precision import Precision
from training.logs.metrics import correct_counts

FP32 = Precision("fp32", "cpu")


class Close(nn.Module):
    """Two logits that differ by a billionth of themselves, which float32 does not see; the second is the larger. The
    left column of pixels makes class 2 the winner by far."""

    def forward(self, images):
        level, left = images.mean((1, 2, 3)), images[..., 0].mean((1, 2))
        return torch.stack([level, level * (1 + 1e-9), 100 * left], 1)


def images(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(rows)[:, None, None, :].expand(-1, 3, 1, -1).contiguous()


def test_an_image_that_float32_cannot_tell_apart_is_decided_in_float64():
    batch = Batch(images((0.0, 2.0), (3.0, 0.0)), torch.tensor([1, 2]))
    assert evaluate(Close(), [batch], 2, FP32).correct1 == 1
    referee = Referee(Close())
    assert evaluate(Close(), [batch], 2, FP32, referee=referee).correct1 == 2
    assert referee.settled == 1  # the other is no tie


def test_mirror_images_are_added_in_float64_too():
    batch, referee = Batch(images((0.0, 2.0)), torch.tensor([2])), Referee(Close())
    assert evaluate(Close(), [batch], 1, FP32, "flip", referee=referee).correct1 == 1
    batch = Batch(images((0.0, 0.0)), torch.tensor([0]))
    assert evaluate(Close(), [batch], 1, FP32, "flip", referee=referee).correct1 == 1 and referee.settled == 1


def test_no_error_within_the_margin_changes_what_is_not_near_a_tie():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1000, 30, generator=generator, dtype=torch.float64)
    logits[:, 10:] = logits[:, :20] * (1 + 1e-5 * torch.randn(1000, 20, generator=generator, dtype=torch.float64))
    targets = torch.randint(0, 30, (1000,), generator=generator)
    near = near_ties(logits, targets, (1, 5))
    assert 0 < near.sum() < 1000
    kept, error = ~near, 0.49 * MARGIN * logits.abs().amax(1, keepdim=True)
    for _ in range(5):
        moved = logits + error * (2 * torch.rand(logits.shape, generator=generator, dtype=torch.float64) - 1)
        for row in range(0, 1000, 40):
            part = slice(row, row + 40)
            chosen = kept[part]
            before, after = (correct_counts(x[part][chosen], targets[part][chosen], 5) for x in (logits, moved))
            assert torch.equal(before, after)


def test_of_equal_logits_the_lower_class_comes_first():
    logits = torch.zeros(3, 7)
    assert correct_counts(logits, torch.tensor([0, 4, 5]), 5).tolist() == [1, 2]


def test_an_image_with_a_nan_is_never_correct():
    logits = torch.full((3, 6), float("nan"))
    logits[1] = torch.arange(6.0)
    logits[2, :] = torch.tensor([float("nan"), 0, 0, 0, 0, 9.0])
    assert correct_counts(logits, torch.tensor([0, 5, 5]), 5).tolist() == [1, 2]
