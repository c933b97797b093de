"""Leaderboards: entries in the order of time or cost to the target, and where a run would stand among them."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import realpath

from dawn.dawnbench.tasks import target_text
from dawn.leaderboard.entry import BOARDS, Entry
from dawn.tables import Table, html_table, markdown_table, markdown_text, percent_text, plain

STYLE = (
    "body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:86rem;padding:0 1rem;color:#1c2430;"
    "background:#fff}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid #d5dae1;white-space:nowrap}"
    "td:nth-child(2):last-child{white-space:normal;min-width:14rem}.scroll{overflow-x:auto}"
    "h2{font-size:1.1rem;margin-top:2rem}p{max-width:50rem}"
    "@media(prefers-color-scheme:dark){body{color:#e4e8ee;background:#14181f}th,td{border-color:#39414d}}"
)
ABOUT = (
    "Time is that of the first row at the target, read again from each TSV. The clock is DAWNBench's: evaluation and "
    "checkpoints need not count, when it starts is not sharply defined, and each entry is one run. "
    "Whether an entry keeps the other rules of DAWNBench is not looked at here: that tells `check`."
)
MARK = "this run"


@dataclass(frozen=True)
class Board:
    """ranked: (rank, entry), equal values share a rank. unranked: entries without a price on a board by cost."""

    task: str
    target: float
    by: str
    ranked: list[tuple[int, Entry]]
    unranked: list[Entry]
    run: Entry | None


def board(entries: Sequence[Entry], task: str, by: str, target: float | None = None, run: Entry | None = None) -> Board:
    """entries: of any task; those of others are passed over. run: is ranked among them if it is of this task."""
    own = [entry for entry in entries if entry.task == task]
    run = run if run and run.task == task else None
    if run:
        own = [*(entry for entry in own if realpath(entry.place) != realpath(run.place)), run]
    priced = [entry for entry in own if by == "time" or entry.dollars is not None]
    ordered = sorted(priced, key=lambda entry: (_value(entry, by), entry.day, entry.name))
    values = [_value(entry, by) for entry in ordered]
    ranked = [(values.index(value) + 1, entry) for value, entry in zip(values, ordered, strict=True)]
    return Board(task, target or BOARDS[task][1], by, ranked, [e for e in own if e not in priced], run)


def _value(entry: Entry, by: str) -> float:
    return entry.seconds if by == "time" or entry.dollars is None else entry.dollars


def standing(board: Board) -> str:
    """As in `this run stands 7th of 27 by time`; empty without a run."""
    if board.run is None:
        return ""
    rank = next((rank for rank, entry in board.ranked if entry is board.run), None)
    if rank is None:
        return f"{MARK} has no price, so no place by {board.by}: make its entry with --cost-per-hour"
    return f"{MARK} stands {ordinal(rank)} of {len(board.ranked)} by {board.by}, itself included"


def ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def board_table(board: Board) -> Table:
    header = ("rank", "", "time", "cost", "entry", "model", "hardware", "date", "epoch", "accuracy, %")
    rows = [
        (
            str(rank),
            f"<- {MARK}" if entry is board.run else "",  # here, so that a narrow window shows it
            duration(entry.seconds),
            "-"
            if entry.dollars is None
            else f"${entry.dollars:,.2f}"
            if entry.dollars >= 1
            else f"${entry.dollars:.4f}",
            plain(entry.name, 44),
            plain(entry.model, 24) or "-",
            plain(entry.hardware, 44) or "-",
            entry.day or "-",
            plain(entry.epoch, 8) or "-",
            "-" if entry.percent is None else percent_text(entry.percent, board.target, decimals=3),
        )
        for rank, entry in board.ranked
    ]
    metric, many = BOARDS[board.task][0], f"{len(rows)} entr{'y' if len(rows) == 1 else 'ies'}"
    filled = [i for i in range(len(header)) if any(row[i] not in ("", "-") for row in rows)]  # historical: no model
    cut = [tuple(line[i] for i in filled) for line in (header, *rows)] if rows else [header]
    return Table(f"{board.task}, {board.by} to {target_text(metric, board.target)}: {many}", cut[0], tuple(cut[1:]))


def duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds:.3g} s"
    return f"{seconds / 60:.2f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def board_tables(boards: Sequence[Board], broken: Sequence[tuple[str, str]]) -> list[Table]:
    """The boards, then what is odd in ranked entries, and what could not be ranked and why."""
    odd = [(entry.place, doubt) for board in boards for _, entry in board.ranked for doubt in entry.doubts]
    left = [(entry.place, "no price") for board in boards for entry in board.unranked] + list(broken)
    return [
        *map(board_table, boards),
        *_reasons("ranked, but hard to believe", odd),
        *_reasons("not ranked", left),
    ]


def _reasons(title: str, pairs: Sequence[tuple[str, str]]) -> list[Table]:
    """No table where there is nothing to say."""
    rows = tuple((plain(place, 160), plain(reason, 240)) for place, reason in pairs)
    return [Table(title, ("entry", "reason"), rows)] if rows else []


def board_markdown(tables: Sequence[Table], lines: Sequence[str]) -> str:
    texts = [markdown_text(line) + "\n" for line in (*lines, ABOUT)]
    return "\n".join([*texts, *(markdown_table(table) for table in tables)])


def board_html(tables: Sequence[Table], lines: Sequence[str]) -> str:
    """One page that loads nothing and runs nothing."""
    texts = "".join(f"<p>{html.escape(plain(line, 300))}</p>\n" for line in (*lines, ABOUT))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Leaderboard</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Leaderboard</h1>\n{texts}"
        + "".join(html_table(table) for table in tables)
        + "</body>\n</html>\n"
    )
