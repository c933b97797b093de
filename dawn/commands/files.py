"""The commands that make the reports of one run again: tsv, summary, chart; and what `entry` and `report` share."""

import argparse
import sys
from pathlib import Path

from dawn.commands.command import Command
from dawn.runlog.run import log_path, read_run
from dawn.runlog.writer import RunError
from dawn.tables import plain

MOST_TEXT = 1000  # characters of a reason


def add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="folder of a run, or its run.jsonl")


def add_run_and_file(command: argparse.ArgumentParser) -> None:
    add_run(command)
    command.add_argument("--out", metavar="FILE", help="write here instead of beside the log")


def add_entry_details(command: argparse.ArgumentParser) -> None:
    """What an entry says that no log knows."""
    command.add_argument("--author", metavar="NAME", help="without it the entry is a draft")
    command.add_argument("--author-email", metavar="ADDRESS", help="without it the entry is a draft")
    command.add_argument("--cost-per-hour", type=float, metavar="DOLLARS", help="on-demand price of the hardware")
    command.add_argument("--code-url", metavar="URL", help="where the code can be found")


def tsv_command(args: argparse.Namespace) -> None:
    from dawn.dawnbench.tsv import TSV_NAME, tsv
    from dawn.files import write_atomic

    print(write_atomic(_out_file(args, TSV_NAME), tsv(read_run(args.run)).encode()))


def chart_command(args: argparse.Namespace) -> None:
    from dawn.files import write_atomic
    from dawn.report import CHART_NAME
    from dawn.reports.chart import chart_png

    path = _out_file(args, CHART_NAME)
    if path.suffix.lower() not in ("", ".png"):
        raise RunError(f"--out {args.out}: the chart is a PNG file. Give it a name that ends in .png")
    print(write_atomic(path, chart_png(read_run(args.run))))


def summary_command(args: argparse.Namespace) -> None:
    from dawn.reports.summary import print_summary

    print_summary(read_run(args.run))


def print_draft_reasons(entry: Path) -> None:
    """On standard error, one line each: why this entry cannot be handed in; nothing if it can."""
    import json

    for reason in json.loads(entry.read_text()).get("draft", []):
        print("draft:", plain(reason, MOST_TEXT), file=sys.stderr)


def _out_file(args: argparse.Namespace, name: str) -> Path:
    return Path(args.out) if args.out else log_path(args.run).parent / name


TSV = Command("result.tsv in the columns of DAWNBench (hours are T_dawn)", add_run_and_file, tsv_command)
SUMMARY = Command("print target, times, phases and the ledger of the time", add_run, summary_command)
CHART = Command("accuracy.png: accuracy over time with phases and target", add_run_and_file, chart_command)
