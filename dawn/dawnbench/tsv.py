"""result.tsv: one row per evaluation in the columns of DAWNBench. Epochs count from 1, hours are T_dawn
unless another clock is asked for."""

from dawn.dawnbench.tasks import Task, task_of
from dawn.runlog.records import Row
from dawn.runlog.run import Run
from dawn.runlog.writer import RunError

TSV_NAME = "result.tsv"


def tsv(run: Run, clock: str = "dawn") -> str:
    """Every evaluation to the end of the run, hours on `clock` (one of records.CLOCKS). RunError if there is none or
    if two stand at the same hour."""
    task = task_of(run.start.task)
    lines = ["\t".join(("epoch", "hours", *(name for name, _ in task.columns)))]
    hours = ""
    for row in run.evaluations:
        before, hours = hours, f"{run.hours(row, clock):.10f}"  # to 0.36 microseconds
        if hours == before:
            raise RunError(f"{run.path}: epoch {row.epoch} ends at the same hour as the one before. Check its clock.")
        lines.append("\t".join((str(row.epoch + 1), hours, *_percents(task, row))))
    return "\n".join(lines) + "\n"


def _percents(task: Task, row: Row) -> list[str]:
    return [repr(row.validation.percent(metric)) for _, metric in task.columns]
