"""Reading the entries that others wrote: a JSON file and a TSV of the same name, with everything that breaks
DAWNBench's rules as a list of sentences. Nothing here trusts a file: no size, no type, no order of columns."""

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from dawn.dawnbench.tasks import Task
from dawn.dawnbench.tsv import TsvRow, read_tsv
from dawn.filekind import wrong_kind_of
from dawn.runlog.writer import RunError
from dawn.tables import plain

MAX_BYTES = 20_000_000
REQUIRED = ("version", "author", "authorEmail", "framework", "model", "hardware", "timestamp")
TEXTS = ("codeURL", "logFilename")
DATE = "%Y-%m-%d"
NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,2})?")


@dataclass(frozen=True)
class Progress:
    """One row of a TSV; `line` counts from 1 with the header, `texts` are the accuracies as printed, by metric."""

    line: int
    epoch: float
    hours: float
    texts: dict[str, str]

    def percent(self, metric: str) -> float:
        return float(self.texts[metric])


def read_bytes(path: Path) -> bytes:
    """RunError for a file that cannot be read or is too large for an entry."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}. Give a run, an entry or a folder of entries.") from None
    if len(data) > MAX_BYTES:
        raise RunError(f"{path}: more than {MAX_BYTES} bytes. This is not an entry.")
    return data


def read_fields(path: Path, problems: list[str]) -> dict[str, Any]:
    """The JSON object of an entry; what is wrong with it is added to `problems`. Raises as read_bytes."""
    data = read_bytes(path)
    try:
        fields = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        kind = wrong_kind_of(data, path)
        problems.append(f"JSON: {kind or f'cannot be read ({str(error).splitlines()[0]})'}")
        return {}
    if not isinstance(fields, dict):
        problems.append("JSON: is no object")
        return {}
    problems += [f"JSON: {text}" for text in _field_problems(fields)]
    return fields


def _field_problems(fields: dict[str, Any]) -> list[str]:
    problems = [f"{name!r} is missing" for name in REQUIRED if name not in fields]
    for name in (*REQUIRED, *TEXTS):
        value = fields.get(name, "absent")
        if not isinstance(value, str) or (not value.strip() and name in REQUIRED):
            problems.append(f"{name!r} is {_short(value)}, it must be text")
    if isinstance(fields.get("version"), str) and fields["version"] != "v1.0":
        problems.append(f"'version' is {_short(fields['version'])}, it must be 'v1.0'")
    if isinstance(fields.get("timestamp"), str) and not _is_date(fields["timestamp"]):
        problems.append(f"'timestamp' is {_short(fields['timestamp'])}, it must be a day as 2026-11-22")
    if "misc" in fields and not isinstance(fields["misc"], dict):
        problems.append(f"'misc' is {_short(fields['misc'])}, it must be an object")
    cost = fields.get("costPerHour", 0)
    if type(cost) not in (int, float) or not (0 <= cost < math.inf):
        problems.append(f"'costPerHour' is {_short(cost)}, it must be dollars, 0 or more")
    if "draft" in fields:
        problems.append(f"it is a draft: {_short(fields['draft'], 300)}")
    return problems


def _is_date(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, DATE))
    except ValueError:
        return False


def _short(value: Any, most: int = 60) -> str:
    return plain(repr(value), most)


def read_rows(path: Path, task: Task, problems: list[str]) -> list[Progress]:
    """The rows of a TSV, by the names of its columns; what is wrong with them is added to `problems`. Raises as
    read_bytes."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except ValueError as error:
        problems.append(f"TSV: {wrong_kind_of(data, path) or f'is no UTF-8 text ({error.reason})'}")
        return []
    if kind := wrong_kind_of(data, path):
        problems.append(f"TSV: {kind}")
        return []
    header, table = read_tsv(line.removesuffix("\r") for line in text.split("\n"))
    wanted = ("epoch", "hours", *(name for name, _ in task.columns))
    if sorted(header) != sorted(wanted):
        problems.append(f"TSV: the columns are {_short(header, 120)}, they must be {', '.join(wanted)}")
        return []
    rows = [found for row in table if (found := _row(row, header, task, problems))]
    if not rows:
        problems.append("TSV: no rows")
    problems += [f"TSV: {text}" for text in _order_problems(rows)]
    return rows


def _row(row: TsvRow, header: list[str], task: Task, problems: list[str]) -> Progress | None:
    number, values = row.line, row.values
    if values is None or not all(map(NUMBER.fullmatch, values.values())):
        problems.append(f"TSV: line {number} is {_short(row.cells, 100)}, not {len(header)} numbers between tabs")
        return None
    texts = {metric: values[name] for name, metric in task.columns}
    found = Progress(number, float(values["epoch"]), float(values["hours"]), texts)
    if not all(0 <= found.percent(metric) <= 100 for metric in texts):
        problems.append(f"TSV: line {number}: an accuracy is not from 0 to 100 percent")
    if "top5" in texts and found.percent("top5") < found.percent("top1"):
        problems.append(f"TSV: line {number}: top-5 is below top-1")
    return found


def _order_problems(rows: list[Progress]) -> list[str]:
    problems = [f"line {rows[0].line}: hours are below 0"] if rows and rows[0].hours < 0 else []
    for before, row in pairwise(rows):
        if row.hours <= before.hours:
            problems.append(f"line {row.line}: hours do not go forward ({row.hours:.10g} after {before.hours:.10g})")
        if row.epoch < before.epoch:
            problems.append(f"line {row.line}: the epoch goes back ({row.epoch:g} after {before.epoch:g})")
    if len(rows) > 1 and all(row.percent("top1") <= 1 for row in rows):
        problems.append("accuracies are shares of 1, they must be percent")
    return problems
