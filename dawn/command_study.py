"""The command `study`: statistics over many seeds of one recipe."""

import argparse
import math
from pathlib import Path

from dawn.command import Command
from dawn.records import CLOCKS
from dawn.runlog import RunError


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
    from dawn.recipe_runs import read_recipe
    from dawn.study import study
    from dawn.study_report import study_json, study_tables

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
