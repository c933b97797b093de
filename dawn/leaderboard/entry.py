"""One entry of a leaderboard, from its files or a run. Whatever is wrong with it is an EntryError, one line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawn.dawnbench.entry_files import EntryFiles, again, description_of, doubts, first_at_target, read_entry_files
from dawn.dawnbench.tasks import TASKS, task_of

BOARDS = {name: (task.metric, task.target) for name, task in TASKS.items()} | {"Imagenette": ("top1", 75.0)}


class EntryError(ValueError):
    """Why an entry cannot be ranked."""


@dataclass(frozen=True)
class Entry:
    """seconds: to the first row at the target; dollars: for that time, None without a price. doubts: what is told of an
    entry that is ranked all the same. Texts may be hostile."""

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
    doubts: tuple[str, ...] = ()


def task_named(text: str) -> str | None:
    """The board of a folder's or dataset's name."""
    known = {name.casefold(): name for name in BOARDS} | {"cifar-10": "CIFAR10"}
    return known.get(text.casefold())


def read_entry(tsv: Path, task: str | None, target: float | None = None) -> Entry:
    """The task is that of the dataset in the JSON, else `task` (of the folder), else what the columns look like. Read
    and judged as `check` does. RunError for a file that cannot be opened."""
    files = read_entry_files(description_of(tsv), tsv)
    if files.faults:
        raise _error(files)
    task = _task(files, task)
    if task not in BOARDS:
        raise EntryError(f"task {task!r:.40} has no board")
    metric, percent = BOARDS[task][0], target or BOARDS[task][1]
    hit = first_at_target(files, metric, percent, task_of(task).images)
    if hit is None:
        raise _error(files)
    sooner = [row for row in files.repeated if row.percent(metric) >= percent and row.hours < hit.hours]
    return Entry(
        task=task,
        name=_text(files, "author") or tsv.stem,
        model=_text(files, "model"),
        hardware=_text(files, "hardware"),
        day=files.day.isoformat() if files.day else "",
        seconds=hit.hours * 3600,
        percent=hit.percent(metric),
        epoch=hit.label,
        dollars=dollars(hit.hours * 3600, files.dollars_per_hour),
        place=str(tsv),
        doubts=(*(again(files) if sooner else ()), *doubts(files, hit)),
    )


def _error(files: EntryFiles) -> EntryError:
    more = f" and {len(files.faults) - 1} more" if len(files.faults) > 1 else ""
    return EntryError(f"{files.faults[0]}{more}")


def dollars(seconds: float, per_hour: float | None) -> float | None:
    """None without a price."""
    return None if per_hour is None else seconds / 3600 * per_hour


def _text(files: EntryFiles, name: str) -> str:
    value = files.fields.get(name)
    return value.strip() if isinstance(value, str) else ""


def _task(files: EntryFiles, folder_task: str | None) -> str:
    """Our own entries name their dataset; DAWNBench's have only their folder and their columns."""
    misc: Any = files.fields.get("misc")
    dataset = misc.get("dataset") if isinstance(misc, dict) else None
    if isinstance(dataset, dict) and isinstance(dataset.get("name"), str):
        return task_named(dataset["name"]) or folder_task or dataset["name"]
    if folder_task:
        return folder_task
    return "ImageNet" if "top5" in files.metrics else "CIFAR10"
