"""The resolved schedule as text: one row per stretch in which data phase, lr ramp and momentum ramp stay the same."""

import math
from dataclasses import dataclass
from itertools import pairwise

from phases.parts import Part, epoch_parts
from phases.phase import DataPhase
from phases.ramps import ramp_at
from phases.schedule import Schedule

COLUMNS = (
    "epochs", "size", "batch", "global", "lr", "momentum", "train dir", "val", "aug", "steps/epoch", "steps", "images",
)  # fmt: skip
LEFT = ("lr", "momentum", "train dir", "val")  # aligned left, the numbers right
ABSENT = "-"


@dataclass(frozen=True)
class Segment:
    start: float  # epochs
    end: float
    data: DataPhase
    lr: tuple[float, float] | None  # at the first and the last step; None when no step falls into the segment
    momentum: tuple[float, float] | None
    steps_per_epoch: int | None  # None: number of images unknown
    steps: int | None
    images: int | None  # trained in this segment, all devices


def segments(schedule: Schedule, world_size: int, images: int | None = None) -> list[Segment]:
    """`images`: size of the training set; without it steps and images are None and lr is taken at the borders."""
    borders = {float(phase.epoch) for phase in schedule.data} | {float(schedule.total_epochs)}
    borders |= {float(border) for ramp in schedule.lr + schedule.momentum for border in (ramp.start, ramp.end)}
    cuts = sorted(borders)
    return [segment(schedule, start, end, world_size, images) for start, end in pairwise(cuts)]


def segment(schedule: Schedule, start: float, end: float, world_size: int, images: int | None) -> Segment:
    data = schedule.data_at(start)
    if images is None:
        begin = math.nextafter(start, end) if steps_by_epoch(schedule, end) else start
        lr, momentum = lr_range(schedule, begin, end), momentum_range(schedule, begin, end)
        return Segment(start, end, data, lr, momentum, None, None, None)
    per_epoch = images // (data.bs * world_size)  # the last partial batch is dropped
    steps, first, last = steps_between(schedule, start, end, world_size, images)
    lr = momentum = None
    if steps:
        lr, momentum = lr_range(schedule, first, last), momentum_range(schedule, first, last)
    return Segment(start, end, data, lr, momentum, per_epoch, steps, steps * data.bs * world_size)


def steps_by_epoch(schedule: Schedule, position: float) -> bool:
    """Whether a value there is constant inside an epoch: a border then belongs to the epoch before it."""
    return any(ramp_at(ramps, position).epoch_step for ramps in (schedule.lr, schedule.momentum) if ramps)


def steps_between(
    schedule: Schedule, start: float, end: float, world_size: int, images: int
) -> tuple[int, float, float]:
    """How many steps end after `start` and until `end`, and where the first and the last of them end, in epochs."""
    count, first, last = 0, start, end
    for epoch in range(math.floor(start), math.ceil(end)):
        for part in epoch_parts(schedule, epoch, images, world_size):
            low, high = (steps_until(part, border) for border in (start, end))
            if high > low:
                first = first if count else part.position(part.first_step + low)
                last = part.position(part.first_step + high - 1)
                count += high - low
    return count, first, last


def steps_until(part: Part, border: float) -> int:
    """Steps of a part that have ended at `border`."""
    share = (min(max(border, part.start), part.end) - part.start) / (part.end - part.start)
    return math.floor(share * part.steps + 1e-9)


def lr_range(schedule: Schedule, first: float, last: float) -> tuple[float, float]:
    """The learning rates of one ramp at two positions; `first` may be the ramp's very beginning."""
    ramp = ramp_at(schedule.lr, last)
    return ramp.value(first), ramp.value(last)


def momentum_range(schedule: Schedule, first: float, last: float) -> tuple[float, float] | None:
    if not schedule.momentum:
        return None
    ramp = ramp_at(schedule.momentum, last)
    return ramp.value(first), ramp.value(last)


def schedule_table(schedule: Schedule, world_size: int, images: int | None = None) -> str:
    """The table and a line of totals, ready to print."""
    found = segments(schedule, world_size, images)
    rows = [COLUMNS] + [row(item, world_size) for item in found]
    if all(item.data.aug == 1 for item in found):  # most schedules do not name it
        rows = [cells[: COLUMNS.index("aug")] + cells[COLUMNS.index("aug") + 1 :] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(aligned(*item) for item in zip(rows[0], cells, widths, strict=True)).rstrip() for cells in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", totals(schedule, found)])


def aligned(column: str, cell: str, width: int) -> str:
    return cell.ljust(width) if column in LEFT else cell.rjust(width)


def row(item: Segment, world_size: int) -> tuple[str, ...]:
    data = item.data
    return (
        f"{item.start:.4g}-{item.end:.4g}",
        f"{data.sz}",
        f"{data.bs}",
        f"{data.bs * world_size}",
        span(item.lr),
        span(item.momentum),
        f"DATA{data.trndir}",
        f"{data.val_sz}{' rect' if data.rect_val else ''}{f' x{data.val_resize:.6g}' if data.val_resize else ''}",
        f"{data.aug:g}",
        number(item.steps_per_epoch),
        number(item.steps),
        number(item.images),
    )


def span(values: tuple[float, float] | None) -> str:
    if values is None:
        return ABSENT
    first, last = (f"{value:.6g}" for value in values)
    return first if first == last else f"{first} -> {last}"


def number(value: int | None) -> str:
    return ABSENT if value is None else f"{value:,}"


def totals(schedule: Schedule, found: list[Segment]) -> str:
    parts = [f"{schedule.total_epochs} epochs"]
    if found[0].steps is not None:
        parts += [f"{sum(item.steps for item in found):,} steps", f"{sum(item.images for item in found):,} images"]
    cost = cost_at_224(found)
    if cost:
        parts.append(f"as costly as {cost:.1f} epochs at 224 px")
    return "total: " + ", ".join(parts)


def cost_at_224(found: list[Segment]) -> float:
    """224-equivalent epochs: the sum of epochs x (size / 224)^2. Small images (below 64 px) do not count."""
    return sum((item.end - item.start) * (item.data.sz / 224) ** 2 for item in found if item.data.sz >= 64)
