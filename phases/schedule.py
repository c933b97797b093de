"""`Schedule`: what holds at an epoch or at a position inside one. A value; every change returns a new one.

A position is the END of a step in epochs: epoch + step / steps, step counted from 1 (phases/parts.py has the
epochs that are not whole). So position 12.5 is the step
that finishes the first half of epoch 12, and the last step of the run is at `total_epochs`. How many steps an
epoch has is the trainer's business (it drops the last partial batch): the schedule knows fractions only.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from phases.language import LOADER_KEYS, last_epoch, parse_phases
from phases.phase import DataPhase, PhaseError, shown
from phases.ramps import Ramp, lr_ramps, momentum_ramps, ramp_at
from phases.source import read_source
from phases.values import MAX_SIZE


@dataclass(frozen=True)
class Schedule:
    data: tuple[DataPhase, ...]
    lr: tuple[Ramp, ...]
    momentum: tuple[Ramp, ...]  # empty: the phases say nothing about momentum
    total_epochs: float  # largest `ep` of the lr phases, an int where whole; one with a single epoch trains nothing
    preset: str | None = field(default=None, compare=False)
    world_size: int | None = field(default=None, compare=False)  # devices the preset was made for
    batch_factor: float = field(default=1.0, compare=False)  # batch size now / batch size as written

    @classmethod
    def parse(cls, source: str | Path | list[dict]) -> "Schedule":
        """From a preset name, a file, JSON or Python-literal text, or a list of dicts. Raises PhaseError."""
        found = read_source(source)
        data, rates = parse_phases(found.phases)
        total = last_epoch(rates)
        return cls(data, lr_ramps(rates, total), momentum_ramps(rates, total), total, found.preset, found.world_size)

    # ---- questions

    @property
    def epochs(self) -> int:
        """Epochs that are begun; the last one may be cut short."""
        return math.ceil(self.total_epochs)

    def data_at(self, epoch: float) -> DataPhase:
        """The last data phase that began at or before `epoch` (from 0)."""
        if epoch < 0:
            raise ValueError(f"epoch {epoch}: epochs count from 0")
        # 2018 asked for the exact epoch, so a run resumed in the middle of a phase found no loaders.
        return [phase for phase in self.data if phase.epoch <= epoch][-1]

    def lr_at(self, position: float) -> float:
        """The learning rate of the step that ends at `position`, in [0, total_epochs]."""
        self.check_position(position)
        return ramp_at(self.lr, position).value(position)

    def momentum_at(self, position: float) -> float | None:
        """The momentum of the step that ends at `position`; None when the phases do not set it."""
        self.check_position(position)
        return ramp_at(self.momentum, position).value(position) if self.momentum else None

    def check_position(self, position: float) -> None:
        if not 0 <= position <= self.total_epochs:  # NaN fails too
            raise ValueError(f"position {position} lies outside the schedule of {self.total_epochs} epochs")

    def batch_ratio(self, world_size: int) -> float | None:
        """Global batch on `world_size` devices / global batch of the preset; None without a published one."""
        return None if self.world_size is None else self.batch_factor * world_size / self.world_size

    @property
    def phases(self) -> list[dict]:
        """The normalised list, ready for JSON: `Schedule.parse(schedule.phases) == schedule`.

        Not so after `compressed`, when a border of the lr needs more than nine decimals.
        """
        return (
            [data_dict(phase) for phase in self.data]
            + [ramp_dict(ramp, "lr") for ramp in self.lr]
            + [ramp_dict(ramp, "mom") for ramp in self.momentum]
        )

    # ---- changes

    def compressed(self, epochs: int) -> "Schedule":
        """The same schedule in `epochs` epochs: lr and momentum to scale, data phases at the nearest whole epoch.

        Of data phases that meet in one epoch the latest stays, so the last size is always trained.
        """
        if type(epochs) is not int or epochs < 1:
            raise PhaseError(f"epochs must be a whole number of 1 or more, not {shown(epochs, 30)}.")
        total = self.total_epochs
        moved = {}
        for phase in self.data:
            epoch = min(round(phase.epoch * epochs / total), epochs - 1)
            moved[epoch] = replace(phase, epoch=epoch)
        return replace(
            self,
            data=reopened(list(moved.values())),
            lr=tuple(stretched(ramp, epochs, total) for ramp in self.lr),
            momentum=tuple(stretched(ramp, epochs, total) for ramp in self.momentum),
            total_epochs=epochs,
        )

    def with_batch_size(self, bs: int) -> "Schedule":
        """Every phase's batch multiplied so that the first data phase has `bs` images per device."""
        if type(bs) is not int or bs < 1:
            raise PhaseError(f"batch size must be a whole number of 1 or more, not {shown(bs, 30)}.")
        return self.with_batch_factor(bs / self.data[0].bs)

    def with_batch_factor(self, factor: float) -> "Schedule":
        """Training batches times `factor`, rounded, at least 1. Validation batches stay: `rect_val` depends on them."""
        check_factor("batch", factor)
        data = tuple(replace(phase, bs=max(1, round(phase.bs * factor))) for phase in self.data)
        return replace(self, data=data, batch_factor=self.batch_factor * factor)

    def with_size_factor(self, factor: float) -> "Schedule":
        """Image sizes times `factor`, to multiples of 8 and not below 32 pixels (a smaller size stays as it is)."""
        check_factor("size", factor)
        data = (
            replace(phase, sz=resized(phase.sz, factor), val_sz=resized(phase.val_sz, factor)) for phase in self.data
        )
        return replace(self, data=tuple(data))

    def with_lr_factor(self, factor: float) -> "Schedule":
        """Every learning rate times `factor`."""
        check_factor("lr", factor)
        lr = tuple(replace(ramp, first=ramp.first * factor, last=ramp.last * factor) for ramp in self.lr)
        if not all(math.isfinite(ramp.first) and math.isfinite(ramp.last) for ramp in lr):
            raise PhaseError(f"lr factor {factor}: the learning rates overflow. Use a smaller one.")
        return replace(self, lr=lr)


def resized(size: int, factor: float) -> int:
    return min(max(min(size, 32), round(size * factor / 8) * 8), MAX_SIZE)


def check_factor(what: str, factor: float) -> None:
    if not 0 < factor <= 1e6:  # NaN fails too
        raise PhaseError(f"{what} factor must lie between 0 and 1,000,000, not {shown(factor, 30)}.")


def reopened(data: list[DataPhase]) -> tuple[DataPhase, ...]:
    """`keep_dl` stays only where the phase before still has the same loaders."""
    result = [replace(data[0], keep_dl=False)]
    for phase in data[1:]:
        same = all(getattr(phase, key) == getattr(result[-1], key) for key in LOADER_KEYS)
        result.append(replace(phase, keep_dl=phase.keep_dl and same))
    return tuple(result)


def stretched(ramp: Ramp, epochs: int, total: int) -> Ramp:
    borders = {"start": ramp.start, "end": ramp.end}
    over = tuple(scaled(border, epochs, total) for border in ramp.over) if ramp.over else None
    return replace(ramp, over=over, **{key: scaled(border, epochs, total) for key, border in borders.items()})


def scaled(border: float, epochs: int, total: int) -> float:
    result = border * epochs / total
    return int(result) if result.is_integer() else result


def data_dict(phase: DataPhase) -> dict:
    keys = {key: getattr(phase, key) for key in ("sz", "bs", *LOADER_KEYS[1:], "keep_dl")}
    return {"ep": phase.epoch, **{key: value for key, value in keys.items() if value is not None}}


def ramp_dict(ramp: Ramp, key: str) -> dict:
    ep = ramp.start if ramp.start == ramp.end else [ramp.start, ramp.end]
    value = ramp.first if ramp.first == ramp.last else [ramp.first, ramp.last]
    over = {"over": list(ramp.over)} if ramp.over else {}
    return {"ep": ep, key: value, "curve": ramp.curve, "epoch_step": ramp.epoch_step, **over}


def batch_warning(schedule: Schedule, world_size: int) -> str | None:
    """One line when the global batch is not the one the preset was published with, else None."""
    ratio = schedule.batch_ratio(world_size)
    if ratio is None or math.isclose(ratio, 1.0):
        return None
    here = schedule.data[0].bs * world_size
    then, now = (f"{count} device{'s' if count > 1 else ''}" for count in (schedule.world_size, world_size))
    return (
        f"{schedule.preset or 'this schedule'} was made for a global batch of {round(here / ratio)} ({then}); "
        f"here it begins with {here} ({now}), {ratio:.4g} times that, "
        f"with the same learning rates. --scale-lr of the trainer rescales them."
    )
