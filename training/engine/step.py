"""One update of the weights, and the loss behind it. Nothing here waits for the device."""

import contextlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config.config import Config
from training.data.loader import Batch
from training.data.transforms import mixed
from training.engine.optimizers import ANY, Moment, normalise_filters, rescale_interval, set_hyperparameters
from training.engine.state import TrainState
from training.logs.metrics import Watch
from training.models.outputs import auxiliary_logits, logits_of


def step(
    config: Config,
    state: TrainState,
    batch: Batch,
    lr: float,
    momentum: float | None,
    loss_factor: float = 1.0,
    mix_strength: float = 1.0,
    watches: Sequence[Watch] = (),
    moment: Moment = ANY,
) -> tuple[Tensor, Tensor]:
    """(logits, loss) of this rank's batch stay on the device; the gradients are the mean over all ranks.

    `mix_strength`: from 0 to 1, the share of --mix-prob that this phase uses. The logits are those of the mixed images.
    `watches`: those that are due.
    """
    set_hyperparameters(state.optimizers, lr, momentum, moment.end)
    batch = mixed(config, state.mixers, batch, state.epoch, mix_strength)
    if state.lookahead is not None:
        state.lookahead.before_step(state.model, moment)
    logits, loss = gradients(config, state, batch, loss_factor)
    state.unscaled += 1
    if state.unscaled >= rescale_interval(config, moment):
        normalise_filters(state.optimizers)
        state.unscaled = 0
    prepare_gradients(config, state)
    for watch in watches:
        watch.gradients(state.images_seen)
    update_weights(state)
    if state.lookahead is not None:
        state.lookahead.after_step(state.model, moment)
    for watch in watches:
        watch.updated()
    if state.average is not None and (state.step + 1) % config.ema_every == 0:
        state.average.update_parameters(state.model)
    record(state, loss)
    return logits, loss


def gradients(config: Config, state: TrainState, batch: Batch, loss_factor: float) -> tuple[Tensor, Tensor]:
    """Into the parameters, of one batch or of its --accumulate parts; only the last part is sent to the other ranks."""
    # Two parts of 32 images cost 1.048 times a step of 64 (1.032 to 1.058, ResNet-18 at 128 px, two cores).
    parts = zip(batch.images.chunk(config.accumulate), batch.targets.chunk(config.accumulate), strict=True)
    logits, loss = [], torch.zeros((), device=batch.targets.device)
    for number, part in enumerate(parts, start=1):
        share = loss_factor * len(part[1]) / len(batch.targets)
        with contextlib.nullcontext() if number == config.accumulate else unsynchronised(state):
            part_logits, part_loss = backward(config, state, Batch(*part), share)
        logits.append(part_logits.clone() if config.accumulate > 1 else part_logits)  # CUDA graphs reuse their memory
        loss += part_loss
    return torch.cat(logits) if len(logits) > 1 else logits[0], loss


def backward(config: Config, state: TrainState, part: Batch, share: float) -> tuple[Tensor, Tensor]:
    """`share`: weight of this part's mean loss in the batch's."""
    # Never around the backward pass: pytorch#120376 shows training curves that this ruined.
    with state.precision.autocast():
        output = state.forward(part.images)
    logits = logits_of(output)
    loss = training_loss(config, logits.float(), part.targets)
    for head in auxiliary_logits(output) if config.aux_weight else ():
        loss = loss + config.aux_weight * training_loss(config, head.float(), part.targets)
    if share != 1.0:
        loss = loss * share
    state.scaler.scale(loss).backward()
    return logits.detach(), loss.detach()


def unsynchronised(state: TrainState) -> contextlib.AbstractContextManager:
    """Gradients stay on their rank inside; forward pass and backward pass both belong inside (torch's docs)."""
    return state.forward.no_sync() if hasattr(state.forward, "no_sync") else contextlib.nullcontext()


def prepare_gradients(config: Config, state: TrainState) -> None:
    """Their true size, and --clip-grad's. With fp16, a step in which any gradient overflowed is left out as a whole, on
    all ranks alike: their gradients are already the same."""
    if state.scaler.is_enabled():
        state.skipped += overflowed(state.scaler, state.optimizers)  # and undoes the scale
    clip_gradients(config, state)


def update_weights(state: TrainState) -> None:
    scaler = state.scaler
    for optimizer in state.optimizers:
        scaler.step(optimizer)
        # Safe under DDP, although there the gradients are views of its buckets.
        optimizer.zero_grad(set_to_none=True)
    # After a step that was left out, too: otherwise the next unscale_ refuses (Lightning#21339).
    scaler.update()


def clip_gradients(config: Config, state: TrainState) -> None:
    """The gradients of all optimisers as one vector, of all ranks together: scaled down to a norm of --clip-grad where
    it is longer."""
    if config.clip_grad:
        groups = [group for optimizer in state.optimizers for group in optimizer.param_groups]
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], config.clip_grad)


def overflowed(scaler: torch.amp.GradScaler, optimizers: list[torch.optim.Optimizer]) -> Tensor:
    """() int64, 1 when a gradient is not finite. torch tells this to nobody (pytorch#67590), so its own flags are
    read; they are made equal, so that of two optimisers none steps alone."""
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
    flags = [flag for o in optimizers for flag in scaler._found_inf_per_device(o).values()]
    found = torch.stack(flags).amax()
    for flag in flags:
        flag.copy_(found)
    return (found > 0).long()


def record(state: TrainState, loss: Tensor) -> None:
    """Sums that stay on the device until somebody reads them."""
    state.loss_sum += loss
    finite = loss - loss == 0  # two kernels; isfinite takes four
    torch.where(finite, state.bad_step, state.bad_step.clamp(max=state.step), out=state.bad_step)


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
