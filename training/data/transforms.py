"""Augmentation of a batch on the device: crops, flips, cutout and erasing of stored uint8 images, their way to the
network's input, and mixup and cutmix of what arrives there."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config.config import Config
from training.data.loader import Batch

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet, in 0..255 (torchvision's models)
# The boxes of torchvision's RandomErasing.
SCALE = (0.02, 0.33)  # of the area
RATIO = (0.3, 3.3)  # height / width, log-uniform
TRIES = 10
Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def crop_and_flip(images: Tensor, index: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """One gather: images[index], moved by `shift` with reflected borders, mirrored where `flip`.

    images (N, H, W, 3) uint8; index (B,); shift (B, 2); flip (B,) bool -> (B, H, W, 3) uint8.
    """
    height, width = images.shape[1:3]
    rows = reflect(torch.arange(height, device=images.device) + shift[:, :1], height)
    columns = torch.arange(width, device=images.device).expand(len(index), width)
    columns = reflect(torch.where(flip[:, None], width - 1 - columns, columns) + shift[:, 1:], width)
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside 0..size-1 folded back without repeating the border (numpy's 'reflect'); shift < size."""
    position = position.abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)


def cut_out(images: Tensor, centre: Tensor, side: int, fill: Tensor) -> Tensor:
    """A square of `side` pixels painted with `fill` (3,) uint8 around `centre` (B, 2) in [0, 1), clipped at the
    border (arXiv:1708.04552)."""
    height, width = images.shape[1:3]
    top, left = (centre[:, :1] * height).long() - side // 2, (centre[:, 1:] * width).long() - side // 2
    rows = torch.arange(height, device=images.device) - top
    columns = torch.arange(width, device=images.device) - left
    hole = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return torch.where(hole[..., None], fill, images)


def resize(images: Tensor, size: tuple[int, int], mode: str = "bilinear", antialias: bool = True) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, *size, 3) uint8, size = height, width, by torch's filter, bilinear or bicubic. On a
    GPU, which has no uint8 kernel, through float."""
    if images.shape[1:3] == size:
        return images
    planes = images.permute(0, 3, 1, 2)  # a channels_last view: no copy
    if planes.is_cuda:
        planes = F.interpolate(planes.float(), size, mode=mode, antialias=antialias).round().clamp(0, 255).byte()
    else:
        planes = F.interpolate(planes, size, mode=mode, antialias=antialias)
    return planes.permute(0, 2, 3, 1)


def normalise(images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) `dtype`, channels_last; mean and std (3,) in 0..255."""
    return images.to(torch.float32).sub_(mean).div_(std).to(dtype).permute(0, 3, 1, 2)


def jittered(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """(images + brightness) * contrast of normalised images (B, 3, H, W), with a number of each for an image (B,)
    float32; dtype and memory format stay."""
    shift, factor = (number[:, None, None, None] for number in (brightness, contrast))
    return images.float().add(shift).mul(factor).to(images.dtype)


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


def build_mixers(config: Config, classes: int) -> list[Mixer]:
    """Those that are on: (images, (B,) int64) -> (images, (B, classes) float32); each image with the one before it."""
    from torchvision.transforms import v2  # slow to import

    kinds = (v2.MixUp, config.mixup), (v2.CutMix, config.cutmix)
    return [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]


def mixed(config: Config, mixers: list[Mixer], batch: Batch, epoch: int, strength: float = 1.0) -> Batch:
    """`batch` with mixed images and soft targets; as it is when nothing is on, from --mix-off-epoch on, and for all but
    a share `strength` (0 to 1) of --mix-prob. Dtype and memory format stay."""
    if not mixers or (config.mix_off_epoch and epoch >= config.mix_off_epoch):
        return batch
    if torch.rand(()) >= config.mix_prob * strength:
        return batch
    mixer = mixers[int(torch.randint(len(mixers), ()))]
    images, targets = mixer(batch.images, batch.targets)
    images = images.contiguous(memory_format=memory_format(batch.images))
    return batch._replace(images=images, targets=targets)


def memory_format(images: Tensor) -> torch.memory_format:
    """`roll` on a GPU returns NCHW whatever it is given."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
