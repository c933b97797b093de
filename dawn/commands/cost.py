"""`dawn-report cost`: dollars and energy until the target, next to the hours."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dawn.commands.command import Command
from dawn.commands.files import add_run
from dawn.runlog.writer import RunError

if TYPE_CHECKING:
    from dawn.reports.cost import Price


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_run(command)
    command.add_argument("--cost-per-hour", type=float, metavar="DOLLARS", help="on-demand price of all the hardware")
    command.add_argument("--source", metavar="TEXT", help="where --cost-per-hour is from, and of which day")
    command.add_argument("--instance", metavar="NAME", help="a cloud instance of the price table instead")
    command.add_argument("--machines", type=int, metavar="N", help="so many of --instance (default: 1)")
    command.add_argument("--prices", metavar="FILE", help="another price table than dawn/reports/prices.json")


def cost_command(args: argparse.Namespace) -> None:
    from dawn.reports.cost import cost_tables
    from dawn.runlog.run import read_run
    from dawn.tables import print_tables

    price = _price(args)
    print_tables(cost_tables(read_run(args.run), price))


def _price(args: argparse.Namespace) -> "Price | None":
    from dawn.reports.cost import TABLE, listed_price, own_price

    if args.instance is not None and args.cost_per_hour is not None:
        raise RunError("--instance and --cost-per-hour: two prices. Give one.")
    for flag, value, needs in (
        ("--source", args.source, "cost_per_hour"),
        ("--machines", args.machines, "instance"),
        ("--prices", args.prices, "instance"),
    ):
        if value is not None and getattr(args, needs) is None:
            raise RunError(f"{flag}: goes with --{needs.replace('_', '-')}. Give both, or leave it out.")
    if args.instance is not None:
        return listed_price(args.instance, 1 if args.machines is None else args.machines, Path(args.prices or TABLE))
    return None if args.cost_per_hour is None else own_price(args.cost_per_hour, args.source)


COST = Command("print hours, dollars and energy to the target", add_arguments, cost_command)
