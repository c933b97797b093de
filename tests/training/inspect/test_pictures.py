"""Grad-CAM of networks that it cannot look into."""

import pytest
import torch
from torch import Tensor, nn

from training.inspect.pictures import NoMap, grad_cam


class Beside(nn.Module):
    """Its last map is made beside the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.beside, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.body(images)
        return {"logits": self.head(maps.mean((2, 3))), "embedding": self.beside(maps)}


def test_a_last_map_beside_the_logits_is_no_map():
    """autograd's error ended the run after its first epoch."""
    with pytest.raises(NoMap, match="do not depend on its last map"):
        grad_cam(Beside(), torch.rand(2, 3, 8, 8))


def test_a_body_without_gradients_has_no_map():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    network[0].register_forward_hook(lambda module, inputs, output: output.detach())
    with pytest.raises(NoMap, match="with a gradient"):
        grad_cam(network, torch.rand(2, 3, 8, 8))
