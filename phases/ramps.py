"""Learning rate and momentum as ramps that cover the whole run: who holds where, and the value there."""

import math
from dataclasses import dataclass
from itertools import pairwise

from phases.phase import LrPhase, PhaseError

ROUNDING = 1e-10  # epochs: a step that ends on a fractional border may be computed an ulp beyond it
Written = tuple[LrPhase, float, float | None]  # the phase, its first value, its last value (None: one number)


@dataclass(frozen=True)
class Ramp:
    """From `first` just after `start` to `last` at `end`, in epochs. Holds on (start, end].

    With `over` the curve goes from `first` to `last` over those epochs, and this is its piece from `start` to `end`.
    """

    start: float
    end: float
    first: float
    last: float
    curve: str = "linear"
    epoch_step: bool = False
    over: tuple[float, float] | None = None

    def value(self, position: float) -> float:
        """The value at `position`, the end of a step in epochs. With `epoch_step` that of the epoch's beginning."""
        if self.first == self.last:
            return self.first
        position = min(position, self.end)
        if self.epoch_step:
            position = max(math.ceil(position) - 1, self.start)
        # timm's cosine begins at epoch 0, under the warm-up, and shows only after it.
        start, end = self.over or (self.start, self.end)
        part = (position - start) / (end - start)
        if self.curve == "cos":
            part = 0.5 - 0.5 * math.cos(math.pi * part)
        # The decay of MLPerf's LARS.
        elif self.curve == "pow2":
            part = 1 - (1 - part) ** 2
        return self.first + (self.last - self.first) * part


def ramp_at(ramps: tuple[Ramp, ...], position: float) -> Ramp:
    """The ramp that holds at `position`; position 0 belongs to the first."""
    for ramp in reversed(ramps):
        if ramp.start < position - ROUNDING:
            return ramp
    return ramps[0]


def lr_ramps(phases: tuple[LrPhase, ...], total: float) -> tuple[Ramp, ...]:
    return join([(phase, phase.lr0, phase.lr1) for phase in phases if phase.lr0 is not None], "learning rate", total)


def momentum_ramps(phases: tuple[LrPhase, ...], total: float) -> tuple[Ramp, ...]:
    """Empty when no phase has 'mom'; otherwise it covers the whole run, as the learning rate does."""
    written = [(phase, phase.mom0, phase.mom1) for phase in phases if phase.mom0 is not None]
    return join(written, "momentum", total) if written else ()


def join(written: list[Written], what: str, total: float) -> tuple[Ramp, ...]:
    """Phases sorted by start -> ramps without gap or overlap from 0 to `total`. Raises PhaseError."""
    first, last = written[0][0], written[-1]
    if first.start != 0:
        place = f"phase {first.index} {first.text}"
        raise PhaseError(f"{place}: no {what} at epoch 0, it begins at {first.start}. Start it at 0.")
    for before, after in pairwise(written):
        check_border(before, after[0], what)
    check_end(last, what, total)
    next_starts = [phase.start for phase, _, _ in written[1:]] + [total]
    return tuple(ramp(item, after) for item, after in zip(written, next_starts, strict=True))


def ramp(item: Written, after: float) -> Ramp:
    phase, first, last = item
    end = after if last is None else phase.end  # one number holds until the next phase begins
    last = first if last is None else last
    over = None if last == first else phase.over
    return Ramp(phase.start, end, first, last, phase.curve, phase.epoch_step, over)


def check_border(item: Written, after: LrPhase, what: str) -> None:
    before, _, last = item
    place = f"phases {before.index} {before.text} and {after.index} {after.text}"
    if before.start == after.start:
        raise PhaseError(f"{place}: both set the {what} from epoch {after.start}. Remove one of them.")
    if before.end is not None and before.end > after.start:
        raise PhaseError(
            f"{place}: the {what} is set twice between epochs {after.start} and {before.end} (overlap). "
            f"End phase {before.index} at {after.start} or start phase {after.index} at {before.end}."
        )
    # 2018 drew the line on through a gap, past its end and below zero.
    if last is not None and before.end < after.start:
        raise PhaseError(
            f"{place}: no {what} between epochs {before.end} and {after.start} (gap). "
            f"Extend phase {before.index} to {after.start} or start phase {after.index} at {before.end}."
        )


def check_end(item: Written, what: str, total: float) -> None:
    """Only momentum can fail here: the last epoch is where the learning rates end."""
    phase, _, last = item
    place = f"phase {phase.index} {phase.text}"
    if max(phase.start, phase.end or 0) > total:
        raise PhaseError(f"{place}: the {what} goes past epoch {total}, where the learning rates end. Shorten it.")
    if last is not None and phase.end < total:
        raise PhaseError(f"{place}: no {what} between epochs {phase.end} and {total} (gap). Extend it to {total}.")
