"""Test-time augmentation: the views of an image, and the mean of their logits."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class View(NamedTuple):
    """`shift`: pixels of the validation size, along the diagonal, with a reflected border; `weight` in the mean."""

    weight: float
    mirrored: bool = False
    shift: int = 0


class Views(NamedTuple):
    """`share`: of all validation images, those of which the first view is least sure get the other views, too."""

    views: tuple[View, ...]
    share: float = 1.0

    @property
    def mean(self) -> float:
        """Passes through the network for an image, on average."""
        return 1 + self.share * (len(self.views) - 1)


def six(straight: float, shifted: float) -> tuple[View, ...]:
    """The image and two copies shifted by a pixel, each also mirrored."""
    weights = {0: straight, -1: shifted, 1: shifted}
    return tuple(View(weight, mirrored, shift) for shift, weight in weights.items() for mirrored in (False, True))


TTA = {  # --tta
    "none": Views((View(1.0),)),
    "flip": Views((View(0.5), View(0.5, mirrored=True))),
    # airbench94's tta_level 2 (K. Jordan, arXiv:2404.00498): half of the weight on the image as it is
    "flip-shift": Views(six(1 / 4, 1 / 8)),
    # hiverge's and Fulcrum's (github.com/fulcrumresearch/cifar-10-speedrun): a plain mean, of a quarter of the images
    "flip-shift-25": Views(six(1 / 6, 1 / 6), share=0.25),
}


def shown(images: Tensor, view: View) -> Tensor:
    """(B, 3, H, W) as `view` shows it."""
    if view.shift:
        border, (height, width) = abs(view.shift), images.shape[-2:]
        begin = border + view.shift
        padded = F.pad(images, (border,) * 4, "reflect")
        images = padded[..., begin : begin + height, begin : begin + width]
    return images.flip(-1) if view.mirrored else images


def weighted(logits: Callable[[Tensor], Tensor], images: Tensor, views: Sequence[View]) -> Tensor:
    """(B, classes): the sum of the logits of `views`, each times its weight."""
    return sum(view.weight * logits(shown(images, view)) for view in views)
