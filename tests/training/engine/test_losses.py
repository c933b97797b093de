"""The training loss against timm's: hard and soft targets, smoothing, threshold."""

import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from training.config.config import Config
from training.engine.step import training_loss

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
HARD = torch.tensor([4, 0, 2, 2, 1, 3])
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])


def soft(smoothing: float = 0.0, share: float = 0.7) -> torch.Tensor:
    """timm's mixed targets: smoothed before they are mixed. `share`: of an image's own class."""
    return mixup_target(HARD, 5, lam=share, smoothing=smoothing)


def loss(targets: torch.Tensor, **settings) -> torch.Tensor:
    return training_loss(Config(**settings), LOGITS, targets)


@SMOOTHING
def test_cross_entropy_is_timms(smoothing):
    ours = loss(HARD, label_smoothing=smoothing), loss(soft(), label_smoothing=smoothing)
    theirs = LabelSmoothingCrossEntropy(smoothing)(LOGITS, HARD), SoftTargetCrossEntropy()(LOGITS, soft(smoothing))
    assert torch.allclose(torch.stack(ours), torch.stack(theirs), rtol=1e-5)


@SMOOTHING
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5])
def test_binary_cross_entropy_is_timms(smoothing, threshold):
    settings = {"loss": "bce", "label_smoothing": smoothing, "bce_threshold": threshold}
    reference = BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold or None)
    assert torch.allclose(loss(HARD, **settings), reference(LOGITS, HARD), rtol=1e-5)
    assert torch.allclose(loss(soft(), **settings), reference(LOGITS, soft(smoothing)), rtol=1e-5)


def test_the_threshold_makes_mixed_classes_whole_ones_and_drops_those_below_it():
    for share, classes in ((0.7, [HARD, HARD.flip(0)]), (0.9, [HARD]), (0.1, [HARD.flip(0)])):
        whole = torch.zeros(6, 5).scatter_(1, torch.stack(classes, 1), 1.0)
        reference = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, whole)
        assert torch.equal(loss(soft(share=share), loss="bce", bce_threshold=0.2), reference)
