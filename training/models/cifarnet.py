"""A small fast CIFAR network with a whitening first layer.

Idea and sources: the whitening convolution of hlb-CIFAR10 (tysam-code) and cifar10-fast (D. Page), the layout of
airbench94 (K. Jordan, arXiv:2404.00498): frozen 2x2 whitening, three blocks of two or three 3x3 convolutions, batch
norm without learned scale, identity-initialised filters, global max pooling (so that any image size works), a linear
head with scaled logits. training/models/layouts.py has the layouts by name.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.layouts import LAYOUTS, Layout

LOGIT_SCALE = 1 / 9
ACTIVATIONS = {"gelu": F.gelu, "silu": F.silu}


class Block(nn.Module):
    """conv, 2x2 max pool, norm, activation, conv, norm, activation: halves the image, (N, in, H, W) ->
    (N, out, H//2, W//2). With three convolutions the first activation is added before the last."""

    def __init__(self, in_channels: int, out_channels: int, layout: Layout = LAYOUTS["cifarnet"]) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[layout.activation]
        self.conv1, self.norm1 = conv3x3(in_channels, out_channels), norm(out_channels, layout)
        self.conv2, self.norm2 = conv3x3(out_channels, out_channels), norm(out_channels, layout)
        if layout.convolutions == 3:
            self.conv3, self.norm3 = conv3x3(out_channels, out_channels), norm(out_channels, layout)
        self.is_residual = layout.convolutions == 3

    def forward(self, x: Tensor) -> Tensor:
        first = self.activation(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        x = self.activation(self.norm2(self.conv2(first)))
        return self.activation(self.norm3(self.conv3(x)) + first) if self.is_residual else x


class CifarNet(nn.Module):
    """Images (N, 3, H, W), normalised, H and W >= 9 -> logits (N, classes)."""

    def __init__(self, classes: int, width: float = 1.0, layout: Layout = LAYOUTS["cifarnet"]) -> None:
        super().__init__()
        channels = [max(8, round(width * full / 8) * 8) for full in layout.widths]
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        self.blocks = nn.Sequential(*(Block(i, o, layout) for i, o in zip([24, *channels], channels, strict=False)))
        self.head = nn.Linear(channels[-1], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.gelu(self.whiten(x)))
        return self.head(x.amax((2, 3))) * LOGIT_SCALE

    def train_whitening(self, wanted: bool) -> None:
        """Whether its bias is trained; if not, the backward pass ends before the first layer (airbench94)."""
        self.whiten.bias.requires_grad_(wanted)

    @torch.no_grad()
    def initialise_from(self, images: Tensor, eps: float = 5e-4) -> None:
        """Set the whitening filters to the scaled eigenvectors of the 2x2 patches of `images` (N, 3, H, W) float32,
        and their negatives."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        # On the CPU: a first eigh on a GPU would set up its solver library, on the clock, for a matrix of 12 x 12.
        values, vectors = torch.linalg.eigh((patches.T @ patches / len(patches)).cpu())
        filters = (vectors / (values + eps).sqrt()).T.reshape(12, 3, 2, 2)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        self.whiten.bias.zero_()


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution that begins as the identity on its first channels."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:in_channels])
    return conv


def norm(channels: int, layout: Layout) -> nn.BatchNorm2d:
    """Batch norm with a learned bias and no learned scale."""
    layer = nn.BatchNorm2d(channels, layout.eps, layout.bn_momentum)
    layer.weight.requires_grad_(False)
    return layer
