"""The loaders of this project for benchmarks/loaders.py, driven as training.data.image_tree drives them, up to the
uint8 batches: sample plan, requests, renderer."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from itertools import count

import torch
from loader_work import Work
from torch import Tensor

from data_prep.formats.image_index import ImageIndex, open_index
from phases import DataPhase
from training.config.config import Config
from training.data.image_plan import ImagePlan
from training.data.renderers.base import Request
from training.data.sample_plan import SamplePlan
from training.distributed.env import Env

LARGEST_BATCH = 512
CROPS = "-crops"


class Batches:
    """An endless iterator of uint8 (batch, size, size, 3); `set_size` begins a new pass, as a new phase does."""

    def __init__(self, work: Work, name: str) -> None:
        self.work, self.rows, indices = work, work.rows(), open_index(work.folder)
        self.index = ImageIndex(**{key: values[self.rows] for key, values in vars(indices["train"]).items()})
        self.plan = ImagePlan(SamplePlan(len(self.rows), seed=0, flip="random"))
        config = Config(data=work.folder, workers=work.workers, device="cpu")
        opened = import_module(f"training.data.renderers.{name}").open_renderer
        self.renderer = opened(config, {work.folder: indices}, Env(torch.device("cpu")), torch.float32, LARGEST_BATCH)
        self.renderer.enter([(work.folder, "train")])
        self.set_size(work.size)

    def set_size(self, size: int) -> None:
        phase = DataPhase(0, size, self.work.batch, min_scale=self.work.min_scale)
        self.batches = self.renderer.batches(self.requests(phase))

    def requests(self, phase: DataPhase) -> Iterator[Request]:
        """Epoch after epoch; the last partial batch of each is dropped."""
        for epoch in count():
            firsts = range(0, len(self.rows) - phase.bs + 1, phase.bs)
            places = (slice(first, first + phase.bs) for first in firsts)
            drawn = self.plan.epoch(self.index, phase, epoch)
            for request in self.plan.train(self.work.folder, self.index, phase, drawn, places):
                yield request._replace(rows=self.rows[request.rows])

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        return next(self.batches)

    def close(self) -> None:
        self.batches.close()
        self.renderer.close()


def by_torchvision(work: Work) -> Batches:
    return Batches(work, "torchvision")


def by_threads(work: Work) -> Batches:
    return Batches(work, "threads")


def by_processes(work: Work) -> Batches:
    return Batches(work, "processes")


def by_dali(work: Work) -> Batches:
    return Batches(work, "dali")


def in_crops(work: Work) -> Work:
    """The same images in the copy of the tree that `data_prep index-crops` has made."""
    return replace(work, folder=work.folder + CROPS)


def cut_by_torchvision(work: Work) -> Batches:
    return by_torchvision(in_crops(work))


def cut_by_threads(work: Work) -> Batches:
    return by_threads(in_crops(work))


def cut_by_processes(work: Work) -> Batches:
    return by_processes(in_crops(work))


def cut_by_dali(work: Work) -> Batches:
    return by_dali(in_crops(work))


def packed(work: Work) -> Batches:
    return Batches(work, "packed")
