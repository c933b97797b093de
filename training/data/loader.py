"""The loader contract and the choice of one."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from phases import DataPhase, Schedule
from training.config.loaders import reads
from training.config.own_code import call, is_own, kind, said
from training.data.dataset import loader_name
from training.errors import ConfigError

PARTS = ("train_images", "validation_images", "set_phase", "train", "validation", "first_images", "close")


class Batch(NamedTuple):
    images: Tensor  # (B, 3, H, W) on the device, compute dtype, normalised, channels_last
    targets: Tensor  # (B,) int64 on the device; once mixed (B, classes) float32
    rows: Tensor | None = None  # (B,) int64 on the CPU: which images of the split; None: the loader does not tell


class Loader(Protocol):
    """Training and validation images of one run. Order and augmentation come from the sample plan, so a position is
    one integer. The clock starts before the first `set_phase`: nothing is read of the training images earlier."""

    train_images: int  # of all ranks together
    validation_images: int
    steps: int  # of an epoch that the current phase trains to its end; the last partial batch is dropped

    def set_phase(self, phase: DataPhase, first_step: int = 0, first_image: int = 0) -> None:
        """Size, batch, directories and strength of the augmentation (`phase.aug`) from now on. In a phase that begins
        inside an epoch, step `first_step` of the epoch begins at place `first_image` of its order; a loader of one's
        own, which is never asked for that, may leave out both."""

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from step `start` (0-based) on."""

    def validation(self) -> Iterator[Batch]:
        """Every validation image exactly once over all ranks; the last batch may be smaller."""

    def first_images(self, count: int) -> Tensor:
        """The first `count` training images as stored, unaugmented: (count, 3, H, W) float32, normalised, on the
        device."""

    def pictures(self, split: str, rows: Tensor) -> Tensor:
        """For --inspect: any images ("train" | "validation") as a square validation of this phase shows them: (N, 3,
        val_sz, val_sz) float32, normalised with `self.mean` and `self.std` ((3,) in 0..255), on the device. A loader of
        one's own may leave it out: then no pictures are shown."""

    def close(self) -> None: ...


def open_loader(config, schedule: Schedule, dataset, env, dtype) -> Loader:
    """The user's own, the memory loader for packed sets of one image size, else the tree loader with the renderer of
    that name."""
    name = loader_name(config, schedule)
    if is_own(name):
        return own_loader(name, config, schedule, dataset, env, dtype)
    module = f"training.data.{name}" if reads(name).form == "arrays" else "training.data.image_tree"
    return import_module(module).open_loader(config, schedule, dataset, env, dtype)


def own_loader(name: str, *arguments: Any) -> Loader:
    """Raises: ConfigError when the user's function does not return a Loader."""
    wanted = f"{name.rpartition(':')[2]}(config, schedule, dataset, env, dtype)"
    loader = call("loader", name, wanted, *arguments)
    missing = [part for part in PARTS if not hasattr(loader, part)]
    if missing:
        raise ConfigError(
            f"--loader {name}: returned {kind(loader)}, which is no Loader: it has no {', '.join(missing)} "
            "(training/data/loader.py has the contract)"
        )
    return loader


def check_loader(config, schedule: Schedule, dataset, env) -> None:
    """Opens the user's own, looks at the first batch of either split and closes it. Raises: ConfigError for what is not
    as promised."""
    name = config.loader
    if not is_own(name):
        return
    loader, phase = own_loader(name, config, schedule, dataset, env, torch.float32), schedule.data[0]
    try:
        loader.set_phase(phase)
        batch = next(iter(loader.train(0)))
        found = wrong_count(loader, dataset) or wrong_batch(batch, phase, len(dataset.classes))
        found = found or wrong_validation(next(iter(loader.validation()), None), len(dataset.classes))
    except Exception as error:
        found = said(error)
    finally:
        loader.close()
    if found:
        raise ConfigError(f"--loader {name}: its first batch is not as training/data/loader.py promises: {found}")


def wrong_count(loader: Loader, dataset) -> str:
    """In what the numbers of images are not the dataset's, or ''."""
    for split in ("train", "validation"):
        images, there = getattr(loader, f"{split}_images"), dataset.splits[split].images
        if images != there:
            return f"{split}_images is {images}, the dataset has {there}"
    return ""


def wrong_batch(batch: Batch, phase: DataPhase, classes: int) -> str:
    """In what a training batch breaks the promise, or ''."""
    shape, wanted = tuple(batch.images.shape), (phase.bs, 3, phase.sz, phase.sz)
    if shape != wanted or not batch.images.is_floating_point():
        return f"images {shape} {batch.images.dtype}, not {wanted} in the dtype that was asked for"
    return wrong_targets(batch.targets, phase.bs, classes)


def wrong_validation(batch: Batch | None, classes: int) -> str:
    """As `wrong_batch`, of a validation batch; None: this rank has no validation images."""
    found = wrong_targets(batch.targets, len(batch.images), classes) if batch else ""
    return found and f"{found}, in the validation"


def wrong_targets(targets: Tensor, images: int, classes: int) -> str:
    if tuple(targets.shape) != (images,) or targets.dtype != torch.int64:
        return f"targets {tuple(targets.shape)} {targets.dtype}, not ({images},) torch.int64"
    if not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        return f"a target outside of 0 to {classes - 1}"
    return ""
