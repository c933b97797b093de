"""--ema-decay: the exponential moving average of the weights and of the norms' statistics."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class AveragedWeights(AveragedModel):
    """torch's, with its arithmetic and its state. Its own update copies a counter from the CPU to the device in every
    call, for a function that does not read it, and a GPU would have to be waited for."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """The first update copies the weights."""
        pairs = list(zip(tensors_of(self.module), tensors_of(model), strict=True))
        if not self.n_averaged:  # on the CPU
            for average, value in pairs:
                average.copy_(value)
        else:
            for kind in {average.dtype for average, _ in pairs}:
                averages, values = zip(*(pair for pair in pairs if pair[0].dtype == kind), strict=True)
                self.multi_avg_fn(averages, values, None)
        self.n_averaged += 1


def tensors_of(model: nn.Module) -> Iterator[Tensor]:
    return (tensor.detach() for tensor in itertools.chain(model.parameters(), model.buffers()))
