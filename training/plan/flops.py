"""The arithmetic of a step, which step times are fitted over, and the least memory that it needs: counted on tensors
without memory."""

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from training.config.config import Config
from training.models.build import build_model, has_whitening, trial_device
from training.models.outputs import logits_of
from training.plan.store import Measurements
from training.plan.work import Work


def flop_keys(work: Work) -> set[tuple[int, bool]]:
    """(pixels, whitening) of every step."""
    return {(point.size, point.whitening) for point in work.trainings}


def add_flops(config: Config, classes: int, work: Work, found: Measurements) -> None:
    """To `found`, what it lacks of them for `work`. The network must take the sizes (training.models.build)."""
    for key in sorted(flop_keys(work) - (found.flops.keys() & found.saved.keys())):
        found.flops[key], found.saved[key] = counted(config, classes, *key)


def counted(config: Config, classes: int, size: int, whitening: bool) -> tuple[int, int]:
    """FLOPs to train one image, forward and backward, as torch counts them; and the bytes that its forward pass keeps
    for the backward pass in fp32, the least that a step needs for each image."""
    model: nn.Module = build_model(config, classes).to(trial_device(config))
    if has_whitening(model):
        model.train_whitening(whitening)
    images = torch.zeros(2, 3, size, size, device=trial_device(config))  # a batch norm may refuse one
    own = {storage_of(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[storage_of(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        logits_of(model(images)).sum().backward()
    return counter.get_total_flops() // 2, sum(size for place, size in kept.items() if place not in own) // 2


def storage_of(tensor: torch.Tensor) -> int:
    """Which memory it lies in, also on the meta device, where no memory has an address."""
    return tensor.untyped_storage()._cdata
