"""What validation finds out: counts of correct predictions, meters of one's own beside them, and the target of a run.
Whether the target is met is dawn's rule (Validation.reaches), so a run ends where its reports say that it hit."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from training.config.config import Config, percentage
from training.data.loader import Batch
from training.distributed.group import Group
from training.errors import Outcome

INSPECTION = "inspect"  # folder in the run folder, for what meters and watches find


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


class View(NamedTuple):
    """Where rank 0 shows what its meters found."""

    folder: Path  # RUN/inspect
    epoch: int
    scalars: Callable[[dict[str, float]], None]  # to TensorBoard, by tag
    say: Callable[[str], None]  # a line on the console


class Meter(Protocol):
    """A metric beside top-1 and top-5: trainer.Job has a tuple of them.

    The state of a meter is that of one validation: it is in no checkpoint, and a validation that a signal interrupts
    is repeated as a whole."""

    def update(self, batch: Batch, logits: Tensor) -> None:
        """A batch of this rank. Counts stay on the device: a value read here would make the GPU wait."""

    def finish(self, group: Group, view: View | None) -> None:
        """The validation is over. All ranks call it: add up their counts, show them where there is a `view` (rank 0),
        and start again from none. Counts on the label `inspect` of the clock."""


class Watch(Protocol):
    """Looks at training steps: trainer.Job has a tuple of them. It changes nothing, and reads the device only in
    `finish`."""

    def batch(self, number: int, batch: Batch, logits: Tensor, loss: Tensor) -> None:
        """After step `number` (0-based) of the epoch, on every rank; `logits` are those of the mixed images."""

    def is_due(self, number: int) -> bool:
        """Whether `gradients` and `updated` are wanted for this step."""

    def gradients(self, images_seen: int) -> None:
        """Before the update, when the gradients are those that the optimiser gets."""

    def updated(self) -> None:
        """After the update."""

    def finish(self, group: Group, view: View | None) -> None:
        """The epoch is over. As in Meter."""


def parse_target(config: Config) -> Target:
    return Target(percentage(config.target), config.metric)


def correct_counts(logits: Tensor, targets: Tensor, k5: int) -> Tensor:
    """(2,) int64: how many targets are the largest, and among the k5 largest, logits. Of equal logits the lower class
    comes first, on every device (topk leaves it open); a NaN is larger than all, so that its image is never correct."""
    own, classes = logits.gather(1, targets[:, None]), torch.arange(logits.shape[1], device=logits.device)
    ahead = (~(logits <= own) | ((logits == own) & (classes < targets[:, None]))).sum(1)
    return torch.stack([(ahead < 1).sum(), (ahead < k5).sum()])
