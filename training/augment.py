"""Augmentation of a batch of stored uint8 images on the device, and their way to the network's input."""

import torch
import torch.nn.functional as F
from torch import Tensor

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet, in 0..255 (torchvision's models)


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


def resize(images: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """(B, H, W, 3) uint8 -> (B, *size, 3) uint8, size = height, width, by torch's antialiased filter, bilinear or
    bicubic. On a GPU, which has no uint8 kernel, through float."""
    if images.shape[1:3] == size:
        return images
    planes = images.permute(0, 3, 1, 2)  # a channels_last view: no copy
    if planes.is_cuda:
        planes = F.interpolate(planes.float(), size, mode=mode, antialias=True).round().clamp(0, 255).byte()
    else:
        planes = F.interpolate(planes, size, mode=mode, antialias=True)
    return planes.permute(0, 2, 3, 1)


def normalise(images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) `dtype`, channels_last; mean and std (3,) in 0..255."""
    return images.to(torch.float32).sub_(mean).div_(std).to(dtype).permute(0, 3, 1, 2)
