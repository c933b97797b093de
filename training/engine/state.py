"""Everything that changes while a run trains, the average of its weights included, and how it is saved, restored and
compared."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dawn import Clock
from training.config.config import Config
from training.data.transforms import Mixer, build_mixers
from training.distributed.env import Env
from training.distributed.parallel import wrapped
from training.engine.lookahead import Lookahead
from training.engine.optimizers import build_optimizers
from training.engine.precision import Precision

NEVER = 2**62  # no step
SUMS = ("loss_sum", "bad_step", "skipped")
OF_EACH_RANK = ("rng", "sums")  # parts of the state that are not the same on all ranks


class AveragedWeights(AveragedModel):
    """torch's, with its arithmetic and its state. Its own update copies a counter from the CPU to the device in every
    call, for a function that does not read it, and a GPU would have to be waited for."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        # With the batch norms' statistics: an average without them lost 20 points (pytorch/ignite#2592).
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """The first update copies the weights."""
        pairs = list(zip(tensors_of(self.module), tensors_of(model), strict=True))
        if not self.n_averaged:  # on the CPU
            for average, value in pairs:
                average.copy_(value)
        else:
            for kind in {average.dtype for average, _ in pairs}:
                averages, values = zip(*(pair for pair in pairs if pair[0].dtype == kind), strict=True)
                self.multi_avg_fn(averages, values, None)
        self.n_averaged += 1


@dataclass
class TrainState:
    """`epoch` is being trained and `step` is its next step (0-based); step == steps of the epoch: only its validation
    is missing."""

    model: nn.Module
    forward: Callable[[Tensor], Tensor]  # the model, compiled and distributed if wanted; training only
    optimizers: list[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    average: AveragedWeights | None
    lookahead: Lookahead | None
    clock: Clock
    precision: Precision
    mixers: list[Mixer]  # mixup, cutmix: without a state of their own
    loss_sum: Tensor  # () float64, sum over the steps of this epoch
    bad_step: Tensor  # () int64, first step of this epoch whose loss was not finite, or NEVER
    skipped: Tensor  # () int64, steps of this epoch that fp16 left out because they overflowed
    epoch: int = 0
    step: int = 0
    images_seen: int = 0
    unscaled: int = 0  # steps since Muon's filters were rescaled
    hit_epoch: int = -1  # first epoch whose validation reached the target, or -1

    def evaluated_model(self) -> nn.Module:
        """The weights that validation counts: the average where there is one."""
        return self.average.module if self.average is not None else self.model

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dicts only, so that torch.load(weights_only=True) reads it."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "lookahead": self.lookahead.state_dict() if self.lookahead is not None else None,
            "clock": self.clock.state_dict(),
            "rng": rng_state(self.loss_sum.device),
            "counters": {
                "epoch": self.epoch,
                "step": self.step,
                "images_seen": self.images_seen,
                "unscaled": self.unscaled,
                "hit_epoch": self.hit_epoch,
            },
            "sums": {name: getattr(self, name).cpu() for name in SUMS},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Everything but the clock, which only a resumed run takes over (training.runs.resume)."""
        self.model.load_state_dict(saved["model"])
        for optimizer, part in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(part)
        self.scaler.load_state_dict(saved["scaler"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        if self.lookahead is not None:
            self.lookahead.load_state_dict(saved["lookahead"])
        for name, value in saved["counters"].items():
            setattr(self, name, value)
        for name in SUMS:
            getattr(self, name).copy_(saved["sums"][name])
        set_rng_state(saved["rng"], self.loss_sum.device)


def new_state(
    config: Config, model: nn.Module, env: Env, precision: Precision, clock: Clock, classes: int
) -> TrainState:
    """A state at step 0, on the device."""
    model = model.to(env.device, memory_format=torch.channels_last if config.channels_last else torch.contiguous_format)
    if not config.channels_last:
        model.register_forward_pre_hook(contiguous)
    if config.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    average = AveragedWeights(model, config.ema_decay) if config.ema_decay else None
    return TrainState(
        model,
        wrapped(config, model, env),
        build_optimizers(config, model, precision.name),
        precision.scaler(config.loss_scale),
        average,
        Lookahead(config, model) if config.lookahead else None,
        clock,
        precision,
        build_mixers(config, classes),
        loss_sum=torch.zeros((), dtype=torch.float64, device=env.device),
        bad_step=torch.full((), NEVER, dtype=torch.int64, device=env.device),
        skipped=torch.zeros((), dtype=torch.int64, device=env.device),
    )


def contiguous(model: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Loaders hand over channels_last, and a convolution keeps the layout of its input."""
    return (inputs[0].contiguous(),)


def part_of_rank(saved: dict[str, Any], rank: int, world_size: int) -> dict[str, Any]:
    """A saved state, which holds the parts OF_EACH_RANK as lists, as this rank loads it. For another number of ranks
    each takes the mean loss, so that the loss of the epoch stays right."""
    own = {name: saved[name][rank % len(saved[name])] for name in OF_EACH_RANK}
    if len(saved["sums"]) != world_size:
        mean = torch.stack([sums["loss_sum"] for sums in saved["sums"]]).mean()
        own["sums"] = own["sums"] | {"loss_sum": mean}
    return saved | own


def rng_state(device: torch.device) -> dict[str, Any]:
    """torch's generators of the CPU and of the device that trains."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None}


def set_rng_state(saved: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(saved["cpu"])
    if device.type == "cuda" and saved["cuda"] is not None:
        torch.cuda.set_rng_state(saved["cuda"], device)


def fingerprint(value: Any) -> str:
    """SHA-256 over the bytes of every tensor and the text of every number in a nested state."""
    digest = hashlib.sha256()
    for path, leaf in leaves(value):
        digest.update(path.encode())
        digest.update(
            leaf.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            if isinstance(leaf, Tensor) and leaf.numel()
            else repr(leaf).encode()
        )
    return digest.hexdigest()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from leaves(value[key], f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from leaves(item, f"{path}/{place}")
    else:
        yield path, value


def tensors_of(model: nn.Module) -> Iterator[Tensor]:
    return (tensor.detach() for tensor in itertools.chain(model.parameters(), model.buffers()))
