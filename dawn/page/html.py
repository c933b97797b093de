"""The few pieces of HTML and the words that the page is made of. Everything that comes from data goes through text()
here."""

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from dawn.dawnbench.tasks import METRIC_NAMES, target_text
from dawn.reports.chart import UNITS
from dawn.runlog.records import Row, Start
from dawn.runlog.run import Run
from dawn.tables import percent_text, plain

OUTCOMES = {
    "target_reached": "target reached",
    "finished_without_target": "finished below the target",
    "preempted": "interrupted and saved",
}
HASH_DIGITS = 12  # of SHA-256 and run ids: enough to tell them apart
HASH = re.compile(r"[0-9a-f]{16,}")
Cell = str | int | None  # None: an empty cell; whole numbers and texts that begin with a digit stand on the right


def text(value: object, most: int = 300) -> str:
    """Any value as text of a page: one line without control characters, never markup."""
    return html.escape(plain(str(value), most))


def script_json(value: Any) -> str:
    """JSON for a script element: no character that could end it, and none that old parsers stumble over."""
    encoded = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII, so without U+2028
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def table(
    header: Sequence[str],
    groups: Iterable[tuple[str, Sequence[Sequence[Cell]]]],
    about: str,
    wrapped: int = -1,
    short: bool = False,
) -> str:
    """Rows in groups, each under its name (an empty name: no line for it). Wide tables scroll inside their frame;
    column `wrapped` holds sentences, which are broken into lines instead. `short`: a low frame, so that what follows is
    seen on the first screen.

    End tags that HTML makes optional are left out, and numbers, which are most cells, have no class: a page of many
    runs has a hundred thousand cells.
    """
    groups = list(groups)
    right = _right(len(header), groups)
    classes = [" class=w" if i == wrapped else "" if right[i] else " class=l" for i in range(len(header))]
    frame = '"scroll short"' if short else "scroll"
    lines = [f'<div class={frame} tabindex=0 role=region aria-label="{text(about)}"><table><thead><tr>']
    lines += [f"<th scope=col{classes[i]}>{text(name)}" for i, name in enumerate(header)]
    for name, rows in groups:
        lines.append("\n<tbody>" + (f"<tr><th scope=rowgroup colspan={len(header)}>{text(name)}" if name else ""))
        lines += ["\n<tr>" + "".join(_cell(cell, classes[i]) for i, cell in enumerate(row)) for row in rows]
    return "".join(lines) + "</table></div>\n"


def _cell(cell: Cell, class_name: str) -> str:
    return f"<td{class_name}>{'' if cell is None else text(cell)}"


def _right(columns: int, groups: list[tuple[str, Sequence[Sequence[Cell]]]]) -> list[bool]:
    """Of each column: do all its cells begin with a digit (or a sign)?"""
    cells = [[str(row[i]) for _, rows in groups for row in rows if row[i] is not None] for i in range(columns)]
    return [bool(column) and all(cell.lstrip("-$≤")[:1].isdigit() for cell in column) for column in cells]


def details(summary: str, inside: str, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{text(summary)}</summary>\n{inside}</details>\n"


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names with their values; the page puts them side by side where there is room."""
    return "<dl>" + "".join(f"<div><dt>{text(n)}</dt><dd>{text(v, 2000)}</dd></div>" for n, v in pairs) + "</dl>\n"


def outcome_text(run: Run) -> str:
    if run.stop is None:
        return "still running, or killed"
    return OUTCOMES.get(run.stop.outcome, run.stop.outcome)


def words_of(name: str) -> str:
    """The name of a logged field, for people."""
    return name.replace("_", " ")


def value_text(value: Any) -> str:
    """A logged value for people: no quotes, braces or True of a programming language; hashes cut short."""
    if value is None or isinstance(value, bool):
        return {None: "not known", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{words_of(str(name))} {value_text(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, str) and HASH.fullmatch(value):
        return f"{value[:HASH_DIGITS]}…"
    return str(value) if value != "" else "none"


def section(name: str, title: str, inside: str) -> str:
    heading = f'<h2 id="{name}-title">{text(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}\n{inside}</section>\n'


def note(words: str) -> str:
    return f"<p class=note>{text(words, 1000)}</p>\n"


def chart(name: str, alternative: str) -> str:
    """The place of a chart that the script draws; `alternative` says in words what it will show."""
    return f'<div class=chart id="chart-{name}" role=img aria-label="{text(alternative, 1000)}"></div>\n'


def result_in_words(run: Run) -> str:
    hit, rows, metric = run.hit(), [row for row in run.rows if row.validation], run.start.metric
    if hit:
        wanted, seconds = target_text(metric, run.start.target), hit.clock["total"]
        return f"{wanted} reached in epoch {hit.until}, T_total {seconds:.2f} s"
    if not rows:
        return "no evaluation"
    best = max(row.validation.percent(metric) for row in rows)
    best = f"best {METRIC_NAMES[metric]} {percent_text(best, run.start.target)} %"
    return best if run.start.target is None else f"target not reached, {best}"


def clock_text(seconds: float) -> str:
    """As in `58.03 s`, `17.08 min`, `2.96 h`."""
    _, scale, unit = next(choice for choice in UNITS if seconds <= choice[0])
    return f"{seconds / scale:.2f} {unit}"


def accuracy_texts(row: Row, start: Start) -> list[str | None]:
    """Of each metric in percent; None where the epoch was not validated."""
    targets = {metric: start.target if metric == start.metric else None for metric in METRIC_NAMES}
    seen = row.validation
    return [percent_cell(seen.percent(name) if seen else None, target) for name, target in targets.items()]


def percent_cell(value: float | None, target: float | None = None) -> str | None:
    """As many decimals in every row of every table, more only where it takes them to be apart from the target."""
    return None if value is None else percent_text(value, target, decimals=3)


def number_text(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def ramp_text(pair: tuple[float, float]) -> str:
    first, last = (f"{value:.6g}" for value in pair)
    return first if first == last else f"{first} to {last}"
