"""Slow weights that the trained ones are set back to again and again (Zhang et al., arXiv:1907.08610)."""

from typing import Any

import torch
from torch import Tensor, nn

from training.config.config import Config
from training.engine.optimizers import Moment

END = 1e-9  # of an epoch, for sums of fractions


class Lookahead:
    """From --lookahead-from on, every --lookahead-every steps: slow = decay * slow + (1 - decay) * weights, and
    weights = slow, with decay = --lookahead * progress ** --lookahead-power. After the last step of the schedule the
    weights are the slow ones.

    A constant decay in the last epochs is Fulcrum's (github.com/fulcrumresearch/cifar-10-speedrun), a cubic one from
    the beginning airbench94's (K. Jordan, arXiv:2404.00498). Batch norm's statistics are among the weights, as there.
    """

    def __init__(self, config: Config, model: nn.Module) -> None:
        self.decay, self.power = config.lookahead, config.lookahead_power
        self.every, self.first = config.lookahead_every, config.lookahead_from
        self.slow = {name: value.detach().clone() for name, value in averaged(model).items()}
        self.steps = -1  # since the beginning, or -1 before it

    @torch.no_grad()
    def before_step(self, model: nn.Module, moment: Moment) -> None:
        """Slow weights begin as those that the first step finds."""
        if self.steps < 0 and moment.start >= self.first - END:
            torch._foreach_copy_(*self.pairs(model))
            self.steps = 0

    @torch.no_grad()
    def after_step(self, model: nn.Module, moment: Moment) -> None:
        if self.steps < 0:
            return
        self.steps += 1
        is_due, is_last = self.steps % self.every == 0, moment.end >= moment.epochs - END
        if not (is_due or is_last):
            return
        slow, fast = self.pairs(model)
        if is_due:
            torch._foreach_lerp_(slow, fast, 1 - self.decay * moment.progress**self.power)
        torch._foreach_copy_(fast, slow)

    def pairs(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        return list(self.slow.values()), list(averaged(model).values())

    def state_dict(self) -> dict[str, Any]:
        return {"slow": self.slow, "steps": self.steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for name, value in saved["slow"].items():
            self.slow[name].copy_(value)
        self.steps = saved["steps"]


def averaged(model: nn.Module) -> dict[str, Tensor]:
    """Of a network, by name: parameters and statistics, but no counters."""
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
