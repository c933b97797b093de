"""What a trial is worth: the expected time until a run reaches the target, with restarts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import log_ndtr

SEED_SD = 0.3  # percentage points between seeds until repeats tell (landscape of CIFAR-10 records: 0.24)


class Evidence(NamedTuple):
    """All trials of one choice: accuracies in percent of `images` held-out images each, seconds of one run."""

    seconds: float
    accuracies: tuple[float, ...]
    images: int

    @property
    def mean(self) -> float:
        return sum(self.accuracies) / len(self.accuracies)


def log_expected_seconds(evidence: Evidence, target: float, seed_sd: float) -> float:
    """ln(seconds / P), where P is the probability that one more run reaches `target` (percent).

    A schedule that reaches the target in one seed of three needs three runs: its time is three times as long. P is of a
    normal distribution whose variance has three parts: between seeds, of the held-out sample, and of a mean of few
    runs. So one lucky trial is worth less than three of the same mean.
    """
    runs = len(evidence.accuracies)
    share = min(max(evidence.mean / 100, 0.01), 0.99)
    sample = 1e4 * share * (1 - share) / evidence.images
    spread = math.sqrt(seed_sd**2 * (1 + 1 / runs) + sample / runs)
    return math.log(evidence.seconds) - float(log_ndtr((evidence.mean - target) / spread))


def seed_deviation(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation between seeds in percentage points, pooled over choices that were run more than once;
    SEED_SD before five such runs. The sampling of the held-out images is in it as well."""
    repeated = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    if freedom < 4:
        return SEED_SD
    squares = sum((value - sum(group) / len(group)) ** 2 for group in repeated for value in group)
    return math.sqrt(squares / freedom)
