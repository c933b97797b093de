"""The result of a run in a few tables: rich ones on a terminal, plain text elsewhere and in summary.txt."""

from dawn.dawnbench.tasks import METRIC_NAMES, target_text
from dawn.runlog.clock import NEWER_LABELS, RUN_LABELS
from dawn.runlog.records import CLOCKS, METRICS, Row, Start, hardware_name
from dawn.runlog.run import Run, executed_phases
from dawn.tables import Table, percent_text, plain, plain_table, print_tables

GO_ON = "Unless it still runs, go on with: python -m training --resume and this folder"


def summary_tables(run: Run) -> list[Table]:
    start = run.start
    title = plain(f"{start.recipe or 'no recipe'} on {start.task}, {start.model}, seed {start.seed}")
    return [Table(title, (), tuple(_facts(run))), _clock_table(run), _phase_table(run), _ledger_table(run)]


def summary_text(run: Run) -> str:
    return "\n".join(plain_table(table) for table in summary_tables(run))


def print_summary(run: Run) -> None:
    print_tables(summary_tables(run))


def _facts(run: Run) -> list[tuple[str, str]]:
    start, hardware = run.start, run.latest.hardware
    wanted = "none" if start.target is None else target_text(start.metric, start.target)
    facts = [
        ("target", wanted),
        ("reached", _reached(run)),
        ("outcome", plain(run.stop.outcome + (f": {run.stop.detail}" if run.stop.detail else "")))
        if run.stop
        else ("outcome", f"not known, the log has no stop line. {GO_ON}"),
        ("epochs", f"{_trained(run):g} of {start.total_epochs:g}"),
        ("hardware", plain(f"{hardware_name(hardware)}, {start.precision}, PyTorch {run.latest.versions['torch']}")),
        ("resumed", "; ".join(resumed_text(attempt) for attempt in run.resumes) or "no"),
    ]
    facts += [("a trial", reason) for reason in start.trials]
    return facts + ([("log", "its last line is torn off, the run may have crashed")] if run.torn else [])


def _trained(run: Run) -> float:
    """Epochs; those that were skipped do not count."""
    return run.rows[-1].until - run.start.first_epoch if run.rows else 0


def _reached(run: Run) -> str:
    row = run.hit()
    if row is not None:
        return f"in epoch {row.until}: {_accuracy(row, run.start)}"
    best = max(run.evaluations, key=lambda row: (row.validation.percent(run.start.metric), -row.epoch))
    return f"no; best in epoch {best.until}: {_accuracy(best, run.start)}"


def _accuracy(row: Row, start: Start) -> str:
    seen, metric = row.validation, start.metric
    targets = {name: start.target if name == metric else None for name in (metric, *METRICS)}
    percents = ", ".join(
        f"{percent_text(seen.percent(name), target)} % {METRIC_NAMES[name]}" for name, target in targets.items()
    )
    counts = f"{seen.correct(metric)} of {seen.images}"
    return plain(f"{percents} ({counts}, weights: {seen.weights}, TTA: {seen.tta})")


def resumed_text(attempt: Start) -> str:
    """Attempts, epochs and steps count from 1, as on the console."""
    at, number = attempt.resumed_from, attempt.attempt + 1
    if at is None:
        return f"attempt {number} began again from nothing"
    lost = "unknown" if at.lost_seconds is None else f"{at.lost_seconds:.1f} s"
    gap = "unknown" if at.gap_seconds is None else f"{at.gap_seconds:.1f} s"
    return f"attempt {number} at epoch {at.epoch + 1}, step {at.step + 1} (lost {lost}, gap {gap})"


def _clock_table(run: Run) -> Table:
    row = run.hit()
    title = "time to target" if row else "time to the last evaluation"
    row = row or run.evaluations[-1]
    rows = ((f"T_{c}", f"{row.clock[c]:.3f}", f"{run.hours(row, c):.6f}", text) for c, text in CLOCKS.items())
    return Table(title, ("clock", "seconds", "hours", "counts"), tuple(rows))


def _phase_table(run: Run) -> Table:
    rows = []
    for span in executed_phases(run.rows):
        (size, batch, global_batch), seconds = span.value, span.seconds("data", "train")
        wait = span.seconds("data") / seconds if seconds else 0.0
        counts = (f"{size} px", f"{batch}", f"{global_batch}", f"{seconds:.1f}")
        rows.append((span.epochs, *counts, f"{span.images_per_second:.1f}", f"{wait:.1%}"))
    header = ("epochs", "size", "batch", "global batch", "seconds", "images/s", "data wait")
    return Table("phases (training and data wait)", header, tuple(rows))


def _ledger_table(run: Run) -> Table:
    """Shares of T_total; the whole run where it has stopped, else up to the last epoch line."""
    ledger = run.stop.seconds if run.stop else {n: sum(row.seconds[n] for row in run.rows) for n in RUN_LABELS}
    total = sum(ledger[name] for name in RUN_LABELS)
    shown = [name for name in RUN_LABELS if ledger[name] or name not in NEWER_LABELS]
    rows = [(name, f"{ledger[name]:.3f}", f"{ledger[name] / total:.2%}" if total else "-") for name in shown]
    setup = {n: seconds for n, seconds in run.start.setup_seconds.items() if seconds or n not in NEWER_LABELS}
    rows += [(name, f"{seconds:.3f}", "before") for name, seconds in setup.items()]
    return Table("where the time of the whole run went", ("label", "seconds", "of the run"), tuple(rows))
