"""Before the clock: every (size, batch) of the schedule once on random data, to compile and choose kernels (warm-up)
and to find out whether it fits into memory (preflight). The state is put back and checked by its hash."""

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import distributed as dist
from torch import nn

from phases import DataPhase, Schedule
from training.config.config import Config
from training.data.crops import MAX_RATIO
from training.data.loader import Batch
from training.distributed.env import Env
from training.distributed.parallel import set_whitening
from training.engine.evaluate import predict
from training.engine.state import TrainState, fingerprint
from training.engine.step import step
from training.errors import ConfigError
from training.models.build import has_whitening

WARM_STEPS = 2  # the second step meets the optimiser's state, and the gradients' buffers as they stay
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN
)


def prepare_device(config: Config, schedule: Schedule, state: TrainState, env: Env, classes: int) -> None:
    """What happens before the clock starts, so that no step pays for it. Raises: ConfigError for a batch that does not
    fit into memory, on all ranks."""

    warm = needs_warm_up(config, env)
    if config.preflight == "on" or (config.preflight == "auto" and (config.compile or env.device.type == "cuda")):
        preflight(config, schedule, state, env, classes)
    if warm:
        warm_up(config, schedule, state, env, classes, step)
    release()  # what torch keeps of the largest batch is not there for the loader, which opens after the clock's start


def needs_warm_up(config: Config, env: Env) -> bool:
    """Compiled code, kernels that cuDNN chooses by trying, and the order in which more than two ranks add gradients:
    DDP settles it in its first step, and it decides the last bits of the sum (of two ranks a + b is b + a). Eager code
    on a CPU has nothing to warm."""
    return config.compile or env.device.type == "cuda" or env.world_size > 2


def warm_up(
    config: Config, schedule: Schedule, state: TrainState, env: Env, classes: int, train_step: Callable
) -> None:
    """Training steps and an evaluation per distinct shape, on the clock's label `warm`. `train_step(config, state,
    batch, lr, momentum)`."""
    shapes = sorted({((p.sz, p.sz), p.bs) for p in schedule.data}, reverse=True)
    if config.compile:
        allow_graphs(len(shapes))
    with untouched(state):
        for shape in shapes:
            warm_training(config, state, env, random_batch(*shape, classes, state, env), train_step)
        for size, batch_size in sorted({shape for p in schedule.data for shape in validation_shapes(p)}, reverse=True):
            images = random_batch(size, batch_size, classes, state, env).images
            with torch.no_grad():
                predict(state.evaluated_model().eval(), images, state.precision, config.tta)


def allow_graphs(shapes: int) -> None:
    """Room for a graph of every shape, with a layer frozen and not: beyond its limit torch runs eager code instead."""
    torch._dynamo.config.recompile_limit = max(8, 4 * shapes)


@contextlib.contextmanager
def untouched(state: TrainState) -> Iterator[None]:
    """Whatever happens inside, the state is afterwards what it was."""
    before = copy.deepcopy(without_clock(state))
    yield
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    state.load_state_dict(before)
    state.model.train()
    assert fingerprint(without_clock(state)) == fingerprint(before), "warm-up left a trace in the state"


def validation_shapes(phase: DataPhase) -> list[tuple[tuple[int, int], int]]:
    """((height, width), batch) of a phase's validation; of rectangular ones the square and the two longest."""
    short, long = phase.val_sz, int(MAX_RATIO * phase.val_sz)
    sizes = [(short, short), (short, long), (long, short)] if phase.rect_val else [(short, short)]
    return [(size, phase.val_bs) for size in sizes]


def warm_training(config: Config, state: TrainState, env: Env, batch: Batch, train_step: Callable) -> None:
    """With the whitening layer frozen and trained, where there is one: a compiler sees two networks there."""
    for trained in (False, True):
        if has_whitening(state.model):
            set_whitening(config, state, env, trained)
        for _ in range(WARM_STEPS):
            train_step(config, state, batch, 0.0, None)


def without_clock(state: TrainState) -> dict:
    return {name: part for name, part in state.state_dict().items() if name != "clock"}


def random_batch(size: tuple[int, int], batch_size: int, classes: int, state: TrainState, env: Env) -> Batch:
    """Noise in the form of a real batch of `size` (height, width); not a byte of the dataset is read."""
    images = torch.randn(batch_size, 3, *size, device=env.device, dtype=state.precision.dtype)
    targets = torch.randint(classes, (batch_size,), device=env.device)
    return Batch(images.to(memory_format=torch.channels_last), targets)


def preflight(config: Config, schedule: Schedule, state: TrainState, env: Env, classes: int) -> None:
    """A training step and a validation batch of every phase, largest first, on random images and without the other
    ranks. The state is afterwards what it was. Raises: ConfigError that names a batch that fits."""
    phases = {(p.sz, p.bs, p.val_sz, p.val_bs, p.rect_val): p for p in reversed(schedule.data)}
    forward, state.forward = state.forward, state.model
    with untouched(state), norms_alone(state.model):
        for phase in sorted(phases.values(), key=lambda p: p.sz**2 * p.bs, reverse=True):
            env.group.together(lambda phase=phase: check_fits(config, phase, state, env, classes))
    state.forward = forward


@contextlib.contextmanager
def norms_alone(model: nn.Module) -> Iterator[None]:
    """SyncBatchNorm takes the statistics of this rank alone: another rank may try another batch, or none. All ranks
    call it."""
    norms = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
    if not norms or not dist.is_initialized():
        yield
        return
    groups = [norm.process_group for norm in norms]
    alone, _ = dist.new_subgroups(1)
    for norm in norms:
        norm.process_group = alone
    try:
        yield
    finally:
        for norm, group in zip(norms, groups, strict=True):
            norm.process_group = group
        dist.destroy_process_group(alone)


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
