"""Validation: every image exactly once, integer counts."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from dawn.runlog.records import Validation
from training.data.loader import Batch
from training.distributed.group import Group
from training.engine.near_ties import Referee
from training.engine.precision import Precision, untuned_kernels
from training.engine.unsure import Unsure
from training.engine.views import TTA, View, weighted
from training.logs.metrics import Meter, correct_counts
from training.models.outputs import logits_of

VIEWS = {name: views.mean for name, views in TTA.items()}  # passes through the network for an image, on average
Answer = tuple[Batch, Tensor, Sequence[View]]  # images, their logits (B, classes) float32, the views behind them


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

    `tta`: of TTA, whose views' logits are averaged. `images`: of all ranks together. All ranks evaluate rank 0's batch
    norm statistics, those that are saved. `size` (pixels) and `weights` (model | ema) are only passed on, to say what
    was counted. `referee` decides the images near a tie; without one rounding does. Where only a share of the images
    gets all views, meters see them in other batches than they came in.
    """
    group, k5 = group or Group(), 5
    # Each rank trains with batch norm statistics of its own. In 2018 each counted with them, too, and the sum was the
    # accuracy of no single model (mmdetection#4582).
    group.spread(list(model.buffers()))
    was_training = model.training
    model.eval()
    try:
        sums, seen = torch.zeros(2, dtype=torch.int64), 0
        for batch, logits, views in answers(model, batches, images, precision, tta, group, referee):
            k5 = min(5, logits.shape[1])
            if referee:
                logits = referee.logits(logits, batch.images, batch.targets, k5, views)
            sums = sums.to(logits.device) + correct_counts(logits, batch.targets, k5)
            seen += len(batch.targets)
            for meter in meters:
                meter.update(batch, logits)
    finally:
        model.train(was_training)
    correct1, correct5, seen = group.sum(torch.tensor([*sums.tolist(), seen])).tolist()
    assert seen == images, f"validation saw {seen} images of {images}"
    return Validation(correct1, correct5, seen, size, weights, tta, k5)


def answers(
    model: nn.Module,
    batches: Iterable[Batch],
    images: int,
    precision: Precision,
    tta: str,
    group: Group,
    referee: Referee | None,
) -> Iterator[Answer]:
    """Every image once; where only a share of them gets all views, in batches of another size."""
    views, share = TTA[tta]
    if share == 1:
        yield from ((batch, predict(model, batch.images, precision, tta), views) for batch in batches)
        return
    first, others = (views[0]._replace(weight=1.0),), views[1:]
    unsure = Unsure(math.ceil(share * images), group, referee, first)
    for batch in batches:
        released = unsure.add(batch, predict(model, batch.images, precision, first))
        yield from ((part.batch, part.logits, first) for part in released)
    for part, wanted in unsure.chosen():
        if wanted:
            more = predict(model, part.batch.images, precision, others)
            yield part.batch, views[0].weight * part.logits + more, views
        else:
            yield part.batch, part.logits, first


@untuned_kernels()
def predict(model: nn.Module, images: Tensor, precision: Precision, tta: str | Sequence[View]) -> Tensor:
    """Logits (B, classes) float32: the sum over all views of `tta`, times their weights."""
    views = TTA[tta].views if isinstance(tta, str) else tta
    with precision.autocast():
        return weighted(lambda shown: logits_of(model(shown)).float(), images, views)
