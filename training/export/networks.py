"""The networks that weights are handed over to: torchvision's and timm's own, made as their users make them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.config.config import Config
from training.errors import ConfigError
from training.models.build import build_model, head_options, library_of, torchvision_model
from training.models.layouts import LAYOUTS
from training.models.outputs import logits_of

LIBRARIES = ("torchvision", "timm")
SHAPING = ("model", "width", "blurpool", "drop_path", "aux_weight")  # what decides the harness's own network
TOLERANCE = 1e-4  # of the largest logit: two libraries may sum in another order


class Network(NamedTuple):
    """A freshly initialised network and the two lines of code that make it."""

    module: nn.Module
    library: str  # torchvision | timm | dawn-harness
    imports: str
    make: str


def has_network(library: str, name: str) -> bool:
    """Whether a library has a network of this name, `timm/NAME` being timm's NAME."""
    if library == "timm":
        import timm

        return timm.is_model(name.removeprefix("timm/"))
    from torchvision import models

    return name in models.list_models(module=models)


def library_network(library: str, name: str, classes: int, auxiliary: bool = False) -> Network | None:
    """The network `name` of a library, with random weights; None when it has none of that name. `auxiliary`: with the
    auxiliary heads of one of torchvision that has some."""
    name = name.removeprefix("timm/")
    if not has_network(library, name):
        return None
    if library == "timm":
        import timm

        make = f'timm.create_model("{name}", num_classes={classes})'
        return Network(timm.create_model(name, num_classes=classes).eval(), "timm", "import timm", make)
    more = "".join(f", {key}={value}" for key, value in head_options(name, auxiliary).items())
    make = f'torchvision.models.get_model("{name}", num_classes={classes}{more})'
    return Network(torchvision_model(name, classes, auxiliary).eval(), "torchvision", "import torchvision", make)


def own_network(config: Config, classes: int) -> Network:
    """The harness's: for cifarnet, and for settings that change a library's network."""
    changed = [name for name in SHAPING if getattr(config, name, None) != getattr(Config(), name, None)]
    text = ", ".join(f"{name}={getattr(config, name)!r}" for name in dict.fromkeys(["model", *changed]))
    imports = "from training.config.config import Config; from training.models.build import build_model"
    make = f"build_model(Config({text}), {classes})"
    return Network(build_model(config, classes).eval(), "dawn-harness", imports, make)


def receiver(format: str, config: Config, trained: nn.Module, classes: int, images: Tensor) -> tuple[Network, float]:
    """The network that the weights of `trained` are handed to, loaded with them, and the largest difference of the
    logits of `images` relative to the largest logit.

    `format` torchvision and timm: that library's own. Others: the one the run's name means, or the harness's where the
    run's settings have changed it. Raises: ConfigError when the library has no such network or it is another one.
    """
    if config.model in LAYOUTS and format in LIBRARIES:
        raise ConfigError(
            f"--format {format}: {config.model} is this harness's own. Use --format torch, safetensors or onnx"
        )
    heads = config.aux_weight > 0
    if format not in LIBRARIES:
        home = library_of(config.model)[0]
        found = library_network(home, config.model, classes, heads) if home in LIBRARIES else None
        if found and (difference := loaded_difference(found.module, trained, images)) is not None:
            return found, difference
        found = own_network(config, classes)
    elif (found := library_network(format, config.model, classes, heads)) is None:
        raise ConfigError(
            f"--format {format}: {format} has no network {config.model.removeprefix('timm/')}. Use another format"
        )
    difference = loaded_difference(found.module, trained, images)
    if difference is None:
        raise ConfigError(
            f"--format {format}: {config.model} of this run is not the network that {format} has under this name "
            "(other layers or other logits). Use --format safetensors or torch"
        )
    return found, difference


@torch.no_grad()
def loaded_difference(network: nn.Module, trained: nn.Module, images: Tensor) -> float | None:
    """Load the weights strictly and compare the logits: the largest difference relative to the largest logit; None when
    they do not fit or differ by more than rounding."""
    try:
        network.load_state_dict(trained.state_dict())
    except RuntimeError:
        return None
    expected, found = logits_of(trained(images)), logits_of(network(images))
    difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    return difference if difference <= TOLERANCE else None
