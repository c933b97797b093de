"""The reports at the end of a run, all made from run.jsonl."""

from collections.abc import Callable
from pathlib import Path

from dawn import RunError, read_run
from dawn.report import write_reports
from dawn.summary import print_summary
from training.run_folder import LOG


def report_run(folder: Path, say: Callable[[str], None]) -> None:
    """Write TSV, entry and picture, print the summary and where they are. A run without a validation has nothing to
    report."""
    try:
        files = write_reports(folder, with_page=False)
    except RunError as error:
        say(f"no report: {error}")
        return
    print_summary(read_run(folder))
    for name, path in {**files, "log": folder / LOG}.items():
        say(f"{name:>8}: {path}")
    say(f"    page: python -m dawn report {folder}")
