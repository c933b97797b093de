"""The fastest renderer of JPEG trees on a CPU: threads of this process decode no more than the window and resize it.
Decoders and torch let go of the interpreter, so no picture travels between processes."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from data_prep import DataError
from data_prep.formats.image_index import ImageIndex
from training.data.renderers.base import Request, ThreadedRenderer
from training.data.renderers.cuts import Cuts
from training.data.renderers.picture import checked_size, decoded_window, path_of, place_of, planes_of, put_picture
from training.distributed.env import worker_count

# A thread decodes some pictures, then resizes them: its caches change from one to the other less often.
GROUP = 2_000_000  # bytes of windows: about 8 random crops of ImageNet's pictures, 40 of copies of 160 px


class ThreadsRenderer(ThreadedRenderer):
    """See training.data.renderers.base.Renderer."""

    def __init__(
        self, folders: dict[str, dict[str, ImageIndex]], workers: int, device: torch.device, rank: int, cuts: Cuts
    ) -> None:
        super().__init__(workers, device)
        self.folders, self.rank, self.cuts = folders, rank, cuts

    def enter(self, parts: list[tuple[str, str]]) -> None:
        self.cuts.enter({folder for folder, _ in parts})

    def fill(self, request: Request, out: Tensor, places: range) -> None:
        planes = planes_of(out, places)
        for group in self.groups(request, places):
            for place, window in group:
                put_picture(window, request, place, planes[place])

    def groups(self, request: Request, places: range) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Places and their windows, GROUP bytes of them at a time."""
        group, held = [], 0
        for place in places:
            group.append((place, self.window(request, place)))
            held += group[-1][1].size
            if held >= GROUP:
                yield group
                group, held = [], 0
        yield group

    def window(self, request: Request, place: int) -> np.ndarray:
        """(h, w, 3) uint8. Raises: DataError, also for a file that is not the indexed one."""
        index, row = self.folders[request.folder][request.split], request.rows[place]
        path, size = path_of(request, index, row), (int(index.heights[row]), int(index.widths[row]))
        where = place_of(self.rank, request, row)
        try:
            window = self.cuts.window(request, place, path, size)
            if window is not None:
                return window
            window, found = decoded_window(path, size, request.windows[place].tolist())
        except DataError as error:
            raise DataError(f"{error} {where}") from None
        checked_size(path, found, size, where)
        return window


def open_renderer(config, folders, env, dtype, largest_batch) -> ThreadsRenderer:
    return ThreadsRenderer(folders, worker_count(config), env.device, env.rank, Cuts(config))
