"""Runs of seconds for the tests of training: two epochs of 4 and 6 steps of a narrow net on the toy dataset."""

import json
from contextlib import contextmanager
from pathlib import Path

import torch

from dawn import Clock
from phases import Schedule
from training.__main__ import main
from training.config.config import Config
from training.config.parser import config_from
from training.config.schedule import resolved_schedule
from training.distributed.env import Env
from training.engine.precision import Precision
from training.engine.state import TrainState, new_state
from training.models.build import build_model
from training.runs.session import opened_job

PHASES = "[{'ep': 0, 'sz': 12, 'bs': 60}, {'ep': 1, 'sz': 16, 'bs': 40}, {'ep': (0, 2), 'lr': (0.1, 0.0)}]"
STEPS = (4, 6)  # of the two epochs, 240 images
IMAGES = 480
CPU = Env(torch.device("cpu"))


def flags(toy: Path, folder: Path, *more: str) -> list[str]:
    """A command line; later flags win."""
    machine = ["--precision", "fp32", "--device", "cpu", "--threads", "1", "--no-tensorboard", "--no-chart"]
    return [str(toy), "--phases", PHASES, "--logdir", str(folder), "--width", "0.125", "--shift", "2", *machine, *more]


def train(toy: Path, folder: Path, *more: str) -> int:
    """The exit code of a run in this process."""
    return main(flags(toy, folder, *more))


def events(folder: Path, name: str = "epoch") -> list[dict]:
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


@contextmanager
def tiny_job(toy: Path, folder: Path, *more: str):
    """A trainer.Job ready for its first step."""
    config = config_from(flags(toy, folder, *more))
    with opened_job(config, resolved_schedule(config, 1, print)) as job:
        yield job


def tiny_state(config: Config, classes: int = 6, precision: str = "fp32") -> TrainState:
    return new_state(config, build_model(config, classes), CPU, Precision(precision, "cpu"), Clock(), classes)


def tiny_schedule() -> Schedule:
    return Schedule.parse(PHASES)
