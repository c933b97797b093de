"""One picture of a request, as the renderers in Python make it: where it lies, whether it is the indexed one, and its
way from the stored window to the output."""

import os

import numpy as np
import torch
from torch import Tensor

from data_prep import DataError
from data_prep.file_names import printable
from data_prep.image_index import ImageIndex
from training.augment import resize
from training.policy import apply_torchvision
from training.requests import Request


def path_of(request: Request, index: ImageIndex, row: int) -> bytes:
    return os.fsencode(request.folder) + b"/" + index.paths[row]


def place_of(rank: int, request: Request, row: int) -> str:
    """For error messages."""
    return f"(rank {rank}, image {row} of {request.split})"


def checked_size(path: bytes, found: tuple[int, int], size: tuple[int, int], where: str) -> None:
    """Raises: DataError when a file is not of the (height, width) that the index says."""
    if tuple(found) != tuple(size):
        raise DataError(
            f"{printable(path)}: {found[1]}x{found[0]} pixels, the index says {size[1]}x{size[0]} {where}. "
            "Index the folder again"
        )


def window_of(pixels: np.ndarray, request: Request, place: int) -> np.ndarray:
    """The request's window of a whole stored picture (H, W, 3)."""
    top, left, height, width = request.windows[place].tolist()
    return pixels[top : top + height, left : left + width]


def cut_picture(window: np.ndarray, request: Request, place: int) -> Tensor:
    """A window (h, w, 3) uint8 as the request wants it: (height, width, 3) uint8."""
    image = resize(torch.from_numpy(window)[None], tuple(request.resized[place].tolist()))[0]
    image = cut(image, request.corners[place], request.size)
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
