"""`dawn-report mlperf`: an ImageNet run as an MLPerf training log."""

import argparse
import sys
from pathlib import Path

from dawn.commands.command import Command
from dawn.commands.files import add_run

STATUSES = ("onprem", "cloud", "preview", "research")


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_run(command)
    command.add_argument("--out", metavar="FILE", required=True, help="write the :::MLLOG lines here")
    command.add_argument("--org", metavar="NAME", required=True, help="the organisation that submits")
    command.add_argument("--status", choices=STATUSES, default="onprem", help="where it ran (default: onprem)")
    command.add_argument("--platform", metavar="NAME", help="the system (default: the hardware in the log)")
    command.add_argument("--cache-cleared", action="store_true", help="the page cache was dropped before this run")


def mlperf_command(args: argparse.Namespace) -> None:
    from dawn.files import write_atomic
    from dawn.reports.mlperf import Submission, cache_was_cleared, mlperf_log
    from dawn.runlog.run import read_run

    log = read_run(args.run)
    submission = Submission(args.org, args.status, args.platform, args.cache_cleared)
    print(write_atomic(Path(args.out), mlperf_log(log, submission).encode()))
    if not cache_was_cleared(log, submission):
        print(
            "note: no cache_clear line, which MLPerf's checker asks for: the log does not say that the page cache was "
            "cold. If you dropped it before this run, say --cache-cleared.",
            file=sys.stderr,
        )


MLPERF = Command(
    "an ImageNet run as an MLPerf training log (open division, rules 4.0.0)", add_arguments, mlperf_command
)
