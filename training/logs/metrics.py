"""Counts of correct predictions, the target of a run, and the test whether it is met: on integers, without rounding."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from training.config.config import Config, percentage
from training.errors import Outcome


class Counts(NamedTuple):
    correct1: int
    correct5: int  # among the min(5, classes) largest logits
    images: int
    k5: int

    def percent(self, metric: str) -> float:
        return 100 * (self.correct1 if metric == "top1" else self.correct5) / self.images


@dataclass(frozen=True)
class Target:
    """`percent` None: no target."""

    percent: Fraction | None
    metric: str  # top1 | top5

    def reached_by(self, counts: Counts) -> bool:
        correct = counts.correct1 if self.metric == "top1" else counts.correct5
        return self.percent is not None and correct * 100 >= self.percent * counts.images

    def outcome(self, hit_epoch: int) -> Outcome:
        """Of a schedule that has ended."""
        if self.percent is None:
            return Outcome.FINISHED
        return Outcome.TARGET_REACHED if hit_epoch >= 0 else Outcome.FINISHED_WITHOUT_TARGET


def parse_target(config: Config) -> Target:
    return Target(percentage(config.target), config.metric)


def correct_counts(logits: Tensor, targets: Tensor, k5: int) -> Tensor:
    """(2,) int64: how many targets are the largest, and among the k5 largest, logits."""
    hits = logits.topk(k5, dim=1).indices == targets[:, None]
    return torch.stack([hits[:, 0].sum(), hits.sum()])
