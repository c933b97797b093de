"""A plan as a picture: seconds of each stretch of the schedule, by their use. Needs matplotlib. No torch."""

import io
from collections.abc import Sequence
from typing import Any

from dawn.tables import plain
from training.plan.forecast import Forecast, Row

# Okabe and Ito's palette: told apart with every common kind of colour blindness
PARTS = (("training", "#0072B2"), ("validation", "#E69F00"), ("switch and checkpoints", "#5F6670"))
INK = "#333333"


def plan_png(plans: Sequence[Forecast]) -> bytes:
    """PNG; schedules under one another on one scale of seconds."""
    from matplotlib import style  # here: half a second that only the picture needs
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
    with style.context(["default", settings]):
        heights = [len(plan.rows) for plan in plans]
        figure = Figure(figsize=(9, 1.2 + 0.7 * len(plans) + 0.45 * sum(heights)), dpi=120, layout="constrained")
        every = figure.subplots(len(plans), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, plan in zip(every, plans, strict=True):
            draw(axes, plan)
        every[-1].set_xlabel("seconds, planned", color=INK)
        figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        stream = io.BytesIO()
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def draw(axes: Any, plan: Forecast) -> None:
    """A bar for each stretch, the first on top."""
    places, before = range(len(plan.rows)), [0.0] * len(plan.rows)
    for number, (name, colour) in enumerate(PARTS):
        widths = [parts_of(row)[number] for row in plan.rows]
        axes.barh(places, widths, left=before, color=colour, label=name, height=0.7)
        before = [left + width for left, width in zip(before, widths, strict=True)]
    for place, (row, end) in enumerate(zip(plan.rows, before, strict=True)):
        text = f" {row.stretch.training.size} px, batch {row.stretch.training.batch}: {end:,.1f} s"
        axes.text(end, place, text, va="center_baseline", color=INK, fontsize=9)
    low, high = plan.intervals["total"]
    told = f"{plain(plan.name, 60)}: T_total {plan.clocks['total']:,.1f} s ({low:,.1f} to {high:,.1f})"
    axes.set_title(told, loc="left", color=INK, fontsize=11)
    axes.set_yticks(places, [f"epochs {epochs_of(row)}" for row in plan.rows])
    axes.margins(x=0.22)
    axes.invert_yaxis()
    axes.tick_params(colors=INK)


def epochs_of(row: Row) -> str:
    return f"{row.stretch.start:g}-{row.stretch.start + row.stretch.epochs:g}"


def parts_of(row: Row) -> tuple[float, float, float]:
    """Seconds, in the order of PARTS."""
    return row.wait.value + row.train.value, row.check.value, row.switch.value + row.save.value
