"""The command `dawn-report`, also `python -m dawn`: reports of a run, made again from its run.jsonl."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from dawn.command_import import IMPORT
from dawn.run import log_path, read_run
from dawn.runlog import RunError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RunError(f"{message}. See {self.prog} --help.")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line `error: ...` for bad input."""
    try:
        args = parser().parse_args(argv)
        OTHERS[args.command].run(args) if args.command in OTHERS else COMMANDS[args.command](args)
    except RunError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="dawn-report", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in HELP.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("run", metavar="RUN", help="folder of a run, or its run.jsonl")
        if name in ("tsv", "chart"):
            command.add_argument("--out", metavar="FILE", help="write here instead of beside the log")
        if name in ("entry", "report"):
            _add_entry_flags(command)
    for name, other in OTHERS.items():
        other.add_arguments(commands.add_parser(name, help=other.help, description=other.help))
    return top


def _add_entry_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--author", metavar="NAME", help="without it the entry is a draft")
    command.add_argument("--author-email", metavar="ADDRESS", help="without it the entry is a draft")
    command.add_argument("--cost-per-hour", type=float, metavar="DOLLARS", help="on-demand price of the hardware")
    command.add_argument("--code-url", metavar="URL", help="where the code can be found")
    command.add_argument("--out", metavar="DIR", help="write into this folder instead of beside the log")


def tsv_command(args: argparse.Namespace) -> None:
    from dawn.files import write_atomic
    from dawn.report import TSV_NAME
    from dawn.tsv import tsv

    print(write_atomic(_out_file(args, TSV_NAME), tsv(read_run(args.run)).encode()))


def chart_command(args: argparse.Namespace) -> None:
    from dawn.chart import chart_png
    from dawn.files import write_atomic
    from dawn.report import CHART_NAME

    print(write_atomic(_out_file(args, CHART_NAME), chart_png(read_run(args.run))))


def summary_command(args: argparse.Namespace) -> None:
    from dawn.summary import print_summary

    print_summary(read_run(args.run))


def entry_command(args: argparse.Namespace) -> None:
    from dawn.report import write_entry

    run = read_run(args.run)
    folder = Path(args.out) if args.out else run.path.parent
    print(write_entry(run, folder, args.author, args.author_email, args.cost_per_hour, args.code_url))


def report_command(args: argparse.Namespace) -> None:
    from dawn.report import write_reports

    details = (args.author, args.author_email, args.cost_per_hour, args.code_url)
    for path in write_reports(args.run, *details, out=args.out).values():
        print(path)


def _out_file(args: argparse.Namespace, name: str) -> Path:
    return Path(args.out) if args.out else log_path(args.run).parent / name


HELP = {
    "tsv": "result.tsv in the columns of DAWNBench (hours are T_dawn)",
    "entry": "entry.json, or entry.draft.json while it could not be submitted",
    "summary": "print target, times, phases and the ledger of the time",
    "chart": "accuracy.png: accuracy over time with phases and target",
    "report": "all of these as files",
}
COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "tsv": tsv_command,
    "entry": entry_command,
    "summary": summary_command,
    "chart": chart_command,
    "report": report_command,
}
OTHERS = {"import": IMPORT}  # commands that are not about one run of ours

if __name__ == "__main__":
    sys.exit(main())
