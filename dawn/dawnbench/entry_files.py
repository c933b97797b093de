"""Reading the entries that anybody wrote: a JSON file and its TSV, and when an entry reached a target. `check` and the
leaderboard both read and judge by this module. Nothing here trusts a file: no size, no type, no order of columns."""

import json
import re
import stat
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from dawn.dawnbench.entry import NAMES
from dawn.dawnbench.hours import doubtful_hours, impossible_hours
from dawn.dawnbench.tasks import METRIC_NAMES, TASKS, Task, target_text
from dawn.dawnbench.tsv import TSV_NAME, TsvRow, read_tsv
from dawn.filekind import wrong_kind_of
from dawn.runlog.writer import RunError
from dawn.tables import counted, percent_text, plain

MAX_BYTES = 5_000_000  # of a JSON or TSV
REQUIRED = ("version", "author", "authorEmail", "framework", "model", "hardware", "timestamp")
TEXTS = ("codeURL", "logFilename")
DATE = "%Y-%m-%d"
NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,2})?")
LINE_END = re.compile(r"\r\n|\n|\r")
METRIC_OF = {name.casefold(): metric for name, metric in TASKS["ImageNet"].columns}


@dataclass(frozen=True)
class Progress:
    """One row of a TSV; `line` counts from 1 with the header, `texts` are the accuracies as printed, by metric."""

    line: int
    epoch: float
    label: str  # the epoch as printed
    hours: float
    texts: dict[str, str]

    def percent(self, metric: str) -> float:
        return float(self.texts[metric])


@dataclass
class EntryFiles:
    """What an entry says. faults: why nothing may be derived from it; breaches: rules of DAWNBench that it breaks while
    its numbers stand. Both are sentences that begin with the kind of the file."""

    fields: dict[str, Any] = field(default_factory=dict)
    header: list[str] = field(default_factory=list)  # as printed
    rows: list[Progress] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)

    @property
    def counting(self) -> list[Progress]:
        """The first row of each epoch: nobody may look twice."""
        repeated = {row.line for row in self.repeated}
        return [row for row in self.rows if row.line not in repeated]

    @property
    def repeated(self) -> list[Progress]:
        """Rows of an epoch that the row before it is of; epochs never go back in `rows`."""
        return [row for before, row in pairwise(self.rows) if row.epoch == before.epoch]

    @property
    def metrics(self) -> list[str]:
        """`top1`, `top5`: those that the TSV has a column for."""
        return [METRIC_OF[name] for name in map(str.casefold, self.header) if name in METRIC_OF]

    @property
    def day(self) -> date | None:
        value = self.fields.get("timestamp")
        return day_of(value) if isinstance(value, str) else None

    @property
    def dollars_per_hour(self) -> float | None:
        """None where no price is given that can be used."""
        cost = self.fields.get("costPerHour")
        return cost if _is_price(cost) else None


def table_of(description: Path) -> Path:
    """The TSV of an entry's JSON."""
    return description.with_name(TSV_NAME) if description.name in NAMES.values() else description.with_suffix(".tsv")


def description_of(table: Path) -> Path:
    """The JSON of an entry's TSV, whether it is there or not."""
    names = list(NAMES.values()) if table.name == TSV_NAME else [f"{table.stem}.json"]
    return next((table.with_name(name) for name in names if table.with_name(name).is_file()), table.with_name(names[0]))


def read_entry_files(description: Path, table: Path) -> EntryFiles:
    """RunError for a JSON or TSV that is there but cannot be opened or is too large."""
    entry = EntryFiles()
    if not description.exists():
        entry.faults.append(f"JSON: there is no {description.name} beside {table.name}")
    else:
        entry.fields = read_fields(description, entry)
    if not table.exists():
        entry.faults.append(f"TSV: there is no {table.name} beside {description.name}")
    else:
        _read_table(table, entry)
    return entry


def read_bytes(path: Path) -> bytes:
    """RunError for a file that cannot be read or is too large for an entry."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise RunError(f"{path}: not a file. Give a run, an entry or a folder of entries.")
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}. Give a run, an entry or a folder of entries.") from None
    if len(data) > MAX_BYTES:
        raise RunError(f"{path}: more than {MAX_BYTES} bytes. This is not an entry.")
    return data


def read_fields(path: Path, entry: EntryFiles) -> dict[str, Any]:
    """The JSON object of an entry; what is wrong with it is added to the faults and breaches. Raises as read_bytes."""
    data = read_bytes(path)
    try:
        fields = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        kind = wrong_kind_of(data, path)
        entry.faults.append(f"JSON: {kind or f'cannot be read ({str(error).splitlines()[0]:.100})'}")
        return {}
    if not isinstance(fields, dict):
        entry.faults.append("JSON: is no object")
        return {}
    entry.breaches += [f"JSON: {text}" for text in _field_problems(fields)]
    draft = fields.get("draft")
    trials = [text for text in draft if str(text).startswith("a trial")] if isinstance(draft, list) else []
    entry.faults += [f"JSON: {_short(text, 200)}" for text in trials]
    return fields


def _field_problems(fields: dict[str, Any]) -> list[str]:
    """Fields that are optional may be absent or null."""
    problems = [f"{name!r} is missing" for name in REQUIRED if name not in fields]
    for name in (*REQUIRED, *TEXTS):
        value = fields.get(name, "absent")
        is_absent = name in TEXTS and value is None
        if not is_absent and (not isinstance(value, str) or (not value.strip() and name in REQUIRED)):
            problems.append(f"{name!r} is {_short(value)}, it must be text")
    if isinstance(fields.get("version"), str) and fields["version"] != "v1.0":
        problems.append(f"'version' is {_short(fields['version'])}, it must be 'v1.0'")
    if isinstance(fields.get("timestamp"), str) and not day_of(fields["timestamp"]):
        problems.append(f"'timestamp' is {_short(fields['timestamp'])}, it must be a day as 2026-11-22")
    if not isinstance(fields.get("misc"), dict | str | None):
        problems.append(f"'misc' is {_short(fields['misc'])}, it must be an object or text")
    cost = fields.get("costPerHour")
    if cost is not None and not _is_price(cost):
        problems.append(f"'costPerHour' is {_short(cost)}, it must be dollars, 0 or more")
    if "draft" in fields:
        problems.append(f"it is a draft: {_short(fields['draft'], 300)}")
    return problems


def _is_price(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e12  # a million million: so that its products are finite


def day_of(text: str) -> date | None:
    """As DAWNBench's own tests read it: 2018-9-8 is a day too. None for anything else."""
    try:
        return datetime.strptime(text.strip(), DATE).date()
    except ValueError:
        return None


def _short(value: Any, most: int = 60) -> str:
    return plain(repr(value), most)


def _read_table(path: Path, entry: EntryFiles) -> None:
    """The rows of a TSV, by the names of its columns. Rows are kept only of a table that could be read whole."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except ValueError as error:
        entry.faults.append(f"TSV: {wrong_kind_of(data, path) or f'is no UTF-8 text ({error.reason})'}")
        return
    if kind := wrong_kind_of(data, path):
        entry.faults.append(f"TSV: {kind}")
        return
    lines = LINE_END.split(text)
    entry.header = next((line for line in lines if line.strip()), "").split("\t")
    columns, table = read_tsv(lines)
    if len(set(columns)) < len(columns) or not {"epoch", "hours"} <= set(columns):
        entry.faults.append(f"TSV: the columns are {_short(entry.header, 120)}, without one 'epoch' and one 'hours'")
        return
    found = [_row(row, columns) for row in table]
    problems = [one for one in found if isinstance(one, str)]
    rows = [one for one in found if isinstance(one, Progress)]
    problems = problems or _order_problems(rows) or ([] if rows else ["no rows"])
    entry.faults += [f"TSV: {text}" for text in problems]
    entry.rows = [] if problems else rows


def _row(row: TsvRow, columns: list[str]) -> Progress | str:
    """A sentence where it cannot be read."""
    where, values = f"line {row.line}", row.values
    if values is None:
        return f"{where} is {_short(row.cells, 100)}, not {len(columns)} numbers between tabs"
    wanted = {name: text for name, text in values.items() if name in ("epoch", "hours", *METRIC_OF)}
    for name, text in wanted.items():
        if not NUMBER.fullmatch(text):
            return f"{where} is {_short(row.cells, 100)}: {name} is no number"
    texts = {METRIC_OF[name]: text for name, text in wanted.items() if name in METRIC_OF}
    found = Progress(row.line, float(values["epoch"]), values["epoch"], float(values["hours"]), texts)
    if found.hours < 0:
        return f"{where}: hours are {values['hours']}, below 0"
    if not all(0 <= found.percent(metric) <= 100 for metric in texts):
        return f"{where}: an accuracy is not from 0 to 100 percent"
    if len(texts) == 2 and found.percent("top5") < found.percent("top1"):
        return f"{where}: top-5 is below top-1"
    return found


def _order_problems(rows: list[Progress]) -> list[str]:
    problems = []
    for before, row in pairwise(rows):
        if row.hours <= before.hours:
            problems.append(f"line {row.line}: hours do not go forward ({row.hours:.10g} after {before.hours:.10g})")
        if row.epoch < before.epoch:
            problems.append(f"line {row.line}: the epoch goes back ({row.epoch:g} after {before.epoch:g})")
    best = max((row.percent(metric) for row in rows for metric in row.texts), default=0)
    return [*problems, *(["accuracies are shares of 1, they must be percent"] if 0 < best <= 1 else [])]


def header_problem(entry: EntryFiles, task: Task) -> list[str]:
    """DAWNBench's tests want these columns, written so, and no others."""
    wanted = ("epoch", "hours", *(name for name, _ in task.columns))
    if not entry.header or sorted(entry.header) == sorted(wanted):
        return []
    return [f"TSV: the columns are {_short(entry.header, 120)}, they must be {', '.join(wanted)}"]


def first_at_target(entry: EntryFiles, metric: str, target: float, images: int | None) -> Progress | None:
    """The row that counts. None, with the reasons among the faults, where the target is never reached, where the hours
    cannot be, or where other images than the task's (None: any) were counted; also where there are faults already."""
    if entry.faults:
        return None
    if metric not in entry.metrics:
        entry.faults.append(f"TSV: no column for {METRIC_NAMES[metric]} accuracy")
        return None
    entry.faults += _images_problem(entry.fields, images)
    hit = next((row for row in entry.counting if row.percent(metric) >= target), None)
    if hit is None:
        best = max(row.percent(metric) for row in entry.counting)
        text = "; ".join([f"the best is {percent_text(best, target)} %", *again(entry)])
        entry.faults.append(f"target {target_text(metric, target)}: not reached, {text}")
    for row in (hit, entry.rows[-1]):
        if row and (reason := impossible_hours(row.hours, entry.day)):
            entry.faults.append(f"TSV: line {row.line} stands at {reason}")
            break
    return None if entry.faults else hit


def _images_problem(fields: dict[str, Any], images: int | None) -> list[str]:
    misc = fields.get("misc")
    said = misc.get("validationImages", [images]) if isinstance(misc, dict) else [images]
    is_other = images is not None and said != [images]
    return [f"JSON: misc.validationImages is {_short(said)}, the task has {images}"] if is_other else []


def again(entry: EntryFiles) -> list[str]:
    """What is to be told of an entry that evaluates an epoch more than once."""
    rows = entry.repeated
    more = f" and {counted(len(rows) - 1, 'line')} more" if len(rows) > 1 else ""
    return [
        f"line {row.line}{more}: epoch {row.label} was evaluated again, the first evaluation counts" for row in rows[:1]
    ]


def doubts(entry: EntryFiles, hit: Progress) -> list[str]:
    """What is to be told of an entry whose hours can hardly be believed."""
    found = [(row, doubtful_hours(row.hours)) for row in (hit, entry.rows[-1])]
    return [f"line {row.line} stands at {reason}" for row, reason in found if reason][:1]
