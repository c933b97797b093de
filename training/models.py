"""Names to networks: cifarnet and every torchvision classification model."""

import difflib

import torch
from torch import nn

from training.cifarnet import CifarNet
from training.config import Config
from training.outcome import ConfigError

AUXILIARY = ("googlenet", "inception_v3")  # would return a tuple of logits while they train


@torch.no_grad()
def check_model(config: Config, classes: int, sizes: set[int]) -> None:
    """Raises: ConfigError for an unknown name or a size (pixels) that the network cannot take.

    Only shapes are computed: a real image of 1,000 pixels and more would take seconds.
    """
    model = build_model(config, classes).eval().to("meta")
    for size in sorted(sizes):
        try:
            model(torch.zeros(1, 3, size, size, device="meta"))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())[:120]
            raise ConfigError(
                f"--model {config.model}: cannot take images of {size} px ({reason}). "
                "Use another sz or val_sz in the phases, or another model"
            ) from None


def build_model(config: Config, classes: int) -> nn.Module:
    """A freshly initialised network in fp32 on the CPU; equal seeds give equal weights. Raises: ConfigError for an
    unknown name."""
    torch.manual_seed(config.seed)
    model = CifarNet(classes, config.width) if config.model == "cifarnet" else torchvision_model(config.model, classes)
    if config.init_bn0:
        zero_init_last_norms(model)
    return model


def torchvision_model(name: str, classes: int) -> nn.Module:
    from torchvision import models  # slow to import, and not needed for cifarnet

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, ["cifarnet", *known], 3)
        raise ConfigError(
            f"--model {name}: unknown model. "
            + (
                f"Did you mean {', '.join(near)}?"
                if near
                else "Known: cifarnet and torchvision's models, e.g. resnet50"
            )
        )
    plain = {"aux_logits": False, "init_weights": True} if name in AUXILIARY else {}
    return models.get_model(name, weights=None, num_classes=classes, **plain)


def zero_init_last_norms(model: nn.Module) -> None:
    """--init-bn0: each residual block begins as the identity (Goyal et al., arXiv:1706.02677, 5.1); the classifier
    draws from N(0, 0.01) as the 2018 code did. A model without residual blocks only gets the classifier's part."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    for module in model.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.zeros_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight)
    if isinstance(getattr(model, "fc", None), nn.Linear):
        nn.init.normal_(model.fc.weight, std=0.01)
