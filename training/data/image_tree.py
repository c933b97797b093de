"""Image trees behind the loader contract: the sample plan says what a batch shall be, a renderer makes its pictures."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from data_prep.formats.image_index import ImageIndex
from phases import DataPhase, Schedule
from training.data.ahead import Ahead
from training.data.auto_augment import policy_of
from training.data.dataset import folders_of, index_of, loader_name
from training.data.image_plan import ImageEpoch, ImagePlan
from training.data.loader import Batch
from training.data.renderers.base import Renderer, Request
from training.data.sample_plan import SamplePlan
from training.data.transforms import MEAN, STD, erase, normalise


class TreeLoader:
    """See training.data.loader.Loader."""

    def __init__(
        self,
        root: str,
        indices: dict[str, dict[str, ImageIndex]],
        plan: ImagePlan,
        renderer: Renderer,
        env,
        dtype,
        schedule: Schedule,
    ) -> None:
        """`indices`: by folder and split, for every folder that the phases name."""
        self.schedule, self.drawn = schedule, Ahead(self.draw)
        self.root, self.indices, self.plan, self.renderer = root.rstrip("/"), indices, plan, renderer
        self.env, self.dtype = env, dtype
        self.mean, self.std = (torch.tensor(values, device=env.device) for values in (MEAN, STD))
        first = next(iter(indices.values()))
        self.train_images, self.validation_images = (len(first[split].labels) for split in ("train", "validation"))

    def set_phase(self, phase: DataPhase, first_step: int = 0, first_image: int = 0) -> None:
        self.phase, self.first_step, self.first_image = phase, first_step, first_image
        self.renderer.enter([(self.root + phase.trndir, "train"), (self.root + phase.valdir, "validation")])
        self.steps = first_step + (self.train_images - first_image) // (phase.bs * self.env.world_size)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        folder = self.root + self.phase.trndir
        places = (self.places(step) for step in range(start, self.steps))
        drawn = self.drawn.take(*self.drawn_from(self.phase, epoch))
        requests = self.plan.train(folder, self.indices[folder]["train"], self.phase, drawn, places)
        del drawn  # else two epochs' would be held until the pass ends
        begun = False
        for batch in self.batches(requests):
            if not begun:  # after the first batch: a renderer's processes are not forked beside the thread
                self.begin_next(epoch)
                begun = True
            yield batch

    def drawn_from(self, phase: DataPhase, epoch: int) -> tuple:
        """All that an epoch's draws depend on."""
        return self.root + phase.trndir, phase.sz, phase.min_scale, phase.aug, epoch

    def draw(self, folder: str, size: int, min_scale: float, aug: float, epoch: int) -> ImageEpoch:
        phase = replace(self.schedule.data[0], sz=size, min_scale=min_scale, aug=aug)
        return self.plan.epoch(self.indices[folder]["train"], phase, epoch)

    def begin_next(self, epoch: int) -> None:
        """Draws what is trained after the current phase's part of `epoch`: the next phase of the epoch or the next
        epoch."""
        now = max(epoch, self.phase.epoch)
        later = next((phase for phase in self.schedule.data if now < phase.epoch < epoch + 1), None)
        if later:
            self.drawn.begin(*self.drawn_from(later, epoch))
        elif epoch + 1 < self.schedule.epochs:
            self.drawn.begin(*self.drawn_from(self.schedule.data_at(epoch + 1), epoch + 1))

    def places(self, step: int) -> slice:
        number, ranks = step - self.first_step, self.env.world_size
        return self.plan.samples.places(number, self.phase.bs, self.env.rank, ranks, self.first_image)

    def validation(self) -> Iterator[Batch]:
        folder = self.root + self.phase.valdir
        requests = self.plan.validation(folder, self.indices[folder]["validation"], self.phase)
        yield from self.batches(iter(requests[self.env.rank :: self.env.world_size]))

    def validation_shapes(self, phase: DataPhase) -> Counter[tuple[int, int]]:
        """How many images of all ranks a validation in `phase` shows at each height and width."""
        folder = self.root + phase.valdir
        counts: Counter[tuple[int, int]] = Counter()
        for request in self.plan.validation(folder, self.indices[folder]["validation"], phase):
            counts[request.size] += len(request.rows)
        return counts

    def batches(self, requests: Iterator[Request]) -> Iterator[Batch]:
        """Requests wait in line beside the renderer, which is some batches ahead."""
        waiting: deque[Request] = deque()

        def noted() -> Iterator[Request]:
            for request in requests:
                waiting.append(request)
                yield request

        for images in self.renderer.batches(noted()):
            request = waiting.popleft()
            targets = torch.from_numpy(request.labels).to(self.env.device, non_blocking=True)
            yield Batch(
                erase(self.to_input(images, self.dtype), request.boxes), targets, torch.from_numpy(request.rows)
            )

    def to_input(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, H, W, 3) -> (B, 3, H, W) normalised, channels_last."""
        if images.dtype == torch.uint8:
            return normalise(images, self.mean, self.std, dtype)
        return images.to(dtype).permute(0, 3, 1, 2)

    def first_images(self, count: int) -> Tensor:
        """Centre crops at the phase's size."""
        folder, index = self.root + self.phase.trndir, self.indices[self.root + self.phase.trndir]["train"]
        rows = np.arange(min(count, len(index.labels)))
        batch = self.phase.val_bs
        parts = [rows[first : first + batch] for first in range(0, len(rows), batch)]
        requests = (self.plan.still(folder, "train", index, self.phase, part, self.phase.sz) for part in parts)
        return torch.cat([self.to_input(images, torch.float32) for images in self.renderer.batches(requests)])

    def pictures(self, split: str, rows: Tensor) -> Tensor:
        folder = self.root + (self.phase.trndir if split == "train" else self.phase.valdir)
        index, size, numbers = self.indices[folder][split], self.phase.val_sz, rows.numpy()
        parts = [numbers[first : first + self.phase.val_bs] for first in range(0, len(numbers), self.phase.val_bs)]
        requests = (self.plan.still(folder, split, index, self.phase, part, size) for part in parts)
        return torch.cat([self.to_input(images, torch.float32) for images in self.renderer.batches(requests)])

    def close(self) -> None:
        self.drawn.close()
        self.renderer.close()


def open_loader(config, schedule: Schedule, dataset, env, dtype: torch.dtype) -> TreeLoader:
    indices = {folder: index_of(config, folder) for folder in folders_of(config, schedule)}
    name = loader_name(config, schedule)
    samples = SamplePlan(dataset.splits["train"].images, config.seed, 0, config.flip, config.repeated_augmentation)
    plan = ImagePlan(
        samples,
        policy_of(config),
        config.val_resize,
        config.rect_rule,
        config.random_erasing if name != "synthetic" else 0.0,  # it shows the same tensor again and again
        config.interpolation == "bicubic",
        config.val_interpolation == "bicubic",
    )
    largest = max(max(phase.bs, phase.val_bs) for phase in schedule.data)
    module = import_module(f"training.data.renderers.{name}")
    return TreeLoader(
        config.data, indices, plan, module.open_renderer(config, indices, env, dtype, largest), env, dtype, schedule
    )
