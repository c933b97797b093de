"""Where the backbone of a detector comes from: a run of ours, a file of weights, torchvision, or chance."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.config.config import Config
from training.data.transforms import MEAN, STD
from training.engine.state import fingerprint
from training.errors import ConfigError
from training.evaluation.trained import load_trained
from training.evaluation.weight_files import input_of, read_weights
from training.export.networks import library_network
from training.models.build import blur_strided_convolutions, library_of

STAGES = ("layer1", "layer2", "layer3", "layer4")  # of every ResNet, of torchvision and of timm
NAMED = re.compile(r"([A-Za-z0-9_]+)_Weights\.[A-Za-z0-9_]+")
FAMILIES = ("resnet*", "resnext*", "wide_resnet*")


class Backbone(NamedTuple):
    """`body` has the children layer1 to layer4, `channels` in the last of them; `mean` and `std` (3,) for pixels from
    0 to 1; `origin` says where the weights are from."""

    body: nn.Module
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    sha256: str  # of the weights


def open_backbone(weights: str, model: str, seed: int, warn: Callable[[str], None]) -> Backbone:
    """`weights`: a run's folder, a file, `random`, or the name of torchvision's weights. Raises: ConfigError."""
    path, mean, std = Path(weights), MEAN, STD
    if weights == "random":
        torch.manual_seed(seed)
        name = model or "resnet50"
        network, origin = named(name, 1000), f"random weights of {name}"
    elif path.is_dir():
        refuse_model(model, "a run knows its own")
        trained = load_trained(path, "", warn)
        network, mean, std = trained.network, trained.mean or MEAN, trained.std or STD
        if not trained.mean:
            warn(f"{path}: its dataset is not there, which knows the mean of its pixels; ImageNet's is used")
        origin = f"{trained.weights} weights of {path}, {trained.config.model} after {trained.counters['epoch']} epochs"
    elif path.is_file():
        network, mean, std, name = from_file(path, model)
        origin = f"weights of {path}, {name}"
    elif NAMED.fullmatch(weights):
        refuse_model(model, "the name of the weights tells it")
        network, origin = published(weights), f"torchvision's {weights}"
    else:
        raise ConfigError(f"--weights {weights}: no such run or file. Give one, random, or torchvision's by its name")
    if not all(isinstance(getattr(network, stage, None), nn.Module) for stage in (*STAGES, "fc")):
        raise ConfigError(f"--weights {weights}: not a ResNet (no layer1 to layer4). Train one, such as resnet50")
    scaled = (tuple(value / 255 for value in values) for values in (mean, std))
    return Backbone(network, network.fc.in_features, *scaled, origin, fingerprint(network.state_dict()))


def refuse_model(model: str, why: str) -> None:
    if model:
        raise ConfigError(f"--model {model}: {why}. Leave it out")


def named(name: str, classes: int) -> nn.Module:
    """A ResNet by its name, with random weights. Raises: ConfigError for a name that no library knows."""
    found = library_network(library_of(name)[0], name, classes)
    if found is None:  # cifarnet
        raise ConfigError(f"--model {name}: not a ResNet. Use one of torchvision's or timm's, such as resnet50")
    return found.module


def published(weights: str) -> nn.Module:
    from torchvision import models

    name = NAMED.fullmatch(weights)[1].lower()
    try:
        entry = models.get_weight(weights)
        network = models.get_model(name, weights=None, num_classes=len(entry.meta["categories"]))
    except (ValueError, KeyError, AttributeError):
        raise ConfigError(f"--weights {weights}: torchvision has none of this name. See its documentation") from None
    try:  # torchvision's own way unpickles what lies in its cache
        network.load_state_dict(entry.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
        raise ConfigError(
            f"--weights {weights}: cannot be read or downloaded ({reason}). Get the file, give its path"
        ) from None
    return network


def from_file(path: Path, model: str) -> tuple[nn.Module, tuple, tuple, str]:
    """The network that a file of weights fits, with them, and the mean and deviation that its header tells."""
    state, metadata = read_weights(path, "--weights")
    last = state.get("fc.weight")
    classes = int(last.shape[0]) if last is not None and last.ndim == 2 else 0
    name = model or metadata.get("model") or matching_name(state, classes)
    if not classes or not name:
        raise ConfigError(f"--weights {path}: not of a ResNet of torchvision's. Of timm's: name its --model")
    network = named(name, classes)
    if metadata.get("blurpool") == "True":
        blur_strided_convolutions(Config(model=name), network)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--weights {path}: not the weights of {name} ({reason})") from None
    return network, *input_of(metadata), name


def matching_name(state: dict[str, Tensor], classes: int) -> str:
    """torchvision's ResNet whose tensors have just these names and shapes; ''."""
    from torchvision import models

    shapes = {name: value.shape for name, value in state.items()}
    for name in models.list_models(module=models, include=FAMILIES) if classes else ():
        with torch.device("meta"):
            network = models.get_model(name, weights=None, num_classes=classes)
        if {key: value.shape for key, value in network.state_dict().items()} == shapes:
            return name
    return ""
