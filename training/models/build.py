"""Names to networks: cifarnet and its other layouts, every torchvision classification model, and timm's for all other
names; with BlurPool (arXiv:1904.11486) in any of them."""

import difflib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from phases import DataPhase
from training.config.config import Config
from training.config.own_code import call, is_own, kind, said
from training.errors import ConfigError
from training.models.cifarnet import CifarNet
from training.models.layouts import LAYOUTS
from training.models.outputs import AUX_LOGITS, auxiliary_logits, logits_of

AUXILIARY = ("googlenet", "inception_v3")  # torchvision's with auxiliary heads
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
MIN_CHANNELS = 16  # the first layer sees the image itself
SHAPING = ("model", "width", "init_bn0", "blurpool", "drop_path", "aux_weight", "accumulate")  # flags


def check_model(config: Config, classes: int, sizes: set[int], phases: Sequence[DataPhase] = ()) -> None:
    """Raises: ConfigError for an unknown name, a network without a parameter to train, a size (pixels) that it cannot
    take, or a phase whose training batches it cannot take.

    Only shapes are computed: a real image of 1,000 pixels and more would take seconds. A series of runs or of schedules
    in one process asks again and again: what has passed is not tried twice.
    """
    if is_own(config.model):
        check_shapes(config, classes, frozenset(sizes), tuple(phases))
    else:
        shaping = Config(**{name: getattr(config, name) for name in SHAPING})
        checked_once(shaping, classes, frozenset(sizes), tuple(phases))


@lru_cache(maxsize=64)
def checked_once(config: Config, classes: int, sizes: frozenset[int], phases: tuple[DataPhase, ...]) -> None:
    check_shapes(config, classes, sizes, phases)


@torch.no_grad()
def check_shapes(config: Config, classes: int, sizes: frozenset[int], phases: tuple[DataPhase, ...]) -> None:
    model = build_model(config, classes).eval().to(trial_device(config))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"--model {config.model}: has no parameter to train. Let one have requires_grad")
    for size in sorted(sizes):
        reason, output = tried(config, model, 1, size)
        if reason:
            raise ConfigError(
                f"--model {config.model}: cannot take images of {size} px ({reason}). "
                "Use another sz or val_sz in the phases, or another model"
            )
        if is_own(config.model):
            check_logits(config, output, classes)
    model.train()
    for phase in {(phase.sz, phase.bs): phase for phase in reversed(phases)}.values():
        check_training_batch(config, model, phase, classes)


def check_training_batch(config: Config, model: nn.Module, phase: DataPhase, classes: int) -> None:
    """Raises: ConfigError where the network in training mode cannot take a step's images, or an --accumulate part of
    them: a batch norm has no variance of one image on a map of 1 x 1."""
    images = max(1, phase.bs // config.accumulate)
    reason, output = tried(config, model, min(images, 2) if is_own(config.model) else images, phase.sz)
    if not reason:
        check_heads(config, output, classes)
        return
    part = f"a part of --accumulate {config.accumulate}" if config.accumulate > 1 else "a step"
    least = 2 * config.accumulate
    remedy = f"Use 'bs' of {least} or more, or a larger 'sz'" if images == 1 else "Use another 'sz' or 'bs'"
    raise ConfigError(
        f"--model {config.model}: cannot train the phase at epoch {phase.epoch} with 'bs': {phase.bs}, 'sz': "
        f"{phase.sz}, which is {images:,} image{'s' if images > 1 else ''} in {part} ({reason}). {remedy}"
    )


def tried(config: Config, model: nn.Module, images: int, size: int) -> tuple[str, Any]:
    """Why `model` fails on so many square images, "" where it does not; and its output."""
    try:
        return "", model(torch.zeros(images, 3, size, size, device=trial_device(config)))
    except Exception as error:
        if not is_own(config.model) and not isinstance(error, RuntimeError | ValueError | AssertionError):
            raise
        return said(error) if is_own(config.model) else " ".join(str(error).split())[:120], None


def trial_device(config: Config) -> str:
    """Where a network is tried: without memory and arithmetic, but a user's own may make tensors of its own."""
    return "cpu" if is_own(config.model) else "meta"


def check_logits(config: Config, output: Any, classes: int) -> None:
    """Raises: ConfigError for what a network makes of one image, when it is not a number for each class."""
    try:
        logits = logits_of(output)
    except TypeError as error:
        raise ConfigError(f"--model {config.model}: its outputs are {error}. Return {classes} logits") from None
    if logits.shape != (1, classes):
        raise ConfigError(
            f"--model {config.model}: its outputs for one image are {tuple(logits.shape)}, not (1, {classes}): a logit "
            f"for each of the {classes} classes. Use the argument `classes`"
        )


def check_heads(config: Config, output: Any, classes: int) -> None:
    """Raises: ConfigError where --aux-weight finds no auxiliary head in what a network returns in training, or one that
    is not a number for each class."""
    heads = auxiliary_logits(output) if config.aux_weight else []
    if config.aux_weight and not heads:
        raise ConfigError(
            f"--aux-weight {config.aux_weight}: --model {config.model} has no auxiliary heads: its outputs have no "
            f"{AUX_LOGITS!r}. Leave the flag out, or use another model"
        )
    for head in heads:
        if head.shape[1:] != (classes,):
            raise ConfigError(
                f"--model {config.model}: its {AUX_LOGITS!r} for an image are {tuple(head.shape[1:])}, not "
                f"({classes},): a logit for each of the {classes} classes. Use the argument `classes`"
            )


def build_model(config: Config, classes: int) -> nn.Module:
    """A freshly initialised network in fp32 on the CPU; equal seeds give equal weights. Raises: ConfigError for an
    unknown name, or an option that the network does not have."""
    library, name = library_of(config.model)
    if config.drop_path and library != "timm":
        raise no_drop_path(name, library)
    torch.manual_seed(config.seed)
    if library == "own":
        model = own_model(name, classes)
    elif library == "ours":
        model = CifarNet(classes, config.width, LAYOUTS[name])
    else:
        auxiliary = config.aux_weight > 0
        model = timm_model(config, name, classes) if library == "timm" else torchvision_model(name, classes, auxiliary)
    if config.init_bn0 and not zero_init_last_norms(model, library):
        raise ConfigError(
            f"--init-bn0: {config.model} has no residual blocks that end in a norm; use --no-init-bn0 or another "
            "model, such as resnet50"
        )
    if config.blurpool:
        blur_strided_convolutions(config, model)
    return model


def library_of(name: str) -> tuple[str, str]:
    """("own", "ours", "torchvision" or "timm", the name there). A name that both libraries know is torchvision's;
    timm/NAME is timm's.

    Raises: ConfigError for a name that none knows.
    """
    if is_own(name):
        return "own", name
    if name in LAYOUTS:
        return "ours", name
    from torchvision import models  # slow to import

    known = models.list_models(module=models)
    if name in known:
        return "torchvision", name
    from timm import list_models

    of_timm = list_models()
    if name.removeprefix("timm/") in of_timm:
        return "timm", name.removeprefix("timm/")
    prefix = "timm/" if name.startswith("timm/") else ""
    names = dict.fromkeys([*LAYOUTS, *known, *(prefix + other for other in of_timm)])  # some are in both libraries
    near = difflib.get_close_matches(name, names, 3)
    hint = (
        f"Did you mean {', '.join(near)}?"
        if near
        else f"Known: {', '.join(LAYOUTS)}, torchvision's and timm's, e.g. resnet50"
    )
    raise ConfigError(f"--model {name}: unknown model. {hint}")


def own_model(name: str, classes: int) -> nn.Module:
    """Raises: ConfigError when the user's function does not return a network."""
    model = call("model", name, f"{name.rpartition(':')[2]}(classes)", classes)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"--model {name}: returned {kind(model)}, not a torch.nn.Module")
    return model


def torchvision_model(name: str, classes: int, auxiliary: bool = False) -> nn.Module:
    """`auxiliary`: with the auxiliary heads of a network that has some."""
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=classes, **head_options(name, auxiliary))


def head_options(name: str, auxiliary: bool = False) -> dict[str, bool]:
    """What torchvision needs to be told of a network that may have auxiliary heads."""
    return {"aux_logits": auxiliary, "init_weights": True} if name in AUXILIARY else {}


def timm_model(config: Config, name: str, classes: int) -> nn.Module:
    """As timm initialises it; but timm zeroes the last norm of residual blocks by itself, which here is --init-bn0's to
    do. Raises: ConfigError for --drop-path where there is none."""
    from timm import create_model

    options = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    try:
        model = create_model(name, pretrained=False, num_classes=classes, **options)
    except TypeError:
        if not options:
            raise
        raise no_drop_path(name, "timm") from None
    for norm in (m for m in model.modules() if isinstance(m, NORMS) and not config.init_bn0):
        if norm.weight is not None and not norm.weight.any():
            nn.init.ones_(norm.weight)
    return model


def no_drop_path(name: str, library: str) -> ConfigError:
    advice = f"timm/{name}" if library == "torchvision" and name.startswith("resn") else "a model such as timm/resnet50"
    whose = "" if library in ("own", "ours") else f" of {library}"
    return ConfigError(f"--drop-path: {name}{whose} has none; use {advice}")


def zero_init_last_norms(model: nn.Module, library: str) -> int:
    """--init-bn0: each residual block begins as the identity (Goyal et al., arXiv:1706.02677, 5.1). Returns how many.

    The classifier of a torchvision ResNet draws from N(0, 0.01) as the 2018 code did; timm's is left as timm's recipes
    have it.
    """
    from torchvision.models.resnet import BasicBlock, Bottleneck

    found = 0
    for module in model.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.zeros_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight)
            found += 1
        elif hasattr(module, "zero_init_last"):  # timm's blocks
            module.zero_init_last()
            found += 1
    if library == "torchvision" and isinstance(getattr(model, "fc", None), nn.Linear):
        nn.init.normal_(model.fc.weight, std=0.01)
    return found


class BlurredConv2d(nn.Conv2d):
    """A convolution behind a blur of 3x3 pixels (timm's); its parameters have the names of the convolution alone."""

    def __init__(self, conv: nn.Conv2d) -> None:
        from timm.layers import BlurPool2d  # imports much of timm

        shape = conv.in_channels, conv.out_channels, conv.kernel_size
        bias, mode = conv.bias is not None, conv.padding_mode
        super().__init__(*shape, conv.stride, conv.padding, conv.dilation, conv.groups, bias, mode, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        blur_stride = 1
        if conv.kernel_size == (1, 1) and conv.stride == (2, 2) and conv.padding == (0, 0):
            blur_stride, self.stride = 2, (1, 1)  # the same numbers, a quarter of the blurring
        self.blur = BlurPool2d(conv.in_channels, stride=blur_stride, pad_mode="constant")

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.blur(x))


def blur_strided_convolutions(config: Config, model: nn.Module) -> None:
    """In place. Raises: ConfigError for a model without such a convolution."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Conv2d and max(child.stride) > 1 and child.in_channels >= MIN_CHANNELS
    ]
    if not found:
        raise ConfigError(
            f"--blurpool: {config.model} has no strided convolution of {MIN_CHANNELS} and more channels; "
            "use --no-blurpool or another model, such as resnet50"
        )
    for parent, name, child in found:
        setattr(parent, name, BlurredConv2d(child))


def has_whitening(model: nn.Module) -> bool:
    """Whether its first layer is frozen some epochs into a run (--whitening-epochs)."""
    return isinstance(model, CifarNet)
