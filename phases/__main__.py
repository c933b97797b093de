"""`python -m phases show PHASES` and `python -m phases list`."""

import argparse
import sys
from pathlib import Path

from dawn.commandline import ended
from phases.catalog import PRESETS, load_preset
from phases.phase import PhaseError, shown_path
from phases.quotes import split_schedule
from phases.schedule import Schedule, batch_warning
from phases.table import schedule_table

PHASES_HELP = "preset name, JSON file, or text such as \"[{'ep': 0, 'sz': 128, 'bs': 512}, {'ep': (0, 9), 'lr': 1.0}]\""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        """One line as for every other bad input, instead of the usage text."""
        raise PhaseError(f"{' '.join(message.split())}. {split_schedule(message) or f'See {self.prog} --help.'}")


def parser() -> Parser:
    result = Parser(prog="python -m phases", description="Look at phase schedules.")
    commands = result.add_subparsers(dest="command", required=True, metavar="show|list")
    show = commands.add_parser("show", help="print the resolved schedule", description="Print the resolved schedule.")
    show.add_argument("phases", metavar="PHASES", help=PHASES_HELP)
    show.add_argument("--images", type=positive, metavar="N", help="training images; adds the columns steps and images")
    show.add_argument("--world-size", type=positive, metavar="W", help="devices (default: the preset's, else 1)")
    show.add_argument("--png", type=Path, metavar="FILE", help="draw size, batch, lr and momentum over epochs")
    commands.add_parser("list", help="list the presets", description="List the presets, one line each.")
    return result


def positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text[:30]!r}")
    return int(text)


def show(options: argparse.Namespace) -> None:
    schedule = Schedule.parse(options.phases)
    world_size = options.world_size or schedule.world_size or 1
    warning = batch_warning(schedule, world_size)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    print(schedule_table(schedule, world_size, options.images))
    if options.png:
        from phases.chart import write_png

        write_png(schedule, world_size, options.png)
        print(f"picture: {shown_path(options.png)}")


def list_presets() -> None:
    width = max(map(len, PRESETS))
    for name in PRESETS:
        preset = load_preset(name)
        schedule = Schedule.parse(name)
        devices = f"{schedule.world_size} device{'s' if schedule.world_size > 1 else ''}"
        facts = (f"{schedule.total_epochs} epochs", devices, preset["hardware"], preset["result"], preset["source"])
        print(f"{name:<{width}}  " + "; ".join(facts))


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 after one line about bad input."""
    return ended(lambda: dispatch(argv))


def dispatch(argv: list[str] | None) -> int:
    try:
        options = parser().parse_args(argv)
        if options.command == "list":
            list_presets()
        else:
            show(options)
    except PhaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
