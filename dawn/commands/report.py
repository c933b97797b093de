"""`python -m dawn report`: every report of a run as files, or one page about several runs."""

import argparse
from pathlib import Path

from dawn.commands.command import Command
from dawn.commands.files import add_entry_details, print_draft_reasons
from dawn.runlog.writer import RunError
from dawn.stats.runs import run_paths


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run or of runs, or a run.jsonl")
    add_entry_details(command)
    words = "other results behind the runs of a page: any log or TSV that import reads; repeatable"
    command.add_argument("--beside", action="append", default=[], metavar="FILE", help=words)
    words = "a page (.html), or a folder for all files; default: beside the log, of several runs report.html here"
    command.add_argument("--out", metavar="PATH", help=words)


def report_command(args: argparse.Namespace) -> None:
    """Prints what was written. RunError for runs that cannot be read and places that cannot be written."""
    runs = [path for name in args.runs for path in run_paths(name)]
    page = _page_path(runs, args.out)
    if page is None:
        if args.beside:
            raise RunError("--beside: only a page shows other results. Name it with --out PAGE.html.")
        from dawn.report import write_reports

        details = (args.author, args.author_email, args.cost_per_hour, args.code_url)
        files = write_reports(runs[0], *details, out=args.out)
        for path in files.values():
            print(path)
        if "entry" in files:
            print_draft_reasons(files["entry"])
        return
    from dawn.files import write_atomic
    from dawn.page.page import page_of

    for flag in ("author", "author_email", "code_url"):
        if getattr(args, flag) is not None:
            raise RunError(f"--{flag.replace('_', '-')}: a page has no entry. Leave it out, or report one run.")
    print(write_atomic(page, page_of(runs, args.cost_per_hour, args.beside)))


def _page_path(runs: list[Path], wanted: str | None) -> Path | None:
    """Where only the page is written; None: all files of the one run."""
    from dawn.report import PAGE_NAME

    out = Path(wanted) if wanted else None
    if out is not None and out.suffix.lower() in (".html", ".htm"):
        return out
    if len(runs) == 1:
        return None
    return Path(PAGE_NAME) if out is None else out / PAGE_NAME


HELP = "all reports of a run as files, or one HTML page about one or several runs (--out PAGE.html)"
REPORT = Command(HELP, add_arguments, report_command)
