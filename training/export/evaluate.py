"""The accuracy of handed-over weights, measured anew in every way that validation knows."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from dawn.runlog.records import Validation
from phases import DataPhase
from training.data.dataset import checked_dataset, loader_name
from training.data.loader import open_loader
from training.distributed.env import Env
from training.engine.evaluate import evaluate
from training.engine.precision import Precision
from training.errors import ConfigError
from training.export.trained import Trained


class Measured(NamedTuple):
    shape: str  # square | rectangular
    seen: Validation
    where: str  # dataset, device


def measured(trained: Trained, network: nn.Module, data: str, warn: Callable[[str], None]) -> list[Measured]:
    """Square and rectangular (image trees only), alone and with mirror images, at the last phase's size, in fp32.

    `data`: prepared like the run's own dataset. Raises: ConfigError, DataError.
    """
    config = replace(trained.config, data=data, resume="", logdir="")
    dataset = checked_dataset(config, trained.schedule)
    if len(dataset.classes) != trained.classes:
        raise ConfigError(
            f"--evaluate {data}: {len(dataset.classes)} classes, the run learned {trained.classes}. Give its dataset"
        )
    if dataset.sha256 != trained.run.start.dataset.get("sha256"):
        warn(f"--evaluate {data}: not the dataset that the run was trained on; the card says so")
    device = torch.device("cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu")
    env, precision = Env(device), Precision("fp32", device.type)
    phase = trained.phase
    loader = open_loader(config, trained.schedule, dataset, env, torch.float32)
    network, where = network.to(device), f"{dataset.name} {dataset.sha256[:12]}, {device.type}"
    with contextlib.closing(loader):
        rows = []
        for rectangular in (False,) if loader_name(config, trained.schedule) == "memory" else (False, True):
            loader.set_phase(validation_phase(phase, rectangular))
            rows += [measured_row(trained, network, loader, precision, tta, where) for tta in ("none", "flip")]
    network.cpu()
    return rows


def validation_phase(phase: DataPhase, rectangular: bool) -> DataPhase:
    return replace(phase, rect_val=rectangular)


def measured_row(trained: Trained, network, loader, precision: Precision, tta: str, where: str) -> Measured:
    told = {"size": loader.phase.val_sz, "weights": trained.weights}
    seen = evaluate(network, loader.validation(), loader.validation_images, precision, tta, **told)
    return Measured("rectangular" if loader.phase.rect_val else "square", seen, where)
