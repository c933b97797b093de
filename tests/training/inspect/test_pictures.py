"""Grad-CAM: where it looks, and networks that it cannot look into."""

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


class ChannelsLast(nn.Module):
    """Its last map is (N, H, W, C), as a Swin transformer's of timm."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.swap, self.head = body, Swap(), head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.swap(self.body(images)).mean((1, 2)))


class Swap(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1) * 1


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_a_map_with_its_channels_last_gives_the_same_heat(size):
    """Such a map was read as one of H rows and C columns."""
    body, head = nn.Conv2d(3, 24, 4, stride=4), nn.Linear(24, 5)
    first = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected, found = grad_cam(first, images.clone())[0], grad_cam(ChannelsLast(body, head), images.clone())[0]
    assert expected.amax() == 1
    torch.testing.assert_close(found, expected)
