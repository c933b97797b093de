"""The sample plan: which image, which shift, which flip at which place of an epoch, as a pure function of (seed,
epoch).

The same for every loader, so worker count, world size and a restart cannot change an epoch, and a resume position is
one integer.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ORDER, SHIFT, FLIP, CUTOUT = range(4)  # independent random streams; 4 and 5 are training.data.image_plan's
ERASING, JITTER = 6, 7


class EpochPlan(NamedTuple):
    """One row per place in the epoch (N places)."""

    index: np.ndarray  # (N,) int64, a permutation of the images, or the first of them `repeats` times each
    shift: np.ndarray  # (N, 2) int64, rows and columns, in pixels of the stored image, -shift..shift
    flip: np.ndarray  # (N,) bool
    hole: np.ndarray  # (N, 2) float64 in [0, 1): centre of the cutout as a share of height and width
    slot: np.ndarray  # (N,) int64: which of the epoch's N draws (window, policy, ...) belong here; each comes once


@dataclass(frozen=True)
class SamplePlan:
    """`shift` in pixels; `flip` none | random | alternating. With `repeats` an epoch has as many places as without,
    for 1/repeats of the images (arXiv:1901.09335; torchvision's RASampler, timm's RepeatAugSampler)."""

    images: int
    seed: int
    shift: int = 0
    flip: str = "none"
    repeats: int = 1

    def epoch(self, epoch: int) -> EpochPlan:
        """Everything random about an epoch; about 10 ms for 50,000 images."""
        slot = self.generator(ORDER, epoch).permutation(self.images)
        shift = self.generator(SHIFT, epoch).integers(-self.shift, self.shift + 1, (self.images, 2))
        hole = self.generator(CUTOUT, epoch).random((self.images, 2))
        index = np.repeat(slot, self.repeats)[: self.images] if self.repeats > 1 else slot
        return EpochPlan(index, shift, self.flips(epoch)[slot], hole, slot)

    def places(self, step: int, batch_size: int, rank: int, world_size: int, begin: int = 0) -> slice:
        """Where a rank's share of a global batch lies in the epoch, when step 0 begins at place `begin`. Repeated
        images go to the ranks in turn, so that as many ranks as can be see another version of an image, as in
        torchvision's and timm's samplers."""
        first = begin + step * world_size * batch_size
        if self.repeats > 1:
            return slice(first + rank, first + world_size * batch_size, world_size)
        return slice(first + rank * batch_size, first + (rank + 1) * batch_size)

    def flips(self, epoch: int) -> np.ndarray:
        """(images,) bool by slot, which is the image number without repeats. Alternating: a random half in epoch 0,
        then each image in turn (airbench, arXiv:2404.00498, 3.6)."""
        if self.flip == "none":
            return np.zeros(self.images, bool)
        if self.flip == "random":
            return self.generator(FLIP, epoch).random(self.images) < 0.5
        return (self.generator(FLIP, 0).random(self.images) < 0.5) ^ bool(epoch % 2)

    def generator(self, stream: int, epoch: int) -> np.random.Generator:
        """Philox is counter-based: streams keyed by (seed, stream, epoch) are independent."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, stream, epoch])))
