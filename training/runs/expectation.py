"""How long a recipe will take here, said before it starts: timed steps and validation batches times their number."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from data_prep import Manifest
from dawn import Clock
from phases import DataPhase, Schedule
from training.config.config import Config
from training.config.recipes.registry import recipe_config
from training.distributed.env import Env, open_env
from training.engine.evaluate import VIEWS, predict
from training.engine.state import TrainState
from training.engine.step import step
from training.engine.warmup import random_batch
from training.runs.session import build_state, checked_input


def expectation(root: Path, recipe: str) -> str:
    """One line. Takes some steps of each phase on random images, with a model that is thrown away."""
    config = replace(recipe_config(recipe), data=str(root))
    schedule = Schedule.parse(config.phases)
    with open_env(config) as env:
        dataset = checked_input(config, schedule, env)
        state, _ = build_state(config, schedule, dataset, env, Clock())
        ends = [*(phase.epoch for phase in schedule.data[1:]), schedule.total_epochs]
        phases = zip(schedule.data, ends, strict=True)
        seconds = sum((end - phase.epoch) * epoch_seconds(config, phase, state, dataset, env) for phase, end in phases)
    place = "GPU" if env.device.type == "cuda" else "processor"
    return f"This {place} trains in {state.precision.name}: expect about {seconds:.0f} s of training and validation."


def epoch_seconds(config: Config, phase: DataPhase, state: TrainState, dataset: Manifest, env: Env) -> float:
    """The best of three steps, of which the first makes the optimizer's state."""
    classes = len(dataset.classes)
    batch = random_batch((phase.sz, phase.sz), phase.bs, classes, state, env)
    seen = random_batch((phase.val_sz, phase.val_sz), phase.val_bs, classes, state, env).images
    train = min(timed(lambda: step(config, state, batch, 0.0, None), env) for _ in range(3))
    with torch.no_grad():
        view = min(timed(lambda: predict(state.model, seen, state.precision, "none"), env) for _ in range(2))
    images = {name: split.images for name, split in dataset.splits.items()}
    validate = view * VIEWS[config.tta] * images["validation"] / phase.val_bs
    return train * (images["train"] // phase.bs) + validate


def timed(action: Callable[[], object], env: Env) -> float:
    """Seconds, until the device has done its work."""
    env.sync()
    begin = time.monotonic()
    action()
    env.sync()
    return time.monotonic() - begin
