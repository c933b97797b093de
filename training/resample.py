"""Antialiased bilinear or bicubic resizing of a batch of windows of different sizes at once, as two batched matrix
products: what a GPU, which has no uint8 kernel for it, does well."""

import torch
from torch import Tensor


def resampled(
    windows: Tensor, lengths: Tensor, size: tuple[int, int], resized: Tensor, corners: Tensor, cubic: bool = False
) -> Tensor:
    """windows (B, H, W, 3) uint8, of which `lengths` (B, 2) rows and columns count; each is resized to `resized` (B, 2)
    and cut to `size` from `corners` (B, 2) on -> (B, *size, 3) uint8. Black outside."""
    batch, height, width = windows.shape[:3]
    rows = weights(lengths[:, 0], resized[:, 0], corners[:, 0], size[0], height, cubic)
    columns = weights(lengths[:, 1], resized[:, 1], corners[:, 1], size[1], width, cubic)
    half = torch.bmm(rows, windows.to(rows.dtype).reshape(batch, height, width * 3))
    half = half.reshape(batch, size[0], width, 3).transpose(1, 2).reshape(batch, width, size[0] * 3)
    whole = torch.bmm(columns, half).reshape(batch, size[1], size[0], 3).transpose(1, 2)
    return whole.round_().clamp_(0, 255).to(torch.uint8, memory_format=torch.contiguous_format)


def weights(length: Tensor, resized: Tensor, corner: Tensor, size: int, longest: int, cubic: bool) -> Tensor:
    """(B, size, longest) float32: how much of each source pixel is in each output pixel. A triangle, or Keys' filter
    twice as wide, scaled to the larger of a source and an output pixel, half-pixel centres, cut off at the border:
    torch's antialias=True."""
    scale = (length / resized)[:, None, None]
    support = scale.clamp_min(1.0)
    place = corner[:, None] + torch.arange(size, device=length.device)
    centre = (place[:, :, None] + 0.5) * scale - 0.5
    source = torch.arange(longest, device=length.device)
    distance = (source - centre).abs() / support
    shape = (keys(distance) if cubic else (1 - distance).clamp_min(0)) * (source < length[:, None, None])
    inside = (place >= 0) & (place < resized[:, None])
    return shape / shape.sum(2, keepdim=True).clamp_min(1e-9) * inside[:, :, None]


def keys(distance: Tensor) -> Tensor:
    """Cubic convolution with a = -0.5, which Pillow and torch's antialiased filter use (R. Keys, 1981)."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0))
