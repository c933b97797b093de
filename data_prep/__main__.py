"""python -m data_prep: put a dataset in place.

Exit codes: 0 done, 1 `check` found bad files, 2 bad input, 3 no source answered, 130 interrupted.
"""

import argparse
import sys
from typing import NoReturn

from data_prep.commands import COMMANDS
from data_prep.errors import DataError, NoSourceError
from data_prep.interrupt import own_interrupts
from dawn.commandline import ended


class Parser(argparse.ArgumentParser):
    """Bad options end in one line like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message}. See {self.prog} --help.")


def main(argv: list[str] | None = None) -> int:
    return ended(lambda: dispatch(argv))


def dispatch(argv: list[str] | None) -> int:
    try:
        with own_interrupts():
            arguments = _parser().parse_args(argv)
            return COMMANDS[arguments.command].run(arguments)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, NoSourceError) else 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m data_prep", description="Put a dataset in place, ready to train.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_options(commands.add_parser(name, help=command.help))
    return parser


if __name__ == "__main__":
    sys.exit(main())
