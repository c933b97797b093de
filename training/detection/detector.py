"""The detector: torchvision's Faster R-CNN with a feature pyramid on a given backbone, its optimiser and schedule."""

from typing import NamedTuple

import torch
from torch import nn

from training.detection.backbone import STAGES, Backbone
from training.detection.settings import DetectSettings

PYRAMID_CHANNELS = 256
WARMUP_STEPS = 500
WARMUP_SHARE = 1 / 4  # of all steps, at most
DROPS = (8 / 12, 11 / 12)  # of the steps: the "1x" schedule of detection codes


class TrainedParts(NamedTuple):
    """What of the detector is trained: counts of parameters and of the backbone's batch norms."""

    parameters: int
    all_parameters: int
    norms: int
    all_norms: int

    def line(self) -> str:
        rest = self.all_parameters - self.parameters
        frozen = "nothing is frozen" if not rest and self.norms == self.all_norms else f"{rest:,} parameters frozen"
        state = "trained" if self.norms else "FROZEN (--frozen-bn)"
        return (
            f"training {self.parameters:,} of {self.all_parameters:,} parameters; "
            f"the backbone's {self.all_norms} batch norms are {state}; {frozen}"
        )


def build_detector(backbone: Backbone, classes: int, settings: DetectSettings) -> nn.Module:
    """`classes` without the background. New layers draw from the seed."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    torch.manual_seed(settings.seed)
    body = frozen(backbone.body) if settings.frozen_bn else backbone.body
    channels = [backbone.channels // 2**step for step in (3, 2, 1, 0)]
    layers = {stage: str(number) for number, stage in enumerate(STAGES)}
    pyramid = BackboneWithFPN(body, layers, channels, PYRAMID_CHANNELS)
    detector = FasterRCNN(
        pyramid,
        classes + 1,
        min_size=settings.size,
        max_size=settings.max_size,
        image_mean=list(backbone.mean),
        image_std=list(backbone.std),
    )
    settle_scales(detector.roi_heads.box_roi_pool)
    return detector


def settle_scales(pool: nn.Module) -> None:
    """torchvision's MultiScaleRoIAlign guesses the scales of the pyramid from the first pictures it sees, and of small
    ones wrongly, because they are padded: 1/16 for 1/32. A picture that needs no padding tells them for good."""
    side = 256
    maps = {str(level): torch.zeros(1, 1, side >> level + 2, side >> level + 2) for level in range(len(STAGES))}
    pool(maps, [torch.tensor([[0.0, 0.0, 8.0, 8.0]])], [(side, side)])


def frozen(body: nn.Module) -> nn.Module:
    """Batch norms as the constant transforms of their statistics."""
    from timm.layers import freeze_batch_norm_2d

    return freeze_batch_norm_2d(body)


def what_is_trained(detector: nn.Module) -> TrainedParts:
    parameters = list(detector.parameters())
    body = list(detector.backbone.body.modules())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in body)
    constant = sum(type(module).__name__.startswith("FrozenBatchNorm") for module in body)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    # a frozen norm keeps its weight and bias as buffers
    hidden = sum(m.weight.numel() + m.bias.numel() for m in body if type(m).__name__.startswith("FrozenBatchNorm"))
    return TrainedParts(trained, sum(p.numel() for p in parameters) + hidden, norms, norms + constant)


def build_optimizer(detector: nn.Module, settings: DetectSettings) -> torch.optim.Optimizer:
    """The preset's, over all parameters, weight decay on all of them."""
    name, lr, decay, _ = settings.chosen
    parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=decay)
    return torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=decay)


def lr_factor(step: int, steps: int) -> float:
    """What the learning rate of step `step` (from 0) of `steps` is multiplied with: linear warm-up to 1, then a tenth
    from 8/12 and a hundredth from 11/12 of the steps on."""
    warmup = min(WARMUP_STEPS, int(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.1 ** sum(step >= share * steps for share in DROPS)
