"""Validation: every image exactly once, integer counts."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dawn.runlog.records import Validation
from training.data.loader import Batch
from training.distributed.group import Group
from training.engine.near_ties import Referee
from training.engine.precision import Precision, untuned_kernels
from training.logs.metrics import Meter, correct_counts
from training.models.outputs import logits_of

VIEWS = {"none": 1, "flip": 2}  # of an image, whose logits --tta adds up


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    images: int,
    precision: Precision,
    tta: str = "none",
    group: Group | None = None,
    meters: Sequence[Meter] = (),
    size: int = 0,
    weights: str = "model",
    referee: Referee | None = None,
) -> Validation:
    """Count correct predictions over the `batches` of all ranks, in eager mode; the model's mode is put back.

    `tta` flip: the logits of each image and of its mirror image are added. `images`: of all ranks together. All ranks
    evaluate rank 0's batch norm statistics, those that are saved. `size` (pixels) and `weights` (model | ema) are only
    passed on, to say what was counted. `referee` decides the images near a tie; without one rounding does.
    """
    group, k5 = group or Group(), 5
    # Each rank trains with batch norm statistics of its own. In 2018 each counted with them, too, and the sum was the
    # accuracy of no single model (mmdetection#4582).
    group.spread(list(model.buffers()))
    was_training = model.training
    model.eval()
    try:
        sums, seen = torch.zeros(2, dtype=torch.int64), 0
        for batch in batches:
            logits = predict(model, batch.images, precision, tta)
            k5 = min(5, logits.shape[1])
            if referee:
                logits = referee.logits(logits, batch.images, batch.targets, k5, tta)
            sums = sums.to(logits.device) + correct_counts(logits, batch.targets, k5)
            seen += len(batch.targets)
            for meter in meters:
                meter.update(batch, logits)
    finally:
        model.train(was_training)
    correct1, correct5, seen = group.sum(torch.tensor([*sums.tolist(), seen])).tolist()
    assert seen == images, f"validation saw {seen} images of {images}"
    return Validation(correct1, correct5, seen, size, weights, tta, k5)


@untuned_kernels()
def predict(model: nn.Module, images: Tensor, precision: Precision, tta: str) -> Tensor:
    """Logits (B, classes) float32."""
    with precision.autocast():
        logits = logits_of(model(images)).float()
        return logits + logits_of(model(images.flip(-1))).float() if tta == "flip" else logits
