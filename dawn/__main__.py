"""The command `dawn-report`, also `python -m dawn`: reports of runs, made from their run.jsonl."""

import argparse
import os
import sys
from typing import NoReturn

from dawn.commands import (
    board as command_board,
)
from dawn.commands import (
    check as command_check,
)
from dawn.commands import (
    cost as command_cost,
)
from dawn.commands import (
    entry as command_entry,
)
from dawn.commands import (
    files as command_reports,
)
from dawn.commands import (
    import_logs as command_import,
)
from dawn.commands import (
    mlperf as command_mlperf,
)
from dawn.commands import (
    report as command_report,
)
from dawn.commands import (
    study as command_compare,
)
from dawn.commands import (
    study as command_study,
)
from dawn.commands.command import Command
from dawn.runlog.writer import RunError
from dawn.tables import plain

MOST_TEXT = 2000  # characters of an error

COMMANDS: dict[str, Command] = {
    "tsv": command_reports.TSV,
    "entry": command_entry.ENTRY,
    "summary": command_reports.SUMMARY,
    "chart": command_reports.CHART,
    "report": command_report.REPORT,
    "board": command_board.BOARD,
    "study": command_study.STUDY,
    "compare": command_compare.COMPARE,
    "import": command_import.IMPORT,
    "check": command_check.CHECK,
    "cost": command_cost.COST,
    "mlperf": command_mlperf.MLPERF,
}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RunError(f"{message}. See {self.prog} --help.")


def main(argv: list[str] | None = None) -> int:
    """The exit code of the command, 2 with one line `error: ...` for bad input, 1 where the reader has gone (head)."""
    try:
        args = parser().parse_args(argv)
        code = COMMANDS[args.command].run(args) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's own flush at the end succeeds
        return 1
    except RunError as error:
        print("error:", plain(" ".join(str(error).split()), MOST_TEXT), file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="dawn-report", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    return top


if __name__ == "__main__":
    sys.exit(main())
