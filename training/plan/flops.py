"""The arithmetic of a step, counted on tensors without memory: step times are fitted over it."""

import torch
from torch import nn
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
    lacking = flop_keys(work) - found.flops.keys()
    found.flops |= {key: flops_of(config, classes, *key) for key in sorted(lacking)}


def flops_of(config: Config, classes: int, size: int, whitening: bool) -> int:
    """To train one image, forward and backward, as torch counts them."""
    model: nn.Module = build_model(config, classes).to(trial_device(config))
    if has_whitening(model):
        model.train_whitening(whitening)
    images = torch.zeros(2, 3, size, size, device=trial_device(config))  # a batch norm may refuse one
    with FlopCounterMode(display=False) as counter:
        logits_of(model(images)).sum().backward()
    return counter.get_total_flops() // 2
