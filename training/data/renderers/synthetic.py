"""Random pixels of the wanted shape, made once per shape: the compute ceiling of a run. Its accuracy means nothing.

The same pixels in every run, and none of the run's own random numbers: a resumed run sees what an unbroken one sees.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from training.data.renderers.base import Request


class SyntheticRenderer:
    """See training/data/renderers/base.py."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.made: dict[tuple[int, ...], Tensor] = {}

    def enter(self, parts: list[tuple[str, str]]) -> None:
        """Nothing is read."""

    def batches(self, requests: Iterator[Request]) -> Iterator[Tensor]:
        """(B, H, W, 3) normalised noise in the compute dtype."""
        for request in requests:
            shape = (len(request.rows), *request.size, 3)
            if shape not in self.made:
                own = torch.Generator(self.device).manual_seed(0)
                self.made[shape] = torch.randn(shape, generator=own, device=self.device).to(self.dtype)
            yield self.made[shape]

    def close(self) -> None:
        self.made.clear()


def open_renderer(config, folders, env, dtype, largest_batch) -> SyntheticRenderer:
    return SyntheticRenderer(env.device, dtype)
