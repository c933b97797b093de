"""The steps of one epoch: whole, cut short at the end of the schedule, or in two parts where a data phase begins inside
it. Everybody who counts steps asks here."""

import math
from dataclasses import dataclass
from itertools import pairwise

from phases.phase import DataPhase, PhaseError
from phases.schedule import Schedule


@dataclass(frozen=True)
class Part:
    """Steps of one data phase in a row, inside one epoch. `start` and `end` in epochs since the run's beginning;
    `first_step` counts the steps of the epoch from 0, `first_image` the places of its order."""

    phase: DataPhase
    start: float
    end: float
    first_step: int
    first_image: int
    steps: int

    @property
    def epoch(self) -> int:
        return math.floor(self.start)

    @property
    def stop_step(self) -> int:
        """The step of the epoch that follows this part."""
        return self.first_step + self.steps

    def position(self, step: int) -> float:
        """Where a step of the epoch (from 0) ends, in epochs. The last one of the part ends at `end`."""
        return self.start + (self.end - self.start) * ((step - self.first_step + 1) / self.steps)


def epoch_parts(schedule: Schedule, epoch: int, images: int, world_size: int) -> tuple[Part, ...]:
    """One part, or two where a data phase begins inside the epoch. `images` of the training set. Raises: PhaseError for
    a part without a step.

    A part that ends the epoch takes all whole batches that are left. Another one takes its share of the steps that a
    whole epoch of its phase would have, rounded.
    """
    end = min(epoch + 1, schedule.total_epochs)
    inside = [phase.epoch for phase in schedule.data if epoch < phase.epoch < end]
    borders = [epoch, *inside, end]
    parts: list[Part] = []
    for start, stop in pairwise(borders):
        phase = schedule.data_at(start)
        batch = phase.bs * world_size
        first_image = parts[-1].first_image + parts[-1].steps * parts[-1].phase.bs * world_size if parts else 0
        left = (images - first_image) // batch
        steps = left if stop == epoch + 1 else min(left, rounded((stop - start) * (images // batch)))
        check_steps(steps, start, stop, phase, images, world_size)
        parts.append(Part(phase, start, stop, parts[-1].stop_step if parts else 0, first_image, steps))
    return tuple(parts)


def rounded(steps: float) -> int:
    """To the nearest; halves up, also those that a decimal fraction misses by a hair."""
    return math.floor(steps + 0.5 + 1e-9)


def check_steps(steps: int, start: float, stop: float, phase: DataPhase, images: int, world_size: int) -> None:
    if steps:
        return
    if images < phase.bs * world_size:
        raise PhaseError(
            f"epoch {start:g}: the global batch of {phase.bs * world_size} ({phase.bs} x {world_size} devices) is "
            f"larger than the {images} training images. Use a smaller batch."
        )
    raise PhaseError(
        f"epochs {start:g} to {stop:g}: no step of {phase.bs * world_size} of the {images} training images falls into "
        "them. Use a smaller batch or a longer part."
    )


def special_epochs(schedule: Schedule) -> list[int]:
    """Epochs whose steps differ from those of the epoch before: every other epoch repeats the one before it."""
    found = {0, schedule.epochs - 1}
    for phase in schedule.data:
        found |= {math.floor(phase.epoch), math.ceil(phase.epoch)}
    return sorted(epoch for epoch in found if epoch < schedule.epochs)
