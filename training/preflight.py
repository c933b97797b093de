"""Whether every batch of the schedule fits into memory, found out before the clock starts and not at a phase border."""

import gc
from collections.abc import Callable
from functools import partial

import torch

from phases import DataPhase, Schedule
from training.config import Config
from training.device import Env
from training.evaluate import predict
from training.outcome import ConfigError
from training.state import TrainState
from training.step import step
from training.warmup import random_batch, untouched, validation_shapes

NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN
)


def preflight(config: Config, schedule: Schedule, state: TrainState, env: Env, classes: int) -> None:
    """A training step and a validation batch of every phase, largest first, on random images and without the other
    ranks. The state is afterwards what it was. Raises: ConfigError that names a batch that fits."""
    phases = {(p.sz, p.bs, p.val_sz, p.val_bs, p.rect_val): p for p in reversed(schedule.data)}
    forward, state.forward = state.forward, state.model
    with untouched(state):
        for phase in sorted(phases.values(), key=lambda p: p.sz**2 * p.bs, reverse=True):
            env.group.together(lambda phase=phase: check_fits(config, phase, state, env, classes))
    state.forward = forward


def check_fits(config: Config, phase: DataPhase, state: TrainState, env: Env, classes: int) -> None:
    """Raises: ConfigError for a training or validation batch that does not fit."""

    def train(batch_size: int) -> None:
        step(config, state, random_batch((phase.sz, phase.sz), batch_size, classes, state, env), 0.0, None)

    def validate(batch_size: int) -> None:
        for shape, _ in validation_shapes(phase):
            images = random_batch(shape, batch_size, classes, state, env).images
            with torch.no_grad():
                predict(state.evaluated_model().eval(), images, state.precision, config.tta)
        state.model.train()

    for key, size, wanted, parts, action in (
        ("bs", phase.sz, phase.bs, config.accumulate, train),
        ("val_bs", phase.val_sz, phase.val_bs, 1, validate),
    ):
        found = largest(action, wanted, parts)
        if found != wanted:
            raise too_large(phase, key, size, wanted, found, env)


def largest(action: Callable[[int], None], batch_size: int, parts: int) -> int:
    """The first of batch_size, a half, a quarter, ... that fits, a multiple of `parts`; 0 when none does."""
    while not fits(partial(action, batch_size)):
        if batch_size <= parts:
            return 0
        batch_size = max(batch_size // 2 // parts, 1) * parts
    return batch_size


def fits(action: Callable[[], None]) -> bool:
    """Whether `action` finds enough memory; frees what it took."""
    try:
        action()
        return True
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        release()


def is_out_of_memory(error: Exception) -> bool:
    """Also as cuDNN and oneDNN say it, which find no algorithm for a batch that leaves them no room."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in NO_MEMORY)


def release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def too_large(phase: DataPhase, key: str, size: int, batch_size: int, smaller: int, env: Env) -> ConfigError:
    """The one line; `smaller` 0: nothing fits."""
    advice = (
        f"Use '{key}': {smaller}" + (" (or --accumulate, which keeps the batch)" if key == "bs" else "")
        if smaller
        else "Use a smaller size or model"
    )
    return ConfigError(
        f"rank {env.rank}: the phase at epoch {phase.epoch}: {key} {batch_size} at {size} px does not fit into the "
        f"memory of {env.device}. {advice}"
    )
