"""The loader contract and the choice of one."""

from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple, Protocol

from torch import Tensor

from phases import DataPhase, Schedule
from training.data.dataset import loader_name


class Batch(NamedTuple):
    images: Tensor  # (B, 3, H, W) on the device, compute dtype, normalised, channels_last
    targets: Tensor  # (B,) int64 on the device; once mixed (B, classes) float32


class Loader(Protocol):
    """Training and validation images of one run. Order and augmentation come from the sample plan, so a position is
    one integer."""

    train_images: int  # of all ranks together
    validation_images: int
    steps: int  # training batches per epoch in the current phase; the last partial batch is dropped

    def set_phase(self, phase: DataPhase) -> None:
        """Size, batch, directories and strength of the augmentation (`phase.aug`) from now on."""

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from step `start` (0-based) on."""

    def validation(self) -> Iterator[Batch]:
        """Every validation image exactly once over all ranks; the last batch may be smaller."""

    def first_images(self, count: int) -> Tensor:
        """The first `count` training images as stored, unaugmented: (count, 3, H, W) float32, normalised, on the
        device."""

    def close(self) -> None: ...


def open_loader(config, schedule: Schedule, dataset, env, dtype) -> Loader:
    """The memory loader for packed sets of one image size, else the tree loader with the renderer of that name."""
    name = loader_name(config, schedule)
    module = "training.data.memory" if name == "memory" else "training.data.image_tree"
    return import_module(module).open_loader(config, schedule, dataset, env, dtype)
