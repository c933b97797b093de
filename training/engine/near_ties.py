"""Counts that do not depend on how images were put into batches.

The same image has other last bits in its logits when it stands in another batch: matrix products are cut by the shape
of the batch, by the number of threads and by the kind of processor, and each cut sums in another order. That matters
where two logits are almost equal. There the image is computed again, alone and in float64, whose error is a billionth
of float32's: so all batch sizes, ranks and machines count the same.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.engine.precision import untuned_kernels
from training.engine.views import View, weighted
from training.models.outputs import logits_of

MARGIN = 1e-4  # of the largest logit; float32's own error is a hundredth of that or less


class Referee:
    """A float64 copy of `model` that decides images near a tie. `settled`: how many so far."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.settled = copy.deepcopy(model).double().eval(), 0

    def logits(self, logits: Tensor, images: Tensor, targets: Tensor, k5: int, views: Sequence[View]) -> Tensor:
        """(B, classes) float64: `logits`, but computed anew where top-1 or top-`k5` is close."""
        return self.anew(logits, images, views, near_ties(logits, targets, (1, k5)))

    @untuned_kernels()
    def anew(self, logits: Tensor, images: Tensor, views: Sequence[View], chosen: Tensor) -> Tensor:
        """(B, classes) float64: `logits`, but of the `chosen` (B,) images those of the float64 copy, each alone."""
        settled = logits.double()
        for row in chosen.nonzero()[:, 0].tolist():
            alone = images[row : row + 1].double()
            settled[row] = weighted(lambda image: logits_of(self.model(image)), alone, views)[0]
            self.settled += 1
        return settled


def near_ties(logits: Tensor, targets: Tensor, ranks: tuple[int, ...]) -> Tensor:
    """(B,) bool: the images for which rounding could decide whether their target is among the k largest logits, for a
    k of `ranks`."""
    own = logits.gather(1, targets[:, None])
    margin = MARGIN * logits.abs().amax(1, keepdim=True)
    surely = (logits > own + margin).sum(1)  # classes ahead of the target
    perhaps = (logits >= own - margin).sum(1) - 1  # without the target itself
    return torch.stack([(surely < k) & (k <= perhaps) for k in ranks]).any(0)
