"""Threads of this process make the pictures: decoders and torch let go of the interpreter. For systems on which memory
cannot be shared (see processes.py), and for a GPU: the threads write into pinned memory."""

import threading

import torch
from torch import Tensor

from data_prep.formats.image_index import ImageIndex
from training.data.renderers.base import Request, ThreadedRenderer
from training.data.renderers.cuts import Cuts
from training.data.renderers.filler import Filler
from training.distributed.env import worker_count


class ThreadsRenderer(ThreadedRenderer):
    """See training.data.renderers.base.Renderer."""

    def __init__(
        self, folders: dict[str, dict[str, ImageIndex]], workers: int, device: torch.device, rank: int, cuts: Cuts
    ) -> None:
        super().__init__(workers, device)
        self.folders, self.rank, self.cuts = folders, rank, cuts
        self.own = threading.local()  # a Filler for every thread

    def enter(self, parts: list[tuple[str, str]]) -> None:
        self.cuts.enter({folder for folder, _ in parts})

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        if not hasattr(self.own, "filler"):
            self.own.filler = Filler(self.folders, self.rank, self.cuts)
        self.own.filler.fill(request, out, places)


def open_renderer(config, folders, env, dtype, largest_batch) -> ThreadsRenderer:
    return ThreadsRenderer(folders, worker_count(config), env.device, env.rank, Cuts(config))
