"""The packed uint8 dataset in RAM or on the GPU, cut into batches and augmented there: no worker processes."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from data_prep import Packed, open_packed
from phases import DataPhase
from training.augment import crop_and_flip, cut_out, normalise, resize
from training.loaders import Batch
from training.plan import SamplePlan

STATISTICS_IMAGES = 10_000  # enough for the channels' mean and deviation to three digits


class MemoryLoader:
    """See training.loaders.Loader. Reads nothing before its first `set_phase`."""

    def __init__(
        self,
        root: str,
        train_images: int,
        validation_images: int,
        plan: SamplePlan,
        cutout: int,
        env,
        dtype: torch.dtype,
    ) -> None:
        self.root, self.plan, self.cutout, self.env, self.dtype = root, plan, cutout, env, dtype
        self.train_images, self.validation_images = train_images, validation_images
        self.folders: dict[str, tuple[Tensor, Tensor]] = {}

    def set_phase(self, phase: DataPhase) -> None:
        self.phase = phase
        self.steps = self.train_images // (phase.bs * self.env.world_size)
        wanted = {
            "train" + phase.trndir: (phase.trndir, "train"),
            "validation" + phase.valdir: (phase.valdir, "validation"),
        }
        kept = {key: self.folders[key] for key in wanted if key in self.folders}
        self.folders = kept | {key: self.read(*wanted[key]) for key in wanted if key not in kept}
        self.train_data, self.validation_data = (
            self.folders["train" + phase.trndir],
            self.folders["validation" + phase.valdir],
        )
        if not hasattr(self, "mean"):
            self.mean, self.std = channel_statistics(self.train_data[0])

    def read(self, suffix: str, split: str) -> tuple[Tensor, Tensor]:
        """images (N, H, W, 3) uint8 and labels (N,) int64 of a split, on the device."""
        packed: Packed = open_packed(self.root.rstrip("/") + suffix, verify=False)[split]
        return tuple(torch.from_numpy(np.array(a)).to(self.env.device) for a in (packed.images, packed.labels))

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        images, labels = self.train_data
        plan = [torch.from_numpy(part).to(self.env.device) for part in self.plan.epoch(epoch)]
        for step in range(start, self.steps):
            index, shift, flip, hole = (part[self.places(step)] for part in plan)
            batch = crop_and_flip(images, index, shift, flip)
            if self.cutout:
                batch = cut_out(batch, hole, self.cutout, self.mean.round().byte())
            yield Batch(self.to_input(batch, self.phase.sz), labels[index])

    def places(self, step: int) -> slice:
        """Where this rank's share of a global batch lies in the epoch."""
        first = (step * self.env.world_size + self.env.rank) * self.phase.bs
        return slice(first, first + self.phase.bs)

    def validation(self) -> Iterator[Batch]:
        images, labels = (part[self.env.rank :: self.env.world_size] for part in self.validation_data)
        for first in range(0, len(labels), self.phase.val_bs):
            part = slice(first, first + self.phase.val_bs)
            yield Batch(self.to_input(images[part], self.phase.val_sz), labels[part])

    def first_images(self, count: int) -> Tensor:
        return normalise(self.train_data[0][:count], self.mean, self.std, torch.float32)

    def to_input(self, images: Tensor, size: int) -> Tensor:
        return normalise(resize(images, size), self.mean, self.std, self.dtype)

    def close(self) -> None:
        self.folders = {}


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) float32 in 0..255 of the first training images."""
    sample = images[:STATISTICS_IMAGES].to(torch.float32).reshape(-1, 3)
    return sample.mean(0), sample.std(0)


def open_loader(config, dataset, env, dtype: torch.dtype) -> MemoryLoader:
    train, validation = dataset.splits["train"].images, dataset.splits["validation"].images
    plan = SamplePlan(train, config.seed, config.shift, config.flip)
    return MemoryLoader(config.data, train, validation, plan, config.cutout, env, dtype)
