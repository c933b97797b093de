"""`dawn-report entry`: the entry of a run, beside its log or as files of a pull request to dawn-bench-entries."""

import argparse
from pathlib import Path

from dawn.commands.command import Command
from dawn.commands.files import add_entry_details, add_run, print_draft_reasons
from dawn.runlog.records import CLOCKS
from dawn.runlog.writer import RunError


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_run(command)
    add_entry_details(command)
    files = "TASK/train/AUTHOR_MODEL_HARDWARE_FRAMEWORK.json and .tsv"
    command.add_argument("--out", metavar="DIR", help=f"write {files} below this folder")
    command.add_argument("--hardware-tag", metavar="TAG", help="with --out: the hardware in the file names, e.g. 8h100")
    command.add_argument("--clock", choices=CLOCKS, help="with --out: the clock of the TSV's hours (default: dawn)")
    command.add_argument("--log-url", metavar="URL", help="with --out: where the log can be found (logFilename)")


def entry_command(args: argparse.Namespace) -> None:
    from dawn.report import write_entry
    from dawn.runlog.run import read_run

    details = (args.author, args.author_email, args.cost_per_hour, args.code_url)
    if args.out:
        paths = _write_submission(args, details)
    else:
        _refuse_flags_of_out(args)
        log = read_run(args.run)
        paths = [write_entry(log, log.path.parent, *details)]
    for path in paths:
        print(path)
    print_draft_reasons(paths[0])


def _write_submission(args: argparse.Namespace, details: tuple) -> list[Path]:
    from dawn.dawnbench.entry import Details, write_submission
    from dawn.runlog.run import read_run

    more = Details(*details, clock=args.clock or "dawn", hardware_tag=args.hardware_tag, log_url=args.log_url)
    return write_submission(read_run(args.run), Path(args.out), more)


def _refuse_flags_of_out(args: argparse.Namespace) -> None:
    for name in ("hardware_tag", "clock", "log_url"):
        if getattr(args, name) is not None:
            raise RunError(f"--{name.replace('_', '-')}: goes with --out DIR. Add --out, or leave it out.")


HELP = "entry.json, or entry.draft.json while it could not be submitted; with --out the files of a pull request"
ENTRY = Command(HELP, add_arguments, entry_command)
