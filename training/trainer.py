"""The run: fit -> train_epoch -> step, and what happens between epochs."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

from phases import Schedule
from training.checkpoint import Saver
from training.config import Config
from training.device import Env
from training.environment import peak_memory_bytes
from training.evaluate import Counts, evaluate
from training.faults import Faults
from training.interrupt import StopSignal
from training.loaders import Batch, Loader
from training.logbook import Logbook
from training.optimizers import normalise_filters, set_hyperparameters
from training.outcome import Diverged, Outcome, Preempted
from training.state import TrainState
from training.step_meter import StepMeter
from training.target import Target

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
    identity: dict  # what a checkpoint says about its run, see training.resume
    target: Target
    stop: StopSignal
    faults: Faults
    history: list[tuple[int, float]] = field(
        default_factory=list
    )  # (epoch, percent) of the validations, for the forecast
    saved_at: float = field(default_factory=time.monotonic)


def fit(job: Job) -> Outcome:
    """Train from where the state stands to the target or the end of the schedule. Raises: Diverged, Preempted,
    ConfigError (disk)."""
    state, schedule = job.state, job.schedule
    state.clock.start()
    for epoch in range(state.epoch, schedule.total_epochs):
        if job.config.stop_at_target and state.hit_epoch >= 0:  # also when resumed after the hit
            break
        with state.clock.during("switch"):
            enter_phase(job, epoch)
        with state.clock.during("train"):
            train_epoch(job, epoch)
        with state.clock.during("eval"):
            counts = validate(job, epoch) if is_evaluated(job.config, schedule, epoch) else None
        write_epoch(job, epoch, counts)
        finish_epoch(state, epoch, hit=counts is not None and job.target.reached_by(counts))
        with state.clock.during("checkpoint"):
            save(job)
    return job.target.outcome(state.hit_epoch)


def finish_epoch(state: TrainState, epoch: int, hit: bool) -> None:
    state.epoch, state.step = epoch + 1, 0
    state.loss_sum.zero_()
    if hit and state.hit_epoch < 0:
        state.hit_epoch = epoch


def enter_phase(job: Job, epoch: int) -> None:
    """Give the loader the epoch's phase; at the very first, let the network look at the data it starts from."""
    phase = job.schedule.data_at(epoch)
    if phase != job.book.phase:
        job.loader.set_phase(phase)
    dropped = job.loader.train_images - job.loader.steps * phase.bs * job.env.world_size
    job.book.data_phase(phase, epoch, job.state.images_seen, dropped)
    if hasattr(job.state.model, "train_whitening"):
        job.state.model.train_whitening(epoch < job.config.whitening_epochs)
    if job.state.images_seen == 0 and hasattr(job.state.model, "initialise_from"):
        job.state.model.initialise_from(job.loader.first_images(WHITENING_IMAGES))
        if job.state.average is not None:
            job.state.average.module.load_state_dict(job.state.model.state_dict())


def train_epoch(job: Job, epoch: int) -> None:
    """The steps of an epoch from state.step on."""
    state, steps = job.state, job.loader.steps
    global_batch = job.loader.phase.bs * job.env.world_size
    state.model.train()
    batches = job.loader.train(epoch, state.step)
    meter = StepMeter(job, epoch)
    for number in range(state.step, steps):
        loss_factor = job.faults.before_step(epoch, number) if job.config.inject_fault else 1.0
        if job.stop.requested:
            preempt(job)
        with state.clock.during("data"):
            batch = next(batches)
        position = epoch + (number + 1) / steps
        lr, momentum = job.schedule.lr_at(position), job.schedule.momentum_at(position)
        logits, loss = step(job.config, state, batch, lr, momentum, loss_factor)
        state.step, state.images_seen = number + 1, state.images_seen + global_batch
        if meter.is_due(number):
            check_finite(state, epoch)
            meter.report(number, lr, momentum, logits, batch.targets, loss)
        save_if_due(job)
    check_finite(state, epoch)


def step(
    config: Config, state: TrainState, batch: Batch, lr: float, momentum: float | None, loss_factor: float = 1.0
) -> tuple:
    """One update of the weights; (logits, loss) stay on the device."""
    set_hyperparameters(state.optimizers, lr, momentum)
    with state.precision.autocast():
        logits = state.forward(batch.images)
    loss = F.cross_entropy(logits.float(), batch.targets, label_smoothing=config.label_smoothing)
    if loss_factor != 1.0:
        loss = loss * loss_factor
    state.scaler.scale(loss).backward()
    normalise_filters(state.optimizers)
    for optimizer in state.optimizers:
        state.scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    state.scaler.update()
    if state.average is not None and (state.step + 1) % config.ema_every == 0:
        state.average.update_parameters(state.model)
    record(state, loss.detach())
    return logits.detach(), loss.detach()


def record(state: TrainState, loss: torch.Tensor) -> None:
    """Sums that stay on the device until somebody reads them."""
    state.loss_sum += loss
    newly_bad = ~torch.isfinite(loss) & (state.bad_step < 0)
    state.bad_step.copy_(torch.where(newly_bad, state.step, state.bad_step))


def check_finite(state: TrainState, epoch: int) -> None:
    """Reads the device. Raises: Diverged, naming the first bad step."""
    bad = int(state.bad_step)
    if bad >= 0:
        raise Diverged(
            f"the training loss was not finite at epoch {epoch + 1}, step {bad + 1}. "
            "Lower the learning rate or warm up longer"
        )


def is_evaluated(config: Config, schedule: Schedule, epoch: int) -> bool:
    """The validation grid, fixed before the run."""
    last = epoch == schedule.total_epochs - 1
    return last or (epoch >= config.eval_from and (epoch - config.eval_from) % config.eval_every == 0)


def validate(job: Job, epoch: int) -> Counts:
    counts = evaluate(
        job.state.evaluated_model(), poll(job), job.loader.validation_images, job.state.precision, job.config.tta
    )
    job.history.append((epoch, counts.percent(job.config.metric)))
    return counts


def poll(job: Job) -> Iterator[Batch]:
    """The validation batches, left at once when a stop is wished: the epoch's steps are then saved and only its
    validation is repeated."""
    for batch in job.loader.validation():
        if job.stop.requested:
            preempt(job)
        yield batch


def preempt(job: Job) -> None:
    with job.state.clock.during("checkpoint"):
        save(job)
    raise Preempted(f"{job.stop.name} after {job.state.images_seen} images; saved. Go on with --resume {job.folder}")


def save(job: Job) -> None:
    """Raises: Diverged before a state that is lost replaces the last good one."""
    check_finite(job.state, job.state.epoch)
    job.saver.save({"identity": job.identity, "state": job.state.state_dict()})
    job.saved_at = time.monotonic()


def save_if_due(job: Job) -> None:
    if job.config.checkpoint_minutes and time.monotonic() - job.saved_at > 60 * job.config.checkpoint_minutes:
        with job.state.clock.during("checkpoint"):
            save(job)


def write_epoch(job: Job, epoch: int, counts: Counts | None) -> None:
    """The epoch's line in run.jsonl and everything made from it."""
    state, phase, steps = job.state, job.loader.phase, job.loader.steps
    global_batch = phase.bs * job.env.world_size
    ends = [epoch + 1 / steps, epoch + 1.0]
    validation = counts and {
        **counts._asdict(),
        "size": phase.val_sz,
        "tta": job.config.tta,
        "weights": "ema" if state.average is not None else "model",
    }
    row = {
        "epoch": epoch,
        "size": phase.sz,
        "batch_size": phase.bs,
        "global_batch_size": global_batch,
        "steps": steps,
        "images": steps * global_batch,
        "images_seen": state.images_seen,
        "lr": [job.schedule.lr_at(e) for e in ends],
        "momentum": [
            job.schedule.momentum_at(e) if job.schedule.momentum_at(e) is not None else job.config.momentum
            for e in ends
        ],
        "train_loss": float(state.loss_sum) / steps,
        "validation": validation,
        **state.clock.lap(),
        "peak_memory_bytes": peak_memory_bytes(job.env),
    }
    job.book.epoch(row, counts)
