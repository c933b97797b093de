"""What is wrong with a run log or an entry, and what can be said for it: the verdicts of `dawn-report check`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dawn.commandline import quoted
from dawn.dawnbench.denominator import (
    BLACKLIST,
    Audit,
    audit,
    correct_images,
    explanation,
    margin_images,
    standard_error_images,
)
from dawn.dawnbench.entry import NAMES, entry
from dawn.dawnbench.entry_files import (
    EntryFiles,
    Progress,
    again,
    doubts,
    first_at_target,
    header_problem,
    read_bytes,
    read_entry_files,
    read_fields,
    table_of,
)
from dawn.dawnbench.tasks import TASKS, Task, target_text, task_of
from dawn.dawnbench.tsv import TSV_NAME, tsv
from dawn.runlog.host import host_notes
from dawn.runlog.records import CLOCKS, Row
from dawn.runlog.run import LOG_NAME, Run, log_path, read_run
from dawn.runlog.writer import Follower, RunError
from dawn.tables import counted, percent_text


@dataclass
class Verdict:
    """problems: why it is refused, none: it keeps the rules; notes: what is worth knowing; unfinished: a log that
    just ends, as after a kill."""

    path: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unfinished: bool = False


def check_log(path: Path) -> Verdict:
    """A run folder or its log, with the TSV and the entry beside it. RunError only for a log that cannot be opened."""
    path = log_path(path)
    verdict = Verdict(path)
    _must_open(path)
    try:
        run = read_run(path)
    except RunError as error:
        verdict.problems.append(str(error).removeprefix(f"{path}").lstrip(",: "))
        return verdict
    verdict.notes += _log_notes(run)
    verdict.unfinished = run.stop is None
    try:
        if any(row.validation for row in run.rows):
            _check_beside(run, verdict)
    except RunError as error:
        verdict.problems.append(str(error))
    return verdict


def _must_open(path: Path) -> None:
    """RunError unless the file can be opened: unreadable input is another thing than a log that breaks the rules."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}. Give a run, an entry or a folder of entries.") from None


def _log_notes(run: Run) -> list[str]:
    notes = [f"{counted(len(run.rows), 'epoch')} in {counted(len(run.attempts), 'attempt')}"]
    if run.stop is None:
        torn = "; its last line is torn off" if run.torn else ""
        notes.append(f"unfinished: there is no stop line, as after a kill; what is there keeps the rules{torn}")
    else:
        notes.append(f"outcome: {run.stop.outcome}")
    notes += [f"a trial, no result: {reason}" for reason in run.start.trials]
    notes += host_notes(run)
    if not run.tells_prepare:
        lost = " and for reading the pixels" if run.start.config.get("packed_in") in ("ram", "device") else ""
        notes.append(f"an older log: its T_prepare_train is added up without the time for the first weights{lost}")
    unchained = _unchained_lines(run.path)
    if unchained:
        notes.append(f"{unchained} lines have no digest (an older log): a lost line of another kind would not show")
    start, task = run.start, task_of(run.start.task)
    targets = {(start.metric, start.target), (task.metric, task.target)}
    return notes + [_reached(run, metric, target) for metric, target in sorted(targets, key=str) if target is not None]


def _unchained_lines(path: Path) -> int:
    chain = Follower()
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                chain.problem(line, number)
    return chain.unchained


def _reached(run: Run, metric: str, target: float) -> str:
    row, wanted = run.hit(metric, target), target_text(metric, target)
    if row is None:
        return not_reached(run, metric, target)
    correct, images = row.validation.correct(metric), row.validation.images
    hours = f"T_total {_time(run, row, 'total')}, T_dawn {_time(run, row, 'dawn')}"
    return f"target {wanted}: reached in epoch {row.until}, {hours}, {margin_text(correct, images, target)}"


def not_reached(run: Run, metric: str, target: float) -> str:
    """What is said of a run that never reaches this target."""
    seen = [row.validation.percent(metric) for row in run.rows if row.validation]
    best = f", the best is {percent_text(max(seen), target)} %" if seen else ""
    return f"target {target_text(metric, target)}: not reached{best}"


def _time(run: Run, row: Row, clock: str) -> str:
    return f"{run.hours(row, clock):.6f} h ({row.clock[clock]:.1f} s)"


def margin_text(correct: int, images: int, target: float) -> str:
    above, error = margin_images(correct, images, target), standard_error_images(correct, images)
    return f"{correct} of {images}, {counted(above, 'image')} above the line (standard error {error:.0f} images)"


def _check_beside(run: Run, verdict: Verdict) -> None:
    """result.tsv and entry.json in the log's folder say what the log says."""
    folder = run.path.parent
    again = {made: f"Make it again: python -m dawn {made} {quoted(folder)}" for made in ("tsv", "entry")}
    if (folder / TSV_NAME).exists() and run.path.name == LOG_NAME:
        if read_bytes(folder / TSV_NAME) != tsv(run).encode():
            verdict.problems.append(f"{TSV_NAME} is not what the log says. {again['tsv']}")
        else:
            verdict.notes.append(f"{TSV_NAME} is what the log says")
    for name in NAMES.values():
        if (folder / name).exists() and run.path.name == LOG_NAME:
            wrong = entry_differences(read_fields(folder / name, EntryFiles()), run)
            verdict.problems += [f"{name}: {text}. {again['entry']}" for text in wrong]
            verdict.notes += [f"{name} is what the log says"] * (not wrong)


def _misc(fields: dict[str, Any]) -> dict[str, Any]:
    return fields["misc"] if isinstance(fields.get("misc"), dict) else {}


def entry_differences(fields: dict[str, Any], run: Run, clock: str = "dawn") -> list[str]:
    """Where an entry says something else than the log; what the log cannot know is not compared."""
    made = entry(run, "author", "address", clock=clock)
    if not fields:
        return ["no JSON object"]
    wrong = [name for name in ("framework", "model", "hardware", "timestamp") if fields.get(name) != made[name]]
    misc = _misc(fields)
    wrong += [f"misc.{name}" for name in made["misc"] if name in misc and misc[name] != made["misc"][name]]
    return [f"{name!r} is not what the log says" for name in wrong]


def check_entry(path: Path, task_name: str | None = None, log: Path | None = None) -> Verdict:
    """An entry by its JSON file. task_name: a DAWNBench task (default: the one with the columns of its TSV). `log`: the
    run that both files should say the same as. Nothing is derived from files that could not be read whole."""
    table = table_of(path)
    entry = read_entry_files(path, table)
    task = TASKS[task_name or ("ImageNet" if "top5" in entry.metrics else "CIFAR10")]
    verdict = Verdict(path)
    if other := _other_dataset(entry.fields):
        verdict.notes.append(f"the dataset is {other!r:.60}: nothing is known about its images and its target")
    else:
        entry.breaches += header_problem(entry, task)
        _check_accuracy(entry, task, verdict)
    verdict.problems = [*entry.faults, *entry.breaches, *verdict.problems]
    if log is not None and table.exists():
        _compare_with_log(table, entry.fields, read_run(log), verdict)
    return verdict


def _other_dataset(fields: dict[str, Any]) -> str | None:
    """The dataset of a draft of ours that is about none of DAWNBench's tasks."""
    misc = _misc(fields)
    name = misc["dataset"].get("name") if isinstance(misc.get("dataset"), dict) else None
    known = {task.casefold() for task in TASKS}
    return name if "draft" in fields and isinstance(name, str) and name.casefold() not in known else None


def _check_accuracy(entry: EntryFiles, task: Task, verdict: Verdict) -> None:
    """The target is crossed, and the digits fit the number of images that is claimed."""
    hit = first_at_target(entry, task.metric, task.target, task.images)
    if not (entry.rows and entry.fields):
        return
    columns = [[row.texts[metric] for row in entry.rows] for metric in entry.metrics]
    found = audit(columns, task.images)
    images = task.images if found.fits or not found.others else _likeliest(found.others, task.images)
    _check_images(found, images, entry.fields, verdict)
    if hit is not None:
        known = bool(found.tells and (found.fits or found.others))
        verdict.notes += _reached_notes(entry, hit, task, images, known)


def _reached_notes(entry: EntryFiles, hit: Progress, task: Task, images: int, known: bool) -> list[str]:
    """known: do the digits tell the number of images?"""
    correct, hours = correct_images(hit.texts[task.metric], images), f"{hit.hours:.6g} h ({hit.hours * 3600:.1f} s)"
    reached = f"target {target_text(task.metric, task.target)}: reached in epoch {hit.epoch:g}, {hours}"
    notes = [f"{reached}, {'' if known else 'about '}{margin_text(correct, images, task.target)}"]
    notes += [*again(entry), *doubts(entry, hit)]
    cost = entry.dollars_per_hour
    if cost is not None:
        notes.append(f"cost {hit.hours * cost:.4f} dollars at {cost:g} dollars per hour")
    return notes


def _check_images(found: Audit, images: int, fields: dict[str, Any], verdict: Verdict) -> None:
    """All images of the task count, or all but the blacklisted ones where the entry says so."""
    left_out = fields.get("usedBlacklist") is True and images == found.claimed - BLACKLIST
    (verdict.notes if found.fits or left_out else verdict.problems).append(found.text())
    if fields.get("usedBlacklist") is True and found.fits and found.tells:
        verdict.notes.append(f"'usedBlacklist' is true, but the digits are those of all {found.claimed} images")


def _likeliest(others: tuple[int, ...], images: int) -> int:
    return min(others, key=lambda number: (not explanation(number, images), abs(number - images)))


def _compare_with_log(table: Path, fields: dict[str, Any], run: Run, verdict: Verdict) -> None:
    clock = next((clock for clock in CLOCKS if tsv(run, clock).encode() == read_bytes(table)), None)
    if clock is None:
        verdict.problems.append(f"{table.name} is not what {run.path} says on any clock")
        return
    verdict.notes.append(f"{table.name} is what {run.path} says, hours are T_{clock}")
    verdict.problems += [f"JSON: {text}" for text in entry_differences(fields, run, clock)]
