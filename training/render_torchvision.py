"""The reference renderer: a DataLoader's workers decode, cut and resize one picture after another with torch's own
operations."""

import ctypes
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_prep import DataError
from data_prep.image_index import ImageIndex
from training.augment import resize
from training.decode import decoded
from training.device import worker_count
from training.policy import apply_torchvision
from training.requests import Request

PREFETCH = 2  # batches per worker
PR_SET_PDEATHSIG = 1  # prctl(2)
START = "fork" if sys.platform == "linux" else "spawn"  # under a fork server workers outlive a killed run


class Pictures(Dataset):
    """Indexed by Request: the DataLoader's sampler hands whole batches to its workers."""

    def __init__(self, folders: dict[str, dict[str, ImageIndex]], rank: int) -> None:
        self.folders, self.rank = folders, rank

    def __getitem__(self, request: Request) -> Tensor | DataError:
        """(B, height, width, 3) uint8. A worker hands its error over as a value: raised there, it would arrive wrapped
        in a traceback."""
        out = torch.empty(len(request.rows), *request.size, 3, dtype=torch.uint8)
        try:
            for place, row in enumerate(request.rows):
                out[place] = rendered(self.stored(request, row), request, place)
        except DataError as error:
            return error
        return out

    def stored(self, request: Request, row: int) -> np.ndarray:
        """(H, W, 3) uint8. Raises: DataError, also for a file that is not the indexed one."""
        index = self.folders[request.folder][request.split]
        path = Path(request.folder) / index.paths[row].decode(errors="surrogateescape")
        where = f"(rank {self.rank}, image {row} of {request.split})"
        try:
            pixels = decoded(path)
        except DataError as error:
            raise DataError(f"{error} {where}") from None
        if pixels.shape[:2] != (index.heights[row], index.widths[row]):
            raise DataError(
                f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, the index says {index.widths[row]}x"
                f"{index.heights[row]} {where}. Index the folder again"
            )
        return pixels


def rendered(pixels: np.ndarray, request: Request, place: int) -> Tensor:
    """One stored picture (H, W, 3) uint8 as the request wants it: (height, width, 3) uint8."""
    top, left, height, width = request.windows[place].tolist()
    window = torch.from_numpy(pixels[top : top + height, left : left + width])
    image = cut(resize(window[None], tuple(request.resized[place].tolist()))[0], request.corners[place], request.size)
    image = image.flip(1) if request.flips[place] else image
    if request.policy is None:
        return image
    return apply_torchvision(image.permute(2, 0, 1), request.policy[place]).permute(1, 2, 0)


def cut(image: Tensor, corner: np.ndarray, size: tuple[int, int]) -> Tensor:
    """`size` pixels from `corner` on; black where the image ends. (H, W, 3) -> (*size, 3) uint8."""
    top, left = corner.tolist()
    inside = image[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
    if inside.shape[:2] == size:
        return inside
    out = torch.zeros(*size, 3, dtype=torch.uint8)
    out[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return out


class TorchvisionRenderer:
    """See training/requests.py. Workers live as long as the run; they see the requests of one pass at a time."""

    def __init__(self, pictures: Pictures, workers: int, env) -> None:
        self.requests: Iterator[Request] = iter(())
        self.env = env
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

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        self.requests = iter(requests)
        for images in self.loader:
            if isinstance(images, DataError):
                raise images
            yield images.to(self.env.device, non_blocking=True)

    def close(self) -> None:
        self.requests, self.loader = iter(()), None


def quiet(worker: int) -> None:
    """Workers share the cores: one thread each. Ctrl-C is the trainer's business. On Linux they die with it at once
    (torch's own watch takes seconds, in which they would hold the lock of the run folder)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def open_renderer(config, folders, env, dtype, largest_batch) -> TorchvisionRenderer:
    return TorchvisionRenderer(Pictures(folders, env.rank), worker_count(config), env)
