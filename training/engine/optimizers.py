"""Parameter groups and library optimisers. A step's learning rate is the schedule's times the group's `lr_factor`."""

from typing import Any, NamedTuple

import torch
from torch import nn

from phases import Schedule
from training.config.config import Config
from training.config.own_code import call, is_own, kind
from training.errors import ConfigError
from training.models.build import NORMS, build_model, has_whitening

# Of the Newton-Schulz steps: those that timm's Muon does not know by name.
COEFFICIENTS = {"hiverge": (3.4576, -4.7391, 2.0843)}  # also Fulcrum's (github.com/fulcrumresearch/cifar-10-speedrun)


class Moment(NamedTuple):
    """Where a step lies in its run, in epochs of the schedule."""

    start: float = 0.0
    end: float = 0.0
    epochs: float = 1.0  # of the whole schedule

    @property
    def progress(self) -> float:
        """Share of the schedule that is over with this step."""
        return self.end / self.epochs


ANY = Moment()  # for a step of no run


def build_optimizers(config: Config, model: nn.Module, precision: str = "bf16") -> list[torch.optim.Optimizer]:
    """One for everything, or Muon for convolutions and SGD for the rest, each where the network has some; frozen
    parameters are in no group. `precision`: of the run, for --muon-precision auto."""
    groups = parameter_groups(config, model)
    if is_own(config.optimizer):
        return [own_optimizer(config, groups)]
    if config.optimizer != "muon":
        return [OPTIMIZERS[config.optimizer](config, groups)]
    convs = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d)}
    filters = [p for p in model.parameters() if id(p) in convs and p.requires_grad]
    rest = [group | {"params": [p for p in group["params"] if id(p) not in convs]} for group in groups]
    rest = [group for group in rest if group["params"]]
    return [*([muon(config, filters, precision)] if filters else []), *([sgd(config, rest)] if rest else [])]


def own_optimizer(config: Config, groups: list[dict]) -> torch.optim.Optimizer:
    """Raises: ConfigError when the user's function returns no optimizer, or one without the groups as they came."""
    name = config.optimizer
    optimizer = call("optimizer", name, f"{name.rpartition(':')[2]}(groups, config)", groups, config)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(f"--optimizer {name}: returned {kind(optimizer)}, not a torch.optim.Optimizer")
    if not all({"lr", "lr_factor", "weight_decay"} <= group.keys() for group in optimizer.param_groups):
        raise ConfigError(
            f"--optimizer {name}: a parameter group of it has no lr, lr_factor or weight_decay. Hand it the groups as "
            "they come"
        )
    return optimizer


def check_optimizer(config: Config, schedule: Schedule, classes: int) -> None:
    """Tries the user's own on a network that is thrown away. Raises: ConfigError."""
    if not is_own(config.optimizer):
        return
    groups = build_optimizers(config, build_model(config, classes))[0].param_groups
    moves = any(schedule.momentum_at(epoch) is not None for epoch in range(schedule.epochs))
    if moves and any(momentum_of(group) is None for group in groups):
        raise ConfigError(
            f"--optimizer {config.optimizer}: has no momentum or betas, and the schedule sets `mom`. Leave it out there"
        )


def parameter_groups(config: Config, model: nn.Module) -> list[dict]:
    """Weights, norms and biases (by layer type, not by name; with them every other vector, such as a layer scale), and
    the last linear layer, each with decay and lr factor; with --whitening-decay the whitening bias on its own."""
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    head = {id(linears[-1].weight)} if linears else set()
    small = {
        id(p)
        for m in model.modules()
        for name, p in m.named_parameters(recurse=False)
        if isinstance(m, NORMS) or name.endswith("bias") or p.dim() <= 1  # attention calls one in_proj_bias
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    decaying = [model.whiten.bias] if config.whitening_decay and has_whitening(model) else []
    small -= {id(p) for p in decaying}
    groups = [
        {
            "name": "weights",
            "params": [p for p in trained if id(p) not in small | head | {id(p) for p in decaying}],
            "lr_factor": 1.0,
            "weight_decay": config.weight_decay,
        },
        {
            "name": "norms and biases",
            "params": [p for p in trained if id(p) in small],
            "lr_factor": config.bias_lr,
            "weight_decay": 0.0 if config.no_bn_wd else config.weight_decay,
        },
        {
            "name": "last linear layer",
            "params": [p for p in trained if id(p) in head],
            "lr_factor": config.head_lr,
            "weight_decay": config.weight_decay,
        },
        {
            "name": "whitening bias",
            "params": decaying,
            "lr_factor": config.bias_lr,
            "weight_decay": 0.0 if config.no_bn_wd else config.weight_decay,
            "lr_epochs": config.whitening_epochs,
        },
    ]
    return [group for group in groups if group["params"]]


def sgd(config: Config, groups: list[dict]) -> torch.optim.Optimizer:
    fused = one_kernel(groups)
    found = torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, nesterov=config.nesterov, **fused)
    return with_buffers(found) if fused and config.momentum else found


def with_buffers(optimizer: torch.optim.SGD) -> torch.optim.SGD:
    """With momentum from zeros, which gives the first step the same bits. The fused kernel leaves its own first buffers
    as torch.empty gave them when fp16 overflows in the first step (torch 2.15, optim/sgd.py, _fused_sgd)."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def adamw(config: Config, groups: list[dict]) -> torch.optim.Optimizer:
    betas = (config.momentum, config.beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, **epsilon(config), **one_kernel(groups))


def one_kernel(groups: list[dict]) -> dict[str, bool]:
    """torch's fused update on a GPU: one kernel for many tensors, and fp16's flag of an overflow is not read. On a CPU
    its sums have other last bits, and it is not taken."""
    on_gpu = all(parameter.device.type == "cuda" for group in groups for parameter in group["params"])
    return {"fused": True} if on_gpu else {}


def lamb(config: Config, groups: list[dict]) -> torch.optim.Optimizer:
    """timm's LAMB. Parameters without weight decay take Adam's step, as there. Its own clipping to a norm of 1 was its
    default when "ResNet strikes back" was trained and still is; --clip-grad takes its place."""
    from timm.optim import Lamb

    return Lamb(
        groups,
        lr=0.0,
        betas=(config.momentum, config.beta2),
        max_grad_norm=None if config.clip_grad else 1.0,
        trust_clip=config.trust_clip,
        **epsilon(config),
    )


def lars(config: Config, groups: list[dict]) -> torch.optim.Optimizer:
    """timm's LARS, with `trust_clip` LARC. Parameters without weight decay take SGD's step, as there."""
    from timm.optim import Lars

    return Lars(
        groups,
        lr=0.0,
        momentum=config.momentum,
        nesterov=config.nesterov,
        trust_coeff=config.trust_coefficient,
        trust_clip=config.trust_clip,
        **epsilon(config),
    )


def epsilon(config: Config) -> dict[str, float]:
    """--eps where it is given; each library has its own."""
    return {"eps": config.eps} if config.eps else {}


OPTIMIZERS = {"sgd": sgd, "adamw": adamw, "lamb": lamb, "lars": lars}


def muon(config: Config, filters: list[nn.Parameter], precision: str = "bf16") -> torch.optim.Optimizer:
    """timm's Muon on convolutions as (out, in*h*w) matrices, with the original scale of the update (K. Jordan,
    2024)."""
    from training.engine.muon import Muon  # imports all of timm

    wanted = precision if config.muon_precision == "auto" else config.muon_precision
    return Muon(
        [{"name": "convolutions", "params": filters, "lr_factor": 1.0, "normalise": True}],
        torch.float32 if wanted == "fp32" else torch.bfloat16,
        lr=0.0,
        momentum=config.muon_momentum,
        nesterov=True,
        ns_steps=config.muon_steps,
        ns_coefficients=COEFFICIENTS.get(config.muon_coefficients, config.muon_coefficients),
        adjust_lr_fn="original",
        conv_mode="flatten",
        weight_decay=0.0,
    )


def set_hyperparameters(
    optimizers: list[torch.optim.Optimizer], lr: float, momentum: float | None, position: float = 0.0
) -> None:
    """Write the schedule's values for the step that ends at `position` (epochs); `momentum` None keeps the configured
    one. The rate of a group with `lr_epochs` falls to 0 there, on a line."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
            if "lr_epochs" in group:
                group["lr"] *= max(0.0, 1 - position / group["lr_epochs"]) if group["lr_epochs"] else 0.0
            if momentum is None:
                continue
            if "momentum" in group:  # first: timm's Muon has betas too, of a part that is not used
                group["momentum"] = momentum
            else:
                group["betas"] = (momentum, group["betas"][1])


def momentum_of(group: dict[str, Any]) -> float | None:
    """What a schedule's `mom` sets: of Adam's kind it is beta1; None where the user's own optimizer has neither."""
    return group["momentum"] if "momentum" in group else group.get("betas", [None])[0]


def rescale_interval(config: Config, moment: Moment) -> int:
    """Steps from one rescaling of Muon's filters to the next: it may grow, because filters grow less as the learning
    rate falls (hiverge's is 2 + int(15 * progress))."""
    return config.muon_rescale_every + int(config.muon_rescale_growth * moment.progress)


def normalise_filters(optimizers: list[torch.optim.Optimizer]) -> None:
    """Give each filter bank of Muon the norm sqrt(out_channels): an orthogonal update then turns it at a rate that
    only lr sets (airbench94_muon)."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups if group.get("normalise")):
        with torch.no_grad():
            # Muon is the dearest part of a recipe, 1.48 times a step of SGD (ResNet-18 at 128 px, two cores), and worth
            # it: in two epochs it took cifar10-demo to 85 % in ten runs of ten, SGD in none.
            factors = torch._foreach_norm(group["params"])
            torch._foreach_reciprocal_(factors)
            torch._foreach_mul_(factors, [len(p) ** 0.5 for p in group["params"]])
            torch._foreach_mul_(group["params"], factors)
