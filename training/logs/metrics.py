"""What validation finds out: counts of correct predictions, meters of one's own beside them, and the target of a run.
Whether the target is met is dawn's rule (Validation.reaches), so a run ends where its reports say that it hit."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from training.config.config import Config, percentage
from training.distributed.group import Group
from training.errors import Outcome


@dataclass(frozen=True)
class Target:
    """`percent` None: no target."""

    percent: Fraction | None
    metric: str  # top1 | top5

    def outcome(self, hit_epoch: int) -> Outcome:
        """Of a schedule that has ended."""
        if self.percent is None:
            return Outcome.FINISHED
        return Outcome.TARGET_REACHED if hit_epoch >= 0 else Outcome.FINISHED_WITHOUT_TARGET


class Meter(Protocol):
    """A metric beside top-1 and top-5, such as a confusion matrix: trainer.Job has a tuple of them.

    The state of a meter is that of one validation: it is in no checkpoint, and a validation that a signal interrupts
    is repeated as a whole."""

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """A batch of this rank. Counts stay on the device: a value read here would make the GPU wait."""

    def sums(self, group: Group) -> None:
        """The validation is over. All ranks call it: add up their counts, and start again from none."""

    def write(self, tensorboard: Callable[[dict[str, float]], None]) -> None:
        """On rank 0, after the epoch's line: scalars by their tags."""


def meters_of(config: Config, classes: int) -> tuple[Meter, ...]:
    """What every validation counts beside top-1 and top-5. A metric is an entry here; nothing has one yet."""
    return ()


def parse_target(config: Config) -> Target:
    return Target(percentage(config.target), config.metric)


def correct_counts(logits: Tensor, targets: Tensor, k5: int) -> Tensor:
    """(2,) int64: how many targets are the largest, and among the k5 largest, logits. Of equal logits the lower class
    comes first, on every device (topk leaves it open); a NaN is larger than all, so that its image is never correct."""
    own, classes = logits.gather(1, targets[:, None]), torch.arange(logits.shape[1], device=logits.device)
    ahead = (~(logits <= own) | ((logits == own) & (classes < targets[:, None]))).sum(1)
    return torch.stack([(ahead < 1).sum(), (ahead < k5).sum()])
