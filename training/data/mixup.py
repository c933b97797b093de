"""Mixup and cutmix of a whole batch on the device, by torchvision; which, and how much, is drawn on the CPU from
torch's generator, which a checkpoint holds."""

from collections.abc import Callable

import torch
from torch import Tensor

from training.config.config import Config
from training.data.loader import Batch

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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
    return Batch(images.contiguous(memory_format=memory_format(batch.images)), targets)


def memory_format(images: Tensor) -> torch.memory_format:
    """`roll` on a GPU returns NCHW whatever it is given."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
