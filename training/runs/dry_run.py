"""What a dry run tells: settings, schedule, parameter groups, and how much arithmetic the schedule asks for."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import NamedTuple

import torch
from torch import nn

from data_prep import DataError, load_manifest
from phases import Schedule, load_preset
from phases.table import schedule_table, segments
from training.config.config import Config
from training.config.own_code import is_own, own_function
from training.data.dataset import checked_dataset, folders_of
from training.data.holdout import with_holdout
from training.data.loader import check_loader
from training.distributed.env import Env
from training.engine.optimizers import build_optimizers, check_optimizer
from training.models.build import build_model, check_model, trial_device
from training.models.flops import FLOPS_PER_MULTIPLY_ADD, multiply_adds

TRAINING_FACTOR = 3  # forward, gradient of the input, gradient of the weights: as much arithmetic each
GROUP_COLUMNS = ("group", "optimizer", "tensors", "parameters", "lr factor", "weight decay")
COST_COLUMNS = ("epochs", "size", "images", "G multiply-adds", "PFLOP to train")
IMAGENET_CLASSES = 1000


class Cost(NamedTuple):
    """Of a stretch of the schedule with one image size."""

    start: float  # epochs
    end: float
    size: int  # pixels
    images: int | None  # trained, on all devices
    multiply_adds: int  # of one image forward

    @property
    def flops(self) -> float | None:
        """To train; None when the number of images is unknown."""
        return self.images and TRAINING_FACTOR * FLOPS_PER_MULTIPLY_ADD * self.multiply_adds * self.images


def model_report(config: Config, schedule: Schedule, world_size: int, images: int | None, classes: int) -> str:
    """Tables of the parameter groups and of the arithmetic, ready to print. Raises: ConfigError for an unknown model or
    sizes that it cannot take."""
    check_model(config, classes, {size for p in schedule.data for size in (p.sz, p.val_sz)}, schedule.data)
    check_optimizer(config, schedule, classes)
    model = build_model(config, classes)
    found = costs(model, schedule, world_size, images, trial_device(config))
    groups = table(GROUP_COLUMNS, group_rows(config, model))
    arithmetic = table(COST_COLUMNS, map(cost_row, found))
    return "\n".join([*groups, "", f"of {config.model} with {classes:,} classes:", *arithmetic, "", total(found)])


def group_rows(config: Config, model: nn.Module) -> list[tuple[str, ...]]:
    return [
        (
            group["name"],
            type(optimizer).__name__,
            f"{len(group['params'])}",
            f"{sum(p.numel() for p in group['params']):,}",
            f"{group['lr_factor']:.6g}",
            f"{group['weight_decay']:.6g}",
        )
        for optimizer in build_optimizers(config, model)
        for group in optimizer.param_groups
    ]


def costs(
    model: nn.Module, schedule: Schedule, world_size: int, images: int | None, device: str = "meta"
) -> list[Cost]:
    """One per stretch of one image size; `images`: in the training set."""
    model = model.to(device).eval()
    forward = {size: multiply_adds(model, size, device) for size in {phase.sz for phase in schedule.data}}
    result: list[Cost] = []
    for item in segments(schedule, world_size, images):
        if result and result[-1].size == item.data.sz:
            before = result.pop()
            trained = None if item.images is None else before.images + item.images
            result.append(before._replace(end=item.end, images=trained))
        else:
            result.append(Cost(item.start, item.end, item.data.sz, item.images, forward[item.data.sz]))
    return result


def cost_row(cost: Cost) -> tuple[str, ...]:
    return (
        f"{cost.start:.4g}-{cost.end:.4g}",
        f"{cost.size}",
        "-" if cost.images is None else f"{cost.images:,}",
        f"{cost.multiply_adds / 1e9:.4g}",
        "-" if cost.flops is None else f"{cost.flops / 1e15:,.4g}",
    )


def total(found: list[Cost]) -> str:
    if found[0].images is None:
        return "estimate: the number of training images is unknown"
    flops = sum(cost.flops for cost in found)
    return f"estimate: {sum(cost.images for cost in found):,} images, {flops:.4g} FLOP to train, without validation"


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines; the first column aligned left, the others right."""
    cells = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]


def dry_run(config: Config, schedule: Schedule, world_size: int) -> str:
    """The resolved configuration, the schedule's table (steps and images where the dataset is there), parameter groups
    and arithmetic, and a line for every folder that is missing. Without the dataset the estimate is for the images of
    the preset and for 1,000 classes."""

    folders, missing = {}, []
    for folder in folders_of(config, schedule):
        try:
            folders[folder] = load_manifest(folder)
        except DataError as error:
            missing.append(f"MISSING: {error}")
    found = next(iter(folders.values()), None)
    found = found and with_holdout(config, found, config.loader)
    images = found.splits["train"].images if found else None
    classes = len(found.classes) if found else IMAGENET_CLASSES
    expected = images if found or not schedule.preset else load_preset(schedule.preset)["images"]
    if not missing:
        dataset = checked_dataset(config, schedule, world_size)
        check_loader(config, schedule, dataset, Env(torch.device("cpu")))
    elif is_own(config.loader):
        own_function("loader", config.loader)
    model = model_report(config, schedule, world_size, expected, classes)
    missing += [] if found else [f"without the dataset {classes:,} classes are assumed"]
    settings = [f"{name:18} {value}" for name, value in asdict(config).items() if value not in ("", None)]
    return "\n".join([*settings, "", schedule_table(schedule, world_size, images), "", model, *missing])
