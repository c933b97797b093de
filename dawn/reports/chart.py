"""One picture of a run: accuracy over time, the phases shaded, the target and where it was reached."""

import io
from typing import Any

from dawn.dawnbench.tasks import METRIC_NAMES, target_text
from dawn.runlog.records import hardware_name
from dawn.runlog.run import Run, executed_phases
from dawn.tables import plain

# Okabe and Ito's palette: told apart with every common kind of colour blindness
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F6670"
SHADES = ("#E9EEF4", "#F8FAFC")  # by turns
LEAST_SPAN = 10.0  # percent on the axis, so that a run with one evaluation has room for its legend
UNITS = ((600, 1, "s"), (7200, 60, "min"), (float("inf"), 3600, "h"))  # up to seconds, seconds per unit, name


def chart_png(run: Run) -> bytes:
    """The picture as PNG, the same bytes for the same log and matplotlib; no display and no user settings needed."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = run.evaluations
    settings = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
    with style.context(["default", settings]):
        figure = Figure(figsize=(9, 4.6), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        _, scale, unit = next(u for u in UNITS if rows[-1].clock["total"] <= u[0])
        _draw_phases(axes, run, scale)
        _draw_accuracy(axes, run, scale)
        _draw_target(axes, run, scale, unit)
        _label(axes, run, unit)
        stream = io.BytesIO()
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def _draw_phases(axes: Any, run: Run, scale: float) -> None:
    end = run.rows[-1].clock["total"]
    begin = 0.0
    for number, span in enumerate(executed_phases(run.rows)):
        stop = span.rows[-1].clock["total"]
        axes.axvspan(begin / scale, stop / scale, color=SHADES[number % 2], zorder=0, linewidth=0)
        width, middle = (stop - begin) / end, (begin + stop) / 2 / scale
        if width > 0.02:  # narrower ones have no room for their name
            place = {"x": middle, "y": 0.02, "transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            axes.text(s=f"{span.value[0]} px", color=GREY, fontsize=9, rotation=0 if width > 0.07 else 90, **place)
        begin = stop
    axes.set_xlim(0, end / scale * 1.02)


def _draw_accuracy(axes: Any, run: Run, scale: float) -> None:
    metric, rows = run.start.metric, run.evaluations
    percents = [row.validation.percent(metric) for row in rows]
    total, dawn = ([row.clock[clock] / scale for row in rows] for clock in ("total", "dawn"))
    name = METRIC_NAMES[metric]
    axes.plot(dawn, percents, color=BLUE, alpha=0.55, linewidth=1.2, linestyle=(0, (4, 2)), zorder=2,
              label=f"{name} over T_dawn (no evaluation, no checkpoints)")  # fmt: skip
    axes.plot(total, percents, color=BLUE, linewidth=2, marker="o", markersize=4 if len(rows) < 40 else 0, zorder=3,
              label=f"{name} over T_total (everything)")  # fmt: skip
    highest = max([*percents, run.start.target or 0])
    span = max(highest - min(percents), LEAST_SPAN)
    axes.set_ylim(max(0.0, highest - 1.12 * span), min(101.0, highest + 0.12 * span))


def _draw_target(axes: Any, run: Run, scale: float, unit: str) -> None:
    metric, target, hit = run.start.metric, run.start.target, run.hit()
    if target is None:
        return
    axes.axhline(target, color=ORANGE, linewidth=1.4, zorder=1, label=f"target {target_text(metric, target)}")
    if hit is None:
        return
    time, percent = hit.clock["total"] / scale, hit.validation.percent(metric)
    axes.plot([time], [percent], color=GREEN, marker="*", markersize=16, markeredgecolor="white", zorder=4,
              linestyle="none", label=f"reached in epoch {hit.until}: T_total {time:.4g} {unit}")  # fmt: skip


def _label(axes: Any, run: Run, unit: str) -> None:
    start = run.start
    axes.set_xlabel(f"time since run start ({unit})")
    axes.set_ylabel(f"validation accuracy, {METRIC_NAMES[start.metric]} (%)")
    axes.set_title(
        plain(f"{start.task}: {start.recipe or 'no recipe'}, {start.model}", 80), loc="left", fontweight="bold", pad=22
    )
    under = plain(f"{hardware_name(run.latest.hardware)}, {start.precision}, seed {start.seed}", 110)
    axes.text(0, 1.02, under, transform=axes.transAxes, color=GREY, fontsize=9, va="bottom")
    axes.grid(axis="y", color="#D5DAE1", linewidth=0.6)
    axes.set_axisbelow(True)
    lines, names = axes.get_legend_handles_labels()
    lines, names = [lines[i] for i in (1, 0)] + lines[2:], [names[i] for i in (1, 0)] + names[2:]  # T_total first
    axes.legend(
        lines,
        names,
        loc="lower right",
        bbox_to_anchor=(1, 0.08),
        frameon=True,
        framealpha=0.9,
        edgecolor="none",
        fontsize=9,
    )
