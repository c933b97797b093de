"""The packed uint8 dataset in RAM or on the GPU, cut into batches and augmented there: no worker processes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_prep import Packed, open_packed
from phases import DataPhase, Schedule
from training.config.config import Config
from training.data.holdout import sources, stored_splits
from training.data.loader import Batch
from training.data.sample_plan import ERASING, JITTER, SamplePlan
from training.data.transforms import crop_and_flip, cut_out, erase, jittered, normalise, random_boxes, resize

STATISTICS_IMAGES = 10_000  # enough for the channels' mean and deviation to three digits


class MemoryLoader:
    """See training.data.loader.Loader. Reads nothing before its first `set_phase`, which also verifies the hashes."""

    def __init__(
        self, config: Config, images: tuple[int, int], plan: SamplePlan, statistics_from: str, env, dtype: torch.dtype
    ) -> None:
        """`images` for training and validation. `statistics_from`: suffix of the folder whose mean and deviation
        normalise every phase."""
        self.config, self.root, self.plan, self.env, self.dtype = config, config.data.rstrip("/"), plan, env, dtype
        self.train_images, self.validation_images = images
        self.statistics_from = statistics_from
        self.folders: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}  # by split and suffix
        self.verified: set[str] = set()  # suffixes

    def set_phase(self, phase: DataPhase, first_step: int = 0, first_image: int = 0) -> None:
        self.phase, self.first_step, self.first_image = phase, first_step, first_image
        self.steps = first_step + (self.train_images - first_image) // (phase.bs * self.env.world_size)
        train, validation = ("train", phase.trndir), ("validation", phase.valdir)
        self.train_data = self.validation_data = None  # the old folder's memory is free before the new one is read
        self.folders = {key: data for key, data in self.folders.items() if key in (train, validation)}
        self.train_data, self.validation_data = (self.in_memory(*key) for key in (train, validation))
        if not hasattr(self, "mean"):
            first = first_stored(self.config, self.root + self.statistics_from)
            self.mean, self.std = channel_statistics(first.to(self.env.device))

    def in_memory(self, split: str, suffix: str) -> tuple[Tensor, Tensor]:
        """images (N, H, W, 3) uint8 and labels (N,) int64 of a split of the run, on the device; read once per folder.
        Raises: DataError for a file that is not the one of the manifest."""
        if (split, suffix) not in self.folders:
            stored = open_packed(self.root + suffix, suffix not in self.verified, stored_splits(self.config))
            self.verified.add(suffix)
            source = sources(self.config, stored["train"].labels)[split]
            packed, rows = stored[source.split], slice(None) if source.rows is None else source.rows
            parts = (
                torch.from_numpy(np.array(part[rows])).to(self.env.device) for part in (packed.images, packed.labels)
            )
            self.folders[split, suffix] = tuple(parts)
        return self.folders[split, suffix]

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The phase's `aug` scales the shift and the side of the hole, both rounded, brightness and contrast, and the
        share of erased images."""
        (stored, labels), aug, size = self.train_data, self.phase.aug, self.phase.sz
        order = replace(self.plan, shift=round(self.plan.shift * aug)).epoch(epoch)
        plan = [torch.from_numpy(part).to(self.env.device) for part in order[:4]]
        share, mode = self.config.random_erasing * aug, self.config.interpolation
        boxes = self.boxes(order.slot, share, epoch) if share else None
        cutout, jitter = round(self.config.cutout * aug), self.jitter(epoch)
        for step in range(start, self.steps):
            number, ranks = step - self.first_step, self.env.world_size
            place = self.plan.places(number, self.phase.bs, self.env.rank, ranks, self.first_image)
            index, shift, flip, hole = (part[place] for part in plan)
            images = crop_and_flip(stored, index, shift, flip)
            if cutout:
                images = cut_out(images, hole, cutout, self.mean.round().byte())
            images = self.to_input(images, size, mode, self.config.antialias)
            if jitter is not None:
                images = jittered(images, *jitter[:, place])
            images = erase(images, boxes[place] if boxes is not None else None)
            yield Batch(images, labels[index], torch.from_numpy(order.index[place]))

    def jitter(self, epoch: int) -> Tensor | None:
        """Brightness and contrast (2, N) float32 by place, on the device."""
        ranges = [self.config.brightness * self.phase.aug, self.config.contrast * self.phase.aug]
        if not any(ranges):
            return None
        drawn = self.plan.generator(JITTER, epoch).uniform(-1, 1, (2, self.train_images)) * [[part] for part in ranges]
        drawn[1] += 1
        return torch.from_numpy(drawn.astype(np.float32)).to(self.env.device)

    def boxes(self, slot: np.ndarray, probability: float, epoch: int) -> np.ndarray:
        """(N, 4) int32 by place, in the training size."""
        size = (self.phase.sz, self.phase.sz)
        return random_boxes(probability, self.plan.generator(ERASING, epoch), len(slot), size)[slot]

    def validation(self) -> Iterator[Batch]:
        images, labels = (part[self.env.rank :: self.env.world_size] for part in self.validation_data)
        for first in range(0, len(labels), self.phase.val_bs):
            part = slice(first, first + self.phase.val_bs)
            rows = torch.arange(self.env.rank, self.validation_images, self.env.world_size)[part]
            yield Batch(
                self.to_input(images[part], self.phase.val_sz, self.config.val_interpolation), labels[part], rows
            )

    def first_images(self, count: int) -> Tensor:
        return normalise(self.train_data[0][:count], self.mean, self.std, torch.float32)

    def pictures(self, split: str, rows: Tensor) -> Tensor:
        stored = (self.train_data if split == "train" else self.validation_data)[0]
        size = (self.phase.val_sz, self.phase.val_sz)
        images = resize(stored[rows.to(stored.device)], size, self.config.val_interpolation)
        return normalise(images, self.mean, self.std, torch.float32)

    def to_input(self, images: Tensor, size: int, mode: str, antialias: bool = True) -> Tensor:
        return normalise(resize(images, (size, size), mode, antialias), self.mean, self.std, self.dtype)

    def close(self) -> None:
        self.folders = {}
        self.train_data = self.validation_data = None


def first_stored(config: Config, root: str) -> Tensor:
    """(N, H, W, 3) uint8: the training images of the run that `channel_statistics` is about."""
    packed: Packed = open_packed(root, False, ("train",))["train"]
    rows = sources(config, packed.labels)["train"].rows
    return torch.from_numpy(
        np.array(packed.images[slice(STATISTICS_IMAGES) if rows is None else rows[:STATISTICS_IMAGES]])
    )


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) float32 in 0..255 of images (N, H, W, 3) uint8."""
    sample = images.to(torch.float32).reshape(-1, 3)
    return sample.mean(0), sample.std(0)


def open_loader(config, schedule: Schedule, dataset, env, dtype: torch.dtype) -> MemoryLoader:
    train, validation = dataset.splits["train"].images, dataset.splits["validation"].images
    plan = SamplePlan(train, config.seed, config.shift, config.flip, config.repeated_augmentation)
    return MemoryLoader(config, (train, validation), plan, schedule.data[0].trndir, env, dtype)
