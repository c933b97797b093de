"""The commands `study` and `compare`: statistics over many seeds of one recipe, and of two."""

import argparse
import math
from pathlib import Path

from dawn.commands.command import Command
from dawn.runlog.records import CLOCKS
from dawn.runlog.writer import RunError
from dawn.tables import counted


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or a folder that holds such folders")
    add_output_flags(command)
    command.add_argument(
        "--horizon", type=float, metavar="SECONDS", help="of the restricted mean; default: the longest run"
    )


def add_output_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--clock", choices=CLOCKS, default="total", help="which time; default: total")
    command.add_argument("--markdown", action="store_true", help="print Markdown")
    command.add_argument("--json", metavar="FILE", help="write every number into this file as well")


def run_study(args: argparse.Namespace) -> None:
    from dawn.stats.runs import read_recipe
    from dawn.stats.study import study, study_json, study_tables

    if args.horizon is not None and not (math.isfinite(args.horizon) and args.horizon > 0):
        raise RunError(f"--horizon is {args.horizon}. Give seconds above 0.")
    result = study(read_recipe(args.runs), args.clock, args.horizon)
    show(study_tables(result), study_json(result), args)


def show(tables: list, json_text: str, args: argparse.Namespace) -> None:
    """The file first: where it cannot be written, nothing is printed."""
    from dawn.files import write_atomic
    from dawn.tables import markdown_table, print_tables

    if args.json:
        write_atomic(Path(args.json), json_text.encode())
    if args.markdown:
        print("\n".join(markdown_table(table) for table in tables), end="")
    else:
        print_tables(tables)


STUDY = Command("statistics over many seeds of one recipe: hit rate, time to target, claims", add_arguments, run_study)


def add_compare_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", nargs="+", metavar="A", help="runs of recipe A, or folders that hold them")
    command.add_argument("--with", dest="b", nargs="+", metavar="B", help="runs of recipe B, where A are several")
    add_output_flags(command)


def run_compare(args: argparse.Namespace) -> None:
    from dawn.stats.compare import compare, compare_json, compare_tables
    from dawn.stats.runs import read_recipe

    a, b = args.a, args.b
    if b is None:
        if len(a) != 2:
            many = counted(len(a), "name")
            raise RunError(f"compare has {many} and no --with. Give two folders, or A... --with B...")
        a, b = a[:1], a[1:]
    result = compare(read_recipe(a), read_recipe(b), args.clock)
    show(compare_tables(result), compare_json(result), args)


COMPARE = Command(
    "two recipes: ratio of the times to target, differences, and runs needed", add_compare_arguments, run_compare
)
