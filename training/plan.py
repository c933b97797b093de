"""The sample plan: which image, which shift, which flip at which place of an epoch, as a pure function of (seed,
epoch).

The same for every loader, so worker count, world size and a restart cannot change an epoch, and a resume position is
one integer.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ORDER, SHIFT, FLIP, CUTOUT = range(4)  # independent random streams


class EpochPlan(NamedTuple):
    """One row per place in the epoch (N places)."""

    index: np.ndarray  # (N,) int64, a permutation of the images
    shift: np.ndarray  # (N, 2) int64, rows and columns, in pixels of the stored image, -shift..shift
    flip: np.ndarray  # (N,) bool
    hole: np.ndarray  # (N, 2) float64 in [0, 1): centre of the cutout as a share of height and width


@dataclass(frozen=True)
class SamplePlan:
    """`shift` in pixels; `flip` none | random | alternating."""

    images: int
    seed: int
    shift: int = 0
    flip: str = "none"

    def epoch(self, epoch: int) -> EpochPlan:
        """Everything random about an epoch; about 10 ms for 50,000 images."""
        index = self.generator(ORDER, epoch).permutation(self.images)
        shift = self.generator(SHIFT, epoch).integers(-self.shift, self.shift + 1, (self.images, 2))
        return EpochPlan(index, shift, self.flips(epoch)[index], self.generator(CUTOUT, epoch).random((self.images, 2)))

    def flips(self, epoch: int) -> np.ndarray:
        """(images,) bool by image number. Alternating: a random half in epoch 0, then each image in turn (airbench,
        arXiv:2404.00498, 3.6)."""
        if self.flip == "none":
            return np.zeros(self.images, bool)
        if self.flip == "random":
            return self.generator(FLIP, epoch).random(self.images) < 0.5
        return (self.generator(FLIP, 0).random(self.images) < 0.5) ^ bool(epoch % 2)

    def generator(self, stream: int, epoch: int) -> np.random.Generator:
        """Philox is counter-based: streams keyed by (seed, stream, epoch) are independent."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, stream, epoch])))
