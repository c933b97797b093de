"""Batches travel to the device on a stream of their own, so that a copy does not wait for the steps before it."""

import torch
from torch import Tensor


class Transfer:
    """On a GPU the kernels of earlier steps may still be in line when a batch is ready; on their stream its copy would
    begin after them (row 14 of docs/gpu.md). On a CPU nothing is copied."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.streams = device, torch.get_device_module(device)
        self.own = self.streams.Stream()  # of the rank's device, which is the current one (see env.py)

    def to_device(self, batch: Tensor) -> Tensor:
        """`batch`: all its pixels written; pinned if the device is a GPU. What the caller's stream does with the result
        begins after the copy."""
        with self.streams.stream(self.own):
            copied = batch.to(self.device, non_blocking=True)
        user = self.streams.current_stream(self.device)
        user.wait_stream(self.own)
        if copied.is_cuda:
            copied.record_stream(user)  # or the next copy could get its memory while `user` still reads it
        return copied
