"""All reports of a run at once. Each is made from the run log alone: the same log gives the same bytes."""

import os
from pathlib import Path

from dawn.dawnbench.entry import NAMES, entry, entry_text
from dawn.dawnbench.tsv import TSV_NAME, tsv
from dawn.files import remove, write_atomic
from dawn.page.page import page, shown_alone, tells_why
from dawn.reports.chart import chart_png
from dawn.reports.summary import summary_text
from dawn.runlog.run import Run, read_run_and_events

CHART_NAME, SUMMARY_NAME, PAGE_NAME = "accuracy.png", "summary.txt", "report.html"


def write_reports(
    run_folder: str | os.PathLike[str],
    author: str | None = None,
    author_email: str | None = None,
    cost_per_hour: float | None = None,
    code_url: str | None = None,
    out: str | os.PathLike[str] | None = None,
    with_page: bool = True,
    with_chart: bool = True,
) -> dict[str, Path]:
    """Write tsv, entry, summary, chart and page into `out` (default: beside the log); the paths under these names.
    The page holds 5 MB of plotly, so a run does without it at its end. The chart takes half a second to draw.
    Of a run that diverged before its first evaluation and was diagnosed, the page alone.

    RunError for a log that cannot be read or has no evaluation yet, and where a file cannot be written.
    """
    run, events = read_run_and_events(run_folder)
    folder = run.path.parent if out is None else Path(out)
    if not run.is_evaluated and with_page and tells_why(run):
        return {"page": write_atomic(folder / PAGE_NAME, page(shown_alone(run, events), cost_per_hour))}
    files = {
        "tsv": write_atomic(folder / TSV_NAME, tsv(run).encode()),
        "entry": write_entry(run, folder, author, author_email, cost_per_hour, code_url),
        "summary": write_atomic(folder / SUMMARY_NAME, summary_text(run).encode()),
    }
    if with_chart:
        files["chart"] = write_atomic(folder / CHART_NAME, chart_png(run))
    if with_page:
        files["page"] = write_atomic(folder / PAGE_NAME, page(shown_alone(run, events), cost_per_hour))
    return files


def write_entry(
    run: Run,
    folder: Path,
    author: str | None = None,
    author_email: str | None = None,
    cost_per_hour: float | None = None,
    code_url: str | None = None,
) -> Path:
    """Write entry.json or entry.draft.json; the other one is removed first, so never both are there."""
    fields = entry(run, author, author_email, cost_per_hour, code_url)
    draft = "draft" in fields
    remove(folder / NAMES[not draft])
    return write_atomic(folder / NAMES[draft], entry_text(fields).encode())
