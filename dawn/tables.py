"""Tables for people: rich ones on a terminal, plain text elsewhere, Markdown and HTML. Cells may hold hostile text."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_[]#!~|@$"} | {char: html.escape(char) for char in "&<>"})


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def plain(text: str, most: int = 100) -> str:
    """Text of a log made safe to print: one line, no control characters, not endless."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= most else clean[: most - 3] + "..."


def counted(number: int, noun: str) -> str:
    """As in `1 run`, `2 runs`; for nouns that take an s."""
    return f"{number} {noun}{'s' * (number != 1)}"


def percent_text(percent: float, target: float | None = None, decimals: int = 0) -> str:
    """An accuracy with three decimals, of which zeros at the end are left out down to `decimals`; with as many more as
    it takes to stand on the same side of the target (percent) as the accuracy does: 92.99996 % is not 93 %."""
    least = max(3, decimals)
    fixed = f"{percent:.{least}f}"
    longer = (f"{percent:.{places}f}" for places in range(least, 15))
    text = next((text for text in longer if _same_side(float(text), percent, target)), repr(percent))
    if text != fixed:
        return text
    whole, _, digits = fixed.partition(".")
    kept = digits[:decimals] + digits[decimals:].rstrip("0")
    return f"{whole}.{kept}" if kept else whole


def _same_side(shown: float, percent: float, target: float | None) -> bool:
    return target is None or (shown >= target) == (percent >= target)


def plain_table(table: Table) -> str:
    lines = [*([table.header] if table.header else []), *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))] if lines else []
    texts = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join([table.title, *(f"  {text}".rstrip() for text in texts)]) + "\n"


def print_tables(tables: Sequence[Table]) -> None:
    from rich.console import Console  # here, so that importing dawn stays cheap

    console = Console()
    if not console.is_terminal:
        print("\n".join(plain_table(table) for table in tables), end="")
        return
    for table in tables:
        console.print(_rich_table(table))


def markdown_text(text: str) -> str:
    """Shown as it is: no markup, no link, no HTML, one line."""
    return plain(text, 1000).translate(MARKDOWN).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def markdown_table(table: Table) -> str:
    """A heading and a table in GitHub's Markdown; a table without a header gets an empty one."""
    header = table.header or ("",) * (len(table.rows[0]) if table.rows else 1)
    lines = [header, ("---",) * len(header), *table.rows]
    texts = [[cell if number == 1 else markdown_text(cell) for cell in line] for number, line in enumerate(lines)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in texts)
    return f"### {markdown_text(table.title)}\n\n{body}\n"


def html_table(table: Table) -> str:
    """A heading and a table that scrolls in a frame of class `scroll`; everything in it is escaped."""
    head = "".join(f"<th>{html.escape(plain(cell))}</th>" for cell in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(plain(cell, 1000))}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    title = html.escape(plain(table.title, 1000))
    inside = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    return f'<h2>{title}</h2>\n<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n{inside}\n</div>\n'


def _rich_table(table: Table) -> object:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text  # Text, so that brackets in a name are no markup

    rich = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE, show_header=bool(table.header))
    for name in table.header or ("",) * (len(table.rows[0]) if table.rows else 0):
        rich.add_column(name)
    for row in table.rows:
        rich.add_row(*(Text(cell) for cell in row))
    return rich
