"""A run again, from its last good checkpoint to the step that is not finite. Nothing is written."""

import contextlib
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dawn import Clock
from training.config.config import Config
from training.config.schedule import resolved_schedule
from training.data.loader import Batch, Loader, open_loader
from training.data.transforms import mixed
from training.diagnosis.log import Ended, injected
from training.distributed.env import Env
from training.distributed.group import Group
from training.distributed.parallel import wrap_again
from training.distributed.process import StopSignal
from training.engine.checkpoint import Saver
from training.engine.faults import Faults
from training.engine.state import TrainState, rng_state, set_rng_state, tensors_of
from training.engine.trainer import Job, enter_phase, finish_epoch, parts_left, train_part
from training.errors import ConfigError
from training.logs.environment import EnergyMeter
from training.logs.logbook import SilentLogbook
from training.logs.metrics import View, parse_target
from training.runs.session import build_state, checked_input

REMEMBERED = 100  # steps
HERE = {"resume": "", "allow_elastic": True, "detect_anomaly": False, "checkpoint_minutes": 0.0, "inspect": "off"}


class Found(Exception):
    """The bad step is reached."""


class Past(NamedTuple):
    """A step before the bad one; all are magnitudes. `weights` (P,) float32: the largest of every parameter before its
    update."""

    weights: Tensor
    gradient: float  # the largest, after --clip-grad
    loss: float
    logit: float  # the largest


class Beginning(NamedTuple):
    """What a step changes and its forward and backward pass depend on, as it was before the step."""

    tensors: list[Tensor]  # parameters and buffers of the network
    scale: dict[str, Any]  # the fp16 loss scale
    rng: dict[str, Any]


@dataclass
class BadStep:
    """A job whose state stands at the beginning of its bad step, and what leads back there."""

    job: Job
    epoch: int
    step: int
    lr: float
    momentum: float
    batch: Batch  # as the network got it: mixed
    loss_factor: float
    past: list[Past]
    weights: Tensor  # (P,) float32: as in Past, at this step
    replayed: int  # steps before this one
    first: bool  # no update was made before it
    beginning: Beginning  # of the forward pass: the random numbers are those that follow mixup's

    @property
    def dataset_folder(self) -> str:
        """Of the phase. DATA itself need not be there."""
        return self.job.config.data.rstrip("/") + self.job.loader.phase.trndir

    def rewind(self) -> None:
        restore(self.job, self.beginning)


class NotedLoader:
    """A Loader that remembers its last training batch."""

    def __init__(self, loader: Loader) -> None:
        self.loader, self.last = loader, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in self.loader.train(epoch, start):
            self.last = batch
            yield batch


@dataclass
class FiniteWatch:
    """A training.logs.metrics.Watch that ends the replay at the first bad step: a loss that is not finite, a gradient
    that is not (fp16 leaves such a step out, which is no fault), or an fp16 loss scale below 1."""

    job: Job
    until: tuple[int, int]  # epoch, step
    beginning: Beginning | None = None  # of the step
    number: int = 0
    steps: int = 0
    weights: Tensor | None = None
    gradient: float = 0.0
    past: deque[Past] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def is_due(self, number: int) -> bool:
        """Asked before each step, so this is where the step's beginning is noted."""
        if (self.job.state.epoch, number) > self.until:
            raise ConfigError(
                f"the replay of {self.steps} steps stayed finite past the place where the run diverged. "
                "Another device, thread count or version may be why; train again with --detect-anomaly"
            )
        self.number = number
        self.beginning = beginning(self.job)
        self.weights = largest([p.detach() for p in self.job.state.model.parameters()])
        return True

    def gradients(self, images_seen: int) -> None:
        found = [p.grad for p in self.job.state.model.parameters() if p.grad is not None]
        self.gradient = float(largest(found).max())
        if not self.job.state.scaler.is_enabled():
            self.stop_if(not all_finite(found))

    def updated(self) -> None: ...

    def batch(self, number: int, batch: Batch, logits: Tensor, loss: Tensor) -> None:
        scaler = self.job.state.scaler
        self.stop_if(not bool(torch.isfinite(loss)) or (scaler.is_enabled() and scaler.get_scale() < 1))
        self.past.append(Past(self.weights, self.gradient, float(loss), float(logits.abs().max())))
        self.steps += 1

    def stop_if(self, is_bad: bool) -> None:
        """All ranks stop with the first. Raises: Found."""
        if self.job.env.group.any(is_bad)[0]:
            raise Found

    def finish(self, group: Group, view: View | None) -> None: ...


def largest(tensors: list[Tensor]) -> Tensor:
    """(len,) float32 on the CPU: magnitudes, which do not overflow as the squares in a norm do."""
    found = torch._foreach_norm([tensor.float() for tensor in tensors], torch.inf)
    return torch.stack(found).cpu() if found else torch.zeros(1)


def all_finite(tensors: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


@contextlib.contextmanager
def replayed(ended: Ended, checkpoint: Path | None, env: Env) -> Iterator[BadStep]:
    """Raises: ConfigError, DataError; also when the replay passes the run's end without a bad step."""
    config = replayed_config(ended, checkpoint)
    # The global batches of the run, also from its first step: a later attempt may have had another number of devices.
    schedule = resolved_schedule(replace(config, resume=config.logdir), env.world_size, lambda text: None)
    with tempfile.TemporaryDirectory() as folder:
        dataset = env.group.together(lambda: checked_input(config, schedule, env))
        state, _ = build_state(config, schedule, dataset, env, Clock())
        config = made_eager(config, state, env)
        loader = NotedLoader(open_loader(config, schedule, dataset, env, state.precision.dtype))
        with contextlib.closing(loader):
            job = unwritten_job(ended, config, schedule, env, loader, state, len(dataset.classes), Path(folder))
            yield bad_step(job, ended)


def replayed_config(ended: Ended, checkpoint: Path | None) -> Config:
    """`logdir` and `allow_elastic`: the log tells how many devices the run was started with."""
    start = {"resume": str(checkpoint)} if checkpoint else {"precision": ended.start["precision"]}
    return replace(ended.config, **(HERE | {"logdir": str(ended.folder)} | start))


def made_eager(config: Config, state: TrainState, env: Env) -> Config:
    """Without --compile, which hides the operations. Only after the state is built: a checkpoint is of the same
    settings as its run, or it is refused."""
    if not config.compile:
        return config
    config = replace(config, compile=False)
    wrap_again(config, state, env)
    return config


def unwritten_job(ended: Ended, config, schedule, env: Env, loader, state, classes: int, folder: Path) -> Job:
    """A Job that logs and saves nothing."""
    faults = Faults(injected(ended), lambda fault: None, env.rank, ended.start["attempt"])
    config = replace(config, inject_fault=injected(ended))
    book = SilentLogbook(folder, 0, env.rank)
    parts = Saver(folder), {}, parse_target(config), StopSignal(), faults, EnergyMeter(env)
    return Job(config, schedule, env, loader, state, book, folder, *parts, classes)


def bad_step(job: Job, ended: Ended) -> BadStep:
    watch = FiniteWatch(job, (ended.epoch, ended.step))
    job.watches = (watch,)
    untouched = job.state.images_seen == 0
    job.state.clock.start()
    try:
        for epoch in range(job.state.epoch, job.schedule.epochs):
            for part in parts_left(job, epoch):
                enter_phase(job, part)
                train_part(job, part)
            finish_epoch(job.state, epoch, hit=False)
    except Found:
        return stopped(job, watch, untouched and watch.steps == 0)
    raise ConfigError(f"the replay of {watch.steps} steps stayed finite to its end. Train again with --detect-anomaly")


def stopped(job: Job, watch: FiniteWatch, first: bool) -> BadStep:
    """The batch is mixed again from the same random numbers."""
    position = job.part.position(watch.number)
    lr, momentum = job.schedule.lr_at(position), job.schedule.momentum_at(position)
    restore(job, watch.beginning)
    batch = mixed(job.config, job.state.mixers, job.loader.last, job.state.epoch, job.loader.phase.aug)
    factor = job.faults.before_step(job.state.epoch, watch.number)
    return BadStep(
        job,
        job.state.epoch,
        watch.number,
        lr,
        job.config.momentum if momentum is None else momentum,
        batch,
        factor,
        list(watch.past),
        watch.weights,
        watch.steps,
        first,
        watch.beginning._replace(rng=rng_state(job.env.device)),
    )


def beginning(job: Job) -> Beginning:
    tensors = [tensor.clone() for tensor in tensors_of(job.state.model)]
    return Beginning(tensors, job.state.scaler.state_dict(), rng_state(job.env.device))


def restore(job: Job, before: Beginning) -> None:
    """An update may have been made meanwhile: an infinite loss and the end of an fp16 loss scale are seen after it."""
    for tensor, value in zip(tensors_of(job.state.model), before.tensors, strict=True):
        tensor.copy_(value)
    job.state.scaler.load_state_dict(before.scale)
    set_rng_state(before.rng, job.env.device)
    for optimizer in job.state.optimizers:
        optimizer.zero_grad(set_to_none=True)
