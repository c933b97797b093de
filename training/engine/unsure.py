"""The validation images of which a network is least sure, a fixed number of all ranks' images together.

How sure it is of an image is its largest probability. Rounding moves it a little, so near the limit a referee computes
it in float64: which images are chosen depends neither on the batches nor on the ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.loader import Batch
from training.distributed.group import Group
from training.engine.near_ties import MARGIN, Referee
from training.engine.views import View

AHEAD = 2  # times the wanted number of images are held, before those that cannot be among them are let go


@dataclass
class Part:
    """Images whose place is still open. `low`, `high` (B,) float64 on the CPU: where their probability lies."""

    batch: Batch
    logits: Tensor
    low: Tensor
    high: Tensor

    def only(self, chosen: Tensor) -> "Part":
        """Those of the mask (B,) bool, which is on the CPU."""
        there, rows = chosen.to(self.logits.device), self.batch.rows
        batch = Batch(self.batch.images[there], self.batch.targets[there], None if rows is None else rows[chosen])
        return Part(batch, self.logits[there], self.low[chosen], self.high[chosen])


class Unsure:
    """Chooses `wanted` images of all ranks; more where several are exactly as sure as the last one."""

    def __init__(self, wanted: int, group: Group, referee: Referee | None, views: tuple[View, ...]) -> None:
        """`views`: those that `logits` come from. Without a referee, rounding decides at the limit."""
        self.wanted, self.group, self.referee, self.views = wanted, group, referee, views
        self.parts: list[Part] = []

    def add(self, batch: Batch, logits: Tensor) -> Iterator[Part]:
        """Takes them, and gives back images that cannot be among the wanted."""
        self.parts.append(Part(batch, logits, *self.bounds(logits)))
        if sum(len(part.low) for part in self.parts) > AHEAD * self.wanted:
            limit = smallest(torch.cat([part.high for part in self.parts]), self.wanted)
            yield from self.parted([part.low <= limit for part in self.parts])

    def bounds(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """A softmax's output moves by at most half of what its inputs move by."""
        logits = logits.double()
        sure = logits.softmax(1).amax(1)
        slack = MARGIN / 2 * logits.abs().amax(1) if self.referee else torch.zeros_like(sure)
        return (sure - slack).cpu(), (sure + slack).cpu()

    def chosen(self) -> Iterator[tuple[Part, bool]]:
        """The held images and whether they are among the wanted. All ranks call it together."""
        if self.referee:
            self.settle(self.referee)
        limit = self.limit([part.high for part in self.parts])
        for part in list(self.parts):
            inside = part.high <= limit
            yield from ((part.only(mask), wanted) for mask, wanted in ((inside, True), (~inside, False)) if mask.any())

    def settle(self, referee: Referee) -> None:
        """Exact probabilities wherever they could decide."""
        first, last = (self.limit([getattr(part, end) for part in self.parts]) for end in ("low", "high"))
        for part in self.parts:
            open_ = (part.low <= last) & (part.high >= first)
            exact = referee.anew(part.logits, part.batch.images, self.views, open_).softmax(1).amax(1).cpu()
            middle = torch.where(open_, exact, (part.low + part.high) / 2)
            part.low = part.high = middle

    def limit(self, values: list[Tensor]) -> float:
        """The `wanted`th smallest of all ranks'."""
        every = self.group.gather(torch.cat(values) if values else torch.empty(0, dtype=torch.float64))
        return smallest(torch.cat(every), self.wanted)

    def parted(self, kept: list[Tensor]) -> Iterator[Part]:
        """Keeps the images of the masks and gives the others."""
        before, self.parts = self.parts, []
        for part, mask in zip(before, kept, strict=True):
            if mask.any():
                self.parts.append(part.only(mask))
            if not mask.all():
                yield part.only(~mask)


def smallest(values: Tensor, count: int) -> float:
    """The `count`th smallest; a NaN counts as larger than every number."""
    return values.kthvalue(min(count, len(values))).values.item() if len(values) else float("nan")
