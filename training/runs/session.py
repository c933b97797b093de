"""One run from its configuration to its reports: everything is checked and built here, then trainer.fit does the
work."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_prep import DataError, Manifest
from data_prep.workers import keep_freed_memory
from dawn import Clock, process_start_ns
from dawn.runlog.records import Validation
from phases import Schedule
from training.config.config import Config
from training.config.saved import save_config
from training.config.schedule import check_start_epoch, resolved_schedule
from training.data.dataset import checked_dataset, loader_name, oversized
from training.data.loader import check_loader, open_loader
from training.distributed.env import Env, chosen_device, open_env
from training.distributed.launcher import ranks, warn
from training.distributed.process import StopSignal
from training.engine.checkpoint import Saver
from training.engine.evaluate import evaluate
from training.engine.faults import Faults
from training.engine.optimizers import check_optimizer
from training.engine.precision import Precision, choose_precision, emulated
from training.engine.state import TrainState, new_state, part_of_rank
from training.engine.trainer import Job
from training.engine.warmup import prepare_device
from training.errors import ConfigError, Outcome, summary
from training.inspect.build import check_folder, meters_of, show_gradients, watches_of
from training.inspect.views import write_views
from training.logs.environment import EnergyMeter
from training.logs.host import Hosts, StartWatch
from training.logs.logbook import Logbook, SilentLogbook
from training.logs.metrics import parse_target
from training.models.build import build_model, check_model
from training.runs.alike import check_alike
from training.runs.finish import guarded_fit, report_run
from training.runs.folder import check_path, disk_errors, open_folder
from training.runs.resume import (
    check_identity,
    gone_on,
    identity_of,
    load_checkpoint,
    logged_run_id,
    next_attempt,
    resume_line,
    resumed_from,
)
from training.runs.start_event import start_fields


def run(config: Config, schedule: Schedule) -> int:
    """Train, report, and return the exit code. Raises: ConfigError, DataError before any training is done; PeerFailed
    for those of another rank."""
    if config.evaluate:
        validate_only(config, schedule)
        return 0
    return trained(config, schedule)[0].exit_code


def trained(config: Config, schedule: Schedule, origin_ns: int | None = None) -> tuple[Outcome, Path]:
    """How the run ended, after its reports are written, and its folder. `origin_ns`: when its setup began, on the clock
    of time.monotonic_ns; None: with this process. Raises: as `run`."""
    with opened_job(config, schedule, origin_ns) as job:
        outcome = guarded_fit(job)
        if job.env.rank == 0:
            if config.inspect != "off":
                show_inspection(job, outcome)
            report_run(job.folder, job.book.say, config.chart)
        job.env.group.from_main(lambda: None)  # torchrun ends rank 0 with the first rank that fails to reach a target
        return outcome, job.folder


def show_inspection(job: Job, outcome: Outcome) -> None:
    """The tables and pictures of --inspect. They are views: the run's outcome stands already."""
    try:
        if outcome in (Outcome.DIVERGED, Outcome.PREEMPTED):  # in an epoch whose looks would be lost
            show_gradients(job.watches, job.env.group, job.book.view(job.state.epoch, job.state.images_seen))
        write_views(job.folder, job.config, job.book)
    except Exception as error:
        job.book.say(f"no inspection: {summary(error)}")


@contextlib.contextmanager
def opened_job(config: Config, schedule: Schedule, origin_ns: int | None = None) -> Iterator[Job]:
    """Everything checked, built, warmed up and written down, ready for the first step; the clock is not started yet."""
    found = own_input(config, schedule)
    with open_env(config, alone=isinstance(found, Exception)) as env:
        clock = Clock(sync=env.sync, origin_ns=origin_ns or process_start_ns())
        check_alike(config, schedule, env)
        watch = env.group.together(lambda: StartWatch(from_process_start=origin_ns is None))
        config, schedule = started_again(config, schedule, env)
        dataset = env.group.together(lambda: checked_input(config, schedule, env, found, clock))
        if env.rank == 0:
            warn_of_large_images(config, schedule)
        with env.group.held_by_main(lambda: open_folder(config)) as folder, disk_errors(folder), StopSignal() as stop:
            if config.inspect != "off":
                env.group.from_main(lambda: check_folder(folder, config.inspect))
            state, resumed = build_state(config, schedule, dataset, env, clock, folder)
            with clock.during("warm"):
                prepare_device(config, schedule, state, env, len(dataset.classes))
            keep_freed_memory()  # from here on: the pre-flight of batches that do not fit gives theirs back
            with open_logbook(config, folder, env, state) as book:
                yield start_job(config, schedule, dataset, env, state, resumed, book, stop, folder, watch)


def own_input(config: Config, schedule: Schedule) -> Manifest | Exception:
    """What a rank finds before it waits for the others: its dataset, or the bad input that it ends with."""
    try:
        chosen_device(config, ranks())
        if not (ranks().rank or config.evaluate) and config.logdir:  # rank 0 alone writes there
            check_path(Path(config.logdir), config)
        return checked_alone(config, schedule, ranks().world_size)
    except (ConfigError, DataError) as error:
        return error


def checked_alone(config: Config, schedule: Schedule, world_size: int) -> Manifest:
    """The dataset, after every check that needs no other rank and no run folder."""
    if config.detect_anomaly and world_size > 1:  # the one that finds it would leave the others waiting
        raise ConfigError(
            f"--detect-anomaly: works in one process, not in {world_size}. Start one, or train without it and use "
            "`python -m training diagnose RUN` when the run has diverged"
        )
    dataset = checked_dataset(config, schedule, world_size)
    sizes = {size for phase in schedule.data for size in (phase.sz, phase.val_sz)}
    check_model(config, len(dataset.classes), sizes, schedule.data)
    check_optimizer(config, schedule, len(dataset.classes))
    check_start_epoch(config, schedule)
    return dataset


def checked_input(
    config: Config,
    schedule: Schedule,
    env: Env,
    found: Manifest | Exception | None = None,
    clock: Clock | None = None,
) -> Manifest:
    """The dataset, after every check that needs no run folder. `found`: what own_input gave. Of the training images
    only a user's own loader reads any here, for its first batch, which is on the clock's label `prepare`."""
    if isinstance(found, Exception):
        raise found
    dataset = found or checked_alone(config, schedule, env.world_size)
    with (clock or Clock()).during("prepare"):
        check_loader(config, schedule, dataset, env)
    return dataset


def started_again(config: Config, schedule: Schedule, env: Env) -> tuple[Config, Schedule]:
    """Rank 0 looks for the run to go on with; each machine's launcher counts its own restarts, so the most counts. What
    is a machine's own, such as the path of the dataset, each rank keeps."""
    restarts = max(env.group.gather(ranks().restarts))
    found = env.group.from_main(lambda: gone_on(config, restarts))
    config = replace(config, resume=found.resume, logdir=found.logdir)
    return config, resolved_schedule(config, env.world_size, lambda text: None) if restarts else schedule


def build_state(
    config: Config, schedule: Schedule, dataset: Manifest, env: Env, clock: Clock, folder: Path | None = None
) -> tuple[TrainState, bool]:
    """A new state, or the one of the checkpoint that --resume names, and whether it is that. `folder`: the run's."""
    saved = env.group.from_main(lambda: checked_checkpoint(config, env, folder)) if config.resume else None
    with clock.during("prepare"):  # the seed decides the first weights
        model = build_model(config, len(dataset.classes))
    name = saved["identity"]["precision"] if saved else chosen_precision(config, schedule, env, model)
    precision = Precision(name, env.device.type)
    if slow := emulated(precision):
        warn(f"{slow}. --precision auto in place of it takes a format that the processor has")
    state = new_state(config, model, env, precision, clock, len(dataset.classes))
    if saved:
        state.load_state_dict(part_of_rank(saved["state"], env.rank, env.world_size))
        clock.load_state_dict(saved["state"]["clock"])
    else:
        state.epoch = config.start_epoch
        if env.rank:
            torch.manual_seed(config.seed + env.rank)  # of dropout: each rank has other images
    return state, bool(saved)


def checked_checkpoint(config: Config, env: Env, folder: Path | None) -> dict[str, Any] | None:
    """What --resume names, None when there is none yet. Raises: ConfigError when it belongs to another experiment."""
    saved = load_checkpoint(config, warn)
    if saved:
        check_identity(saved["identity"], config, env, warn)
        if folder and logged_run_id(folder) not in (None, saved["identity"]["run_id"]):
            raise ConfigError(
                f"--resume {config.resume}: a checkpoint of another run than --logdir {config.logdir}. Give one"
            )
    return saved


def chosen_precision(config: Config, schedule: Schedule, env: Env, model: nn.Module) -> str:
    return env.group.from_main(lambda: choose_precision(config, env, model, schedule.data_at(0).sz).name)


def open_logbook(config: Config, folder: Path, env: Env, state: TrainState) -> Logbook | SilentLogbook:
    attempt = env.group.from_main(lambda: next_attempt(folder))
    if env.rank:
        return SilentLogbook(folder, attempt, env.rank)
    if not config.resume:
        save_config(folder, config)
    return Logbook(folder, attempt, config.data, env, config.tensorboard, state.images_seen)


def start_job(
    config: Config,
    schedule: Schedule,
    dataset: Manifest,
    env: Env,
    state: TrainState,
    resumed: bool,
    book: Logbook | SilentLogbook,
    stop: StopSignal,
    folder: Path,
    watch: StartWatch,
) -> Job:
    """Write the start line and tie everything together."""
    run_id = env.group.from_main(lambda: logged_run_id(folder) or uuid.uuid4().hex)
    identity = identity_of(config, env, run_id, state.precision.name)
    loader = open_loader(config, schedule, dataset, env, state.precision.dtype)
    hosts = watch.hosts(env)
    if env.rank == 0:
        write_start(config, schedule, dataset, env, state, identity, resumed, book, folder, hosts)
    faults = Faults(config.inject_fault, book.fault, env.rank, book.attempt)
    return Job(
        config,
        schedule,
        env,
        loader,
        state,
        book,
        folder,
        Saver(folder, faults.before_write, book.attempt),
        identity,
        parse_target(config),
        stop,
        faults,
        EnergyMeter(env),
        len(dataset.classes),
        meters_of(config, dataset, loader, state),
        watches_of(config, dataset, loader, state, folder),
        saved_images=state.images_seen,
        gpus=hosts.gpus,
    )


def write_start(
    config, schedule, dataset, env, state, identity, resumed: bool, book: Logbook, folder: Path, hosts: Hosts
) -> None:
    """The start line; for a later attempt also where it goes on and what was lost."""
    place = resumed_from(folder, state) if book.attempt else None
    name, place_resumed = loader_name(config, schedule), place if resumed else None
    book.start(start_fields(config, schedule, dataset, name, env, state, identity, place_resumed, hosts))
    if place:
        book.say(resume_line(book.attempt, place))


def validate_only(config: Config, schedule: Schedule) -> Validation:
    """--evaluate: count once, in the last phase's validation size, and print. Writes nothing."""
    found = own_input(config, schedule)
    with open_env(config, alone=isinstance(found, Exception)) as env:
        check_alike(config, schedule, env)
        dataset = env.group.together(lambda: checked_input(config, schedule, env, found))
        state, resumed = build_state(config, schedule, dataset, env, Clock())
        weights = f"checkpoint of epoch {state.epoch}, step {state.step}" if resumed else "UNTRAINED weights"
        loader = open_loader(config, schedule, dataset, env, state.precision.dtype)
        with contextlib.closing(loader):
            loader.set_phase(schedule.data[-1])
            model, images = state.evaluated_model(), loader.validation_images
            told = {"size": loader.phase.val_sz, "weights": "ema" if state.average is not None else "model"}
            counts = evaluate(model, loader.validation(), images, state.precision, config.tta, env.group, **told)
    if env.rank == 0:
        held = ", of held-out training images" if config.holdout else ""
        print(
            f"top-1 {counts.percent('top1'):.3f} % ({counts.correct1} of {counts.images}), "
            f"top-{counts.k5} {counts.percent('top5'):.3f} % ({counts.correct5}), "
            f"at {loader.phase.val_sz} px, {state.precision.name}, tta {config.tta}, {weights}{held}"
        )
    return counts


def warn_of_large_images(config: Config, schedule: Schedule) -> None:
    for text in filter(None, (oversized(config, schedule, phase) for phase in schedule.data)):
        warn(text)
