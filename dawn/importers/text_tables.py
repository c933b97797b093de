"""Curves from logs that are tables of text: event.log of 2018, airbench's printed table, the TSV of DAWNBench."""

import re
from collections.abc import Iterable, Iterator

from dawn.dawnbench.tsv import read_tsv
from dawn.importers.curve import Curve, Point, Points
from dawn.importers.lines import NUMBER, TORN, Line, number_in, percent_of
from dawn.importers.options import Options
from dawn.runlog.writer import RunError

EVENT_ROW = re.compile(rf"~~(\d{{1,9}})\t+({NUMBER})\t+(\d+\.\d{{3}})\t+(\d+\.\d{{3}})")
EVENT_HEADER = re.compile(r"~~epoch\s+hours\b.*")
TSV_COLUMNS = ("top1accuracy", "top5accuracy")  # as read_tsv gives them
AIRBENCH_TIMES = ("time_seconds", "total_time_seconds")


def event_log_curve(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """Rows `~~epoch hours top1 top5`, epochs from 0. A resumed run writes an epoch again: the later one counts."""
    found = Points()
    for line in lines:
        if not line.text.startswith("~~") or EVENT_HEADER.fullmatch(line.text):
            continue
        match = EVENT_ROW.fullmatch(line.text)
        if not match:
            line.bad("not a row `~~epoch hours top1 top5`")
            found.notes.append(TORN)
            continue
        point = Point(int(match[1]) + 1, *map(float, match.groups()[1:]))
        if found.points and point.epoch <= found.points[-1].epoch:
            found.resume_at(point.epoch)
        found.add(point)
    clock = "from the moment model and loaders were ready (our runs: T_total), evaluation and checkpoints inside"
    return [Curve(name, "event.log", tuple(found.points), clock, True, False, tuple(found.notes))]


def is_tsv_header(text: str) -> bool:
    columns, _ = read_tsv([text])
    return {"epoch", "hours"} < set(columns) <= {"epoch", "hours", *TSV_COLUMNS}


def tsv_curve(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """The first row of each epoch counts; columns in any order, as for the leaderboard."""
    lines, found = list(lines), Points()
    columns, rows = read_tsv(line.text for line in lines)
    for row in rows:
        line = lines[row.line - 1]
        if row.values is None:
            raise RunError(f"{line.where}: {line.text!r:.60} has not the {len(columns)} columns of the header.")
        numbers = {column: number_in(line, cell) for column, cell in row.values.items()}
        found.add(Point(numbers["epoch"], numbers["hours"], *map(numbers.get, TSV_COLUMNS)))
    clock = "not told by a TSV; DAWNBench counts data loading and model initialisation and lets evaluation out"
    return [Curve(name, "tsv", tuple(found.points), clock, notes=tuple(found.notes))]


def is_airbench_header(text: str) -> bool:
    return {"epoch", "val_acc", "tta_val_acc"} <= set(cells_of(text))


def cells_of(text: str) -> list[str]:
    """Of a row `|  a  |  b  |`; empty for anything else."""
    text = text.strip()
    return [cell.strip() for cell in text[1:-1].split("|")] if text[:1] == text[-1:] == "|" and len(text) > 1 else []


def airbench_curves(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """One curve for each run but the warm-up."""
    runs = {run: rows for run, rows in airbench_runs(lines) if run != "warmup"}
    if not runs:
        raise RunError(f"{where}: no run in the table but the warm-up. Give the log of a whole one.")
    return [airbench_curve(f"{name}-{run}" if len(runs) > 1 else name, rows) for run, rows in runs.items()]


Row = tuple[Line, dict[str, str]]


def airbench_runs(lines: Iterable[Line]) -> Iterator[tuple[str, list[Row]]]:
    """(run, rows); only the first row of a run has its number. The same number twice gets a place behind it."""
    columns: list[str] = []
    runs: dict[str, list[Row]] = {}
    run = ""
    for line in lines:
        if is_airbench_header(line.text):
            columns = cells_of(line.text)
            if not set(columns) & set(AIRBENCH_TIMES):
                raise RunError(f"{line.where}: no column {' or '.join(AIRBENCH_TIMES)}. Give a log with times.")
            continue
        if not columns or not line.text.startswith("|"):
            continue
        row = cells_of(line.text)
        if len(row) != len(columns):
            line.bad(f"not the {len(columns)} cells of the table's head")
            continue
        cells = dict(zip(columns, row, strict=True))
        ended = bool(runs.get(run)) and runs[run][-1][1]["epoch"] == "eval"
        label = cells.get("run", "")
        if ended or not runs or (label and label != run.split(" ")[0]):
            run = label or "run"
            while run in runs:
                run = f"{run} again"
        runs.setdefault(run, []).append((line, cells))
    yield from runs.items()


def airbench_curve(name: str, rows: list[Row]) -> Curve:
    """Accuracies are fractions, epochs count from 0; the row `eval` has the accuracy with test-time augmentation."""
    points: list[Point] = []
    notes = ["the run has no final evaluation (row `eval`)"]
    for line, cells in rows:
        seconds = number_in(line, next(cells[column] for column in AIRBENCH_TIMES if column in cells))
        is_final = cells["epoch"] == "eval"
        if is_final and not points:
            raise RunError(f"{line.where}: a final evaluation before any epoch. Restore the lines before it.")
        epoch = points[-1].epoch if is_final else number_in(line, cells["epoch"]) + 1
        fraction = number_in(line, cells["tta_val_acc" if is_final else "val_acc"])
        if fraction > 1:
            raise RunError(f"{line.where}: an accuracy of {fraction}. It must be a fraction, at most 1.")
        if is_final:
            notes = ["the last point is with test-time augmentation (tta_val_acc), the others are without (val_acc)"]
        points.append(Point(epoch, seconds / 3600, percent_of(fraction), None))
    clock = "training steps and whitening on the GPU's clock and the final evaluation; not the evaluations after epochs"
    return Curve(name, "airbench", tuple(points), clock, False, False, tuple(notes))
