"""The packed uint8 dataset in RAM or on the GPU, cut into batches and augmented there: no worker processes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_prep import Packed, open_packed
from phases import DataPhase, Schedule
from training.data.loader import Batch
from training.data.sample_plan import ERASING, SamplePlan
from training.data.transforms import crop_and_flip, cut_out, erase, normalise, random_boxes, resize

STATISTICS_IMAGES = 10_000  # enough for the channels' mean and deviation to three digits


class MemoryLoader:
    """See training.data.loader.Loader. Reads nothing before its first `set_phase`, which also verifies the hashes."""

    def __init__(
        self,
        root: str,
        train_images: int,
        validation_images: int,
        plan: SamplePlan,
        cutout: int,
        env,
        dtype: torch.dtype,
        statistics_from: str = "",
        erasing: float = 0.0,
        modes: tuple[str, str] = ("bilinear", "bilinear"),
    ) -> None:
        """`statistics_from`: suffix of the folder whose mean and deviation normalise every phase. `erasing`:
        probability of a box. `modes` of resizing, for training and validation."""
        self.root, self.plan, self.cutout, self.env, self.dtype = root.rstrip("/"), plan, cutout, env, dtype
        self.statistics_from, self.erasing, (self.mode, self.val_mode) = statistics_from, erasing, modes
        self.train_images, self.validation_images = train_images, validation_images
        self.folders: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}  # by split and suffix
        self.verified: set[str] = set()  # suffixes

    def set_phase(self, phase: DataPhase) -> None:
        self.phase = phase
        self.steps = self.train_images // (phase.bs * self.env.world_size)
        train, validation = ("train", phase.trndir), ("validation", phase.valdir)
        self.train_data = self.validation_data = None  # the old folder's memory is free before the new one is read
        self.folders = {key: data for key, data in self.folders.items() if key in (train, validation)}
        self.train_data, self.validation_data = (self.in_memory(*key) for key in (train, validation))
        if not hasattr(self, "mean"):
            first = open_packed(self.root + self.statistics_from, verify=False)["train"].images[:STATISTICS_IMAGES]
            self.mean, self.std = channel_statistics(torch.from_numpy(np.array(first)).to(self.env.device))

    def in_memory(self, split: str, suffix: str) -> tuple[Tensor, Tensor]:
        """images (N, H, W, 3) uint8 and labels (N,) int64 of a split, on the device; read once per folder. Raises:
        DataError for a file that is not the one of the manifest."""
        if (split, suffix) not in self.folders:
            packed: Packed = open_packed(self.root + suffix, verify=suffix not in self.verified)[split]
            self.verified.add(suffix)
            parts = (torch.from_numpy(np.array(part)).to(self.env.device) for part in (packed.images, packed.labels))
            self.folders[split, suffix] = tuple(parts)
        return self.folders[split, suffix]

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The phase's `aug` scales the shift and the side of the hole, both rounded, and the share of erased images."""
        (stored, labels), aug, size = self.train_data, self.phase.aug, self.phase.sz
        order = replace(self.plan, shift=round(self.plan.shift * aug)).epoch(epoch)
        plan = [torch.from_numpy(part).to(self.env.device) for part in order[:4]]
        boxes = self.boxes(order.slot, self.erasing * aug, epoch) if self.erasing * aug else None
        cutout = round(self.cutout * aug)
        for step in range(start, self.steps):
            place = self.plan.places(step, self.phase.bs, self.env.rank, self.env.world_size)
            index, shift, flip, hole = (part[place] for part in plan)
            images = crop_and_flip(stored, index, shift, flip)
            if cutout:
                images = cut_out(images, hole, cutout, self.mean.round().byte())
            images = self.to_input(images, size, self.mode)
            images = erase(images, boxes[place] if boxes is not None else None)
            yield Batch(images, labels[index], torch.from_numpy(order.index[place]))

    def boxes(self, slot: np.ndarray, probability: float, epoch: int) -> np.ndarray:
        """(N, 4) int32 by place, in the training size."""
        size = (self.phase.sz, self.phase.sz)
        return random_boxes(probability, self.plan.generator(ERASING, epoch), len(slot), size)[slot]

    def validation(self) -> Iterator[Batch]:
        images, labels = (part[self.env.rank :: self.env.world_size] for part in self.validation_data)
        for first in range(0, len(labels), self.phase.val_bs):
            part = slice(first, first + self.phase.val_bs)
            rows = torch.arange(self.env.rank, self.validation_images, self.env.world_size)[part]
            yield Batch(self.to_input(images[part], self.phase.val_sz, self.val_mode), labels[part], rows)

    def first_images(self, count: int) -> Tensor:
        return normalise(self.train_data[0][:count], self.mean, self.std, torch.float32)

    def pictures(self, split: str, rows: Tensor) -> Tensor:
        stored = (self.train_data if split == "train" else self.validation_data)[0]
        size = (self.phase.val_sz, self.phase.val_sz)
        images = resize(stored[rows.to(stored.device)], size, self.val_mode)
        return normalise(images, self.mean, self.std, torch.float32)

    def to_input(self, images: Tensor, size: int, mode: str) -> Tensor:
        return normalise(resize(images, (size, size), mode), self.mean, self.std, self.dtype)

    def close(self) -> None:
        self.folders = {}
        self.train_data = self.validation_data = None


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) float32 in 0..255 of images (N, H, W, 3) uint8."""
    sample = images.to(torch.float32).reshape(-1, 3)
    return sample.mean(0), sample.std(0)


def open_loader(config, schedule: Schedule, dataset, env, dtype: torch.dtype) -> MemoryLoader:
    train, validation = dataset.splits["train"].images, dataset.splits["validation"].images
    plan = SamplePlan(train, config.seed, config.shift, config.flip, config.repeated_augmentation)
    first, modes = schedule.data[0].trndir, (config.interpolation, config.val_interpolation)
    return MemoryLoader(
        config.data, train, validation, plan, config.cutout, env, dtype, first, config.random_erasing, modes
    )
