"""`dawn-report check`: does a run log, an entry, or each one in a folder keep the rules? Exit code 1 if not."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dawn.commands.command import Command
from dawn.dawnbench.tasks import TASKS
from dawn.runlog.run import LOG_NAME
from dawn.runlog.writer import RunError
from dawn.tables import plain

if TYPE_CHECKING:
    from dawn.dawnbench.check import Verdict

LONGEST = 1000  # characters of a printed line
BESIDE_LOG = ("entry.json", "entry.draft.json", "result.tsv")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "path", metavar="PATH", help="run folder, run.jsonl, entry (.json or .tsv), or folder of these"
    )
    command.add_argument("--log", metavar="RUN", help="the run that the entry must say the same as")


def check_command(args: argparse.Namespace) -> int:
    """1 if anything is refused; RunError if there is nothing to check or it cannot be read."""
    verdicts = list(_verdicts(Path(args.path), Path(args.log) if args.log else None))
    if not verdicts:
        raise RunError(f"{args.path}: no run and no entry there. Give a run, an entry or a folder of entries.")
    for verdict in verdicts:
        _print(verdict)
    refused = sum(bool(verdict.problems) for verdict in verdicts)
    if len(verdicts) > 1:
        print(f"{len(verdicts) - refused} keep the rules, {refused} refused")
    return int(refused > 0)


def _print(verdict: "Verdict") -> None:
    state = "REFUSED" if verdict.problems else "unfinished" if verdict.unfinished else "ok"
    print(f"{state:<12}{plain(str(verdict.path), LONGEST)}")
    for problem in verdict.problems:
        print(f"    refused: {plain(problem, LONGEST)}")
    for note in verdict.notes:
        print(f"    {plain(note, LONGEST)}")


def _verdicts(path: Path, log: Path | None) -> Iterator["Verdict"]:
    from dawn.dawnbench.check import check_entry, check_log

    if log is not None and (not path.is_file() or path.name == LOG_NAME):
        raise RunError(f"--log {log}: goes with one entry, PATH is {path}. Name the entry's .json.")
    if path.name in BESIDE_LOG and (path.parent / LOG_NAME).exists():
        path = path.parent
    if path.is_dir() and not (path / LOG_NAME).exists():
        yield from map(_verdict_in_folder, _found_in(path))
    elif path.suffix in (".json", ".tsv"):
        entry = _description(path)
        yield check_entry(entry, _folder_task(entry), log)
    else:
        yield check_log(path)


def _verdict_in_folder(path: Path) -> "Verdict":
    """A file that cannot be opened is refused, and the others of the folder are checked all the same."""
    from dawn.dawnbench.check import Verdict, check_entry, check_log

    try:
        return check_log(path) if path.name == LOG_NAME else check_entry(path, _folder_task(path))
    except RunError as error:
        return Verdict(path, [str(error)])


def _description(path: Path) -> Path:
    from dawn.dawnbench.entry_files import description_of

    if not path.exists():
        raise RunError(f"{path}: there is no such file. Give a run, an entry or a folder of entries.")
    return description_of(path) if path.suffix == ".tsv" else path


def _found_in(folder: Path) -> list[Path]:
    """Logs, and entries in TASK/train/; other tasks and other files are no concern of ours."""
    inside = [path for path in folder.rglob("*.json*") if ".git" not in path.parts and path.is_file()]
    logs = [path for path in inside if path.name == LOG_NAME]
    return sorted(logs + [path for path in inside if path.suffix == ".json" and _folder_task(path)])


def _folder_task(path: Path) -> str | None:
    """The task that the folders of an entry say: TASK/train/NAME.json."""
    folders = path.absolute().parent.parts[-2:]
    return folders[0] if len(folders) == 2 and folders[1] == "train" and folders[0] in TASKS else None


HELP = "check a run log, an entry, or a folder of them (also a clone of dawn-bench-entries) against the rules"
CHECK = Command(HELP, add_arguments, check_command)
