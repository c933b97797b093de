"""Batches of pictures and boxes for a detector. Order and mirroring come from the sample plan, so a position is one
integer."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data_prep import DataError
from data_prep.formats.coco import CocoSplit
from data_prep.formats.pictures import read_rgb
from training.data.renderers.torchvision import START, quiet
from training.data.sample_plan import SamplePlan

Picture = tuple[Tensor, dict[str, Tensor]]  # (3, H, W) uint8; boxes (K, 4) x1 y1 x2 y2 float32, labels (K,) from 1


class Pictures:
    """Reads picture i of a split, with its targets, for `(i, mirrored)`. A picture that cannot be read comes as the
    DataError: raised in a worker process it would lose its one line."""

    def __init__(self, split: CocoSplit) -> None:
        self.split, self.wanted = split, split.targets()

    def __len__(self) -> int:
        return len(self.split.names)

    def __getitem__(self, place: tuple[int, bool]) -> Picture | DataError:
        image, mirrored = place
        try:
            pixels = self.pixels(image)
        except DataError as error:
            return error
        rows = self.split.of_image(image)
        boxes, labels = (part[rows][self.wanted[rows]] for part in (self.split.boxes, self.split.labels))
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
        if mirrored:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            corners[:, [0, 2]] = pixels.shape[1] - corners[:, [2, 0]]
        target = {"boxes": torch.from_numpy(corners), "labels": torch.from_numpy(labels + 1)}
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), target

    def pixels(self, image: int) -> np.ndarray:
        """(H, W, 3) uint8. Raises: DataError when the file is not a picture of the size that the boxes are for."""
        path, size = self.split.folder / self.split.names[image], tuple(self.split.sizes[image].tolist())
        picture = read_rgb(path)
        if picture.size != size:
            raise DataError(f"{path}: is {picture.width} x {picture.height}, its annotation says {size[0]} x {size[1]}")
        return np.array(picture)


class TrainBatches:
    """Of the pictures that have a target; the last partial batch of an epoch is dropped."""

    def __init__(self, split: CocoSplit, batch_size: int, seed: int, workers: int) -> None:
        self.pictures, self.batch_size, self.workers = Pictures(split), batch_size, workers
        self.usable = np.unique(split.owners[self.pictures.wanted])
        self.plan = SamplePlan(len(self.usable), seed, flip="random")
        self.steps = len(self.usable) // batch_size

    def epoch(self, epoch: int, start: int) -> Iterator[list[Picture]]:
        """The batches from step `start` on."""
        order = self.plan.epoch(epoch)
        places = [(int(self.usable[i]), bool(m)) for i, m in zip(order.index, order.flip, strict=True)]
        firsts = range(start * self.batch_size, self.steps * self.batch_size, self.batch_size)
        return read(self.pictures, [places[first : first + self.batch_size] for first in firsts], self.workers)


def validation_batches(split: CocoSplit, batch_size: int, workers: int) -> Iterator[list[Picture]]:
    """Every picture once, in order."""
    places = [(image, False) for image in range(len(split.names))]
    batches = [places[first : first + batch_size] for first in range(0, len(places), batch_size)]
    return read(Pictures(split), batches, workers)


def read(pictures: Pictures, batches: list[list], workers: int) -> Iterator[list[Picture]]:
    """Raises: DataError naming a picture that cannot be read."""
    loader = DataLoader(
        pictures,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=quiet,
        generator=torch.Generator(),  # else a pass draws from the run's
        multiprocessing_context=START if workers else None,
    )
    for batch in loader:
        for picture in batch:
            if isinstance(picture, DataError):
                raise picture
        yield batch
