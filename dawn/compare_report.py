"""A comparison of two recipes as tables for people and as JSON for programs."""

import json

from dawn.compare import Comparison
from dawn.estimates import Estimate
from dawn.study_report import estimate_json, estimate_table, number
from dawn.tables import Table, plain


def compare_tables(comparison: Comparison) -> list[Table]:
    a, b = (plain(name, 40) for name in comparison.names)
    rows = tuple((name, _text(one), _text(other)) for name, (one, other) in comparison.sides.items())
    needed = tuple((name, _needed(count, comparison.paired)) for name, count in comparison.needed.items())
    tables = [
        Table(f"A: {a}, B: {b}; {plain(comparison.title)}", ("", "A", "B"), rows),
        estimate_table(comparison.design, comparison.differences),
        Table("to tell them apart at these differences and spreads (5 %, power 80 %)", ("", "needed"), needed),
        Table("notes", (), tuple((plain(note, 300),) for note in comparison.notes)),
    ]
    return [table for table in tables if table.rows]


def _text(estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{number(estimate.value)}" + (f" ({estimate.note})" if estimate.note else "")
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def _needed(count: int | None, paired: bool) -> str:
    if count is None:
        return "no number of runs: there is no difference"
    return f"{count} pairs of runs" if paired else f"{count} runs of each"


def compare_json(comparison: Comparison) -> str:
    """As study_json."""
    fields = {name: getattr(comparison, name) for name in ("names", "title", "paired", "design", "needed", "notes")}
    fields |= {
        "sides": {name: [estimate_json(e) for e in pair] for name, pair in comparison.sides.items()},
        "differences": {name: estimate_json(e) for name, e in comparison.differences.items()},
    }
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"
