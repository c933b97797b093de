"""The command `board`: a leaderboard of entries and runs."""

import argparse
import math
from os.path import realpath
from pathlib import Path

from dawn.commands.command import Command
from dawn.runlog.writer import RunError

TASKS = ("ImageNet", "CIFAR10", "Imagenette")
FORMATS = (".md", ".html")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("folders", nargs="*", metavar="FOLDER", help="runs, entries, or a clone of dawn-bench-entries")
    command.add_argument("--task", choices=TASKS, help="default: that of --run, else every task with an entry")
    command.add_argument("--by", choices=("time", "cost"), default="time", help="what ranks; default: time")
    command.add_argument("--run", metavar="RUN", help="say where this run stands")
    command.add_argument("--target", type=float, metavar="PERCENT", help="another target than the task's, with --task")
    command.add_argument("--historical", action="store_true", help="add the best known results of DAWNBench")
    command.add_argument(
        "--out", action="append", default=[], metavar="FILE", help="write a .md or .html file; repeatable"
    )


def run_board(args: argparse.Namespace) -> None:
    from dawn.files import write_atomic
    from dawn.leaderboard.board import board, board_html, board_markdown, board_tables, standing
    from dawn.leaderboard.read import historical_entries, read_folder
    from dawn.tables import print_tables

    _check(args)
    found = [read_folder(folder, args.target) for folder in args.folders]
    entries = list({realpath(entry.place): entry for part in found for entry in part.entries}.values())
    entries += historical_entries(entries, args.target) if args.historical else []
    run, lines = _own(args)
    only = args.task or (run.task if run else None)
    tasks = [task for task in TASKS if only in (None, task)]
    boards = [board(entries, task, args.by, args.target, run) for task in tasks]
    boards = [b for b in boards if b.ranked or b.unranked]
    broken = list(dict.fromkeys(pair for part in found for pair in part.broken))
    if not boards and not broken:
        raise RunError(f"no entry found in {', '.join(args.folders) or 'historical.json'}. Look for another --task.")
    lines += [text for b in boards if (text := standing(b))]
    tables = board_tables(boards, broken)
    for name in args.out:
        text = (board_markdown if name.endswith(".md") else board_html)(tables, lines)
        write_atomic(Path(name), text.encode())
    print_tables(tables)
    print("\n".join(lines), end="\n" if lines else "")


def _check(args: argparse.Namespace) -> None:
    if not args.folders and not args.historical:
        raise RunError("board: no FOLDER. Give folders with entries or runs, or --historical.")
    if args.target is not None and not (args.task and math.isfinite(args.target) and 0 < args.target <= 100):
        raise RunError(f"--target is {args.target}. Give a percentage above 0, together with --task.")
    for name in args.out:
        if Path(name).suffix not in FORMATS:
            raise RunError(f"--out {name}: unknown format. Give a name that ends in .md or .html.")


def _own(args: argparse.Namespace) -> tuple:
    """The entry of --run, or a line that says why it has no place."""
    from dawn.leaderboard.entry import EntryError
    from dawn.leaderboard.read import run_entry
    from dawn.tables import plain

    if args.run is None:
        return None, []
    try:
        return run_entry(args.run, args.task, args.target), []
    except EntryError as error:
        return None, [plain(f"this run has no place: {error}", 200)]


BOARD = Command("leaderboard of runs and entries, and where a run stands", add_arguments, run_board)
