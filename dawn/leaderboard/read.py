"""Every entry below a folder: our runs and entries, a clone of stanford-futuredata/dawn-bench-entries, or all mixed."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dawn.dawnbench.check import not_reached
from dawn.dawnbench.entry import NAMES
from dawn.dawnbench.entry_files import EntryFiles, read_fields, table_of
from dawn.dawnbench.hours import doubtful_hours, impossible_hours
from dawn.dawnbench.tasks import task_of
from dawn.leaderboard.entry import BOARDS, Entry, EntryError, dollars, read_entry, task_named
from dawn.runlog.records import hardware_name
from dawn.runlog.run import LOG_NAME, log_path, read_run
from dawn.runlog.writer import RunError

HISTORICAL = resources.files("dawn.leaderboard").joinpath("historical.json")  # see benchmarks/historical.py


@dataclass
class Found:
    """broken: (place, reason) of what cannot be ranked."""

    entries: list[Entry] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)


def read_folder(folder: str | os.PathLike[str], target: float | None = None) -> Found:
    """Entries in the order of their paths; RunError only for the folder itself. Hidden folders are passed over."""
    if not os.path.isdir(folder):
        raise RunError(f"{folder}: no such folder. Give folders with runs, entries, or a clone of dawn-bench-entries.")
    found = Found()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "inference")
        if LOG_NAME in files and Path(place, LOG_NAME).is_file():
            folders[:] = []  # checkpoints
            _take(found, str(Path(place, LOG_NAME)), lambda place=place: run_entry(place, None, target))
        else:
            _read_pairs(Path(place), sorted(files), found, target)
    return found


def _read_pairs(place: Path, files: list[str], found: Found, target: float | None) -> None:
    for name in files:
        path = place / name
        if path.suffix == ".tsv":
            _take(found, str(path), lambda path=path: read_entry(path, _folder_task(path), target))
        elif path.suffix == ".json" and table_of(path).name not in files and _folder_task(path):
            _note_missing(path, found)


def _note_missing(path: Path, found: Found) -> None:
    """A JSON without its TSV, unless it is something else, such as the settings of a program."""
    files = EntryFiles()
    try:
        if "author" in read_fields(path, files):
            files.faults.append(f"TSV: there is no {table_of(path).name} beside it")
    except RunError as error:
        files.faults.append(str(error))
    found.broken += [(str(path), reason) for reason in files.faults[:1]]


def _take(found: Found, place: str, read: Any) -> None:
    try:
        found.entries.append(read())
    except (EntryError, RunError) as error:
        found.broken.append((place, str(error)))


def _folder_task(path: Path) -> str | None:
    """As in CIFAR10/train/name.tsv: the nearest folder that is named like a task."""
    return next((task for part in reversed(path.parts[:-1]) if (task := task_named(part))), None)


def run_entry(place: str | os.PathLike[str], task: str | None = None, target: float | None = None) -> Entry:
    """A run on the clock of DAWNBench. Author and price are those of the entry beside its log, if there is one.

    RunError for a log that cannot be read, EntryError for a run that has no place on the board (of `task`).
    """
    run = read_run(place)
    start = run.start
    if start.task not in BOARDS or task not in (None, start.task):
        raise EntryError(f"task {start.task!r:.40} " + ("has no board" if task is None else f"is not {task}"))
    if start.trials:
        raise EntryError(f"a trial: {'; '.join(start.trials)}")
    metric, percent = BOARDS[start.task][0], target or BOARDS[start.task][1]
    hit = run.hit(metric, percent)
    if hit is None:
        raise EntryError(not_reached(run, metric, percent))
    images = task_of(start.task).images
    if images and hit.validation.images != images:
        raise EntryError(f"validated on {hit.validation.images} images, the task has {images}")
    seconds, described = hit.clock["dawn"], _beside(log_path(place).parent)
    if reason := impossible_hours(seconds / 3600):
        raise EntryError(f"epoch {hit.until} stands at {reason}")
    author, doubt = described.fields.get("author"), doubtful_hours(seconds / 3600)
    return Entry(
        task=start.task,
        name=(author if isinstance(author, str) else "") or f"{start.recipe or 'no recipe'}, seed {start.seed}",
        model=start.model,
        hardware=hardware_name(run.latest.hardware),
        day=start.utc[:10],
        seconds=seconds,
        percent=hit.validation.percent(metric),
        epoch=str(hit.until),
        dollars=dollars(seconds, described.dollars_per_hour),
        place=str(log_path(place)),
        doubts=(f"epoch {hit.until} stands at {doubt}",) if doubt else (),
    )


def _beside(folder: Path) -> EntryFiles:
    """What the JSON beside a log says, nothing where it cannot be read: the log is what counts."""
    files = EntryFiles()
    path = next((folder / name for name in NAMES.values() if (folder / name).is_file()), None)
    if path is not None:
        with suppress(RunError):
            files.fields = read_fields(path, files)
    return files


def historical() -> list[dict[str, Any]]:
    """The results of historical.json as they stand there: task, name, date, hardware, seconds, percent, source, ..."""
    return json.loads(HISTORICAL.read_text("utf-8"))["results"]


def historical_entries(read: list[Entry], target: float | None = None) -> list[Entry]:
    """Those that are not in `read` anyway, because a clone was given; none for another target than DAWNBench's."""
    there = {"/".join(Path(entry.place).parts[-3:]) for entry in read}
    return [
        Entry(
            task=result["task"],
            name=result["name"],
            model="",
            hardware=result["hardware"],
            day=result["date"],
            seconds=result["seconds"],
            percent=result["percent"],
            epoch=result["epoch"] or "",
            dollars=dollars(result["seconds"], result["cost_per_hour"]),
            place=result["source"],
        )
        for result in historical()
        if "/".join(result["source"].split("/")[-3:]) not in there and target in (None, result["target"])
    ]
