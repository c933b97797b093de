"""How a run ends: its last line in the log, its exit code, what the other ranks are told, and its reports."""

import contextlib
import traceback
from collections.abc import Callable
from pathlib import Path

from dawn import RunError, read_run
from dawn.commandline import quoted
from dawn.report import write_reports
from dawn.reports.summary import print_summary
from training.distributed.launcher import start_words
from training.engine.trainer import Job, fit
from training.errors import Diverged, Outcome, Preempted, error_code, summary
from training.logs.host import host_state
from training.runs.folder import LOG


def guarded_fit(job: Job) -> Outcome:
    """`fit`, with every way to end written as the log's stop line. A crash is logged and raised again; that of another
    rank as PeerFailed."""
    try:
        outcome, detail = how_it_ends(lambda: fit(job))
    except BaseException as error:
        raise told(job, error) from error
    finally:
        job.loader.close()
    stop_line(job, outcome, detail)
    if detail:
        job.book.say(f"{outcome.value}: {detail}")
    if outcome is Outcome.DIVERGED:
        job.book.say(f"where and why: {start_words(job.env.world_size)} training diagnose {quoted(job.folder)}")
    return outcome


def how_it_ends(train: Callable[[], Outcome]) -> tuple[Outcome, str]:
    """The outcome of `train`, and a sentence where it ended before its time. A crash is raised on."""
    try:
        return train(), ""
    except Diverged as error:
        return Outcome.DIVERGED, str(error)
    except Preempted as error:
        return Outcome.PREEMPTED, str(error)


def crash_line(error: BaseException) -> str:
    """The `detail` of a crash in a log."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def told(job: Job, error: BaseException) -> BaseException:
    """The error to raise, after the log and the other ranks have been told of it. When a rank is gone the others fail
    in their next exchange: then the reason that it left is the one that counts."""
    job.book.crash(traceback.format_exc())
    cause = job.env.group.cause(error)
    with contextlib.suppress(OSError):  # a full disk: the first error is the one to tell
        stop_line(job, Outcome.CRASHED, crash_line(cause), error_code(cause))
    return cause


def stop_line(job: Job, outcome: Outcome, detail: str, exit_code: int | None = None) -> None:
    job.book.stop(
        outcome=outcome.value,
        exit_code=outcome.exit_code if exit_code is None else exit_code,
        epoch=job.state.epoch,
        step=job.state.step,
        detail=detail,
        host=host_state(job.gpus),
        **job.state.clock.snapshot(),
    )


def report_run(folder: Path, say: Callable[[str], None], with_chart: bool = True) -> None:
    """Print the summary, write TSV, entry and picture, and say where they are. A run without a validation has nothing
    to report. The run has ended: whatever fails here is told, and changes nothing."""
    try:
        run = read_run(folder)
    except RunError as error:
        say(f"no report: {error}")
        return
    try:
        print_summary(run)
        files = write_reports(folder, with_page=False, with_chart=with_chart)
    except Exception as error:
        say(f"no report: {summary(error)}")
        files = {}
    for name, path in {**files, "log": folder / LOG}.items():
        say(f"{name:>8}: {path}")
    if files:  # the page needs what the reports need
        say(f"    page: python -m dawn report {quoted(folder)}")
