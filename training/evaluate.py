"""Validation: every image exactly once, integer counts."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.device import Precision
from training.group import Group
from training.loaders import Batch


class Counts(NamedTuple):
    correct1: int
    correct5: int  # among the min(5, classes) largest logits
    images: int
    k5: int

    def percent(self, metric: str) -> float:
        return 100 * (self.correct1 if metric == "top1" else self.correct5) / self.images


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    images: int,
    precision: Precision,
    tta: str = "none",
    group: Group | None = None,
) -> Counts:
    """Count correct predictions over the `batches` of all ranks, in eager mode; the model's mode is put back.

    `tta` flip: the logits of each image and of its mirror image are added. `images`: of all ranks together. All ranks
    evaluate rank 0's batch norm statistics, those that are saved.
    """
    group, k5 = group or Group(), 5
    group.spread(list(model.buffers()))
    was_training = model.training
    model.eval()
    try:
        sums, seen = torch.zeros(2, dtype=torch.int64), 0
        for batch in batches:
            logits = predict(model, batch.images, precision, tta)
            k5 = min(5, logits.shape[1])
            sums = sums.to(logits.device) + correct_counts(logits, batch.targets, k5)
            seen += len(batch.targets)
    finally:
        model.train(was_training)
    correct1, correct5, seen = group.sum(torch.tensor([*sums.tolist(), seen])).tolist()
    assert seen == images, f"validation saw {seen} images of {images}"
    return Counts(correct1, correct5, seen, k5)


def predict(model: nn.Module, images: Tensor, precision: Precision, tta: str) -> Tensor:
    """Logits (B, classes) float32."""
    with precision.autocast():
        logits = model(images).float()
        return logits + model(images.flip(-1)).float() if tta == "flip" else logits


def correct_counts(logits: Tensor, targets: Tensor, k5: int) -> Tensor:
    """(2,) int64: how many targets are the largest, and among the k5 largest, logits."""
    hits = logits.topk(k5, dim=1).indices == targets[:, None]
    return torch.stack([hits[:, 0].sum(), hits.sum()])
