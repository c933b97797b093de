"""The command `dawn-report`, also `python -m dawn`: reports of runs, made from their run.jsonl."""

import argparse
import sys
from typing import NoReturn

from dawn.commandline import ended
from dawn.commands import COMMANDS
from dawn.runlog.writer import RunError
from dawn.tables import plain

MOST_TEXT = 2000  # characters of an error


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RunError(f"{message}. See {self.prog} --help.")


def main(argv: list[str] | None = None) -> int:
    """The exit code of the command, 2 with one line `error: ...` for bad input."""
    return ended(lambda: dispatch(argv))


def dispatch(argv: list[str] | None) -> int:
    try:
        args = parser().parse_args(argv)
        return COMMANDS[args.command].run(args) or 0
    except RunError as error:
        print("error:", plain(" ".join(str(error).splitlines()), MOST_TEXT), file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="dawn-report", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    return top


if __name__ == "__main__":
    sys.exit(main())
