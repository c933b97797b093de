"""The training loss, of class numbers or of soft targets: cross entropy, or a binary cross entropy of each class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Config


def training_loss(config: Config, logits: Tensor, targets: Tensor) -> Tensor:
    """() float32. `logits` (B, classes) float32; `targets` (B,) int64, or (B, classes) float32 that sum to 1.

    `ce` is the mean over images. `bce` is the mean over images and classes, as timm's BinaryCrossEntropy has it and
    "ResNet strikes back" (arXiv:2110.00476) used it: its gradients are smaller by about the number of classes.
    """
    if config.loss == "ce":
        return F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
    return F.binary_cross_entropy_with_logits(logits, bce_targets(config, logits, targets))


def bce_targets(config: Config, logits: Tensor, targets: Tensor) -> Tensor:
    """(B, classes) in the dtype of `logits`: smoothed, then cut at --bce-threshold to 0 and 1 (timm's order)."""
    if targets.dim() == 1:
        targets = torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)  # one_hot would ask a CPU for its largest
    smoothing = config.label_smoothing
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / logits.shape[1]
    return (targets > config.bce_threshold).to(logits.dtype) if config.bce_threshold else targets
