"""The network as the training step calls it: compiled, and in several processes under DistributedDataParallel."""

import contextlib
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from training.config.config import Config
from training.config.own_code import is_own
from training.config.schedule import resolved_schedule
from training.distributed.env import Env
from training.models.build import has_whitening
from training.models.outputs import AUX_LOGITS, LOGITS, auxiliary_logits, logits_of

Forward = Callable[[Tensor], Tensor]


def wrapped(config: Config, model: nn.Module, env: Env) -> Forward:
    """`model`, which must be on its device in its memory format. Alone it stays bare: a wrapper would only copy.

    A compiler wants to be outside of DDP, to split its graph where gradients are sent (pitfall of torch's docs); for a
    network that freezes a layer it is inside, because DDP is then made anew. With CUDA graphs it is inside, too: in the
    parts of a split graph batch norm's statistics are inputs that change, for which torch leaves the CUDA graph out
    (pytorch#139207). Gradients then travel after the backward pass, not during it.
    """
    if env.world_size == 1:
        return compiled(config, model)
    if is_own(config.model) and leaves_unused(config, model, env):
        return compiled(config, distributed(Learned(model, config.aux_weight > 0), env, has_unused=True))
    if has_whitening(model) or (config.compile and config.compile_mode == "reduce-overhead"):
        return distributed(compiled(config, model), env)
    return compiled(config, distributed(model, env))


class Learned(nn.Module):
    """A network that returns no more than the loss takes: DDP believes that everything else gets a gradient, too."""

    def __init__(self, model: nn.Module, with_auxiliary: bool) -> None:
        super().__init__()
        self.model, self.with_auxiliary = model, with_auxiliary

    def forward(self, images: Tensor) -> dict[str, Any]:
        output = self.model(images)
        return {LOGITS: logits_of(output), AUX_LOGITS: auxiliary_logits(output) if self.with_auxiliary else []}


def leaves_unused(config: Config, model: nn.Module, env: Env) -> bool:
    """Whether the loss leaves parameters without a gradient, such as those of a head that it does not take. DDP has to
    look for them in every step then. Tried on a copy."""
    size = resolved_schedule(config, env.world_size, lambda text: None).data[0].sz
    cuda = [env.device] if env.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        copy = Learned(deepcopy(model), config.aux_weight > 0).train()
        output = copy(torch.zeros(2, 3, size, size, device=env.device))
        (output[LOGITS].sum() + sum(head.sum() for head in output[AUX_LOGITS])).backward()
    return any(p.requires_grad and p.grad is None for p in copy.parameters())


def set_whitening(config: Config, state, env: Env, trained: bool) -> bool:
    """Whether cifarnet's first layer is trained, of a TrainState. DDP waits for the gradient of every parameter that
    was trained when it was made, so it is made anew: True when it was."""
    changed = trained != state.model.whiten.bias.requires_grad
    state.model.train_whitening(trained)
    if changed and env.world_size > 1:
        wrap_again(config, state, env)
    return changed and env.world_size > 1


def wrap_again(config: Config, state, env: Env) -> None:
    """The network of a TrainState in a new wrapper."""
    state.forward = None  # the old wrapper lets go of the parameters before the new one takes them
    state.forward = wrapped(config, state.model, env)


def compiled(config: Config, model: nn.Module) -> nn.Module:
    if not config.compile:
        return model
    mode = None if config.compile_mode == "default" else config.compile_mode
    # With dynamic=None the second size gets one graph for any size, often a slower one for convolutions
    # (pytorch#150702); a schedule has few sizes.
    return torch.compile(model, dynamic=False, mode=mode)


def graphs_fixed(config: Config) -> contextlib.AbstractContextManager:
    """Inside, a shape that was not warmed up is an error and not forty lost seconds."""
    return torch.compiler.set_stance("fail_on_recompile") if config.compile else contextlib.nullcontext()


def distributed(model: nn.Module, env: Env, has_unused: bool = False) -> DistributedDataParallel:
    """Batch norm's statistics stay on their rank: training does not read them, and validation takes rank 0's
    (training.engine.evaluate), as a save does. Other buffers of the state are rank 0's in every forward pass.

    `has_unused`: parameters that get no gradient keep their values, as in one process."""
    warnings.filterwarnings("ignore", message="c10d::broadcast_")  # DDP's own, about a broadcast in its backward pass
    warnings.filterwarnings(
        "ignore", message="`broadcast_buffers` is deprecated"
    )  # torch 2.11 has no other name for it
    unused = {"find_unused_parameters": True} if has_unused else {}
    devices = [env.device.index] if env.device.type == "cuda" else None
    # The view saves a copy of all gradients. No static_graph=True: a network that freezes a layer changes its graph.
    shared = bool(saved_buffers(model) - statistics(model))
    views = {"gradient_as_bucket_view": True, "broadcast_buffers": shared}
    return DistributedDataParallel(model, device_ids=devices, **views, **unused)


def saved_buffers(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers()} & model.state_dict().keys()


def statistics(model: nn.Module) -> set[str]:
    """Names of the buffers of batch norm (159 in a ResNet-50)."""
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    return {
        f"{name}.{buffer}" if name else buffer
        for name, norm in norms
        for buffer, _ in norm.named_buffers(recurse=False)
    }
