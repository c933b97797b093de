"""Gradients, weights and updates of every layer, every --inspect-every steps. See training.logs.metrics.Watch."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.files import write_atomically
from training.data.loader import Batch
from training.distributed.group import Group
from training.inspect.predictions import npz
from training.inspect.stored import arrays, damaged
from training.logs.metrics import View

FILE = "gradients.npz"
REMEDY = "Restore it, or move it away: the run then goes on without the gradients of its earlier steps"
FACTS = ("min", "mean", "max", "norm", "zeros", "not_finite", "weight_norm", "update_ratio")
NORM, ZEROS, NOT_FINITE, UPDATE = (FACTS.index(fact) for fact in ("norm", "zeros", "not_finite", "update_ratio"))
VANISHED = 1e-7  # of the largest norm
EXPLODED = 1e3  # times a layer's median norm in the epoch


class Gradients:
    """`facts`: an (L, F) float32 tensor per inspected step, in the order of the network's parameters. They stay on the
    device until the epoch is over. The gradients are those that the optimiser gets: of all ranks, unscaled, clipped."""

    def __init__(self, model: nn.Module, every: int, folder: Path) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.dim() > 1]  # weights, not norms and biases
        self.names, self.parameters = [name for name, _ in named], [p for _, p in named]
        self.every, self.folder = every, folder
        self.facts: list[Tensor] = []
        self.steps: list[int] = []  # images seen
        self.before: list[Tensor] = []

    def batch(self, number: int, batch: Batch, logits: Tensor, loss: Tensor) -> None: ...

    def is_due(self, step: int) -> bool:
        return bool(self.parameters) and step % self.every == 0

    @torch.no_grad()
    def gradients(self, images_seen: int) -> None:
        """Before the update."""
        self.steps.append(images_seen)
        self.facts.append(facts_of(self.parameters))
        self.before = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def updated(self) -> None:
        """After the update: its size relative to the weights'."""
        changes = torch._foreach_sub([p.detach() for p in self.parameters], self.before)
        ratios = torch.stack(norms(changes)).float() / self.facts[-1][:, -1].clamp_min(1e-12)
        self.facts[-1] = torch.cat([self.facts[-1], ratios[:, None]], 1)
        self.before = []

    def finish(self, group: Group, view: View | None) -> None:
        if view and self.facts:
            facts = torch.stack(self.facts).cpu().numpy()
            self.save(facts)
            view.scalars(self.scalars(facts[-1]))
            for line in strange_layers(self.names, facts, view.epoch):
                view.say(line)
        self.facts, self.steps = [], []

    def save(self, facts: np.ndarray) -> None:
        """Append (S, L, F) to what earlier epochs stored."""
        path, steps = self.folder / FILE, np.array(self.steps)
        if path.is_file():
            old = read_gradients(path)
            kept = old["images_seen"] < steps[0]  # a resumed run repeats some steps
            steps = np.concatenate([old["images_seen"][kept], steps])
            facts = np.concatenate([old["facts"][kept], facts])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, npz({"names": np.array(self.names), "images_seen": steps, "facts": facts}))

    def scalars(self, facts: np.ndarray) -> dict[str, float]:
        """Of the epoch's last inspected step; a number before each layer keeps the network's order."""
        return {
            f"gradients/{place:03d} {name}/{fact}": float(value)
            for place, (name, row) in enumerate(zip(self.names, facts, strict=True))
            for fact, value in zip(FACTS, row, strict=True)
        }


def facts_of(parameters: list[Tensor]) -> Tensor:
    """(L, F - 1) float32, all but the update's: zeros of the gradient of a frozen layer."""
    weights = torch.stack(norms([p.detach() for p in parameters])).float()
    found = [p.grad.float() for p in parameters if p.grad is not None]
    rows = iter(gradient_facts(found).unbind()) if found else iter(())
    nothing = weights.new_zeros(len(FACTS) - 2)
    table = torch.stack([nothing if p.grad is None else next(rows) for p in parameters])
    return torch.cat([table, weights[:, None]], 1)


def gradient_facts(gradients: list[Tensor]) -> Tensor:
    """(L, F - 2) float32 of L tensors, all layers in each operation. torch has no sums and no minima of a list: they
    are norms of its positive and its negative values, and maxima of the opposite values."""
    sizes = [float(gradient.numel()) for gradient in gradients]
    positive = norms(torch._foreach_clamp_min(gradients, 0.0), 1)
    negative = norms(torch._foreach_clamp_max(gradients, 0.0), 1)
    not_zero = norms(gradients, 0)
    not_finite = norms(torch._foreach_sub(gradients, gradients), 0)  # NaN there, else 0
    columns = (
        torch._foreach_neg(torch._foreach_max(torch._foreach_neg(gradients))),
        torch._foreach_div(torch._foreach_sub(positive, negative), sizes),
        torch._foreach_max(gradients),
        norms(gradients),
        torch._foreach_div(not_zero, sizes),
        torch._foreach_div(not_finite, sizes),
    )
    table = torch.stack([torch.stack(column) for column in columns], 1)  # of the widest type
    table[:, ZEROS] = (1 - table[:, ZEROS]).clamp_min(0)
    return table.float()


def norms(tensors: list[Tensor], order: int = 2) -> tuple[Tensor, ...]:
    """() each. A CPU adds one value after the other: in float32 the norm of 2**25 values is 0.1 % too small there."""
    return torch._foreach_norm(tensors, order, dtype=torch.float64 if tensors[0].device.type == "cpu" else None)


def read_gradients(path: Path) -> dict[str, np.ndarray]:
    """`names` (L,), `images_seen` (S,) and `facts` (S, L, F) float32. Raises: ConfigError for a damaged file."""
    found = arrays(path, ("names", "images_seen", "facts"), REMEDY)
    names, seen, facts = found.values()
    if facts.shape != (*seen.shape, *names.shape, len(FACTS)) or seen.ndim != 1 or facts.dtype != np.float32:
        raise damaged(path, "its arrays do not fit each other", REMEDY)
    return found


def strange_layers(names: list[str], facts: np.ndarray, epoch: int) -> list[str]:
    """A line for layers whose gradients vanish all epoch long, and one for those that explode. `facts` (S, L, F).
    A layer that is frozen, or that the loss does not reach, has no gradient: a norm of 0 without any zeros. In the very
    first step a block whose last norm starts at zero hides its other layers, so that look does not count."""
    norms = facts[:, :, NORM]
    trained = ((norms != 0) | (facts[:, :, ZEROS] > 0)).any(0)
    finite = np.where(np.isfinite(norms), norms, 0)
    looks = finite[1:] if epoch == 0 else finite
    small = looks <= VANISHED * looks.max(1, keepdims=True)
    vanished = small.all(0) & (looks.max(initial=0) > 0) & trained
    median = np.median(finite, 0)
    taken = (facts[:, :, UPDATE] != 0).any(1)  # fp16 leaves steps out until its loss scale fits
    exploded = (facts[taken if taken.any() else ~taken, :, NOT_FINITE] > 0).any(0) | (
        (finite > EXPLODED * median) & (median > 0)
    ).any(0)
    words = (("vanish: below 1e-7 of the largest", vanished), ("explode", exploded))
    return [
        f"epoch {epoch + 1}: gradients {what} in {', '.join(np.array(names)[which][:5])}"
        + (f" and {which.sum() - 5} more layers" if which.sum() > 5 else "")
        for what, which in words
        if which.any()
    ]
