"""`python -m training probe DATA --phases X`: what limits each phase, its loader or its model, and what would help."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

from dawn import Clock
from dawn.commandline import quoted
from phases import DataPhase, Schedule
from training.config.config import Config
from training.config.loaders import reads_files
from training.data.dataset import loader_name, oversized
from training.data.loader import Batch, Loader, open_loader
from training.distributed.env import Env, open_env
from training.engine.state import TrainState
from training.engine.step import step
from training.runs.session import build_state, checked_input

READY = 6  # batches
LIMITED = 0.95  # of the model's own rate: below it the loader is what limits


class Rates(NamedTuple):
    """Images per second of this process."""

    loader: float
    model: float
    joint: float


def probe(config: Config, schedule: Schedule, seconds: float) -> Iterator[str]:
    """Lines of a table, a phase each, measured for `seconds` three times. Trains a model that is thrown away."""
    with open_env(config) as env:
        yield from probed(config, schedule, seconds, env)


def probed(config: Config, schedule: Schedule, seconds: float, env: Env) -> Iterator[str]:
    dataset = checked_input(config, schedule, env)
    state, _ = build_state(config, schedule, dataset, env, Clock())
    loader = open_loader(config, schedule, dataset, env, state.precision.dtype)
    yield f"loader {loader_name(config, schedule)}, {config.model}, {state.precision.name}, {env.device.type}"
    yield f"{'epoch':>5} {'size':>5} {'batch':>6} {'loader':>9} {'model':>9} {'joint':>9}  images/s; limited by"
    try:
        for phase in schedule.data:
            loader.set_phase(phase)
            rates = measured(config, state, env, loader, seconds)
            yield row(phase, rates)
            yield from (f"      {line}" for line in advice(config, schedule, phase, rates))
    finally:
        loader.close()


def measured(config: Config, state: TrainState, env: Env, loader: Loader, seconds: float) -> Rates:
    def train(batch: Batch) -> None:
        step(config, state, batch, 0.0, None)

    state.model.train()
    first = next(endless(loader))
    alone = images_per_second(endless(loader), lambda batch: None, env, seconds)
    compute = images_per_second((first for _ in count()), train, env, seconds)
    return Rates(alone, compute, images_per_second(endless(loader), train, env, seconds))


def endless(loader: Loader) -> Iterator[Batch]:
    for epoch in count():
        yield from loader.train(epoch)


def images_per_second(batches: Iterator[Batch], use: Callable[[Batch], None], env: Env, seconds: float) -> float:
    """The first batches warm up: as many as a loader may have ready."""
    for _ in range(READY):
        use(next(batches))
    env.sync()
    begin, images = time.monotonic(), 0
    while time.monotonic() - begin < seconds or not images:
        batch = next(batches)
        use(batch)
        images += len(batch.targets)
    env.sync()
    rate = images / (time.monotonic() - begin)
    if hasattr(batches, "close"):
        batches.close()
    return rate


def row(phase: DataPhase, rates: Rates) -> str:
    return (
        f"{phase.epoch:5g} {phase.sz:5d} {phase.bs:6d} {rates.loader:9,.0f} {rates.model:9,.0f} {rates.joint:9,.0f}  "
        f"{limit(rates)}"
    )


def limit(rates: Rates) -> str:
    """What an epoch waits for. A loader that alone is the faster of the two can only slow the model down by what it
    takes from it: cores, or the GPU that decodes."""
    if rates.joint >= LIMITED * rates.model:
        return "the model"
    return "the loader" if rates.loader < rates.model else "what they share"


def advice(config: Config, schedule: Schedule, phase: DataPhase, rates: Rates) -> list[str]:
    """What would help a phase that is slower with its loader than without."""
    if limit(rates) == "the model":
        return []
    name, lines = loader_name(config, schedule), [oversized(config, schedule, phase)]
    if reads_files(name):
        folder = config.data.rstrip("/") + phase.trndir
        lines.append(f"decode nothing at train time: python -m data_prep pack {quoted(folder)}, then --loader packed")
    if limit(rates) != "the loader":
        lines.append("loader and model share the cores: --workers and --threads divide them")
    elif name != "memory":
        lines.append("the loader alone is slower than the model: more --workers, where there are cores for them")
    return [line for line in lines if line]
