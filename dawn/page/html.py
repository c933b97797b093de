"""The few pieces of HTML and the words that the page is made of. Everything that comes from data goes through text()
here."""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from dawn.dawnbench.tasks import METRIC_NAMES, target_text
from dawn.reports.chart import UNITS
from dawn.runlog.records import Row
from dawn.runlog.run import Run
from dawn.tables import plain

Cell = str | int | None  # None: an empty cell; whole numbers and texts that begin with a digit stand on the right


def text(value: object, most: int = 300) -> str:
    """Any value as text of a page: one line without control characters, never markup."""
    return html.escape(plain(str(value), most))


def script_json(value: Any) -> str:
    """JSON for a script element: no character that could end it, and none that old parsers stumble over."""
    encoded = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII, so without U+2028
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def table(
    header: Sequence[str], groups: Iterable[tuple[str, Sequence[Sequence[Cell]]]], about: str, wrapped: int = -1
) -> str:
    """Rows in groups, each under its name (an empty name: no line for it). Wide tables scroll inside their frame;
    column `wrapped` holds sentences, which are broken into lines instead.

    End tags that HTML makes optional are left out, and numbers, which are most cells, have no class: a page of many
    runs has a hundred thousand cells.
    """
    groups = list(groups)
    right = _right(len(header), groups)
    classes = [" class=w" if i == wrapped else "" if right[i] else " class=l" for i in range(len(header))]
    lines = [f'<div class=scroll tabindex=0 role=region aria-label="{text(about)}"><table><thead><tr>']
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
        return f"{wanted} reached in epoch {hit.epoch + 1}, T_total {seconds:.2f} s"
    if not rows:
        return "no evaluation"
    best = f"best {METRIC_NAMES[metric]} {max(row.validation.percent(metric) for row in rows):.6g} %"
    return best if run.start.target is None else f"target not reached, {best}"


def clock_text(seconds: float) -> str:
    """As in `58.03 s`, `17.08 min`, `2.96 h`."""
    _, scale, unit = next(choice for choice in UNITS if seconds <= choice[0])
    return f"{seconds / scale:.2f} {unit}"


def accuracy_texts(row: Row) -> list[str | None]:
    """Of each metric in percent; None where the epoch was not validated."""
    return [f"{row.validation.percent(metric):.3f}" if row.validation else None for metric in METRIC_NAMES]


def number_text(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def ramp_text(pair: tuple[float, float]) -> str:
    first, last = (f"{value:.6g}" for value in pair)
    return first if first == last else f"{first} to {last}"
