"""The target of a run and the test whether it is met: on integers, without rounding."""

from dataclasses import dataclass
from fractions import Fraction

from training.config import Config, percentage
from training.evaluate import Counts
from training.outcome import Outcome


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
