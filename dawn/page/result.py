"""The top of the page: what came out, for one run in large figures, for several as a table."""

from dawn.dawnbench.tasks import METRIC_NAMES, target_text
from dawn.page.data import Shown
from dawn.page.html import Cell, clock_text, facts, outcome_text, result_in_words, section, table, text
from dawn.reports.cost import JOULES_PER_KWH, energy_joules
from dawn.reports.summary import resumed_text
from dawn.runlog.records import CLOCKS, Row, hardware_name
from dawn.runlog.run import Run
from dawn.tables import percent_text, plain


def title_of(shown: list[Shown]) -> str:
    starts = [item.run.start for item in shown]
    if len(shown) == 1:
        return plain(f"{starts[0].recipe or 'no recipe'} on {starts[0].task}", 80)
    recipes, tasks = ({getattr(start, name) for start in starts} for name in ("recipe", "task"))
    what = (starts[0].recipe or "no recipe") if len(recipes) == 1 else f"{len(recipes)} recipes"
    return plain(f"{len(shown)} runs: {what} on {', '.join(sorted(tasks))}", 80)


def header(shown: list[Shown]) -> str:
    kinds = {_kind(item.run) for item in shown}
    lines = "<br>".join(text(kind) for kind in sorted(kinds)[:3])
    more = f"<br>and {len(kinds) - 3} more kinds" if len(kinds) > 3 else ""
    return f"<header><h1>{text(title_of(shown))}</h1>\n<p>{lines}{more}</p></header>\n"


def _kind(run: Run) -> str:
    start, hardware = run.start, hardware_name(run.latest.hardware)
    return f"{start.model}, {start.precision}, {hardware}, PyTorch {run.latest.versions['torch']}"


def result_section(shown: list[Shown], price: float | None) -> str:
    inside = _large_figures(shown[0].run, price) if len(shown) == 1 else _table(shown, price)
    inside += _resumed(shown)
    words = [("cost", f"the time of a clock, times {price:g} US dollars per hour")] if price is not None else []
    if len(shown) > 1:
        words.append(("accuracy and times", "of the first evaluation at the target; of a run that missed it, the best"))
    meanings = facts([*((f"T_{clock}", meaning) for clock, meaning in CLOCKS.items()), *words])
    what = "What the columns say" if len(shown) > 1 else "What the clocks count"
    return section("result", "Result", f"{inside}<details><summary>{what}</summary>\n{meanings}</details>\n")


def _large_figures(run: Run, price: float | None) -> str:
    """Clocks at the target; at the last evaluation where it was not reached."""
    hit, rows = run.hit(), [row for row in run.rows if row.validation]
    row, metric = hit or (rows[-1] if rows else None), run.start.metric
    words = result_in_words(run)
    figures = []
    if row:
        figures = [(f"T_{clock}", clock_text(row.clock[clock])) for clock in CLOCKS]
        figures.append((f"{METRIC_NAMES[metric]}, {row.validation.correct(metric)} of {row.validation.images}",
                        f"{percent_text(row.validation.percent(metric), run.start.target)} %"))  # fmt: skip
        figures += [
            (f"cost of T_{c}", f"${dollars(row, c, price):.4g}") for c in ("total", "dawn") if price is not None
        ]
        figures += [("energy of the devices", f"{kwh} kWh") for kwh in [energy_kwh(run, row)] if kwh]
    cells = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in figures)
    mark, told = ("✓", "") if hit and run.stop and run.stop.outcome == "target_reached" else ("•", outcome_text(run))
    outcome = f" <span>({text(told)})</span>" if told else ""
    return f"<p class=verdict>{mark} {text(words)}{outcome}</p>\n<dl class=figures>{cells}</dl>\n"


def _resumed(shown: list[Shown]) -> str:
    """What the interruptions of each run cost, as the summary says it."""
    lines = []
    for item in shown:
        for attempt in item.run.resumes:
            name = f"{item.name}: " if len(shown) > 1 else ""
            lines.append(f"<li>{text(f'{name}resumed, {resumed_text(attempt)}', 400)}")
    return f"<ul class=notes>{''.join(lines)}</ul>\n" if lines else ""


def _table(shown: list[Shown], price: float | None) -> str:
    money = ("T_total in $", "T_dawn in $") if price is not None else ()
    clocks = tuple(f"T_{clock} (s)" for clock in CLOCKS)
    metrics = {item.run.start.metric for item in shown}
    accuracy = f"{METRIC_NAMES[metrics.pop()]} %" if len(metrics) == 1 else "accuracy %"
    names = ("run", accuracy, clocks[0], "in epoch", "outcome", *clocks[1:], *money, "target", "folder", "energy (kWh)")
    rows = [_line(item, price) for item in shown]
    if all(row[-1] is None for row in rows):  # no device of any run had a counter
        names, rows = names[:-1], [row[:-1] for row in rows]
    return table(names, [("", rows)], "Result of each run", short=True)


def _line(item: Shown, price: float | None) -> list[Cell]:
    """Clocks stand only where the target was reached, or where there was none."""
    run, hit = item.run, item.run.hit()
    start, rows = run.start, [row for row in run.rows if row.validation]
    best = max(rows, key=lambda row: row.validation.percent(start.metric), default=None)
    seen = hit or best
    accuracy = percent_text(seen.validation.percent(start.metric), start.target, decimals=3) if seen else None
    at = hit or (rows[-1] if rows and start.target is None else None)
    clocks = [f"{at.clock[clock]:.3f}" if at else None for clock in CLOCKS]
    money = [f"{dollars(at, clock, price):.4f}" if at else None for clock in ("total", "dawn") if price is not None]
    target = "none" if start.target is None else target_text(start.metric, start.target)
    reached = str(hit.until) if hit else None
    first = [item.name, accuracy, clocks[0], reached, outcome_text(run)]
    return [*first, *clocks[1:], *money, target, item.folder, energy_kwh(run, at)]


def energy_kwh(run: Run, row: Row | None) -> str | None:
    """Of all devices up to the end of this row; None where the log does not hold all of it."""
    joules = energy_joules(run, [before for before in run.rows if before.epoch <= row.epoch]) if row else None
    return None if joules is None else f"{joules / JOULES_PER_KWH:.6f}"


def dollars(row: Row, clock: str, price: float) -> float:
    return row.clock[clock] / 3600 * price
