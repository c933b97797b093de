"""One entry of a leaderboard, read from a TSV with its JSON. Whatever is wrong with it is an EntryError, one line."""

import json
import math
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from dawn.dawnbench.tasks import METRIC_NAMES, TASKS, target_text
from dawn.dawnbench.tsv import read_tsv
from dawn.filekind import wrong_kind_of

MAX_BYTES = 5_000_000  # of a JSON or TSV
MOST = 1e9  # no hours, percent or dollars per hour of a real entry are more
BOARDS = {name: (task.metric, task.target) for name, task in TASKS.items()} | {"Imagenette": ("top1", 75.0)}
COLUMNS = {"top1": "top1accuracy", "top5": "top5accuracy"}


class EntryError(ValueError):
    """Why an entry cannot be ranked."""


@dataclass(frozen=True)
class Entry:
    """seconds: to the first row at the target; dollars: for that time, None without a price. Texts may be hostile."""

    task: str
    name: str
    model: str
    hardware: str
    day: str  # yyyy-mm-dd, or empty
    seconds: float
    percent: float | None
    epoch: str
    dollars: float | None
    place: str  # path or address


def task_named(text: str) -> str | None:
    """The board of a folder's or dataset's name."""
    known = {name.casefold(): name for name in BOARDS} | {"cifar-10": "CIFAR10"}
    return known.get(text.casefold())


def read_text(path: Path) -> str:
    if not path.is_file():  # a pipe would never end
        raise EntryError(f"{path.name} is no file")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise EntryError(f"{path.name} is larger than {MAX_BYTES} bytes")
        if kind := wrong_kind_of(data, path):
            raise EntryError(f"{path.name}: {kind}")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise EntryError(f"{path.name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise EntryError(f"{path.name} is not UTF-8 text") from None


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, EntryError):
            raise
        raise EntryError(f"{path.name} is not JSON ({str(error).splitlines()[0]:.80})") from None
    if not isinstance(value, dict):
        raise EntryError(f"{path.name} is not a JSON object")
    return value


def read_entry(tsv: Path, described: dict[str, Any], task: str | None, target: float | None = None) -> Entry:
    """The task is that of the dataset in the JSON, else `task` (of the folder), else what the columns look like."""
    columns, rows = read_rows(tsv)
    task = _task(described, task, columns)
    if task not in BOARDS:
        raise EntryError(f"task {task!r:.40} has no board")
    metric, percent = BOARDS[task][0], target or BOARDS[task][1]
    seconds, reached, epoch = time_to_target(columns, rows, metric, percent)
    return Entry(
        task=task,
        name=_text(described, "author") or tsv.stem,
        model=_text(described, "model"),
        hardware=_text(described, "hardware"),
        day=day_of(_text(described, "timestamp")),
        seconds=seconds,
        percent=reached,
        epoch=epoch,
        dollars=dollars(seconds, described.get("costPerHour")),
        place=str(tsv),
    )


def read_rows(tsv: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names in lower case and the values below them, by column."""
    lines = [line for line in read_text(tsv).splitlines() if line.strip()]
    if not lines:
        raise EntryError("the TSV is empty")
    columns, table = read_tsv(lines, loose=True)
    if len(set(columns)) < len(columns) or not {"epoch", "hours"} <= set(columns):
        raise EntryError(f"the header of the TSV has no 'epoch' or no 'hours': {lines[0]!r:.60}")
    rows = []
    for row in table:
        if row.values is None:
            raise EntryError(f"row {row.line - 1} of the TSV has {len(row.cells)} cells, the header has {len(columns)}")
        rows.append(row.values)
    return columns, rows


def time_to_target(
    columns: list[str], rows: list[dict[str, str]], metric: str, target: float
) -> tuple[float, float, str]:
    """Seconds, percent and epoch of the first row at or above the target."""
    if COLUMNS[metric] not in columns:
        raise EntryError(f"the TSV has no column for {METRIC_NAMES[metric]} accuracy")
    hours = [_number(row["hours"], "hours", i) for i, row in enumerate(rows, start=1)]
    percents = [_number(row[COLUMNS[metric]], "accuracy", i) for i, row in enumerate(rows, start=1)]
    if any(later < earlier for earlier, later in pairwise(hours)):
        raise EntryError("the hours of the TSV go back")
    best = max(percents, default=0.0)
    if best > 100:
        raise EntryError(f"an accuracy of {best:g} %")
    hit = next((i for i, percent in enumerate(percents) if percent >= target), None)
    if hit is None:
        fraction = "; accuracies must be percent, not fractions" if 0 < best <= 1 else ""
        raise EntryError(f"never reaches {target_text(metric, target)}, best {best:.10g} %{fraction}")
    if hours[hit] == 0:
        raise EntryError("reaches the target at hour 0")
    return hours[hit] * 3600, percents[hit], rows[hit]["epoch"]


def _number(text: str, what: str, row: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST:
        raise EntryError(f"row {row} of the TSV: {what} is {text!r:.40}")
    return value


def dollars(seconds: float, per_hour: object) -> float | None:
    """None where no usable price is given."""
    usable = type(per_hour) in (int, float) and 0 <= per_hour <= MOST
    return seconds / 3600 * per_hour if usable else None


def day_of(text: str) -> str:
    """yyyy-mm-dd, empty for anything that does not begin with a date."""
    try:
        return date.fromisoformat(text.strip()[:10]).isoformat()
    except ValueError:
        return ""


def _text(described: dict[str, Any], name: str) -> str:
    value = described.get(name)
    return value.strip() if isinstance(value, str) else ""


def _task(described: dict[str, Any], folder_task: str | None, columns: list[str]) -> str:
    """Our own entries name their dataset; DAWNBench's have only their folder and their columns."""
    misc = described.get("misc")
    dataset = misc.get("dataset") if isinstance(misc, dict) else None
    if isinstance(dataset, dict) and isinstance(dataset.get("name"), str):
        return task_named(dataset["name"]) or folder_task or dataset["name"]
    if folder_task:
        return folder_task
    return "ImageNet" if COLUMNS["top5"] in columns else "CIFAR10"
