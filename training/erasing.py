"""Random erasing (arXiv:1708.04896) as torchvision's v2.RandomErasing does it: boxes drawn by the sample plan, painted
with the normalised value 0 on the device."""

import math

import numpy as np
import torch
from torch import Tensor

SCALE = (0.02, 0.33)  # of the area
RATIO = (0.3, 3.3)  # height / width, log-uniform
TRIES = 10


def random_boxes(probability: float, rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """(count, 4) int32 top, left, height, width for pictures of `size` (height, width); zeros: nothing is erased."""
    open_rows, boxes = np.flatnonzero(rng.random(count) < probability), np.zeros((count, 4), np.int32)
    for _ in range(TRIES):
        tried, fits = tried_boxes(rng.random((len(open_rows), 4)), *size)
        boxes[open_rows[fits]] = tried[fits]
        open_rows = open_rows[~fits]
    return boxes


def tried_boxes(draw: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """One try: boxes (n, 4), and which of them are smaller than the picture both ways (n,) bool."""
    area = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * draw[:, 0])
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = np.exp(low + (high - low) * draw[:, 1])
    heights, widths = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    tops, lefts = np.floor(draw[:, 2] * (height - heights + 1)), np.floor(draw[:, 3] * (width - widths + 1))
    return np.stack([tops, lefts, heights, widths], 1).astype(np.int32), (heights < height) & (widths < width)


def erase(images: Tensor, boxes: np.ndarray | None) -> Tensor:
    """`images` (B, 3, H, W) normalised, on the device, with the boxes (B, 4) painted 0, in place. Only pictures that
    have a box are touched; nothing waits for the device."""
    rows = np.flatnonzero(boxes[:, 2]) if boxes is not None else ()
    if not len(rows):
        return images
    height, width = images.shape[2:]
    where, sides = (torch.from_numpy(part).to(images.device, non_blocking=True) for part in (rows, boxes[rows]))
    top, left, tall, wide = sides.long().T[:, :, None]
    down, across = torch.arange(height, device=images.device) - top, torch.arange(width, device=images.device) - left
    inside = ((down >= 0) & (down < tall))[:, None, :, None] & ((across >= 0) & (across < wide))[:, None, None, :]
    return images.index_copy_(0, where, images.index_select(0, where).masked_fill_(inside, 0))
