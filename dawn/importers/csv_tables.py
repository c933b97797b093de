"""Curves from tables with a header: summary.csv of timm, CSV files of W&B, any other by the names of its columns."""

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from dawn.commandline import quoted
from dawn.importers.curve import Curve, Point, Points
from dawn.importers.lines import TORN, Line, number_in, percent_of
from dawn.importers.options import Options
from dawn.runlog.writer import RunError
from dawn.tables import counted

DELIMITERS = (",", ";", "\t")
SPLIT = r"(?:val|valid|validation|eval|test)"
NAMES = {  # of a column in lower case, each run of other characters than letters and digits as one underline
    "epoch": r"(?:trainer_)?epochs?",
    "hours": r"(?:\w+_)?hours?",
    "seconds": r"runtime|relative_time(?:_process|_wall)?|(?:\w+_)?seconds|(?:total_|wall_|elapsed_)?time_s(?:ec)?",
    "top1": rf"(?:{SPLIT}_)?(?:top_?1(?:_?acc(?:uracy)?)?|acc(?:uracy)?_?(?:at_?|top_?)?1)|{SPLIT}_acc(?:uracy)?",
    "top5": rf"(?:{SPLIT}_)?(?:top_?5(?:_?acc(?:uracy)?)?|acc(?:uracy)?_?(?:at_?|top_?)?5)",
}
LIKELY = {  # names that do not tell a unit, or whether training or validation is meant
    "seconds": r"(?:.*_)?(?:time|elapsed|duration|wall(?:_?clock)?)(?:_.*)?",
    "top1": r"(?:.*_)?acc(?:uracy)?(?:_.*)?",
}
HEADER_CELL = re.compile(r"[^\W\d][\w ()/%@.#-]{0,60}")
MISSING = {"", "nan", "none", "null", "n/a"}
DECIMAL_COMMA = re.compile(r"^([+-]?\d{1,30}),(\d{1,40})$")  # of spreadsheets in many countries, with semicolons
CLOCKS = {
    "wandb": "seconds of the run by W&B (from wandb.init to the line of the log), evaluation inside",
    "csv": "not told by the table",
}


def is_table_header(line: Line, options: Options) -> bool:
    """By the columns that --columns names, else by names that are known: an epoch and an accuracy, or W&B's own."""
    cells = cells_of(line.text, delimiter_of(line.text))
    if options.columns:
        return set(options.columns.values()) <= set(cells)
    roles = {role for role in NAMES if matching(cells, role)}
    return bool(roles & {"top1", "top5"}) and bool({"epoch", "hours", "seconds"} & roles)


def unknown_column(line: Line) -> str:
    """For a line that looks like a table's header: which column is not known, and how to say what it is; "" for another
    line."""
    cells = cells_of(line.text, delimiter_of(line.text))
    roles = {role for role in NAMES if matching(cells, role)}
    if len(cells) < 2 or not all(map(HEADER_CELL.fullmatch, cells)) or not roles:
        return ""
    what = "an epoch, hours or seconds" if roles & {"top1", "top5"} else "an accuracy of the validation"
    names = ", ".join(map(repr, cells[:8]))
    return f"no column of this table is known as {what}: {names:.200}. {proposed_columns(cells)}"


def proposed_columns(cells: list[str]) -> str:
    """A sentence with --columns for this header, NAME where no column looks like it."""
    found = {role: cells[places[0]] for role in NAMES if (places := matching(cells, role))}
    names = {"epoch": found.get("epoch", "NAME")}
    time = next((role for role in ("hours", "seconds") if role in found), "seconds")
    names |= {time: found.get(time) or likely(cells, "seconds")}
    names |= {role: found[role] for role in ("top1", "top5") if role in found} or {"top1": likely(cells, "top1")}
    flag = ",".join(f"{role}={name}" for role, name in names.items())
    return f"Say what each column is, such as --columns {quoted(flag)}. Times may be hours= or seconds=."


def likely(cells: list[str], role: str) -> str:
    """The first column that may have this role, of those without one."""
    free = [cell for cell in cells if not any(matching([cell], known) for known in NAMES)]
    return next((cell for cell in free if re.fullmatch(LIKELY[role], lowered(cell))), "NAME")


def delimiter_of(header: str) -> str:
    """What parts the header most often; the rows may hold decimal commas."""
    return max(DELIMITERS, key=header.count)


def cells_of(text: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text.removeprefix("\ufeff")], delimiter=delimiter), [])]
    except csv.Error:
        return []


def table_curve(name: str, where: str, lines: Iterable[Line], options: Options) -> list[Curve]:
    """A row without an accuracy is no evaluation; what it says of epoch and time holds for the rows below."""
    lines = iter(lines)
    header = next(lines)
    delimiter = delimiter_of(header.text)
    cells = cells_of(header.text, delimiter)
    places = places_of(cells, header.where, options)
    kind = kind_of(cells)
    found = Points()
    rows = ((line, cells_of(line.text, delimiter) if line.text.strip() else []) for line in lines)
    for row in evaluations(rows, cells, places, found):
        epoch = row.get("epoch", len(found.points) + 1)
        if "resumed" in row:
            found.resume_at(epoch)
        hours = row["seconds"] / 3600 if "seconds" in row else row.get("hours", math.nan)
        found.add(Point(epoch, hours, row.get("top1"), row.get("top5")))
    points = in_percent(from_one(found, kind), found)
    clock = CLOCKS.get(kind, CLOCKS["csv"])
    if not {"hours", "seconds"} & places.keys():
        if options.hours_per_epoch is None and (vague := likely(cells, "seconds")) != "NAME":
            raise RunError(f"{header.where}: column {vague!r:.60} does not tell its unit. {proposed_columns(cells)}")
        points = [replace(point, hours=options.hours_at(point.epoch, where)) for point in points]
        clock = options.clock
    if "epoch" not in places:
        found.notes.append("no column for the epoch: the evaluations were counted")
    return [Curve(name, kind, tuple(points), clock, None, None, tuple(found.notes))]


def kind_of(cells: list[str]) -> str:
    if {"epoch", "eval_top1"} <= set(cells):
        return "timm"
    return "wandb" if {"_step", "_runtime", "Relative Time (Process)"} & set(cells) else "csv"


def places_of(cells: list[str], where: str, options: Options) -> dict[str, int]:
    """The place of each role's column. RunError where two fit, or the one that --columns names is there twice."""
    if options.columns:
        twice = next((name for name in options.columns.values() if cells.count(name) > 1), None)
        if twice:
            raise RunError(f"{where}: two columns {twice!r:.60}. Rename one of them.")
        return {role: cells.index(name) for role, name in options.columns.items()}
    found = {role: matching(cells, role) for role in NAMES}
    if found["hours"]:
        found["seconds"] = []
    for role, places in found.items():
        if len(places) > 1:
            names = ", ".join(repr(cells[place]) for place in places[:4])
            raise RunError(f"{where}: more than one column for {role}: {names}. Choose: --columns {role}=NAME,... .")
    return {role: places[0] for role, places in found.items() if places}


def matching(cells: list[str], role: str) -> list[int]:
    """Places of the columns whose names fit. Charts of W&B have `RUN - METRIC`, with __MIN and __MAX beside it."""
    names = [lowered(cell.rpartition(" - ")[2]) for cell in cells]
    return [place for place, name in enumerate(names) if re.fullmatch(NAMES[role], name)]


def lowered(cell: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_")


def evaluations(
    rows: Iterator[tuple[Line, list[str]]], cells: list[str], places: dict[str, int], found: Points
) -> Iterator[dict[str, float]]:
    """The numbers of each row with an accuracy, by role; `resumed` is in one below another header, as timm writes it
    when a run goes on. A header may also have lines above it."""
    last: dict[str, float] = {}
    words: list[tuple[int, str]] = []  # in place of an accuracy; with their lines
    timeless: list[int] = []
    for line, row in rows:
        if row == cells:
            last["resumed"] = 1
        elif row and len(row) != len(cells):
            line.bad(f"{len(row)} cells, the header has {len(cells)}")
            found.notes.append(TORN)
        elif row:
            values = {role: value_in(line, row[place]) for role, place in places.items()}
            words += [
                (line.number, row[places[m]]) for m in ("top1", "top5") if m in places and is_word(row[places[m]])
            ]
            last |= {role: value for role, value in values.items() if value is not None}
            if values.get("top1") is not None or values.get("top5") is not None:
                timeless += [line.number] * any(values.get(time, 0.0) is None for time in ("hours", "seconds"))
                yield last
                last = {role: last[role] for role in ("epoch", "hours", "seconds") if role in last}
    if words:
        rows_with = counted(len(dict(words)), "row")
        found.notes.append(
            f"{rows_with} with {words[0][1]!r:.20} for an accuracy, the first is line {words[0][0]}: it was left out"
        )
    if timeless:
        found.notes.append(
            f"{counted(len(timeless), 'evaluation')} without a time, the first in line {timeless[0]}: the last time "
            "above was taken"
        )


def is_word(cell: str) -> bool:
    """For a value that is missing; an empty cell says nothing, as in the rows of training in a log of W&B."""
    return bool(cell) and cell.lower() in MISSING


def value_in(line: Line, cell: str) -> float | None:
    """None for a value that is missing. A percent sign is passed over, and a comma in front of decimals is one."""
    cell = cell.strip().removesuffix("%").strip()
    if ";" in line.text:
        cell = DECIMAL_COMMA.sub(r"\1.\2", cell)
    if cell.lower() in MISSING:
        return None
    return number_in(line, cell, "Restore this line, or choose another column: --columns")


def from_one(found: Points, kind: str) -> list[Point]:
    """timm counts epochs from 0, as does a table whose first epoch is 0 although time has passed."""
    points = found.points
    first = points[0] if points else None
    if kind == "timm" or (first and first.epoch == 0 and first.hours != 0):
        if kind != "timm":
            found.notes.append("its epochs count from 0: 1 was added")
        return [replace(point, epoch=point.epoch + 1) for point in points]
    return points


def in_percent(points: list[Point], found: Points) -> list[Point]:
    percents = [value for point in points for value in (point.top1, point.top5) if value is not None]
    if not percents or max(percents) > 1:
        return points
    found.notes.append("its accuracies are fractions: they were read as percent")
    return [
        replace(
            point, **{m: None if point.percent(m) is None else percent_of(point.percent(m)) for m in ("top1", "top5")}
        )
        for point in points
    ]
