"""The run: fit -> train_part -> step, and what happens between epochs."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dawn.runlog.records import Validation
from phases import Schedule
from phases.parts import Part, epoch_parts
from training.config.config import Config
from training.data.loader import Batch, Loader
from training.distributed.env import Env
from training.distributed.parallel import graphs_fixed, set_whitening
from training.distributed.process import StopSignal
from training.engine.checkpoint import Saver
from training.engine.evaluate import evaluate
from training.engine.faults import Faults
from training.engine.optimizers import Moment
from training.engine.state import NEVER, OF_EACH_RANK, TrainState
from training.engine.step import step
from training.engine.warmup import WARM_STEPS, random_batch, untouched
from training.errors import Diverged, Outcome
from training.logs.environment import EnergyMeter
from training.logs.logbook import Logbook
from training.logs.meters import StepMeter, write_epoch
from training.logs.metrics import Meter, Target, Watch
from training.models.build import has_whitening

WHITENING_IMAGES = 5000  # airbench94


@dataclass
class Job:
    """A run and what it works with."""

    config: Config
    schedule: Schedule
    env: Env
    loader: Loader
    state: TrainState
    book: Logbook
    folder: Path
    saver: Saver
    identity: dict  # what a checkpoint says about its run, see training.runs.resume
    target: Target
    stop: StopSignal
    faults: Faults
    energy: EnergyMeter
    classes: int
    meters: tuple[Meter, ...] = ()  # beside top-1 and top-5
    watches: tuple[Watch, ...] = ()  # of the training steps
    history: list[tuple[int, float]] = field(
        default_factory=list
    )  # (epoch, percent) of the validations, for the forecast
    saved_images: int = -1  # images_seen at the last save
    gpus: list[str] = field(default_factory=list)  # of rank 0's machine, see training.logs.host
    part: Part | None = None  # that the loader was set to

    def parts(self, epoch: int) -> tuple[Part, ...]:
        """Of an epoch, each with all of its steps: see `steps_of`."""
        return epoch_parts(self.schedule, epoch, self.loader.train_images, self.env.world_size)

    def steps_of(self, epoch: int) -> int:
        """Training steps of an epoch."""
        return self.config.steps_of(self.parts(epoch)[-1].stop_step)

    def images_of(self, epoch: int) -> int:
        """Training images of an epoch, all ranks."""
        return sum(self.steps_in(part) * part.phase.bs * self.env.world_size for part in self.parts(epoch))

    def steps_in(self, part: Part) -> int:
        """Steps of a part that are trained."""
        return max(0, self.config.steps_of(part.stop_step) - part.first_step)

    @property
    def global_batch(self) -> int:
        return self.loader.phase.bs * self.env.world_size


def fit(job: Job) -> Outcome:
    """Train from where the state stands to the target or the end of the schedule. Raises: Diverged, Preempted,
    ConfigError (disk)."""
    job.state.clock.start()
    with anomalies_found(job):
        train_epochs(job)
    return job.target.outcome(job.state.hit_epoch)


def train_epochs(job: Job) -> None:
    state, schedule = job.state, job.schedule
    for epoch in range(state.epoch, schedule.epochs):
        if job.config.stop_at_target and state.hit_epoch >= 0:  # also when resumed after the hit
            break
        for part in parts_left(job, epoch):
            with state.clock.during("switch"):
                enter_phase(job, part)
            with state.clock.during("train"), graphs_fixed(job.config):
                train_part(job, part)
        with state.clock.during("eval"):
            seen = validate(job, epoch) if is_evaluated(job.config, schedule, epoch) else None
        if job.watches or (seen and job.meters):
            with state.clock.during("inspect"):
                look_inside(job, epoch, validated=seen is not None)
        write_epoch(job, epoch, seen)
        finish_epoch(state, epoch, hit=seen is not None and seen.reaches(job.target.metric, job.target.percent))
        if is_saved(job, epoch):
            with state.clock.during("checkpoint"):
                save(job)


def parts_left(job: Job, epoch: int) -> list[Part]:
    """Those of the epoch that have steps left; the last one also where only its validation is missing."""
    *before, last = job.parts(epoch)
    return [part for part in before if job.state.step < part.stop_step and job.steps_in(part)] + [last]


@contextlib.contextmanager
def anomalies_found(job: Job) -> Iterator[None]:
    """--detect-anomaly: torch names the operation whose gradient was NaN. Its warning, which has the traceback of the
    forward call, goes to debug.log. Raises: Diverged."""
    if not job.config.detect_anomaly:
        yield
        return
    try:
        with anomaly_warnings_told(job.book.crash), torch.autograd.detect_anomaly():
            yield
    except RuntimeError as error:
        if "returned nan values" not in str(error):
            raise
        place = f"epoch {job.state.epoch + 1}, step {job.state.step + 1}"
        what = " ".join(str(error).split()).rstrip(".")
        raise Diverged(f"{what}, at {place}. debug.log has the forward call") from error


@contextlib.contextmanager
def anomaly_warnings_told(told: Callable[[str], None]) -> Iterator[None]:
    """Torch's warning of an anomaly, with the traceback of its forward call, is handed to `told`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Anomaly Detection has been enabled")  # the user has asked for it
        warnings.filterwarnings("always", message="Error detected in")  # another seed may have said the same before
        show = warnings.showwarning

        def keep(message: Warning | str, *place: Any, **rest: Any) -> None:
            if str(message).startswith("Error detected in"):
                told(str(message))
            else:
                show(message, *place, **rest)

        warnings.showwarning = keep
        yield


def finish_epoch(state: TrainState, epoch: int, hit: bool) -> None:
    state.epoch, state.step = epoch + 1, 0
    state.loss_sum.zero_()
    state.skipped.zero_()
    if hit and state.hit_epoch < 0:
        state.hit_epoch = epoch


def look_inside(job: Job, epoch: int, validated: bool) -> None:
    """What meters and watches found in the epoch. All ranks call it."""
    view = job.book.view(epoch, job.state.images_seen)
    for part in (*job.watches, *(job.meters if validated else ())):
        part.finish(job.env.group, view)


def enter_phase(job: Job, part: Part) -> None:
    """Give the loader the part's phase; at the very first, let the network look at the data it starts from."""
    if job.part is None or place_of(part) != place_of(job.part):
        job.loader.set_phase(*place_of(part))
    job.part = part
    steps = job.config.steps_of(job.loader.train_images // job.global_batch)  # of a whole epoch
    dropped = job.loader.train_images - steps * job.global_batch
    job.book.data_phase(part.phase, part.start, job.state.images_seen, dropped)
    if has_whitening(job.state.model):
        enter_whitening(job, part.epoch)


def place_of(part: Part) -> tuple:
    """What a loader is set to: the phase, and where in the epoch it begins unless that is its beginning."""
    return (part.phase, part.first_step, part.first_image) if part.first_step else (part.phase,)


def enter_whitening(job: Job, epoch: int) -> None:
    """cifarnet's first layer: initialised from the data before the first step, and frozen after --whitening-epochs."""
    state, trained = job.state, epoch < job.config.whitening_epochs
    if state.images_seen == 0:
        state.model.initialise_from(job.loader.first_images(WHITENING_IMAGES))
        job.env.group.spread(list(state.model.parameters()))
        if state.average is not None:
            state.average.module.load_state_dict(state.model.state_dict())
    if set_whitening(job.config, state, job.env, trained) and job.env.world_size > 2:
        settle(job)


def settle(job: Job) -> None:
    """DDP made anew settles in its first step in which order more than two ranks add their gradients. A resumed run
    would settle it in another step than the undisturbed one, and its sums would have other last bits."""
    phase, state = job.part.phase, job.state
    with untouched(state):
        for _ in range(WARM_STEPS):
            batch = random_batch((phase.sz, phase.sz), phase.bs, job.classes, state, job.env)
            step(job.config, state, batch, 0.0, None)


def train_part(job: Job, part: Part) -> None:
    """The steps of a part from state.step on."""
    state, group = job.state, job.env.group
    state.model.train()
    epoch, batches = part.epoch, job.loader.train(part.epoch, state.step)
    meter = StepMeter(job, part)
    # Counted from the manifest, equal on all ranks. Shards of a loader differ by one, and ranks that train until their
    # own data ends leave the others waiting in an all-reduce.
    for number in range(state.step, job.config.steps_of(part.stop_step)):
        group.ask()
        save_if_due(job)
        loss_factor = job.faults.before_step(epoch, number) if job.config.inject_fault else 1.0
        if group.soon("stop", job.stop.requested):
            preempt(job)
        with state.clock.during("data"):
            batch = next(batches)
        # The end of the step, as in 2018: the first step has moved already, the last one meets the end of its ramp.
        position = part.position(number)
        lr, momentum = job.schedule.lr_at(position), job.schedule.momentum_at(position)
        strength = job.loader.phase.aug
        due = [watch for watch in job.watches if watch.is_due(number)]
        moment = Moment(part.position(number - 1), position, job.schedule.total_epochs)
        logits, loss = step(job.config, state, batch, lr, momentum, loss_factor, strength, due, moment)
        for watch in job.watches:
            watch.batch(number, batch, logits, loss)
        state.step, state.images_seen = number + 1, state.images_seen + job.global_batch
        if meter.is_due(number):
            check_finite(job)
            meter.report(number, lr, momentum, logits, batch.targets, loss)
    save_if_due(job)
    check_finite(job)


def check_finite(job: Job) -> None:
    """Reads the device. Raises: Diverged on all ranks, naming the first bad step."""
    first_bad = int(job.env.group.least(job.state.bad_step.clone()))
    if first_bad < NEVER:
        raise Diverged(
            f"the training loss was not finite at epoch {job.state.epoch + 1}, step {first_bad + 1}. "
            "Often a lower learning rate or a longer warm-up helps"
        )
    if job.state.scaler.is_enabled() and job.state.scaler.get_scale() < 1:
        raise Diverged(
            f"fp16 overflows even with a loss scale below 1, at epoch {job.state.epoch + 1}, step {job.state.step}. "
            "Lower the learning rate or use --precision bf16"
        )


def is_evaluated(config: Config, schedule: Schedule, epoch: int) -> bool:
    """The validation grid, fixed before the run."""
    last = epoch == schedule.epochs - 1
    return last or (epoch >= config.eval_from and (epoch - config.eval_from) % config.eval_every == 0)


def is_saved(job: Job, epoch: int) -> bool:
    """Every --checkpoint-every epochs, and where the run ends."""
    config, done = job.config, epoch + 1
    ends = done == job.schedule.epochs or (config.stop_at_target and job.state.hit_epoch >= 0)
    return ends or done % config.checkpoint_every == 0


def validate(job: Job, epoch: int) -> Validation:
    seen = evaluate(
        job.state.evaluated_model(),
        poll(job),
        job.loader.validation_images,
        job.state.precision,
        job.config.tta,
        job.env.group,
        job.meters,
        size=job.loader.phase.val_sz,
        weights="ema" if job.state.average is not None else "model",
    )
    job.history.append((epoch, seen.percent(job.config.metric)))
    if len(job.history) == 2:  # once, and not of the very first
        warn_of_guessing(job, epoch, seen)
    return seen


def warn_of_guessing(job: Job, epoch: int, seen: Validation) -> None:
    """Wrong labels and a dead schedule look like this (a validation of few images may, too, in an early epoch)."""
    if seen.correct1 * job.classes <= seen.images:
        job.book.say(
            f"warning: {seen.percent('top1'):.2f} % top-1 in epoch {epoch + 1} is what guessing among {job.classes} "
            "classes gives. Are the labels right (data_prep check), and the learning rates?"
        )


def poll(job: Job) -> Iterator[Batch]:
    """This rank's validation batches, left at once when a stop is wished: the epoch's steps are then saved and only its
    validation is repeated. Ranks that have none left wait here for the others."""
    batches = job.loader.validation()
    for number in itertools.count():
        if job.config.inject_fault:
            job.faults.before_validation(job.state.epoch, number)
        batch = next(batches, None)
        stop, more = job.env.group.any(job.stop.requested, batch is not None)
        if stop:
            preempt(job)
        if not more:
            return
        if batch is not None:
            yield batch


def preempt(job: Job) -> None:
    with job.state.clock.during("checkpoint"):
        save(job)
    name = job.stop.name or "a signal to another rank"
    raise job.saver.preempted(name, f"{job.state.images_seen} images")


def save(job: Job) -> None:
    """Raises: Diverged before a state that is lost replaces the last good one."""
    check_finite(job)
    state, group = job.state.state_dict(), job.env.group
    state |= {name: group.gather(state[name]) for name in OF_EACH_RANK}
    group.from_main(lambda: job.saver.save({"identity": job.identity, "state": state}))
    job.saved_images = job.state.images_seen


def save_if_due(job: Job) -> None:
    """Rank 0's clock decides."""
    late = job.env.rank == 0 and job.saver.is_due(job.config.checkpoint_minutes)
    if job.env.group.soon("save", late and job.state.images_seen > job.saved_images):
        with job.state.clock.during("checkpoint"):
            save(job)
