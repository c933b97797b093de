"""How a run ends: its last line in the log, its exit code, and what the other ranks are told."""

import contextlib
import traceback

from data_prep import DataError
from training.outcome import INPUT_ERROR, ConfigError, Diverged, Outcome, PeerFailed, Preempted
from training.run_folder import DISK_FULL
from training.trainer import Job, fit


def guarded_fit(job: Job) -> Outcome:
    """`fit`, with every way to end written as the log's stop line. A crash is logged and raised again; that of another
    rank as PeerFailed."""
    try:
        outcome, detail = fit(job), ""
    except Diverged as error:
        outcome, detail = Outcome.DIVERGED, str(error)
    except Preempted as error:
        outcome, detail = Outcome.PREEMPTED, str(error)
    except BaseException as error:
        raise told(job, error) from error
    finally:
        job.loader.close()
    stop_line(job, outcome, detail)
    if detail:
        job.book.say(f"{outcome.value}: {detail}")
    return outcome


def told(job: Job, error: BaseException) -> BaseException:
    """The error to raise, after the log and the other ranks have been told of it. When a rank is gone the others fail
    in their next exchange: then the reason that it left is the one that counts."""
    other = None if isinstance(error, ConfigError | DataError | PeerFailed) else job.env.group.reason()
    job.book.crash(traceback.format_exc())
    cause = other or error
    text = f"{type(cause).__name__}: {cause}".splitlines()[0]
    if not other:
        job.env.group.tell(str(error) if isinstance(error, ConfigError | DataError) else text, error_code(error))
    with contextlib.suppress(OSError):  # a full disk: the first error is the one to tell
        stop_line(job, Outcome.CRASHED, text, error_code(cause))
    return cause


def error_code(error: BaseException) -> int:
    """The exit code of a run that ends with this error: of bad input also when it turns bad after the start."""
    if isinstance(error, PeerFailed):
        return error.exit_code
    bad_input = isinstance(error, ConfigError | DataError) or (isinstance(error, OSError) and error.errno in DISK_FULL)
    return INPUT_ERROR if bad_input else Outcome.CRASHED.exit_code


def stop_line(job: Job, outcome: Outcome, detail: str, exit_code: int | None = None) -> None:
    job.book.stop(
        outcome=outcome.value,
        exit_code=outcome.exit_code if exit_code is None else exit_code,
        epoch=job.state.epoch,
        step=job.state.step,
        detail=detail,
        **job.state.clock.snapshot(),
    )
