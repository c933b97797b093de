"""The schedule as a picture: image size, global batch, learning rate and momentum over epochs. Needs matplotlib."""

import os
from pathlib import Path

from phases.phase import PhaseError, shown_path
from phases.ramps import Ramp
from phases.schedule import Schedule

# Okabe and Ito, colours that stay apart for colour-blind eyes
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#A6508C"
INK, QUIET = "#333333", "#777777"
POINTS = 200  # per ramp, enough for a cosine


def write_png(schedule: Schedule, world_size: int, path: Path) -> None:
    """Writes the picture to `path`, whole or not at all. Raises PhaseError when it cannot be written."""
    from matplotlib.figure import Figure  # here: half a second that only the picture needs

    figure = Figure(figsize=(8, 7), dpi=120, layout="constrained")
    heights = (3, 3, 3, 3 if schedule.momentum else 1)
    axes = figure.subplots(4, 1, sharex=True, height_ratios=heights)
    name = schedule.preset or "phase schedule"
    devices = "1 device" if world_size == 1 else f"{world_size} devices"
    figure.suptitle(f"{name}: {schedule.total_epochs} epochs, {devices}", color=INK, fontsize=13)
    sizes = [phase.sz for phase in schedule.data]
    global_batches = [phase.bs * world_size for phase in schedule.data]
    draw_data(axes[0], schedule, sizes, BLUE, "image size\n(px)")
    draw_data(axes[1], schedule, global_batches, VERMILION, "global batch\n(images)")
    draw_ramps(axes[2], schedule.lr, GREEN, "learning rate")
    draw_ramps(axes[3], schedule.momentum, PURPLE, "momentum")
    for axis in axes:
        decorate(axis, schedule)
    axes[-1].set_xlabel("epoch", color=INK)
    save(figure, path)


def draw_data(axis, schedule: Schedule, values: list[int], color: str, label: str) -> None:
    """A staircase with its values written on the steps where they change."""
    starts = [phase.epoch for phase in schedule.data]
    axis.stairs(values, [*starts, schedule.total_epochs], baseline=None, color=color, linewidth=2)
    for i, (start, value) in enumerate(zip(starts, values, strict=True)):
        if i == 0 or value != values[i - 1]:
            axis.annotate(f"{value:,}", (start, value), (3, 4), textcoords="offset points", color=color, fontsize=8)
    axis.set_ylabel(label, color=INK)
    axis.set_ylim(0, 1.3 * max(values))
    axis.yaxis.set_major_formatter("{x:,.0f}")


def draw_ramps(axis, ramps: tuple[Ramp, ...], color: str, label: str) -> None:
    axis.set_ylabel(label, color=INK)
    if not ramps:
        axis.text(0.5, 0.5, "not set by the phases", transform=axis.transAxes, ha="center", va="center", color=QUIET)
        axis.set_yticks([])
        return
    points = [point for ramp in ramps for point in curve(ramp)]
    axis.plot([x for x, _ in points], [y for _, y in points], color=color, linewidth=2)
    if min(y for _, y in points) < 0.5 * max(y for _, y in points):
        axis.set_ylim(0, 1.1 * max(y for _, y in points))
    else:
        axis.margins(y=0.15)


def curve(ramp: Ramp) -> list[tuple[float, float]]:
    """(position, value) from just after the ramp's start to its end."""
    if ramp.first == ramp.last:
        return [(ramp.start, ramp.first), (ramp.end, ramp.first)]
    positions = [ramp.start + (ramp.end - ramp.start) * i / POINTS for i in range(POINTS + 1)]
    return [(position, ramp.value(position)) for position in positions]


def decorate(axis, schedule: Schedule) -> None:
    """The same quiet frame for each: every second data phase shaded, no box."""
    for i, phase in enumerate(schedule.data):
        end = schedule.data[i + 1].epoch if i + 1 < len(schedule.data) else schedule.total_epochs
        if i % 2:
            axis.axvspan(phase.epoch, end, color="#F0F0F0", zorder=0, linewidth=0)
    axis.set_xlim(0, schedule.total_epochs)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=INK, labelsize=9)
    axis.yaxis.set_label_coords(-0.085, 0.5)
    axis.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)


def save(figure, path: Path) -> None:
    """Through a temporary file in the same folder, so that `path` is never half a picture."""
    if not path.name:
        raise PhaseError(f"{shown_path(path)}: is a folder. Name a .png file.")
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            figure.savefig(file, format="png")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PhaseError(f"{shown_path(path)}: cannot write ({error.strerror}). Choose another file.") from None
