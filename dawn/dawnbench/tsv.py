"""The TSV of DAWNBench, one row per evaluation: result.tsv as we write it, and the cells of anybody's. In ours epochs
count from 1, and hours are T_dawn unless another clock is asked for."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dawn.dawnbench.tasks import Task, task_of
from dawn.runlog.records import Row
from dawn.runlog.run import Run
from dawn.runlog.writer import RunError

TSV_NAME = "result.tsv"


class TsvRow(NamedTuple):
    line: int  # from 1
    cells: list[str]
    values: dict[str, str] | None  # by column; None where cells are missing or too many


def read_tsv(lines: Iterable[str]) -> tuple[list[str], Iterator[TsvRow]]:
    """The columns that the first line with a word names, in lower case, and the rows below it; lines without a word are
    left out. More than one tab may stand between cells, as in some entries of DAWNBench. What a column must be called
    and a value may be is its reader's business."""
    numbered = enumerate(lines, start=1)
    header = next((line for _, line in numbered if line.strip()), "")
    columns = [name.strip().casefold() for name in header.split("\t") if name.strip()]
    return columns, _rows(columns, numbered)


def _rows(columns: list[str], numbered: Iterator[tuple[int, str]]) -> Iterator[TsvRow]:
    for number, line in numbered:
        cells = [cell.strip() for cell in line.split("\t")]
        if not any(cells):
            continue
        if len(cells) != len(columns):  # only then: an empty cell may also be a value that is missing
            cells = [cell for cell in cells if cell]
        yield TsvRow(number, cells, dict(zip(columns, cells, strict=True)) if len(cells) == len(columns) else None)


def tsv(run: Run, clock: str = "dawn") -> str:
    """Every evaluation to the end of the run, hours on `clock` (one of records.CLOCKS). RunError if there is none or
    if two stand at the same hour."""
    task = task_of(run.start.task)
    lines = ["\t".join(("epoch", "hours", *(name for name, _ in task.columns)))]
    hours = ""
    for row in run.evaluations:
        # Two digits, as other entries have, would be steps of 36 s.
        before, hours = hours, f"{run.hours(row, clock):.10f}"  # to 0.36 microseconds
        if hours == before:
            raise RunError(f"{run.path}: epoch {row.epoch} ends at the same hour as the one before. Check its clock.")
        lines.append("\t".join((str(row.until), hours, *_percents(task, row))))
    return "\n".join(lines) + "\n"


def _percents(task: Task, row: Row) -> list[str]:
    return [repr(row.validation.percent(metric)) for _, metric in task.columns]
