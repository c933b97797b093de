"""The reference renderer: a DataLoader's workers decode, cut and resize one picture after another with torch's own
operations."""

import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_prep import DataError
from data_prep.formats.image_index import ImageIndex
from training.data.renderers.base import Request, quiet
from training.data.renderers.cuts import Cuts
from training.data.renderers.picture import checked_size, cut_picture, decoded, path_of, place_of, window_of
from training.data.renderers.transfer import Transfer
from training.distributed.env import worker_count

PREFETCH = 2  # batches per worker
DEATH_SECONDS = 2.0  # at most, from the end of a worker's connections to the signal that it is gone
START = "fork" if sys.platform == "linux" else "spawn"  # under a fork server workers outlive a killed run


class Pictures(Dataset):
    """Indexed by Request: the DataLoader's sampler hands whole batches to its workers."""

    def __init__(self, folders: dict[str, dict[str, ImageIndex]], rank: int, cuts: Cuts) -> None:
        """`cuts`: without open folders; every worker opens its own."""
        self.folders, self.rank, self.cuts = folders, rank, cuts

    def __getitem__(self, request: Request) -> Tensor | DataError:
        """(B, height, width, 3) uint8. A worker hands its error over as a value: raised there, it would arrive wrapped
        in a traceback."""
        out = torch.empty(len(request.rows), *request.size, 3, dtype=torch.uint8)
        pixels = out.numpy()
        try:
            for place in range(len(request.rows)):
                pixels[place] = cut_picture(self.window(request, place), request, place)
        except DataError as error:
            return error
        return out

    def window(self, request: Request, place: int) -> np.ndarray:
        """(h, w, 3) uint8. Raises: DataError, also for a file that is not the indexed one."""
        index, row = self.folders[request.folder][request.split], request.rows[place]
        path, where = path_of(request, index, row), place_of(self.rank, request, row)
        size = int(index.heights[row]), int(index.widths[row])
        try:
            window = self.cuts.window(request, place, path, size)
            if window is not None:
                return window
            pixels = decoded(path)
        except DataError as error:
            raise DataError(f"{error} {where}") from None
        checked_size(path, pixels.shape[:2], size, where)
        return window_of(pixels, request, place)


class TorchvisionRenderer:
    """Workers live as long as the run; they see the requests of one pass at a time. See base.Renderer."""

    def __init__(self, pictures: Pictures, workers: int, env) -> None:
        self.requests: Iterator[Request] = iter(())
        self.transfer = Transfer(env.device)
        own = torch.Generator()  # a DataLoader seeds its workers from it at every pass, else from the run's
        keep = (
            {"persistent_workers": True, "prefetch_factor": PREFETCH, "multiprocessing_context": START}
            if workers
            else {}
        )
        pin = env.device.type == "cuda"
        self.loader = DataLoader(
            pictures,
            batch_size=None,
            sampler=self,
            num_workers=workers,
            pin_memory=pin,
            worker_init_fn=quiet,
            generator=own,
            **keep,
        )

    def __iter__(self) -> Iterator[Request]:
        return self.requests

    def __len__(self) -> int:
        return 2**31  # nobody asks; a DataLoader wants a sized sampler

    def enter(self, parts: list[tuple[str, str]]) -> None:
        """The workers read files as they are asked for."""

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        self.requests = iter(requests)
        try:
            for images in self.loader:
                if isinstance(images, DataError):
                    raise images
                yield self.transfer.to_device(images)
        except (OSError, EOFError):  # a killed worker's connections close before its death is known:
            time.sleep(DEATH_SECONDS)  # then torch's handler of SIGCHLD raises what says it, here
            raise

    def close(self) -> None:
        self.requests, self.loader = iter(()), None


def open_renderer(config, folders, env, dtype, largest_batch) -> TorchvisionRenderer:
    return TorchvisionRenderer(Pictures(folders, env.rank, Cuts(config)), worker_count(config), env)
