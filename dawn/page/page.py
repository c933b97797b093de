"""report.html: everything about one or several runs on one page that needs no server and no network.

The numbers stand in it twice: as tables, and as JSON from which plotly draws. The same logs give the same bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dawn.importers.curve import Curve
from dawn.leaderboard.read import historical
from dawn.page import diagnosis, evaluations, inside, result, sections, setup, stats
from dawn.page.data import MOST_STEPS, Shown, curve_data, named, page_data
from dawn.page.document import asset, document
from dawn.page.html import text
from dawn.runlog.records import CLOCKS
from dawn.runlog.run import Run, read_run_and_events
from dawn.runlog.steps import Step, logged_steps
from dawn.runlog.writer import RunError
from dawn.stats.runs import recipe_key

SCRIPTS = ("page_charts.js", "page.js")


def read_shown(paths: Sequence[str | Path]) -> list[Shown]:
    """Runs with their logged steps; RunError for a log that cannot be read, for one given twice, and for no evaluation
    and no diagnosis.

    A run without an evaluation among others stays: what failed is part of the result.
    """
    runs: list[tuple[Run, tuple[Step, ...]]] = []
    for path in paths:
        run, events = read_run_and_events(path)
        if any(run.path.resolve() == other.path.resolve() for other, _ in runs):
            raise RunError(f"{path}: given twice. Name every run once.")
        runs.append((run, logged_steps(run, events)))
    if not any(run.is_evaluated or tells_why(run) for run, _ in runs):
        raise RunError(f"{runs[0][0].path}: {runs[0][0].lack}")
    return named(in_order(runs), folders=len(runs) > 1)


def tells_why(run: Run) -> bool:
    """Whether the page can say why a run ended, also where there is no evaluation."""
    return diagnosis.is_diagnosed(run.path.parent)


def shown_alone(run: Run, events: Sequence[dict[str, Any]]) -> list[Shown]:
    """One run with all lines of its log, as read_run_and_events gives them."""
    return named([(run, logged_steps(run, events))], folders=False)


def page_of(paths: Sequence[str | Path], price: float | None = None, beside: Sequence[str | Path] = ()) -> bytes:
    """The page about these runs. price: US dollars per hour of the hardware; beside: logs of other codes, as read by
    dawn.importers.read. RunError where one of them is none."""
    from dawn.importers.read import read_curves

    if price is not None and not (math.isfinite(price) and price >= 0):
        raise RunError(f"cost per hour is {price}. Give US dollars per hour, 0 or more.")
    return page(read_shown(paths), price, [curve for path in beside for curve in read_curves(path)])


def in_order(runs: list[tuple[Run, tuple[Step, ...]]]) -> list[tuple[Run, tuple[Step, ...]]]:
    """Recipes as they come first, the seeds of each by number: a shell puts seed 10 before seed 2."""
    recipes = list(dict.fromkeys(recipe_key(run) for run, _ in runs))
    return sorted(runs, key=lambda item: (recipes.index(recipe_key(item[0])), item[0].start.seed))


def page(shown: list[Shown], price: float | None = None, curves: Sequence[Curve] = ()) -> bytes:
    """price: US dollars per hour of the hardware; with it the page has costs. curves: drawn behind the runs."""
    old = history(shown)
    data = page_data(shown, price) | {"history": old, "curves": [curve_data(curve) for curve in curves]}
    most, looked_inside = MOST_STEPS // len(shown), inside.inside_section(shown)
    body = [
        result.header(shown), "<main>\n", result.result_section(shown, price),
        diagnosis.diagnosis_section(shown), controls(data),
        sections.time_section(shown, old), sections.epochs_section(shown, curves),
        stats.statistics_section(shown),
        evaluations.evaluations_section(shown), looked_inside,
        sections.ledger_section(shown), sections.speed_section(shown), sections.schedule_section(shown),
        sections.steps_section(shown, most), setup.checks_section(shown),
        setup.setup_section(shown), "</main>\n",
    ]  # fmt: skip
    more = ("inside.js",) if looked_inside else ()
    styles = ("page.css", "inside.css") if looked_inside else ("page.css",)
    return document(
        result.title_of(shown), "".join(body), data, map(asset, styles), map(asset, (*SCRIPTS, *more))
    ).encode()


def controls(data: dict[str, Any]) -> str:
    """What the reader may switch. The script fills in the list of runs."""
    clocks = [(clock, f"T_{clock}") for clock in CLOCKS]
    clocks += [("cost", "cost of T_total")] if data["price"] is not None else []
    metrics = sorted([("top1", "top-1"), ("top5", "top-5")], key=lambda item: item[0] != data["metric"])
    aims = any(run["target"] is not None for run in data["runs"])
    near = '<label><input type="checkbox" id="near"> near the target</label>\n' if aims else ""
    old = '<label><input type="checkbox" id="history"> historical results</label>' if data["history"] else ""
    return (
        '<form id="controls" aria-label="What the charts show">\n<fieldset id="runs"><legend>runs</legend></fieldset>\n'
        f'<label>time: <select id="clock">{_options(clocks)}</select></label>\n'
        f'<label>accuracy: <select id="metric">{_options(metrics)}</select></label>\n'
        f'<label><input type="checkbox" id="log-time"> logarithmic time</label>\n{near}{old}</form>\n'
        "<noscript><p>The charts need JavaScript; all numbers are in the tables.</p></noscript>\n"
    )


def _options(choices: list[tuple[str, str]]) -> str:
    return "".join(f'<option value="{value}">{text(name)}' for value, name in choices)


def history(shown: list[Shown]) -> list[dict[str, Any]]:
    """Historical results of the tasks of these runs, about the metric that the page shows first. `percent` is the
    target where only the time is known (`measured` is false)."""
    tasks = {item.run.start.task for item in shown}
    wanted = [old for old in historical() if old["task"] in tasks and old["metric"] == shown[0].run.start.metric]
    names = ("name", "date", "hardware", "seconds", "cost_per_hour", "source")
    points = [{"percent": old["percent"] or old["target"], "measured": old["percent"] is not None} for old in wanted]
    return [{n: old[n] for n in names} | point for old, point in zip(wanted, points, strict=True)]
