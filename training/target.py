"""The target of a run and the test whether it is met: on integers, without rounding."""

from dataclasses import dataclass
from fractions import Fraction

from training.config import Config
from training.evaluate import Counts
from training.outcome import ConfigError, Outcome


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
    """Raises: ConfigError for a target that is no percentage."""
    try:
        percent = Fraction(config.target) if config.target else None
    except (ValueError, ZeroDivisionError):
        percent = Fraction(-1)
    if percent is not None and not 0 < percent <= 100:
        raise ConfigError(f"--target {config.target}: must be a percentage above 0 and up to 100, such as 94")
    return Target(percent, config.metric)
