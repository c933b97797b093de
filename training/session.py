"""One run from its configuration to its reports: everything is checked and built here, then trainer.fit does the
work."""

import contextlib
import sys
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path

from data_prep import DataError, Manifest
from data_prep.memory import keep_freed_memory
from dawn import Clock, process_start_ns
from phases import Schedule
from training.checkpoint import Saver
from training.config import Config
from training.dataset import checked_dataset, loader_name, oversized
from training.device import Env, Precision, choose_precision, open_env
from training.evaluate import Counts, evaluate
from training.faults import Faults
from training.interrupt import StopSignal
from training.loaders import open_loader
from training.logbook import Logbook
from training.models import build_model, check_model
from training.outcome import INPUT_ERROR, ConfigError, Diverged, Outcome, Preempted
from training.reporting import report_run
from training.resolve import world_size
from training.resume import (
    check_identity,
    identity_of,
    load_checkpoint,
    logged_run_id,
    next_attempt,
    resume_line,
    resumed_from,
)
from training.run_folder import DISK_FULL, disk_errors, open_folder, save_config
from training.start_line import start_fields
from training.state import TrainState, new_state
from training.target import parse_target
from training.trainer import Job, fit, step
from training.warmup import needs_warm_up, warm_up


def run(config: Config, schedule: Schedule) -> int:
    """Train, report, and return the exit code. Raises: ConfigError, DataError before any training is done."""
    if config.evaluate:
        return validate_only(config, schedule)
    with opened_job(config, schedule) as job:
        outcome = guarded_fit(job)
        report_run(job.folder, job.book.say)
    return outcome.exit_code


@contextlib.contextmanager
def opened_job(config: Config, schedule: Schedule) -> Iterator[Job]:
    """Everything checked, built, warmed up and written down, ready for the first step; the clock is not started yet."""
    dataset, env = checked_input(config, schedule)
    for text in filter(None, (oversized(config, schedule, phase) for phase in schedule.data)):
        warn(text)
    clock = Clock(sync=env.sync, origin_ns=process_start_ns())
    keep_freed_memory()
    with open_folder(config) as folder, disk_errors(folder), StopSignal() as stop:
        state, resumed = build_state(config, schedule, dataset, env, clock, logged_run_id(folder))
        if needs_warm_up(config, env):
            with clock.during("warm"):
                warm_up(config, schedule, state, env, len(dataset.classes), step)
        with open_logbook(config, folder, env, state) as book:
            yield start_job(config, schedule, dataset, env, state, resumed, book, stop, folder)


def checked_input(config: Config, schedule: Schedule) -> tuple[Manifest, Env]:
    """The dataset and the device, after every check that needs no run folder."""
    dataset = checked_dataset(config, schedule, world_size())
    check_model(config, len(dataset.classes), {size for p in schedule.data for size in (p.sz, p.val_sz)})
    return dataset, open_env(config)


def build_state(
    config: Config, schedule: Schedule, dataset: Manifest, env: Env, clock: Clock, run_id: str | None = None
) -> tuple[TrainState, bool]:
    """A new state, or the one of the checkpoint that --resume names, and whether it is that. `run_id`: the folder's."""
    saved = load_checkpoint(config, warn) if config.resume else None
    if saved:
        check_identity(saved["identity"], config, env, warn)
    if saved and run_id not in (None, saved["identity"]["run_id"]):
        raise ConfigError(
            f"--resume {config.resume}: a checkpoint of another run than --logdir {config.logdir}. Give one"
        )
    model = build_model(config, len(dataset.classes))
    precision = (
        Precision(saved["identity"]["precision"], env.device.type)
        if saved
        else choose_precision(config, env, model, schedule.data_at(0).sz)
    )
    state = new_state(config, model, env, precision, clock)
    if saved:
        state.load_state_dict(saved["state"])
        clock.load_state_dict(saved["state"]["clock"])
    return state, bool(saved)


def open_logbook(config: Config, folder: Path, env: Env, state: TrainState) -> Logbook:
    if not config.resume:
        save_config(folder, config)
    return Logbook(folder, next_attempt(folder), config.data, env, config.tensorboard, state.images_seen)


def start_job(
    config: Config,
    schedule: Schedule,
    dataset: Manifest,
    env: Env,
    state: TrainState,
    resumed: bool,
    book: Logbook,
    stop: StopSignal,
    folder: Path,
) -> Job:
    """Write the start line and tie everything together."""
    run_id = logged_run_id(folder) or uuid.uuid4().hex
    identity = identity_of(config, env, run_id, state.precision.name)
    place = resumed_from(folder, state) if book.attempt else None
    book.start(
        start_fields(
            config, schedule, dataset, loader_name(config, schedule), env, state, identity, place if resumed else None
        )
    )
    if place:
        book.say(resume_line(book.attempt, place))
    faults = Faults(config.inject_fault, lambda fault: book.log.write("fault", book.attempt, fault=fault))
    loader = open_loader(config, schedule, dataset, env, state.precision.dtype)
    return Job(
        config,
        schedule,
        env,
        loader,
        state,
        book,
        folder,
        Saver(folder, faults.before_write),
        identity,
        parse_target(config),
        stop,
        faults,
    )


def guarded_fit(job: Job) -> Outcome:
    """`fit`, with every way to end written as the log's stop line. A crash is logged and raised again."""
    try:
        outcome, detail = fit(job), ""
    except Diverged as error:
        outcome, detail = Outcome.DIVERGED, str(error)
    except Preempted as error:
        outcome, detail = Outcome.PREEMPTED, str(error)
    except BaseException as error:
        job.book.text.debug(traceback.format_exc())
        with contextlib.suppress(OSError):  # a full disk: the first error is the one to tell
            stop_line(job, Outcome.CRASHED, f"{type(error).__name__}: {error}".splitlines()[0], error_code(error))
        raise
    finally:
        job.loader.close()
    stop_line(job, outcome, detail)
    if detail:
        job.book.say(f"{outcome.value}: {detail}")
    return outcome


def error_code(error: BaseException) -> int:
    """The exit code of a run that ends with this error: of bad input also when it turns bad after the start."""
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


def validate_only(config: Config, schedule: Schedule) -> int:
    """--evaluate: count once, in the last phase's validation size, and print. Writes nothing."""
    dataset, env = checked_input(config, schedule)
    state, resumed = build_state(config, schedule, dataset, env, Clock())
    weights = f"checkpoint of epoch {state.epoch}, step {state.step}" if resumed else "UNTRAINED weights"
    loader = open_loader(config, schedule, dataset, env, state.precision.dtype)
    with contextlib.closing(loader):
        loader.set_phase(schedule.data_at(schedule.total_epochs - 1))
        counts: Counts = evaluate(
            state.evaluated_model(), loader.validation(), loader.validation_images, state.precision, config.tta
        )
    print(
        f"top-1 {counts.percent('top1'):.3f} % ({counts.correct1} of {counts.images}), "
        f"top-{counts.k5} {counts.percent('top5'):.3f} % ({counts.correct5}), "
        f"at {loader.phase.val_sz} px, {state.precision.name}, tta {config.tta}, {weights}"
    )
    return 0


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
