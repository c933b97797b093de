"""The accuracy at the end that measured recipes and published studies support, with interval and source. No torch.

A recipe as it was measured has the accuracy of its seeds; with another number of epochs, the slope of a study is added
where that study was made: near 94 % on CIFAR-10. Everything else has none.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from phases import Schedule
from training.config.config import Config
from training.config.loaders import LOADERS, reads
from training.config.recipes.registry import RECIPES, recipe_config

T95 = {2: 4.303, 4: 2.776, 9: 2.262}  # Student's t for 95 %, by degrees of freedom
OWN = "docs/benchmarks.md"
STUDY = "the study of Fulcrum's CIFAR-10 record, July 2026 (github.com/fulcrumresearch/cifar-10-speedrun)"
SLOPE = (0.24, 0.30)  # points an epoch of 32 px near 94 %
START_24 = 0.12  # points that a start at 24 px costs, the whole picture downsampled
REACH = 2.0  # epochs from the measured recipe within which the slope may be used
SLOPED = "cifar10-94"
# Settings that may differ from a measured recipe: they change nothing that is learned, but for the schedule, which is
# looked at by itself.
FREE = {
    "phases", "epochs", "seed", "target", "metric", "stop_at_target", "eval_from", "eval_every", "device", "compile",
    "compile_mode",
}  # fmt: skip
SAME = {  # values of others that `auto` stands for: the measured runs were in bf16
    "precision": ("bf16",),
    "loader": tuple(name for name in LOADERS if reads(name).form != "nothing"),
}


class Measured(NamedTuple):
    """Top-1 in percent at the end of a recipe on a dataset. `deviation`: of single runs."""

    dataset: str
    mean: float
    deviation: float
    runs: int

    @property
    def half(self) -> float:
        """Half the 95 % interval of one more run."""
        return T95[self.runs - 1] * self.deviation * math.sqrt(1 + 1 / self.runs)


MEASURED = {
    "cifar10-demo": Measured("cifar10", 86.17, 0.25, 10),
    "cifar10-demo-fixed": Measured("cifar10", 87.26, 0.30, 3),
    "cifar10-94": Measured("cifar10", 94.13, 0.04, 3),
    "imagenette-5": Measured("imagenette", 88.00, 0.12, 3),
    "imagenette-20": Measured("imagenette", 92.41, 0.32, 3),
}


@dataclass(frozen=True)
class Accuracy:
    """Top-1 in percent at the end of one run."""

    percent: float
    low: float
    high: float
    source: str

    @property
    def text(self) -> str:
        return f"{self.percent:.2f} ({self.low:.1f} to {self.high:.1f})"


def accuracy_of(config: Config, schedule: Schedule, dataset: str, processes: int = 1) -> Accuracy | None:
    """At the end of the whole schedule. None: nothing that we know of supports a number. `dataset`: its name;
    `processes`: each with its own batch."""
    known = MEASURED.get(config.recipe)
    if known is None or known.dataset != dataset or processes > 1 or differs(config):
        return None
    runs = f"{known.runs} runs of {config.recipe} ({OWN})"
    if config.phases == config.recipe and not config.epochs:
        return Accuracy(known.mean, known.mean - known.half, known.mean + known.half, runs)
    return shifted(known, schedule, runs) if config.recipe == SLOPED else None


def differs(config: Config) -> bool:
    """Whether a setting of what is learned is not the recipe's. None are the target and when the run validates, the
    device and its compiler, which of our loaders reads the images, and bf16 in words: it trains the same network from
    the same images."""
    base = recipe_config(config.recipe) if config.recipe in RECIPES else Config()
    wanted = (item.name for item in fields(Config) if item.metadata["training"] and item.name not in FREE)
    return any(getattr(config, name) not in (getattr(base, name), *SAME.get(name, ())) for name in wanted)


def shifted(known: Measured, schedule: Schedule, runs: str) -> Accuracy | None:
    """By the study's slope and its price of small images, where only length and sizes differ from the recipe."""
    base = Schedule.parse(SLOPED)
    epochs = schedule.total_epochs - base.total_epochs
    if (
        abs(epochs) > REACH
        or shape(schedule) != shape(base)
        or not all(24 <= phase.sz <= 32 for phase in schedule.data)
    ):
        return None
    price = START_24 * (starts_small(base) - starts_small(schedule))
    low, high = sorted(slope * epochs for slope in SLOPE)
    middle = known.mean + price + (low + high) / 2
    reach = known.half + (high - low) / 2
    source = f"{runs}, moved by {SLOPE[0]:.2f} to {SLOPE[1]:.2f} points an epoch and {START_24} for 24 px: {STUDY}"
    return Accuracy(middle, middle - reach, middle + reach, source)


def shape(schedule: Schedule) -> tuple:
    """Batches and learning rates, whatever the length."""
    return {phase.bs for phase in schedule.data}, [(ramp.first, ramp.last) for ramp in schedule.lr]


def starts_small(schedule: Schedule) -> bool:
    return schedule.data[0].sz < 28
