"""The command `compare`: two recipes side by side."""

import argparse

from dawn.command import Command
from dawn.command_study import add_output_flags, show
from dawn.runlog import RunError
from dawn.tables import counted


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", nargs="+", metavar="A", help="runs of recipe A, or folders that hold them")
    command.add_argument("--with", dest="b", nargs="+", metavar="B", help="runs of recipe B, where A are several")
    add_output_flags(command)


def run_compare(args: argparse.Namespace) -> None:
    from dawn.compare import compare
    from dawn.compare_report import compare_json, compare_tables
    from dawn.recipe_runs import read_recipe

    a, b = args.a, args.b
    if b is None:
        if len(a) != 2:
            many = counted(len(a), "name")
            raise RunError(f"compare has {many} and no --with. Give two folders, or A... --with B...")
        a, b = a[:1], a[1:]
    result = compare(read_recipe(a), read_recipe(b), args.clock)
    show(compare_tables(result), compare_json(result), args)


COMPARE = Command("two recipes: ratio of the times to target, differences, and runs needed", add_arguments, run_compare)
