"""How much arithmetic a network asks for."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

FLOPS_PER_MULTIPLY_ADD = 2


@torch.no_grad()
def multiply_adds(model: nn.Module, size: int | tuple[int, int], device: str = "meta") -> int:
    """Of one image of `size` (pixels, or height and width) forward through a model on `device`: convolutions and matrix
    products, as torch counts them."""
    height, width = (size, size) if isinstance(size, int) else size
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, height, width, device=device))
    return counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD
